package pages

import (
	"net/url"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/pending"
)

// onward goes on after a form that has proved or decided something: to the client at once,
// to a page by GET.
func (x *visit) onward(r *state.AuthorizationRequest, who authorize.Present) error {
	step, err := x.p.Engine.Next(x.view, r, who)
	if err != nil {
		return err
	}
	// The answer by form is a page, too.
	if step == authorize.Done && (r.GetPage() != "" || !strings.HasPrefix(r.GetResponseMode(), "form_post")) {
		return x.finish(r, who)
	}
	if moved, err := x.move(r); moved || err != nil {
		return err
	}
	return x.next(r, who, "") // the browser has yet to learn of a session that began here
}

// later goes on to the page of what comes next.
func (x *visit) later(r *state.AuthorizationRequest) error {
	if moved, err := x.move(r); moved || err != nil {
		return err
	}
	return x.resume(r)
}

// move sends the browser to the page of what comes next. The request travels in the
// address, sealed and bound to this browser's cookie, so the address is worth nothing to
// who finds it in a log or a history. One that is too long for an address moves nowhere:
// the page itself is the answer.
func (x *visit) move(r *state.AuthorizationRequest) (bool, error) {
	if r.GetWaiting() == authorize.PageRequests && r.GetClientId() == "" && len(r.GetAmr()) == 0 {
		return true, x.see(pending.RequestsPath)
	}
	flow, err := x.p.Engine.SealFlow(x.view, r, x.browser())
	if err != nil {
		return false, err
	}
	to := x.below(continuePath) + "?" + url.Values{"flow": {flow}}.Encode()
	if len(to) > maxMoved {
		return false, nil
	}
	x.redirect(to)
	return true, nil
}

// goOn answers GET /continue.
func (p *pages) goOn(x *visit) error {
	r, err := x.flow()
	if err != nil {
		return err
	}
	return x.resume(r)
}

// resume shows the page of what comes next. Who has begun to prove themselves in the course
// of this request goes on with that, whoever else is signed in at this browser.
func (x *visit) resume(r *state.AuthorizationRequest) error {
	first, err := x.p.Engine.First(x.view, r)
	if err != nil {
		return err
	}
	if first != nil {
		return x.prove(r, first, "")
	}
	s, user, err := x.present()
	if err != nil {
		return err
	}
	return x.next(r, authorize.Present{Session: s, User: user}, "")
}
