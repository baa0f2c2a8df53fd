package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

// maxPatterns bounds the scope_patterns of a tenant.
const maxPatterns = 50

// set puts one member of a patch into the settings; raw is nil for one that goes back to
// its default.
type set func(s *state.TenantSettings, field string, raw json.RawMessage) error

// settings are the members of a tenant that its own administrator changes.
func settings() map[string]set {
	return map[string]set{
		"access_token_lifetime":      endless(func(s *state.TenantSettings, n *int64) { s.AccessTokenLifetime = value(n) }),
		"user_access_token_lifetime": endless(func(s *state.TenantSettings, n *int64) { s.UserAccessTokenLifetime = value(n) }),
		"refresh_token_lifetime":     endless(func(s *state.TenantSettings, n *int64) { s.RefreshTokenLifetime = value(n) }),
		"refresh_token_rotation":     plain(func(s *state.TenantSettings, on *bool) error { s.RefreshRotation = on; return nil }),

		"require_pushed_authorization_requests": plain(func(s *state.TenantSettings, on bool) error { s.RequirePar = on; return nil }),
		"require_pkce":                          plain(func(s *state.TenantSettings, on bool) error { s.RequirePkce = on; return nil }),
		"require_signed_request_object":         plain(func(s *state.TenantSettings, on bool) error { s.RequireRequestObject = on; return nil }),
		"dpop_bound_access_tokens":              plain(func(s *state.TenantSettings, on bool) error { s.DpopBound = on; return nil }),

		"refresh_idle_lifetime": seconded(func(s *state.TenantSettings, n *int64) { s.RefreshIdleLifetime = value(n) }, 1),
		"id_token_lifetime":     seconded(func(s *state.TenantSettings, n *int64) { s.IdTokenLifetime = value(n) }, 1),
		"refresh_grace":         seconded(func(s *state.TenantSettings, n *int64) { s.RefreshGrace = n }, 0),
		"narrow_scopes":         plain(func(s *state.TenantSettings, on bool) error { s.NarrowScopes = on; return nil }),
		"refuse_unknown_scopes": plain(func(s *state.TenantSettings, on bool) error { s.RefuseUnknownScopes = on; return nil }),
		"scope_patterns": plain(func(s *state.TenantSettings, patterns []string) error {
			s.ScopePatterns = patterns
			return checkPatterns(patterns)
		}),
		"access_token_claims": func(s *state.TenantSettings, field string, raw json.RawMessage) error {
			var rules []clients.ClaimRule
			if raw != nil {
				if err := strictRules(raw, &rules); err != nil {
					return invalid(field, `a list of {"claim": ..., "source": ...} is needed`)
				}
			}
			s.AccessTokenClaims = clients.ClaimRulesTo(rules)
			return clients.CheckClaims(rules)
		},
		"authorization_details_types": plain(func(s *state.TenantSettings, types []string) error {
			s.DetailsTypes = types
			return clients.CheckDetailsTypes(types)
		}),
		"grant_types": plain(func(s *state.TenantSettings, types []string) error {
			s.GrantTypes = types
			return checkGrantTypes(types)
		}),
	}
}

// strictRules refuses a member that a rule has not.
func strictRules(raw []byte, into *[]clients.ClaimRule) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// plain reads a member of JSON type T; null is its zero value.
func plain[T any](put func(*state.TenantSettings, T) error) set {
	return func(s *state.TenantSettings, field string, raw json.RawMessage) error {
		var v T
		if raw != nil && json.Unmarshal(raw, &v) != nil {
			return invalid(field, "it has another type; see the API's description")
		}
		return put(s, v)
	}
}

// seconded reads a duration of at least least seconds; null is the default.
func seconded(put func(*state.TenantSettings, *int64), least int64) set {
	return func(s *state.TenantSettings, field string, raw json.RawMessage) error {
		if raw == nil {
			put(s, nil)
			return nil
		}
		d, err := duration(field, raw, 0)
		if err != nil {
			return err
		}
		n := int64(d / time.Second)
		if n < least || d%time.Second != 0 {
			return invalid(field, "whole seconds are needed; null is the default")
		}
		put(s, &n)
		return nil
	}
}

