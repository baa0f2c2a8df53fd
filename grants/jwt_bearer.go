package grants

import (
	"context"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// grantAssertion is the kind of one-time value that an assertion is. That of client
// authentication is another: one JWT is never good for both (JWT-24).
const grantAssertion = "grant assertion"

// jwtBearer serves grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer (RFC 7523
// §2.1): the word of an issuer that the tenant trusts, once. There is no refresh token:
// who wants another token asks the issuer for another assertion (RFC 7521 §4.1).
type jwtBearer struct {
	assertions *assertions
	subject    func(v *state.View, client *state.Client, user string) (subject, sector string, err error)
}

func (jwtBearer) Type() oauth.GrantType { return oauth.GrantJWTBearer }

// Freshness is linearizable: an issuer that was disabled a moment ago vouches for nobody
// (TOK-32).
func (jwtBearer) Freshness() state.Freshness { return state.Linearizable }

// Authorize checks the assertion; the commit uses it up. Errors: invalid_request where
// it is missing, invalid_grant, invalid_scope, temporarily_unavailable while the
// issuer's keys can't be fetched.
func (g jwtBearer) Authorize(ctx context.Context, in *Input, out *Decision) error {
	text := in.Form.Get("assertion")
	if text == "" {
		return oauth.InvalidRequest.With("assertion is missing")
	}
	x, err := g.assertions.read(ctx, in, text, assertionType, oauth.InvalidGrant)
	if err != nil {
		return err
	}
	life := firstPositive(x.issuer.GetMaxLife(), defaultAssertionLife)
	if clients.Forgotten(in.View, x.claims.IssuedAt, life) {
		return oauth.InvalidGrant.With("it may have been used before the last restore of this cluster; get a new one")
	}
	if _, err := ofDetails(in, nil); err != nil { // nobody has seen them
		return err
	}
	if out.Scope, err = x.scope(in); err != nil {
		return err
	}
	if out.Authorization, err = x.authorization(in, g.subject); err != nil {
		return err
	}
	out.Subject, out.Vouched, out.Begun = out.Authorization.GetSubject(), x.issuer, true
	out.Use = OneTime{Kind: grantAssertion, ID: x.id(), ExpiresAt: x.claims.Expires + assertionSkew}
	return nil
}

// authorization says who the assertion speaks of, as the client knows them.
func (x *assertion) authorization(in *Input, subject func(*state.View, *state.Client, string) (string, string, error)) (*state.Authorization, error) {
	a := &state.Authorization{Subject: x.subject, Attributes: x.brought}
	if x.user == nil {
		return a, nil
	}
	a.User = x.user.GetId()
	var err error
	a.Subject, a.Sector, err = subject(in.View, in.Client, a.GetUser())
	return a, err
}
