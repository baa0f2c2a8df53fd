// Package authorize decides what an authorization request may ask, what its user must do
// next, and what the client is answered: everything of the authorization endpoint but
// its pages (RFC 6749 §4.1, OpenID Connect Core §3.1.2).
//
// A request that was found good is one value (state.AuthorizationRequest). While its
// user signs in it travels through the browser sealed, bound to a cookie, so nothing is
// written before there is something to remember. A code is a sealed value, too.
//
// Errors: *Failure says whether the client may be told (its redirect URI is proved) or
// only the person at the browser. Units: instants are seconds. An Engine is safe for
// concurrent use.
//
// Sources: RFC 6749, 7636, 8252, 8707, 9101, 9126, 9207, 9396, 9449 §10, 9700; JARM; OpenID Connect Core;
// OAuth 2.0 Multiple Response Types; Form Post Response Mode.
package authorize

import (
	"context"
	"errors"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Config has no optional fields.
type Config struct {
	Propose  command.Propose
	View     func(ctx context.Context, f state.Freshness) (*state.View, error)
	Keys     *tokens.SigningKeys
	Boxes    *tokens.Boxes // of tokens.KeyCode
	Now      func() time.Time
	Absent   func(error) bool
	Subjects *tokens.Subjects
	Minter   *tokens.Minter
	// Pipeline gives the tokens of the response types that have some.
	Pipeline *grants.Pipeline
	// ClientKeys are the keys that a client signs with; verify.ErrNoSet for none.
	ClientKeys func(ctx context.Context, client *state.Client, kid string) (*verify.KeySet, error)
	// FetchObject gets the request object at a URL that a client has registered, of at
	// most so many bytes.
	FetchObject func(ctx context.Context, url string, limit int64) ([]byte, error)
}

// Engine is the authorization endpoint's rule.
type Engine struct {
	cfg      Config
	fetching chan struct{} // one for each fetch that is under way
}

// New checks the configuration.
func New(cfg Config) (*Engine, error) {
	if cfg.Propose == nil || cfg.View == nil || cfg.Keys == nil || cfg.Boxes == nil || cfg.Now == nil || cfg.Absent == nil || cfg.Subjects == nil || cfg.Minter == nil || cfg.Pipeline == nil || cfg.ClientKeys == nil || cfg.FetchObject == nil {
		return nil, errors.New("authorize: every member of Config is needed")
	}
	return &Engine{cfg, make(chan struct{}, maxFetching)}, nil
}

// Form holds the parameters of a request; absent ones are "".
type Form interface {
	Get(name string) string
	All(name string) []string
}

// Failure is a refused request. Request is nil while the redirect URI is not proved: then
// the person at the browser is told, and nobody else (RFC 9700 §4.11).
type Failure struct {
	Err     *oauth.Error
	Request *state.AuthorizationRequest
}

// Error is that of the refusal.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap is the refusal.
func (f *Failure) Unwrap() error { return f.Err }

// now is the later of this node's clock and the cluster's, in seconds.
func (e *Engine) now(v *state.View) int64 { return max(e.cfg.Now().Unix(), v.Clock()/1000) }

// client finds the client of a request; one that is unknown here is looked for once more
// on a fresh view.
func (e *Engine) client(ctx context.Context, v *state.View, tenant, id string) (*state.View, *state.Client, error) {
	if c, ok := v.Client(tenant, id); ok {
		return v, c, nil
	}
	fresh, err := e.cfg.View(ctx, state.Linearizable)
	if err != nil {
		return nil, nil, clients.NoView(err)
	}
	c, _ := fresh.Client(tenant, id)
	return fresh, c, nil
}
