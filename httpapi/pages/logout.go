package pages

import (
	"net/url"
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

// logout answers GET and POST /oauth2/logout (RP-Initiated Logout §2). A request with a
// genuine id_token_hint of this very session ends it; any other shows a page that asks,
// for a link of somebody else's making must not sign people out (AUT-29). A hint alone ends
// nothing: what comes without a browser is told where to send that.
func (p *pages) logout(x *visit) error {
	s, _, err := x.present()
	if err != nil {
		return err
	}
	back, hinted, err := x.after(s)
	if err != nil {
		return err
	}
	if s == nil && x.backEnd() {
		return x.sendBrowser()
	}
	confirmed := x.IsPost() && x.form.Get("confirm") == "yes" && x.cookie(flowCookie) != "" && x.form.Get("browser") == browserOf(x.cookie(flowCookie))
	if s != nil && !hinted && !confirmed {
		return x.page(fasthttp.StatusOK, "logout", origin(back), &logoutPage{
			Action: x.below(LogoutPath), Browser: x.browser(), Back: x.form.Get("post_logout_redirect_uri"), Hint: x.form.Get("id_token_hint"),
			ClientID: x.form.Get("client_id"), State: x.form.Get("state"),
		})
	}
	return x.signOut(s, back)
}

// backEnd tells a client's own POST from that of a browser, which always says where a form
// comes from. ID tokens lie in histories and logs, so whoever posts one has not shown to be
// the client, let alone the user.
func (x *visit) backEnd() bool {
	return x.IsPost() && x.form.Get("id_token_hint") != "" && len(x.PostBody()) <= maxMoved &&
		len(x.Request.Header.Peek(fasthttp.HeaderOrigin)) == 0 && len(x.Request.Header.Peek("Sec-Fetch-Site")) == 0
}

// sendBrowser names the address at which the browser, whose cookie says who is signed in,
// brings the same request.
func (x *visit) sendBrowser() error {
	issuer, err := x.p.Keys.Issuer(x.view, x.tenant)
	if err != nil {
		return err
	}
	x.redirect(issuer + LogoutPath + "?" + string(x.PostBody()))
	return nil
}

// signOut ends the browser's session, if it has one, and tells its applications.
func (x *visit) signOut(s *state.Session, back string) (err error) {
	var frames []string
	if s != nil {
		if frames, err = x.frames(s); err != nil {
			return err
		}
		if err := x.p.Sessions.End(x.ctx, x.tenant, s.GetId()); err != nil {
			return err
		}
	}
	x.setCookie(sessionCookie, "")
	if back == "" || len(frames) > 0 {
		return x.signedOut(back, frames)
	}
	x.redirect(back)
	return nil
}

// maxFrames bounds the applications that one page tells.
const maxFrames = 50

// frames are the addresses that tell the session's applications of its end, in frames of
// the last page (OpenID Connect Front-Channel Logout §3).
func (x *visit) frames(s *state.Session) ([]string, error) {
	clients, err := x.view.ClientsOfSession(x.tenant, s.GetId(), "", maxFrames)
	if err != nil {
		return nil, err
	}
	issuer, err := x.p.Keys.Issuer(x.view, x.tenant)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, id := range clients {
		c, _ := x.view.Client(x.tenant, id)
		u, err := url.Parse(c.GetFrontchannelLogoutUri())
		if err != nil || u.Host == "" { // it has none
			continue
		}
		q := u.Query()
		q.Set("iss", issuer)
		q.Set("sid", s.GetId())
		u.RawQuery = q.Encode()
		out = append(out, u.String())
	}
	return out, nil
}

// signedOut is the last page. It leads back to the client once the frames have been
// loaded; without script by its link.
func (x *visit) signedOut(back string, frames []string) error {
	if err := x.page(fasthttp.StatusOK, "logged_out", "", &loggedOutPage{Back: back, Frames: frames}); err != nil {
		return err
	}
	var origins []string
	for _, f := range frames {
		if from := origin(f); !slices.Contains(origins, from) {
			origins = append(origins, from)
		}
	}
	if len(origins) > 0 {
		httpapi.AllowFrames(&x.Response.Header, origins)
	}
	return nil
}

// after is where the browser goes afterwards, if the client that is named or hinted has
// registered it; hinted tells that the hint is of the session that is to end.
func (x *visit) after(s *state.Session) (back string, hinted bool, err error) {
	clientID, hint := x.form.Get("client_id"), x.form.Get("id_token_hint")
	if hint != "" {
		said, ok, err := x.p.Keys.Hint(x.view, x.tenant, hint)
		if err != nil {
			return "", false, err
		}
		if !ok || clientID != "" && said.ClientID != clientID {
			return "", false, oauth.InvalidRequest.With("id_token_hint is no ID token that this client got here")
		}
		clientID, hinted = said.ClientID, s == nil || said.Session == s.GetId()
	}
	uri := x.form.Get("post_logout_redirect_uri")
	if uri == "" {
		return "", hinted, nil
	}
	client, ok := x.view.Client(x.tenant, clientID)
	if !ok || !slices.Contains(client.GetPostLogoutRedirectUris(), uri) {
		return "", false, oauth.InvalidRequest.With("post_logout_redirect_uri is not registered for the client that client_id or id_token_hint names")
	}
	if state := x.form.Get("state"); state != "" {
		u, err := url.Parse(uri)
		if err != nil {
			return "", false, oauth.InvalidRequest.With("post_logout_redirect_uri is malformed")
		}
		q := u.Query()
		q.Set("state", state)
		u.RawQuery = q.Encode()
		uri = u.String()
	}
	return uri, hinted, nil
}
