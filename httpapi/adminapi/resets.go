package adminapi

import (
	"errors"
	"net/url"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
)

// resetEndpoints are the links by which users set a password of their own.
func (a *api) resetEndpoints() []endpoint {
	const path = usersPath + "/{id}/reset-link"
	return []endpoint{
		// A retry makes another link: what an Idempotency-Key would have kept is a secret.
		{method: "POST", path: path, tenanted: true, serve: a.createResetLink},
		{method: "DELETE", path: path, tenanted: true, serve: a.withdrawResetLink},
	}
}

// resetLink is shown by the call that made it only.
type resetLink struct {
	URL       string `json:"url"`
	ExpiresAt int64  `json:"expires_at"` // seconds
}

// createResetLink makes a link in place of the one that there was. It leads to the issuer as
// it is configured, whatever host the request named (WEB-06).
func (a *api) createResetLink(r *request) error {
	u, err := a.currentUser(r)
	if err != nil {
		return err
	}
	issuer, err := a.Signing.Issuer(r.view, r.tenant)
	if err != nil {
		return err
	}
	token, until, err := a.Resets.New(r.ctx, r.view, r.tenant, u.GetId())
	if err != nil {
		return overtaken(err)
	}
	return r.json(fasthttp.StatusCreated, resetLink{issuer + a.ResetPath + "?" + url.Values{"token": {token}}.Encode(), until})
}

func (a *api) withdrawResetLink(r *request) error {
	u, err := a.currentUser(r)
	if err == nil {
		err = a.Resets.Withdraw(r.ctx, r.view, r.tenant, u.GetId())
	}
	if err != nil {
		return overtaken(err)
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// overtaken is the answer where the user was changed at the same moment.
func overtaken(err error) error {
	if errors.Is(err, command.Stale) {
		return conflict("conflict", "", "the user was changed at this moment; try again")
	}
	return err
}
