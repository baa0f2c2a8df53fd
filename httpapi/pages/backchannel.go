package pages

import (
	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/pending"
)

// requestsPage lists what waits for a user (CIBA Core §8).
type requestsPage struct {
	User, Reload string
	Items        []*askPage
}

// requests answers GET /requests.
func (p *pages) requests(x *visit) error {
	s, user, err := x.present()
	if err != nil {
		return err
	}
	return x.next(p.Engine.Begin(x.view, x.tenant, authorize.PageRequests), authorize.Present{Session: s, User: user}, "")
}

// list shows what waits for the user who is signed in. Each item's form is sealed for
// itself, so an answer is to what was shown.
func (x *visit) list(who authorize.Present) error {
	open, err := x.p.Pending.WaitingFor(x.view, x.tenant, who.User.GetId())
	if err != nil {
		return err
	}
	model := &requestsPage{User: who.User.GetUsername(), Reload: x.below(pending.RequestsPath)}
	browser := x.browser()
	for _, b := range open {
		r := x.p.Engine.Begin(x.view, x.tenant, authorize.PageRequests)
		if x.p.Engine.AboutBackchannel(x.view, r, who, b) != nil {
			continue // its client is gone
		}
		authorize.Show(x.view, r, who)
		flow, err := x.p.Engine.SealFlow(x.view, r, browser)
		if err != nil {
			return err
		}
		model.Items = append(model.Items, x.askAbout(r, who, b, flow))
	}
	return x.page(fasthttp.StatusOK, "requests", "", model)
}

// askBackchannel asks about one request, after a step that the list could not do.
func (x *visit) askBackchannel(r *state.AuthorizationRequest, who authorize.Present, flow string) error {
	b, _, err := x.p.Pending.BackchannelOf(x.view, x.tenant, who.User.GetId(), r.GetId())
	if err != nil {
		return err
	}
	if b == nil {
		return errOver
	}
	return x.page(fasthttp.StatusOK, "ask", "", x.askAbout(r, who, b, flow))
}

func (x *visit) askAbout(r *state.AuthorizationRequest, who authorize.Present, b *state.BackchannelRequest, flow string) *askPage {
	m := x.ask(r, who, flow)
	m.Action, m.Message = x.below(pending.RequestsPath), b.GetBindingMessage()
	return m
}
