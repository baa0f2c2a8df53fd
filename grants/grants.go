// Package grants decides what a client may have: one pipeline that every token
// request passes (authenticate, gate, grant, consume,
// mint), one file a grant, and the policy
// of scopes and audiences.
//
// A grant fills in only what is its own. It can forget neither the client's
// authentication nor the gate (client and tenant enabled, grant registered for the
// client), for the pipeline asks it only afterwards; nor can it mint by itself.
//
// Freshness: a grant declares the state that it must decide on; the pipeline gets
// that view. A token that was decided on a row that changed before its commit is
// decided once more on a linearizable view.
//
// Units: lifetimes and instants are seconds. Errors: refusals are *oauth.Error;
// those of a view or a proposal are passed on wrapped. Pipeline is safe for
// concurrent use.
//
// Sources: RFC 6749 §3.3, §4.4, §5; RFC 8707; RFC 9068 §2.2.
package grants

import (
	"context"
	"errors"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// Grant decides one grant type. One value serves all requests at once.
type Grant interface {
	// Type is the value of grant_type that it serves.
	Type() oauth.GrantType
	// Freshness is what it must decide on. Local is enough for one that looks at
	// nothing but the client, whose generation a write checks and whose revocations
	// cover a token of an older head.
	Freshness() state.Freshness
	// Authorize decides from in and fills out, or refuses with an *oauth.Error.
	// Neither may be kept. Scope and audience in in are as asked: narrow them.
	Authorize(ctx context.Context, in *Input, out *Decision) error
}

// Form holds the parameters of the request; absent ones are "".
type Form interface {
	Get(name string) string
	All(name string) []string
}

// Input is what a grant decides from. The client is authenticated and has passed
// the gate.
type Input struct {
	View     *state.View
	Tenant   *state.Tenant
	Client   *state.Client
	Issuer   string   // the tenant's issuer identifier
	Scope    string   // as asked; "": none
	Audience []string // that the request names and the client may name, or the default
	Form     Form     // for the grant's own parameters
}

// Decision is what a grant decided. Audience, lifetime and algorithm are filled in
// beforehand from policy and registration.
type Decision struct {
	Subject     string
	Scope       string
	Audience    []string
	Lifetime    int64  // seconds
	Grant, Root string // gid and root; "": the token's own
}

// Request is one token request.
type Request struct {
	Credentials clients.Request
	GrantType   string
	Scope       string
	Form        Form
}

// Answer is a granted token. Its Token buffer is the caller's and may be reused;
// Scope shares memory with the request or the client's record.
type Answer struct {
	Token     []byte // the access token
	ExpiresIn int64  // seconds
	Scope     string
}

// Config of the pipeline. Observe and Grants are optional.
type Config struct {
	Clients *clients.Authenticator
	Keys    *tokens.SigningKeys
	Minter  *tokens.Minter
	Opaque  *tokens.Opaque
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Now     func() time.Time
	Grants  []Grant // nil: All()
	// Observe is told of each request: the grant ("" when unknown) and "ok" or the
	// code of the refusal. It must not block.
	Observe func(grant oauth.GrantType, result string)
}

func (c *Config) check() error {
	if c.Clients == nil || c.Keys == nil || c.Minter == nil || c.Opaque == nil || c.View == nil || c.Now == nil {
		return errors.New("grants: Config needs Clients, Keys, Minter, Opaque, View and Now")
	}
	return nil
}
