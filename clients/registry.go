package clients

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/window"
	"github.com/keyraft/keyraft/tokens/verify"
)

// RegistryConfig has no optional fields but OutboundURL, Fetch and Remote.
type RegistryConfig struct {
	Propose command.Propose
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Keys    Keys
	Now     func() time.Time
	Grants  []oauth.GrantType // those that the token endpoint serves

	// OutboundURL judges a URL that this server is to fetch from for a client; nil: none
	// is taken.
	OutboundURL func(url string) error
	// Fetch gets what proves a sector_identifier_uri; nil: none can be proved.
	Fetch Fetch
	// Remote are the fetched keys of issuers of software statements; nil: none are.
	Remote *verify.RemoteSets
	// Issuer is a tenant's own, as it stands in aud of what is made for this server.
	Issuer func(v *state.View, tenant string) (string, error)
}

// Registry makes and changes clients. Its errors wrap *FieldError, or a
// command.Reject: Exists, NotFound, Stale (another generation than expected),
// KeyReused.
type Registry struct {
	cfg   RegistryConfig
	begun window.Window  // registrations of addresses
	keys  verify.KeySets // of issuers of software statements
}

// NewRegistry checks its configuration.
func NewRegistry(cfg RegistryConfig) (*Registry, error) {
	if cfg.Propose == nil || cfg.View == nil || !cfg.Keys.usable() || cfg.Now == nil || cfg.Issuer == nil || len(cfg.Grants) == 0 {
		return nil, errors.New("clients: RegistryConfig needs Propose, View, Keys, Now, Issuer and Grants")
	}
	return &Registry{cfg: cfg, begun: window.Window{Lasts: addressWindow}}, nil
}

// Create registers a client of the tenant. Without a client_id one is made. The
// answer holds its secret, if its method has one.
func (r *Registry) Create(ctx context.Context, v *state.View, tenant string, reg *Registration) (*Registered, error) {
	m, err := r.cfg.Keys.maker(ctx, v)
	if err != nil {
		return nil, err
	}
	named := *reg
	if named.ClientID == "" {
		named.ClientID = m.id()
	}
	c, err := named.client(tenant, nil, r.cfg.Grants)
	if err == nil {
		err = r.callable(c, nil)
	}
	if err == nil {
		err = allowed(v, c, nil)
	}
	if err != nil {
		return nil, err
	}
	secret := ""
	if hasSecret(c.GetAuthMethod()) {
		if secret, err = r.newSecret(v, m, c); err != nil {
			return nil, err
		}
	}
	return r.put(ctx, c, 0, secret)
}

// Update replaces a client's registration. expect is the generation that the caller
// saw; 0: whichever v has. Disabling a client revokes its tokens in the same change.
// A method without a secret drops the secrets; one with a secret, for a client that
// has none, makes one, which is in the answer.
func (r *Registry) Update(ctx context.Context, v *state.View, tenant, id string, reg *Registration, expect uint64) (*Registered, error) {
	old, err := existing(v, tenant, id, &expect)
	if err != nil {
		return nil, err
	}
	named := *reg
	if named.ClientID == "" {
		named.ClientID = id
	}
	if named.ClientID != id {
		return nil, bad("client_id", "an id never changes; register a new client")
	}
	c, err := named.client(tenant, old, r.cfg.Grants)
	if err == nil {
		err = r.callable(c, old)
	}
	if err == nil {
		err = allowed(v, c, old)
	}
	if err != nil {
		return nil, err
	}
	c.UnusedUntil = 0 // the operator knows of it now
	secret := ""
	switch {
	case !hasSecret(c.GetAuthMethod()):
		c.Secrets = nil
	case !fits(c):
		m, err := r.cfg.Keys.maker(ctx, v)
		if err != nil {
			return nil, err
		}
		if secret, err = r.newSecret(v, m, c); err != nil {
			return nil, err
		}
	}
	return r.put(ctx, c, expect, secret)
}

// UntilNext keeps the secret before until the next rotation.
const UntilNext time.Duration = -1

// RotateSecret makes a new secret, which is in the answer. The previous one stays
// good for keep; 0 ends it at once. One that is older is dropped.
func (r *Registry) RotateSecret(ctx context.Context, v *state.View, tenant, id string, keep time.Duration, expect uint64) (*Registered, error) {
	old, err := existing(v, tenant, id, &expect)
	if err != nil {
		return nil, err
	}
	if !hasSecret(old.GetAuthMethod()) {
		return nil, bad("token_endpoint_auth_method", "the client has no secret: it uses %s", old.GetAuthMethod())
	}
	m, err := r.cfg.Keys.maker(ctx, v)
	if err != nil {
		return nil, err
	}
	c := proto.CloneOf(old)
	secret, err := r.newSecret(v, m, c)
	if err != nil {
		return nil, err
	}
	if len(old.GetSecrets()) > 0 && keep != 0 {
		previous := proto.CloneOf(old.GetSecrets()[0])
		if keep > 0 {
			previous.ExpiresAt = r.cfg.Now().Add(keep).UnixMilli()
		}
		c.Secrets = append(c.Secrets, previous)
	}
	return r.put(ctx, c, expect, secret)
}

// Delete removes a client and revokes its tokens; seq is that event's.
func (r *Registry) Delete(ctx context.Context, tenant, id string, expect uint64) (seq uint64, err error) {
	result, err := r.cfg.Propose(ctx, &command.DeleteClient{Tenant: tenant, Id: id, Expect: expect})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("delete client %q: %w", id, err)
	}
	return result.Seq, nil
}

// existing finds the client that a change starts from, and names its generation.
func existing(v *state.View, tenant, id string, expect *uint64) (*state.Client, error) {
	old, ok := v.Client(tenant, id)
	if !ok {
		return nil, fmt.Errorf("client %q: %w", id, command.NotFound)
	}
	if *expect == 0 {
		*expect = old.GetGeneration()
	}
	return old, nil
}

// put proposes the row and answers with what the state made of it.
func (r *Registry) put(ctx context.Context, c *state.Client, expect uint64, secret string) (*Registered, error) {
	result, err := r.cfg.Propose(ctx, &command.PutClient{Client: c, Expect: expect})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("store client %q: %w", c.GetId(), err)
	}
	// The proposal was applied on this node, so a local view has it.
	v, err := r.cfg.View(ctx, state.Local)
	if err != nil {
		return nil, fmt.Errorf("read client %q back: %w", c.GetId(), err)
	}
	stored, ok := v.Client(c.GetTenant(), c.GetId())
	if !ok {
		return nil, fmt.Errorf("client %q was deleted meanwhile: %w", c.GetId(), command.NotFound)
	}
	if secret != "" {
		held, err := r.cfg.Keys.holds(v, stored, secret)
		if err != nil {
			return nil, err
		}
		if !held { // a late retry: the kept answer is of a secret that is no longer there
			return nil, fmt.Errorf("the secret that this Idempotency-Key made is no longer the client's; rotate under a new key: %w", command.Stale)
		}
	}
	out := FromClient(stored)
	out.secret = secret
	return out, nil
}
