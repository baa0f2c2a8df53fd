package clients

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Request is what a request holds to prove who its client is. The zero values are
// absent ones.
type Request struct {
	Tenant        string
	Authorization []byte // the header, whole; nothing of it is kept
	ID            string // client_id of the form, as the next three
	Secret        string // client_secret
	Assertion     string // client_assertion
	AssertionType string // client_assertion_type

	// Certificate is what the peer of the connection has proved to hold the key of, or
	// what a trusted proxy says so of; nothing else of it is checked yet. Intermediates
	// came with it.
	Certificate   *x509.Certificate
	Intermediates []*x509.Certificate

	// Linearizable says that the view given with the request is: a refusal needs no
	// second look.
	Linearizable bool
}

// String hides the credentials.
func (r Request) String() string { return "credentials of client " + r.ID + " " + hiddenSecret }

// AuthenticatorConfig has no optional fields but ClientCAs and Remote.
type AuthenticatorConfig struct {
	Propose command.Propose
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Keys    Keys
	Now     func() time.Time
	// Issuer is the tenant's issuer identifier: the audience of assertions.
	Issuer func(v *state.View, tenant string) (string, error)
	// TokenPath is added to the issuer for clients that are registered to name the
	// token endpoint instead.
	TokenPath string
	// ClientCAs are the authorities whose certificates tls_client_auth takes, asked for
	// by every request; nil, or nil from it: none.
	ClientCAs func() *x509.CertPool
	// Remote are the key sets of clients that have a jwks_uri; nil: none can be had.
	Remote *verify.RemoteSets
}

// Authenticator checks client credentials.
type Authenticator struct {
	cfg  AuthenticatorConfig
	keys verify.KeySets
}

// NewAuthenticator checks its configuration.
func NewAuthenticator(cfg AuthenticatorConfig) (*Authenticator, error) {
	if cfg.Propose == nil || cfg.View == nil || !cfg.Keys.usable() || cfg.Now == nil || cfg.Issuer == nil || cfg.TokenPath == "" {
		return nil, errors.New("clients: AuthenticatorConfig needs Propose, View, Keys, Now, Issuer and TokenPath")
	}
	return &Authenticator{cfg: cfg}, nil
}

// errRefused is the one answer for an unknown client, a wrong secret, a wrong
// method, a bad assertion and a disabled client or tenant: none of them tells which.
var errRefused = oauth.InvalidClient.With("client authentication failed; check the client's id, its registered authentication method and its credentials")

// claim is what a request claims: one mechanism, and the id that goes with it.
type claim struct {
	method    oauth.AuthMethod // the mechanism; checked against the registration
	id        string
	secret    string
	assertion *verify.Token
	broken    bool // the mechanism is clear, its value is not well-formed
}

// Proof is what a request proved: who its client is. What proved it may be good for
// one use only, so it counts once Consume has accepted it.
type Proof struct {
	Client *state.Client
	View   *state.View // that it was decided on

	tenant    string
	assertion *verify.Token // not used up yet; nil: nothing is
}

// Authenticate tells which client the request proves to be, on v or on a fresher view
// where v would have refused. A refusal is checked once more against a linearizable
// view, if the record differs there, so that what was created at one node is known at
// every node. It writes nothing: a request that is refused for another reason has used
// nothing up. Errors: invalid_request for more than one mechanism, invalid_client, the
// view's own.
func (a *Authenticator) Authenticate(ctx context.Context, v *state.View, r *Request) (Proof, error) {
	claimed, err := r.claim()
	if err != nil {
		return Proof{}, err
	}
	if claimed.broken || len(claimed.id) > maxID {
		return Proof{}, errRefused // nothing that any state could make good
	}
	client, known := v.Client(r.Tenant, claimed.id)
	ok, err := a.proves(ctx, v, r, client, &claimed)
	if err != nil {
		return Proof{}, err
	}
	if !ok && !r.Linearizable {
		fresh, err := a.cfg.View(ctx, state.Linearizable)
		if err != nil {
			return Proof{}, NoView(err)
		}
		if differs(v, fresh, r.Tenant, claimed.id, client, known) {
			v = fresh
			client, _ = v.Client(r.Tenant, claimed.id)
			if ok, err = a.proves(ctx, v, r, client, &claimed); err != nil {
				return Proof{}, err
			}
		}
	}
	if !ok {
		return Proof{}, errRefused
	}
	return Proof{Client: client, View: v, tenant: r.Tenant, assertion: claimed.assertion}, nil
}