// endless is seconded for what may have no end: -1, if the tenant's operator allows it,
// which is asked when the whole patch is known.
func endless(put func(*state.TenantSettings, *int64)) set {
	finite := seconded(put, 1)
	return func(s *state.TenantSettings, field string, raw json.RawMessage) error {
		if string(raw) == strconv.Itoa(clients.NeverExpires) {
			never := state.Never
			put(s, &never)
			return nil
		}
		return finite(s, field, raw)
	}
}

// checkEnds refuses lifetimes without an end in a tenant that has no permission for them.
func checkEnds(s *state.TenantSettings) error {
	if s.GetAllowNeverExpires() {
		return nil
	}
	for _, m := range [...]struct {
		field string
		life  int64
	}{
		{"access_token_lifetime", s.GetAccessTokenLifetime()}, {"user_access_token_lifetime", s.GetUserAccessTokenLifetime()}, {"refresh_token_lifetime", s.GetRefreshTokenLifetime()},
	} {
		if m.life == state.Never {
			return invalid(m.field, "-1 is a token that never expires, for which the cluster's operator must set allow_never_expires; name a lifetime in seconds, or null for the default")
		}
	}
	return nil
}

func checkPatterns(patterns []string) error {
	if len(patterns) > maxPatterns {
		return invalid("scope_patterns", "at most 50 patterns")
	}
	for _, p := range patterns {
		if _, err := grants.ScopePattern(p); err != nil {
			return invalid("scope_patterns", "one of them is no good: "+printable(err.Error()))
		}
	}
	return nil
}

func checkGrantTypes(types []string) error {
	known := append(grants.Types(), oauth.GrantImplicit)
	for i, t := range types {
		if !slices.Contains(known, oauth.GrantType(t)) || slices.Contains(types[:i], t) {
			return invalid("grant_types", "each is a grant type that this server knows, once; leave it out for those that are on by default")
		}
	}
	return nil
}

// patchTenant is a merge patch (RFC 7396) of a tenant's settings. Its own administrator
// may change them but for allow_never_expires, which only an operator of the cluster
// sets.
func (a *api) patchTenant(r *request) error {
	patch := map[string]json.RawMessage{}
	if err := httpapi.DecodeJSON(r.RequestCtx, &patch); err != nil {
		return err
	}
	for race := 1; ; race++ {
		t, ok := r.view.Tenant(httpapi.Param(r.RequestCtx, "id"))
		if !ok {
			return notFound("there is no such tenant")
		}
		expect, named, err := r.ifMatch(t.GetGeneration())
		if err != nil {
			return err
		}
		next := proto.CloneOf(t)
		if next.Settings == nil {
			next.Settings = &state.TenantSettings{}
		}
		if err := r.apply(next.Settings, patch); err != nil {
			return err
		}
		result, err := a.Propose(r.ctx, &command.PutTenant{Tenant: next, Expect: expect})
		if err == nil {
			err = result.Err()
		}
		switch {
		case err == nil:
			if err := a.fresh(r); err != nil {
				return err
			}
			return a.getTenant(r)
		case !errors.Is(err, command.Stale):
			return err
		case named:
			return errChanged
		case race == maxRaces:
			return err
		}
		if err := a.fresh(r); err != nil {
			return err
		}
	}
}

// apply puts the members of a patch into s, in the order of their names.
func (r *request) apply(s *state.TenantSettings, patch map[string]json.RawMessage) error {
	known := settings()
	maps.Copy(known, passwordSettings())
	if r.who.tenant == "" {
		known["allow_never_expires"] = plain(func(s *state.TenantSettings, on bool) error { s.AllowNeverExpires = on; return nil })
	}
	var names []string
	for name := range patch {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		put, ok := known[name]
		switch {
		case !ok && name == "allow_never_expires":
			return oauth.InsufficientScope.With("allow_never_expires is for the cluster's operators; use the cluster's admin token")
		case !ok:
			return invalid(printable(name), "a tenant has no such setting, or it can't be changed")
		}
		raw := patch[name]
		if string(raw) == "null" {
			raw = nil
		}
		if err := put(s, name, raw); err != nil {
			return err
		}
	}
	if err := checkPasswords(s); err != nil {
		return err
	}
	return checkEnds(s)
}

