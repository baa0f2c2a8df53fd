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
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/pending"
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
	Binding  Binding  // that the request proved to hold
}

// Binding names the keys that a request proved to hold; "" for none.
type Binding struct {
	JKT string // thumbprint of a DPoP key (RFC 9449 §6.1)
	X5T string // of a client certificate, x5t#S256 (RFC 8705 §3.1)
}

// OneTime is a value that is used up in the same commit that starts what it allows.
type OneTime struct {
	Kind, ID      string
	ExpiresAt     int64 // seconds
	RevokeOnReuse bool  // a second use takes back what the first one gave
}

// Decision is what a grant decided. The audience is filled in
// beforehand from policy and registration.
type Decision struct {
	Subject     string
	Scope       string
	Audience    []string
	Grant, Root string // gid and root; "": the token's own
	RootClient  string // to which the root was issued, where that is another

	// Authorization is who allowed it: nil where the client asks for itself. The
	// pipeline holds it against the gate, and fills in what it decided.
	Authorization    *state.Authorization
	Refresh, Offline bool // a refresh token may come of it; one that outlives the session
	Use              OneTime
	Vouched          *state.TrustedIssuer // who vouched for the subject
	Nonce            string               // of the ID token
	Details          []byte               // authorization_details of the token, JSON
	Code, State      string               // of which the ID token tells the hash
	Only             Front                // at the authorization endpoint; else all
	IssuedTokenType  oauth.TokenType      // RFC 8693 §2.2.1
	// OfClient is the client whose own token this one comes of; "" for none.
	OfClient string
	// Begun says that whoever allowed it did so before, or before somebody else: no page
	// of ours is shown, and no guess of a stranger at their password concerns it.
	Begun bool
	Until int64 // seconds: when a token of it must have expired; 0: as its lifetime says
	// Rotated is set by the refresh grant alone: the family goes on.
	Rotated *rotation
}

// Request is one token request.
type Request struct {
	Credentials clients.Request
	GrantType   string
	Scope       string
	Form        Form
	Proof       string // of the DPoP header; "": none
}

// Answer is a granted token. Its Token buffer is the caller's and may be reused;
// Scope shares memory with the request or the client's record.
type Answer struct {
	Token     []byte // the access token
	ExpiresIn int64  // seconds
	Scope     string

	Refresh, ID     []byte // tokens; empty: none
	DPoP            bool   // token_type is DPoP
	IssuedTokenType oauth.TokenType
	Details         []byte // authorization_details, JSON
}

// Config of the pipeline. Observe, Locked, Subject, Fetch, KeysFailed and Grants are optional.
type Config struct {
	Clients *clients.Authenticator
	Keys    *tokens.SigningKeys
	Minter  *tokens.Minter
	Opaque  *tokens.Opaque
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Now     func() time.Time
	Grants  []Grant // nil: All of this configuration
	Propose command.Propose
	Refresh *tokens.RefreshTokens
	Boxes   *tokens.Boxes // of KeyCode
	Proofs  *tokens.Proofs
	Pending *pending.Requests
	// TokenPath is that of the token endpoint below the issuer, which a DPoP proof names.
	TokenPath string
	// Locked tells whether too many wrong passwords of strangers have locked the account
	// for now. It concerns what nobody has begun at a browser.
	Locked func(v *state.View, tenant, user string) (bool, error)
	// Absent tells the error of a row that is not there from that of a store that is
	// damaged or closed.
	Absent func(error) bool
	// Check tells which user has a name and a password; browser is the id of one that the
	// user is known at, or "".
	Check func(ctx context.Context, v *state.View, tenant, username, password, browser string) (*state.User, error)
	// Subject is the name, and the sector of it, by which a client knows a user; nil: its id.
	Subject func(v *state.View, client *state.Client, user string) (subject, sector string, err error)
	// Introspector recognises our own tokens, which may be exchanged.
	Introspector *tokens.Introspector
	// Fetch gets the key sets of trusted issuers; nil: none can be had from a URL.
	Fetch Fetch
	// KeysFailed is told why the keys at a URL could not be had: for the operator's log,
	// since who asked for a token is told no more than that (SSR-06). Nil: nobody is.
	KeysFailed func(url string, err error)
	// Observe is told of each request: the grant ("" when unknown) and "ok" or the
	// code of the refusal. It must not block.
	Observe func(grant oauth.GrantType, result string)
}

func (c *Config) check() error {
	if c.Clients == nil || c.Keys == nil || c.Minter == nil || c.Opaque == nil || c.View == nil || c.Now == nil {
		return errors.New("grants: Config needs Clients, Keys, Minter, Opaque, View and Now")
	}
	if c.Propose == nil || c.Refresh == nil || c.Boxes == nil || c.Absent == nil || c.Proofs == nil || c.Pending == nil || c.TokenPath == "" {
		return errors.New("grants: Config needs Propose, Refresh, Boxes, Absent, Proofs, Pending and TokenPath")
	}
	if c.Check == nil || c.Introspector == nil {
		return errors.New("grants: Config needs Check and Introspector")
	}
	return nil
}

// subject is Subject, or where that is nil the user's id.
func (c *Config) subject(v *state.View, client *state.Client, user string) (subject, sector string, err error) {
	if c.Subject == nil {
		return user, "", nil
	}
	return c.Subject(v, client, user)
}

// now is the later of this node's clock and the cluster's, in seconds.
func (c *Config) now(v *state.View) int64 { return max(c.Now().Unix(), v.Clock()/1000) }

func (c *Config) absent(err error) bool { return err != nil && c.Absent(err) }
