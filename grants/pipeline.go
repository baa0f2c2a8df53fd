package grants

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Pipeline is the token endpoint's rule.
type Pipeline struct {
	cfg    Config
	grants map[string]Grant
	pool   sync.Pool // *exchange
}

// exchange is what one request needs on its way, pooled.
type exchange struct {
	in     Input
	out    Decision
	claims tokens.Claims
	extra  []tokens.Member      // custom claims of the token
	sealed verify.EncryptionKey // that the token is encrypted to, if it is
	one    [1]string            // the default audience
	proof  clients.Proof
	shown  tokens.Shown // DPoP proof of the request; its JKT is "" before it was read
	used   bool         // it was used up
	seen   command.Decided

	encryptTo []byte // key set of the client, for its ID token
}

// New checks the configuration and the list of grants.
func New(cfg Config) (*Pipeline, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Grants == nil {
		cfg.Grants = All(&cfg)
	}
	p := &Pipeline{cfg: cfg, grants: make(map[string]Grant, len(cfg.Grants))}
	for _, g := range cfg.Grants {
		if g.Type() == "" || p.grants[string(g.Type())] != nil {
			return nil, fmt.Errorf("grants: the grant type %q is empty or listed twice", g.Type())
		}
		p.grants[string(g.Type())] = g
	}
	p.pool.New = func() any { return new(exchange) }
	return p, nil
}

// Token answers one token request on v, which is at least Local: out.Token is filled
// from its start.
func (p *Pipeline) Token(ctx context.Context, v *state.View, req *Request, out *Answer) error {
	grant, err := p.grant(req.GrantType)
	if err == nil {
		x := p.pool.Get().(*exchange)
		err = p.serve(ctx, v, grant, req, x, out)
		*x = exchange{}
		p.pool.Put(x)
	}
	if p.cfg.Observe != nil {
		p.observe(grant, err)
	}
	return err
}

func (p *Pipeline) grant(name string) (Grant, error) {
	if name == "" {
		return nil, oauth.InvalidRequest.With("grant_type is missing")
	}
	grant := p.grants[name]
	if grant == nil {
		return nil, oauth.UnsupportedGrantType.With("this grant_type is not served here; discovery lists what is")
	}
	return grant, nil
}

// serve authenticates and decides, at most twice: once more, on a fresh view, when what
// it decided on had changed before the commit, or when it would refuse what a fresher
// record allows.
func (p *Pipeline) serve(ctx context.Context, v *state.View, grant Grant, req *Request, x *exchange, out *Answer) error {
	f := grant.Freshness()
	if f != state.Local {
		fresh, err := p.cfg.View(ctx, f)
		if err != nil {
			return clients.NoView(err)
		}
		v = fresh
		req.Credentials.Linearizable = f.IsLinearizable()
	}
	var err error
	if x.proof, err = p.cfg.Clients.Authenticate(ctx, v, &req.Credentials); err != nil {
		return err
	}
	client, v := x.proof.Client, x.proof.View
	tenant, _ := v.Tenant(client.GetTenant())
	err = p.decide(ctx, v, tenant, client, grant, req, x, out)
	changed := moved(err)
	if err == nil || !changed && !(byRecord(err) && !f.IsLinearizable()) {
		return err
	}
	fresh, viewErr := p.cfg.View(ctx, state.Linearizable)
	if viewErr != nil {
		return clients.NoView(viewErr)
	}
	freshTenant, _ := fresh.Tenant(client.GetTenant())
	freshClient, _ := fresh.Client(client.GetTenant(), client.GetId())
	if !changed && freshTenant == tenant && freshClient.GetGeneration() == client.GetGeneration() {
		return err
	}
	if err := p.cfg.Clients.Again(ctx, fresh, &req.Credentials, &x.proof); err != nil {
		return err
	}
	err = p.decide(ctx, fresh, freshTenant, x.proof.Client, grant, req, x, out)
	if moved(err) {
		return oauth.TemporarilyUnavailable.With("the client is being changed at the same time; try again").WithRetryAfter(1)
	}
	return err
}

// moved tells that a commit was refused because what it was decided on had changed.
func moved(err error) bool {
	return errors.Is(err, command.Stale) || errors.Is(err, command.EpochChanged)
}

// byRecord tells a refusal that rests on the client's or the tenant's record.
func byRecord(err error) bool {
	return errors.Is(err, oauth.InvalidClient) || errors.Is(err, oauth.UnauthorizedClient) ||
		errors.Is(err, oauth.InvalidScope) || errors.Is(err, oauth.InvalidTarget)
}

