package adminapi

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/valyala/fasthttp"
	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

const (
	initialTokensPath      = "/admin/v1/initial-access-tokens"
	registrationPolicyPath = "/admin/v1/registration-policy"
)

// registrationEndpoints are the tokens by which clients register themselves, and what
// they may register as.
func (a *api) registrationEndpoints() []endpoint {
	return []endpoint{
		{method: "POST", path: initialTokensPath, tenanted: true, keyed: true, serve: a.createInitialToken},
		{method: "GET", path: initialTokensPath, tenanted: true, offersStale: true, query: []string{"limit", "cursor"}, serve: a.listInitialTokens},
		{method: "DELETE", path: initialTokensPath + "/{id}", tenanted: true, keyed: true, serve: a.deleteInitialToken},
		{method: "GET", path: registrationPolicyPath, tenanted: true, offersStale: true, serve: a.getRegistrationPolicy},
		{method: "PUT", path: registrationPolicyPath, tenanted: true, keyed: true, serve: a.putRegistrationPolicy},
	}
}

// initialTokenLine is one token; Token is shown by the call that made it only.
type initialTokenLine struct {
	ID        string `json:"id"`
	Token     string `json:"token,omitempty"`
	Uses      *int64 `json:"uses_left,omitempty"` // absent: any number
	CreatedAt int64  `json:"created_at"`
	ExpiresAt int64  `json:"expires_at"`
}

func initialTokenOf(t *state.InitialAccessToken) initialTokenLine {
	line := initialTokenLine{ID: t.GetId(), CreatedAt: seconds(t.GetCreatedAt()), ExpiresAt: t.GetExpiresAt()}
	if !t.GetUnlimited() {
		uses := int64(t.GetUsesLeft())
		line.Uses = &uses
	}
	return line
}

// initialTokenLife is how long one is good that says nothing itself.
const initialTokenLife = 24 * time.Hour

// createInitialToken makes one. It is shown once: only its keyed hash is stored.
func (a *api) createInitialToken(r *request) error {
	var in struct {
		TTL  json.RawMessage `json:"ttl"`
		Uses *int            `json:"uses"` // 0: any number; absent: 1
	}
	if r.hasBody() {
		if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
			return err
		}
	}
	ttl, err := duration("ttl", in.TTL, initialTokenLife)
	if err != nil {
		return err
	}
	uses := 1
	if in.Uses != nil {
		uses = *in.Uses
	}
	token, row, err := a.Clients.NewInitialToken(r.ctx, r.view, r.tenant, ttl, uses)
	if err != nil {
		return err
	}
	line := initialTokenOf(row)
	line.Token = token
	return r.created(r.below(initialTokensPath+"/"+line.ID), line)
}

func (a *api) listInitialTokens(r *request) error {
	var lines []initialTokenLine
	for _, t := range r.view.InitialAccessTokens(r.tenant) {
		lines = append(lines, initialTokenOf(t))
	}
	p, err := pageOf(a, r, "initial-access-tokens", lines, func(l *initialTokenLine) string { return l.ID })
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, p)
}

