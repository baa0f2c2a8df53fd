package pages

import (
	"net/url"

	"github.com/valyala/fasthttp"
)

// ResetPath is where the link leads by which a user sets a password.
const ResetPath = "/reset"

// passwordSetPage is the end of it.
type passwordSetPage struct{ Account string }

// reset answers GET /reset. A link's token is moved out of the address at once, into a value
// that is good at this browser alone, so that no page's address, no Referer and no history
// has it (WEB-06). Opening a link changes nothing: whatever reads mail may do it.
func (p *pages) reset(x *visit) error {
	if token := x.form.Get("token"); token != "" {
		if _, err := p.Resets.Holder(x.view, x.tenant, token); err != nil {
			return err
		}
		value, err := p.Resets.Carry(x.view, x.tenant, token, x.browser())
		if err != nil {
			return err
		}
		x.redirect(x.below(ResetPath) + "?" + url.Values{"page": {value}}.Encode())
		x.Response.Header.Set(fasthttp.HeaderReferrerPolicy, "no-referrer")
		return nil
	}
	if x.form.Get("done") == "yes" {
		return x.page(fasthttp.StatusOK, "password_set", "", &passwordSetPage{Account: x.below(AccountPath)})
	}
	return x.askReset("")
}

// askReset shows the page of the new password.
func (x *visit) askReset(wrong string) error {
	token, err := x.carried()
	if err != nil {
		return err
	}
	user, err := x.p.Resets.Holder(x.view, x.tenant, token)
	if err != nil {
		return err
	}
	return x.page(fasthttp.StatusOK, "new_password", "", &newPasswordPage{
		Action: x.below(ResetPath), Name: "page", Value: x.form.Get("page"), Why: "new_password.link", User: user.GetUsername(), Rules: x.rules(), Wrong: wrong,
	})
}

// carried is the token that this browser's page was opened with; "" for none, which no
// user holds.
func (x *visit) carried() (string, error) {
	cookie := x.cookie(flowCookie)
	if cookie == "" {
		return "", nil
	}
	return x.p.Resets.Carried(x.view, x.tenant, x.form.Get("page"), browserOf(cookie))
}

// setByLink answers POST /reset. It signs nobody in: what else a login needs, a second
// factor above all, is asked for there. The browser is known to be the user's from then on,
// so that strangers who guess don't keep them out of it.
func (p *pages) setByLink(x *visit) error {
	token, err := x.carried()
	if err != nil {
		return err
	}
	if x.form.Get("new") != x.form.Get("again") {
		return x.askReset("password.differ")
	}
	user, err := p.Resets.Use(x.ctx, x.view, x.tenant, token, x.form.Get("new"))
	if text := broken(err); text != "" {
		return x.askReset(text)
	}
	if err != nil {
		return err
	}
	known, err := p.Browsers.Remember(x.view, x.tenant, x.cookie(knownCookie), user)
	if err != nil {
		return err
	}
	if known != "" {
		x.setCookie(knownCookie, known)
	}
	return x.see(ResetPath + "?done=yes")
}