// settingsLine is what a tenant shows of its settings. Absent: the default.
type settingsLine struct {
	AccessTokenLifetime  int64    `json:"access_token_lifetime,omitempty"`
	UserTokenLifetime    int64    `json:"user_access_token_lifetime,omitempty"`
	RefreshTokenLifetime int64    `json:"refresh_token_lifetime,omitempty"`
	RefreshIdleLifetime  int64    `json:"refresh_idle_lifetime,omitempty"`
	IDTokenLifetime      int64    `json:"id_token_lifetime,omitempty"`
	RefreshGrace         *int64   `json:"refresh_grace,omitempty"`
	NarrowScopes         bool     `json:"narrow_scopes"`
	RefuseUnknownScopes  bool     `json:"refuse_unknown_scopes"`
	AllowNeverExpires    bool     `json:"allow_never_expires"`
	ScopePatterns        []string `json:"scope_patterns,omitempty"`
	GrantTypes           []string `json:"grant_types,omitempty"`
	DetailsTypes         []string `json:"authorization_details_types,omitempty"`
	RefreshRotation      *bool    `json:"refresh_token_rotation,omitempty"`
	RequirePAR           bool     `json:"require_pushed_authorization_requests"`
	RequirePKCE          bool     `json:"require_pkce"`
	RequireRequestObject bool     `json:"require_signed_request_object"`
	DPoPBound            bool     `json:"dpop_bound_access_tokens"`

	AccessTokenClaims []clients.ClaimRule `json:"access_token_claims,omitempty"`
	passwordLine
}

func settingsOf(s *state.TenantSettings) settingsLine {
	line := settingsLine{
		AccessTokenLifetime: life(s.GetAccessTokenLifetime()), UserTokenLifetime: life(s.GetUserAccessTokenLifetime()), RefreshTokenLifetime: life(s.GetRefreshTokenLifetime()),
		RefreshIdleLifetime: s.GetRefreshIdleLifetime(), IDTokenLifetime: s.GetIdTokenLifetime(),
		NarrowScopes: s.GetNarrowScopes(), RefuseUnknownScopes: s.GetRefuseUnknownScopes(), AllowNeverExpires: s.GetAllowNeverExpires(),
		ScopePatterns: s.GetScopePatterns(), GrantTypes: s.GetGrantTypes(), DetailsTypes: s.GetDetailsTypes(),
		AccessTokenClaims: clients.ClaimRulesFrom(s.GetAccessTokenClaims()), passwordLine: passwordsOf(s.GetPasswords()),
		RequirePAR: s.GetRequirePar(), RequirePKCE: s.GetRequirePkce(), RequireRequestObject: s.GetRequireRequestObject(), DPoPBound: s.GetDpopBound(),
	}
	if s != nil {
		line.RefreshGrace, line.RefreshRotation = s.RefreshGrace, s.RefreshRotation
	}
	return line
}

// life is a lifetime as it was asked for.
func life(n int64) int64 {
	if n == state.Never {
		return clients.NeverExpires
	}
	return n
}

// ownTenant lets a tenant's administrator at its own tenant; another is not found.
func (r *request) ownTenant() error {
	if r.who.tenant != "" && r.who.tenant != httpapi.Param(r.RequestCtx, "id") {
		return notFound("there is no such tenant")
	}
	return nil
}

func (r *request) tenantAnswer(t *state.Tenant) error {
	r.Response.Header.Set(fasthttp.HeaderETag, etag(t.GetGeneration()))
	return r.json(fasthttp.StatusOK, tenantOf(r.view, t))
}