// decide is the gate, the grant's own decision and the token, on one view. A proof of
// the client that is good once is used up when the grant has accepted and before a
// token is made: a refused request uses nothing up, and no proof gives two tokens.
func (p *Pipeline) decide(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, grant Grant, req *Request, x *exchange, out *Answer) error {
	if err := gate(tenant, client, grant.Type()); err != nil {
		return err
	}
	issuer, err := p.cfg.Keys.Issuer(v, tenant.GetId())
	if err != nil {
		return err
	}
	audience, err := targets(req.Form, client.GetResources())
	if err != nil {
		return err
	}
	if audience == nil {
		x.one[0] = defaultAudience(tenant, client, issuer)
		audience = x.one[:]
	}
	x.in = Input{View: v, Tenant: tenant, Client: client, Issuer: issuer, Scope: req.Scope, Audience: audience, Form: req.Form}
	if x.in.Binding, err = p.binding(v, tenant, client, issuer, req, x); err != nil {
		return err
	}
	x.out = Decision{Audience: audience}
	if err := grant.Authorize(ctx, &x.in, &x.out); err != nil {
		return err
	}
	if err := p.person(v, tenant, client, &x.out, &x.seen); err != nil {
		return err
	}
	if err := p.ready(ctx, v, tenant, client, x); err != nil {
		return err
	}
	if err := p.useProof(ctx, x); err != nil {
		return err
	}
	if err := p.cfg.Clients.Consume(ctx, &x.proof); err != nil {
		return err
	}
	if err := p.commit(ctx, v, tenant, client, x, out); err != nil {
		return err
	}
	return p.mint(ctx, v, tenant, client, x, out)
}

// ready tells, before anything is used up, that the tokens can be made, and gets what
// they need besides the decision.
func (p *Pipeline) ready(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, x *exchange) (err error) {
	if err := p.signs(ctx, v, tenant, client, x); err != nil || x.out.Only == FrontID {
		return err
	}
	if x.extra, err = p.extra(v, tenant, client, &x.out); err != nil || client.GetAccessTokenEncryptedAlg() == "" {
		return err
	}
	x.sealed, err = p.recipient(ctx, v, client, x.out.Audience)
	return err
}

func (p *Pipeline) mint(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, x *exchange, out *Answer) error {
	d, now := &x.out, p.cfg.Now().Unix()
	if err := p.keep(ctx, client); err != nil {
		return err
	}
	life := tokens.Lifetime(tenant, client)
	if d.Authorization != nil {
		life = tokens.UserLifetime(tenant, client)
	}
	if d.Until != 0 {
		if life = min(life, d.Until-now); life < 1 {
			return oauth.InvalidRequest.With("the token that it comes of has expired meanwhile; get a new one")
		}
	}
	x.claims = tokens.Claims{
		Tenant: tenant.GetId(), Subject: d.Subject, ClientID: client.GetId(), Scope: d.Scope, Audience: d.Audience,
		Grant: d.Grant, Root: d.Root, RootClient: d.RootClient, Application: client.GetApplication(),
		IssuedAt: now, Expires: now + life, Alg: client.GetSigningAlg(),
	}
	if x.claims.Alg == "" {
		x.claims.Alg = tenant.GetSettings().GetSigningAlg()
	}
	x.claims.JKT, x.claims.X5T = x.in.Binding.JKT, x.in.Binding.X5T
	if a := d.Authorization; a != nil {
		x.claims.AuthTime, x.claims.ACR, x.claims.AMR = a.GetAuthTime(), a.GetAcr(), a.GetAmr()
		x.claims.Act = a.GetAct()
	}
	x.claims.Details, out.Details, x.claims.Extra = d.Details, d.Details, x.extra
	var err error
	if x.claims.Userinfo, err = p.userinfo(v, tenant, client, d); err != nil {
		return err
	}
	switch {
	case d.Only == FrontID:
		out.Token = out.Token[:0]
	case client.GetAccessTokenFormat() == formatOpaque:
		out.Token, err = p.cfg.Opaque.AppendToken(ctx, out.Token[:0], v, tenant, client, &x.claims)
	case client.GetAccessTokenEncryptedAlg() != "":
		err = p.encrypted(ctx, v, client, x, out)
	default:
		out.Token, err = p.cfg.Minter.AppendJWT(ctx, out.Token[:0], v, &x.claims)
	}
	if err == nil && d.Authorization != nil && d.Only != FrontToken {
		err = p.idToken(ctx, v, tenant, client, x, out)
	}
	if err != nil {
		return err
	}
	// The proof that this node's state is fresh is looked at once more: a node that
	// was paused while it signed must not hand the token out (R13).
	if _, err := p.cfg.View(ctx, state.Local); err != nil {
		return clients.NoView(err)
	}
	out.ExpiresIn, out.Scope = life, d.Scope
	out.DPoP, out.IssuedTokenType = x.claims.JKT != "", d.IssuedTokenType
	return nil
}

const formatOpaque = "opaque"

func (p *Pipeline) observe(grant Grant, err error) {
	var name oauth.GrantType
	if grant != nil {
		name = grant.Type()
	}
	p.cfg.Observe(name, resultOf(err))
}

// resultOf is "ok" or the code of the refusal, of a small fixed set.
func resultOf(err error) string {
	if err == nil {
		return "ok"
	}
	var refusal *oauth.Error
	switch {
	case errors.As(err, &refusal):
		return string(refusal.Code())
	case errors.Is(err, command.ErrUnavailable):
		return string(oauth.TemporarilyUnavailable)
	case errors.Is(err, command.ErrOutcomeUnknown):
		return string(oauth.OutcomeUnknown)
	}
	return string(oauth.ServerError)
}
