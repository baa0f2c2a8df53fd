package pages

import "github.com/keyraft/keyraft/fsm/state"

// about is what a client has published of itself for its users to read (OpenID Connect
// Registration §2). Its logo is not shown: an image that anybody may choose would make a
// page of ours look like somebody else's, and would tell its host who looks at it.
type about struct{ Policy, Terms string }

// about is that of the client that asks; nothing for a page of ours.
func (x *visit) about(r *state.AuthorizationRequest) about {
	c, _ := x.view.Client(r.GetTenant(), r.GetClientId())
	return about{c.GetPolicyUri(), c.GetTosUri()}
}