// Again proves on a linearizable view what p was proved on before: credentials that were
// taken back since prove nothing, or a token of a state in which they are gone would
// outlive the revocation that came with it. What Consume has used up stays so. The error
// is invalid_client.
func (a *Authenticator) Again(ctx context.Context, v *state.View, r *Request, p *Proof) error {
	claimed, err := r.claim()
	if err != nil {
		return err
	}
	client, _ := v.Client(r.Tenant, claimed.id)
	ok, err := a.proves(ctx, v, r, client, &claimed)
	if err != nil {
		return err
	}
	if !ok {
		return errRefused
	}
	p.Client, p.View = client, v
	return nil
}

// Consume uses up what of the proof is good once, for all nodes. Call it when the
// request is accepted otherwise, before it has an effect or an answer: of many uses of
// one proof it accepts one. Where it has accepted, another call does nothing. Errors:
// invalid_client for what was used before, the proposal's own.
func (a *Authenticator) Consume(ctx context.Context, p *Proof) error {
	if p.assertion == nil {
		return nil
	}
	if err := a.consume(ctx, p.tenant, p.assertion); err != nil {
		return err
	}
	p.assertion = nil
	return nil
}

// differs tells whether a fresh view could judge otherwise: another record of the
// client, its tenant or the cluster (the issuer, the hash keys' epoch).
func differs(old, fresh *state.View, tenant, id string, client *state.Client, known bool) bool {
	if old == fresh {
		return false
	}
	c, ok := fresh.Client(tenant, id)
	if ok != known || c.GetGeneration() != client.GetGeneration() || old.Epoch() != fresh.Epoch() {
		return true
	}
	oldTenant, _ := old.Tenant(tenant)
	freshTenant, _ := fresh.Tenant(tenant)
	oldCluster, _ := old.Cluster()
	freshCluster, _ := fresh.Cluster()
	return oldTenant != freshTenant || oldCluster != freshCluster
}

// claim finds the one mechanism of the request (TOK-08). Its value may be broken; a
// mechanism that is there but broken never falls through to another.
func (r *Request) claim() (claim, error) {
	basic, secret := len(r.Authorization) > 0, r.Secret != ""
	assertion := r.Assertion != "" || r.AssertionType != ""
	if basic && secret || basic && assertion || secret && assertion {
		return claim{}, oauth.InvalidRequest.With("use one way of client authentication only: the Authorization header, client_secret or client_assertion")
	}
	switch {
	case basic:
		return r.claimBasic(), nil
	case secret:
		return r.claimPost(), nil
	case assertion:
		return r.claimAssertion()
	default:
		return r.claimNone(), nil
	}
}

// proves tells whether the claim holds in v. client is nil when v does not know the
// id: what that costs is the same.
func (a *Authenticator) proves(ctx context.Context, v *state.View, r *Request, client *state.Client, c *claim) (bool, error) {
	var ok bool
	var err error
	method := c.method
	switch method {
	case oauth.AuthSecretBasic, oauth.AuthSecretPost:
		ok, err = a.cfg.Keys.check(v, client, c.secret, max(a.cfg.Now().UnixMilli(), v.Clock()))
	case oauth.AuthPrivateKeyJWT, oauth.AuthSecretJWT:
		ok, err = a.provesAssertion(ctx, v, r.Tenant, client, c.assertion)
	case oauth.AuthNone:
		if ok = client != nil; ok && r.Certificate != nil {
			method, ok, err = a.provesCertificate(ctx, v, client, r)
		}
	}
	if err != nil || !ok {
		return false, err
	}
	tenant, found := v.Tenant(r.Tenant)
	return found && !tenant.GetDisabled() && !client.GetDisabled() &&
		client.GetAuthMethod() == string(method), nil // the registration's method, not the request's (TOK-09)
}
