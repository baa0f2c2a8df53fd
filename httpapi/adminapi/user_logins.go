package adminapi

import (
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
)

// userLoginEndpoints are what a user has left behind by signing in: sessions, consents, and
// what they prove themselves with. What a user makes of these an operator only sees and
// takes away; nobody but the user adds a second factor.
func (a *api) userLoginEndpoints() []endpoint {
	const one = usersPath + "/{id}"
	return []endpoint{
		{method: "GET", path: one + "/sessions", tenanted: true, offersStale: true, query: []string{"limit", "cursor"}, serve: a.listSessions},
		{method: "DELETE", path: one + "/sessions/{sid}", tenanted: true, serve: a.endSession},
		{method: "GET", path: one + "/consents", tenanted: true, offersStale: true, query: []string{"limit", "cursor"}, serve: a.listConsents},
		{method: "DELETE", path: one + "/consents/{client}", tenanted: true, serve: a.forgetConsent},
		{method: "GET", path: one + "/credentials", tenanted: true, offersStale: true, serve: a.listCredentials},
		{method: "DELETE", path: one + "/credentials/{credential}", tenanted: true, serve: a.deleteCredential},
	}
}

// session is a login as it is answered. Instants are in seconds.
type session struct {
	ID        string   `json:"id"`
	CreatedAt int64    `json:"created_at"`
	AuthTime  int64    `json:"auth_time"`
	ExpiresAt int64    `json:"expires_at"`
	ACR       string   `json:"acr"`
	AMR       []string `json:"amr"`
	UserAgent string   `json:"user_agent,omitempty"`
	Address   string   `json:"address,omitempty"`
}

// consent is what a user allowed a client.
type consent struct {
	ClientID  string   `json:"client_id"`
	Scopes    []string `json:"scopes"`
	Claims    []string `json:"claims,omitempty"`
	Resources []string `json:"resources,omitempty"`
	GrantedAt int64    `json:"granted_at"`
}

// credential is a second factor, without anything that would let one use it.
type credential struct {
	ID        string `json:"id"`
	Kind      string `json:"kind"`
	Name      string `json:"name,omitempty"`
	CreatedAt int64  `json:"created_at"`
	UsedAt    int64  `json:"used_at,omitempty"`
}

// some answers one page of a user's rows: ids lists their ids, read gives one, or nil for
// one that is not to be shown.
func some[T any](a *api, r *request, kind string, ids func(u *state.User, after string, limit int) ([]string, error), read func(u *state.User, id string) (*T, error)) error {
	u, err := a.currentUser(r)
	if err != nil {
		return err
	}
	limit, err := r.limit()
	if err != nil {
		return err
	}
	after, err := a.after(r, kind+" of "+u.GetId())
	if err != nil {
		return err
	}
	list, err := ids(u, after, limit+1)
	if err != nil {
		return err
	}
	p := page[*T]{Items: []*T{}}
	if len(list) > limit {
		list = list[:limit]
		if p.Next, err = a.cursor(r, kind+" of "+u.GetId(), list[limit-1]); err != nil {
			return err
		}
	}
	for _, id := range list {
		row, err := read(u, id)
		switch {
		case a.Absent(err): // gone since the list was read
		case err != nil:
			return err
		case row != nil:
			p.Items = append(p.Items, row)
		}
	}
	return r.json(fasthttp.StatusOK, p)
}

func (a *api) listSessions(r *request) error {
	return some(a, r, "sessions", func(u *state.User, after string, limit int) ([]string, error) {
		return r.view.SessionsOf(r.tenant, u.GetId(), after, limit)
	}, func(u *state.User, id string) (*session, error) {
		s, err := r.view.Session(r.tenant, id)
		if err != nil || !a.Sessions.Stands(r.view, s, u) {
			return nil, err
		}
		return &session{
			ID: id, CreatedAt: s.GetCreatedAt() / 1000, AuthTime: s.GetAuthTime(), ExpiresAt: s.GetExpiresAt(), ACR: s.GetAcr(), AMR: s.GetAmr(),
			UserAgent: s.GetUserAgent(), Address: s.GetAddress(),
		}, nil
	})
}

func (a *api) endSession(r *request) error {
	u, err := a.currentUser(r)
	if err != nil {
		return err
	}
	sid := httpapi.Param(r.RequestCtx, "sid")
	s, err := r.view.Session(r.tenant, sid)
	if a.Absent(err) || err == nil && s.GetUser() != u.GetId() {
		return notFound("the user has no such session")
	}
	if err == nil {
		err = a.Sessions.End(r.ctx, r.tenant, sid)
	}
	return r.gone(err)
}

// gone answers a deletion.
func (r *request) gone(err error) error {
	if err != nil {
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

func (a *api) listConsents(r *request) error {
	return some(a, r, "consents", func(u *state.User, after string, limit int) ([]string, error) {
		return r.view.ConsentsOf(r.tenant, u.GetId(), after, limit)
	}, func(u *state.User, client string) (*consent, error) {
		c, err := r.view.Consent(r.tenant, u.GetId(), client)
		if err != nil {
			return nil, err
		}
		return &consent{ClientID: client, Scopes: append([]string{}, c.GetScopes()...), Claims: c.GetClaims(), Resources: c.GetResources(), GrantedAt: c.GetGrantedAt() / 1000}, nil
	})
}

func (a *api) forgetConsent(r *request) error {
	u, err := a.currentUser(r)
	if err != nil {
		return err
	}
	err = a.Consents.Forget(r.ctx, r.tenant, u.GetId(), httpapi.Param(r.RequestCtx, "client"))
	if errors.Is(err, command.NotFound) {
		return notFound("the user has allowed this client nothing")
	}
	return r.gone(err)
}

func (a *api) listCredentials(r *request) error {
	u, err := a.currentUser(r)
	if err != nil {
		return err
	}
	rows, err := r.view.CredentialsOf(r.tenant, u.GetId())
	if err != nil {
		return err
	}
	p := page[*credential]{Items: []*credential{}}
	for _, c := range rows {
		p.Items = append(p.Items, &credential{ID: c.GetId(), Kind: c.GetKind(), Name: c.GetName(), CreatedAt: c.GetCreatedAt() / 1000, UsedAt: c.GetUsedAt() / 1000})
	}
	return r.json(fasthttp.StatusOK, p)
}

func (a *api) deleteCredential(r *request) error {
	u, err := a.currentUser(r)
	if err != nil {
		return err
	}
	err = a.Factors.Remove(r.ctx, r.view, u, httpapi.Param(r.RequestCtx, "credential"))
	if errors.Is(err, command.NotFound) || errors.Is(err, command.Invalid) {
		return notFound("the user has no such credential")
	}
	return r.gone(err)
}