func (a *api) deleteInitialToken(r *request) error {
	if err := a.Clients.DeleteInitialToken(r.ctx, r.tenant, httpapi.Param(r.RequestCtx, "id")); err != nil {
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// registrationPolicy is what clients of a tenant may register themselves as.
type registrationPolicy struct {
	GrantTypes []string `json:"grant_types"` // empty: authorization_code and refresh_token
	Scopes     []string `json:"scopes"`      // besides those of OpenID Connect
	MaxClients uint64   `json:"max_clients"` // 0: 1000
	// MaxPerAddress is how many one address may register in an hour at one node; 0: 100.
	MaxPerAddress uint32 `json:"max_per_address"`
	// UnusedLifetime is how long a client that registered without a token is kept while it
	// gets no token itself; 0: 30 days.
	UnusedLifetime clients.Seconds `json:"unused_lifetime"`
	// Open lets anybody register, without an initial access token.
	Open bool `json:"open"`
	// AudienceIsEndpoint lets the clients' assertions name the token endpoint as audience.
	AudienceIsEndpoint bool `json:"assertion_audience_token_endpoint"`
	// StatementIssuers are those whose software statements are believed, and
	// RequireStatement lets nobody register without one.
	StatementIssuers []clients.StatementIssuer `json:"statement_issuers"`
	RequireStatement bool                      `json:"require_software_statement"`
}

// maxPolicyItems bounds the lists of a policy.
const maxPolicyItems = 256

func policyOf(t *state.Tenant) registrationPolicy {
	p := t.GetSettings().GetRegistration()
	return registrationPolicy{
		GrantTypes: append([]string{}, p.GetGrantTypes()...), Scopes: append([]string{}, p.GetScopes()...), MaxClients: p.GetMaxClients(), MaxPerAddress: p.GetMaxPerAddress(), UnusedLifetime: clients.Seconds(p.GetUnusedLifetime()),
		Open: p.GetOpen(), AudienceIsEndpoint: p.GetAssertionAudienceTokenEndpoint(),
		StatementIssuers: clients.StatementIssuersOf(p), RequireStatement: p.GetRequireStatement(),
	}
}

// tenantRow is the tenant that the request is of; it was found before.
func (r *request) tenantRow() (*state.Tenant, error) {
	t, ok := r.view.Tenant(r.tenant)
	if !ok {
		return nil, notFound("there is no such tenant")
	}
	return t, nil
}

func (a *api) getRegistrationPolicy(r *request) error {
	t, err := r.tenantRow()
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, policyOf(t))
}

// putRegistrationPolicy replaces it. Clients that have registered stay as they are; the
// policy is judged again by each change of theirs.
func (a *api) putRegistrationPolicy(r *request) error {
	var in registrationPolicy
	if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
		return err
	}
	if err := in.check(); err != nil {
		return err
	}
	issuers, err := a.Clients.StatementIssuers(in.StatementIssuers)
	if err != nil {
		return err
	}
	for race := 1; ; race++ {
		old, err := r.tenantRow()
		if err != nil {
			return err
		}
		next := proto.CloneOf(old)
		if next.Settings == nil {
			next.Settings = &state.TenantSettings{}
		}
		policy := &state.RegistrationPolicy{
			GrantTypes: in.GrantTypes, Scopes: in.Scopes, MaxClients: in.MaxClients, MaxPerAddress: in.MaxPerAddress, UnusedLifetime: int64(in.UnusedLifetime), Open: in.Open, AssertionAudienceTokenEndpoint: in.AudienceIsEndpoint,
			StatementIssuers: issuers, RequireStatement: in.RequireStatement,
		}
		next.Settings.Registration = policy
		result, err := a.Propose(r.ctx, &command.PutTenant{Tenant: next, Expect: old.GetGeneration()})
		if err == nil {
			err = result.Err()
		}
		if err == nil {
			return r.json(fasthttp.StatusOK, policyOf(next))
		}
		if !errors.Is(err, command.Stale) || race == maxRaces {
			return err
		}
		if err := a.fresh(r); err != nil {
			return err
		}
	}
}

func (p *registrationPolicy) check() error {
	if len(p.GrantTypes) > maxPolicyItems || slices.Contains(p.GrantTypes, "") {
		return invalid("grant_types", "at most 256 names, none empty")
	}
	if p.UnusedLifetime < 0 || p.UnusedLifetime > maxSeconds {
		return invalid("unused_lifetime", durationForm)
	}
	if len(p.Scopes) > maxPolicyItems {
		return invalid("scopes", "at most 256")
	}
	for _, s := range p.Scopes {
		if names, err := oauth.SplitScope(s); err != nil || len(names) != 1 {
			return invalid("scopes", "each is one scope, of printable ASCII without quotes and backslashes")
		}
	}
	return nil
}
