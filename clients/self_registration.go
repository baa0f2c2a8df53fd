package clients

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
)

const (
	initialPrefix      = "kri_" // initial access tokens; the id and a dot follow
	registrationPrefix = "krr_" // registration access tokens

	defaultMaxSelfRegistered = 1000 // clients of a tenant
	defaultMaxPerAddress     = 100  // registrations of one address in addressWindow at one node
	addressWindow            = time.Hour
	defaultUnused            = 30 * 24 * time.Hour // that a client of open registration is kept unused

	// MaxInitialLife and MaxInitialUses bound an initial access token.
	MaxInitialLife = 365 * 24 * time.Hour
	MaxInitialUses = 1_000_000
)

// SelfRegistered is the answer to a client that registers or changes itself (RFC 7591
// §3.2.1, RFC 7592 §3).
type SelfRegistered struct {
	*Registered
	// Token is the registration access token: a new one, or the one that was shown.
	Token string
}

// String hides the tokens.
func (s SelfRegistered) String() string { return s.Registered.String() }

// Marshal is the JSON of the answer; uri is where the client finds its registration.
func (s *SelfRegistered) Marshal(uri string) ([]byte, error) {
	type answer struct {
		*Registered
		Secret    string `json:"client_secret,omitempty"`
		ExpiresAt *int64 `json:"client_secret_expires_at,omitempty"` // 0: never
		Token     string `json:"registration_access_token"`
		URI       string `json:"registration_client_uri"`
	}
	a := answer{Registered: s.Registered, Secret: s.secret, Token: s.Token, URI: uri}
	if s.secret != "" {
		a.ExpiresAt = new(int64)
	}
	return json.Marshal(a)
}

// ErrFull says that no more clients of a tenant may register themselves.
var ErrFull = errors.New("the tenant has as many clients that registered themselves as it may; delete some, or raise the tenant's registration.max_clients")

// ErrTooMany says that an address has begun as many registrations of a tenant as it may.
var ErrTooMany = errors.New("too many clients were registered from this address; wait an hour, or raise the tenant's registration.max_per_address")

// errToken is the one answer for every initial access token that is not good: unknown,
// spent, expired, of another tenant.
var errToken = oauth.InvalidToken.With("the initial access token is not good here, or no longer; ask the operator for one")

// errRegistration is the one answer for every registration access token that is not:
// of another client, of one that was deleted or disabled (REG-07, REG-08).
var errRegistration = oauth.InvalidToken.With("the registration access token is not good for this client, or no longer; ask the operator")

// NewInitialToken makes a token by which uses clients may register themselves, for ttl;
// 0 uses: any number. It is shown once.
func (r *Registry) NewInitialToken(ctx context.Context, v *state.View, tenant string, ttl time.Duration, uses int) (string, *state.InitialAccessToken, error) {
	switch {
	case ttl < time.Second || ttl > MaxInitialLife:
		return "", nil, bad("ttl", "1s to %s", MaxInitialLife)
	case uses < 0 || uses > MaxInitialUses:
		return "", nil, bad("uses", "1 to %d; 0 for any number", MaxInitialUses)
	}
	m, err := r.cfg.Keys.maker(ctx, v)
	if err != nil {
		return "", nil, err
	}
	name, secret := m.bytes("initial access token id"), m.bytes("initial access token")
	id := base64.RawURLEncoding.EncodeToString(name[:12])
	token := initialPrefix + id + "." + base64.RawURLEncoding.EncodeToString(secret[:])
	hash := seal.Hash(m.hash, []byte(token))
	result, err := r.cfg.Propose(ctx, &command.PutInitialAccessToken{Token: &state.InitialAccessToken{
		Tenant: tenant, Id: id, Hash: hash[:], HashKey: m.version, ExpiresAt: r.cfg.Now().Add(ttl).Unix(), UsesLeft: uint32(uses), Unlimited: uses == 0,
	}})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return "", nil, fmt.Errorf("store an initial access token: %w", err)
	}
	fresh, err := r.cfg.View(ctx, state.Local)
	if err != nil {
		return "", nil, fmt.Errorf("read an initial access token back: %w", err)
	}
	row, ok := fresh.InitialAccessToken(tenant, id)
	if !ok || subtle.ConstantTimeCompare(row.GetHash(), hash[:]) != 1 { // a late retry
		return "", nil, fmt.Errorf("the token that this Idempotency-Key made is used up or gone; make one under a new key: %w", command.Stale)
	}
	return token, row, nil
}

// DeleteInitialToken takes one back.
func (r *Registry) DeleteInitialToken(ctx context.Context, tenant, id string) error {
	result, err := r.cfg.Propose(ctx, &command.DeleteInitialAccessToken{Tenant: tenant, Id: id})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return fmt.Errorf("delete initial access token %.64q: %w", id, err)
	}
	return nil
}

// Register makes the client that members describe, for who shows a good initial access
// token; v is linearizable. Errors: *FieldError, invalid_token, ErrFull, those of a
// software statement, the proposal's own.
func (r *Registry) Register(ctx context.Context, v *state.View, tenant, initial string, members map[string]json.RawMessage) (*SelfRegistered, error) {
	row, hash, err := r.admitted(v, tenant, initial)
	if err != nil {
		return nil, err
	}
	m, err := r.cfg.Keys.maker(ctx, v)
	if err != nil {
		return nil, err
	}
	c, err := r.selfClient(ctx, v, tenant, m.id(), nil, members)
	if err != nil {
		return nil, err
	}
	c.SelfRegistered = true
	secret := ""
	if hasSecret(c.GetAuthMethod()) {
		if secret, err = r.newSecret(v, m, c); err != nil {
			return nil, err
		}
	}
	token := m.registrationToken(c)
	t, _ := v.Tenant(tenant)
	policy := t.GetSettings().GetRegistration()
	limit := policy.GetMaxClients()
	if limit == 0 {
		limit = defaultMaxSelfRegistered
	}
	if row == nil { // nobody vouches for it
		c.UnusedUntil = r.cfg.Now().Unix() + int64(cmp.Or(time.Duration(policy.GetUnusedLifetime())*time.Second, defaultUnused)/time.Second)
	}
	result, err := r.cfg.Propose(ctx, &command.RegisterClient{Token: row.GetId(), Hash: hash[:], Client: c, Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("register a client: %w", err)
	}
	switch result.Reject {
	case command.Accepted:
	case command.AlreadyUsed, command.AlreadyExpired, command.Disabled:
		return nil, errToken
	case command.NotReady:
		return nil, ErrFull
	default:
		return nil, fmt.Errorf("register a client: %w", result.Reject)
	}
	return r.ownAnswer(ctx, c, secret, token)
}

// Admit tells whether an initial access token is good now, which Register says for good,
// and counts what an address begins with good ones or none (REG-10). Errors:
// invalid_token, ErrTooMany.
func (r *Registry) Admit(v *state.View, tenant, initial, address string) error {
	if _, _, err := r.admitted(v, tenant, initial); err != nil {
		return err
	}
	t, _ := v.Tenant(tenant)
	limit := int(t.GetSettings().GetRegistration().GetMaxPerAddress())
	if limit == 0 {
		limit = defaultMaxPerAddress
	}
	if r.begun.Add(r.cfg.Now(), tenant, address) > limit {
		return ErrTooMany
	}
	return nil
}

// admitted is initialToken where the tenant does not let everybody in: there is no row
// then, and no token is asked for.
func (r *Registry) admitted(v *state.View, tenant, initial string) (*state.InitialAccessToken, [32]byte, error) {
	if t, _ := v.Tenant(tenant); initial == "" && t.GetSettings().GetRegistration().GetOpen() && !t.GetDisabled() {
		return nil, [32]byte{}, nil
	}
	return r.initialToken(v, tenant, initial)
}

// initialToken finds the row of a token that was shown.
func (r *Registry) initialToken(v *state.View, tenant, token string) (*state.InitialAccessToken, [32]byte, error) {
	var hash [32]byte
	id, _, found := strings.Cut(strings.TrimPrefix(token, initialPrefix), ".")
	row, ok := v.InitialAccessToken(tenant, id)
	if !found || !ok || len(token) > maxSecret || !strings.HasPrefix(token, initialPrefix) {
		return nil, hash, errToken
	}
	key, err := r.cfg.Keys.Version(v, row.GetHashKey())
	if err != nil {
		return nil, hash, err
	}
	hash = seal.Hash(key, []byte(token))
	t, _ := v.Tenant(tenant)
	over := row.GetExpiresAt() <= max(r.cfg.Now().Unix(), v.Clock()/1000)
	if subtle.ConstantTimeCompare(hash[:], row.GetHash()) != 1 || over || t.GetDisabled() {
		return nil, hash, errToken
	}
	return row, hash, nil
}

// registrationToken makes the token by which c manages itself; c keeps its hash.
func (m maker) registrationToken(c *state.Client) string {
	b := m.bytes("registration access token")
	token := registrationPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	hash := seal.Hash(m.hash, []byte(token))
	c.RegistrationToken, c.RegistrationTokenKey = hash[:], m.version
	return token
}

// own finds the client of a registration access token. Whatever is wrong has one answer
// and one cost.
func (r *Registry) own(v *state.View, tenant, id, token string) (*state.Client, error) {
	if len(token) > maxSecret || len(id) > maxID {
		return nil, errRegistration
	}
	key, version, err := r.cfg.Keys.Newest(v)
	if err != nil {
		return nil, err
	}
	c, ok := v.Client(tenant, id)
	stored := make([]byte, 32)
	if ok && len(c.GetRegistrationToken()) == len(stored) {
		stored = c.GetRegistrationToken()
		if c.GetRegistrationTokenKey() != version {
			if key, err = r.cfg.Keys.Version(v, c.GetRegistrationTokenKey()); err != nil {
				return nil, err
			}
		}
	}
	hash := seal.Hash(key, []byte(token))
	t, _ := v.Tenant(tenant)
	if subtle.ConstantTimeCompare(hash[:], stored) != 1 || c.GetDisabled() || t.GetDisabled() {
		return nil, errRegistration
	}
	return c, nil
}

// Own reads the registration of the client that shows its registration access token
// (RFC 7592 §2.1); v is linearizable.
func (r *Registry) Own(v *state.View, tenant, id, token string) (*SelfRegistered, error) {
	c, err := r.own(v, tenant, id, token)
	if err != nil {
		return nil, err
	}
	return &SelfRegistered{FromClient(c), token}, nil
}

// UpdateOwn replaces it (RFC 7592 §2.2). The answer holds a new registration access
// token; the one that was shown has ended.
func (r *Registry) UpdateOwn(ctx context.Context, v *state.View, tenant, id, token string, members map[string]json.RawMessage) (*SelfRegistered, error) {
	old, err := r.own(v, tenant, id, token)
	if err != nil {
		return nil, err
	}
	if err := r.checkUpdate(v, old, members); err != nil {
		return nil, err
	}
	c, err := r.selfClient(ctx, v, tenant, id, old, members)
	if err != nil {
		return nil, err
	}
	m, err := r.cfg.Keys.maker(ctx, v)
	if err != nil {
		return nil, err
	}
	secret := ""
	switch {
	case !hasSecret(c.GetAuthMethod()):
		c.Secrets = nil
	case !fits(c):
		if secret, err = r.newSecret(v, m, c); err != nil {
			return nil, err
		}
	}
	next := m.registrationToken(c)
	result, err := r.cfg.Propose(ctx, &command.PutClient{Client: c, Expect: old.GetGeneration()})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("store client %q: %w", id, err)
	}
	return r.ownAnswer(ctx, c, secret, next)
}

// checkUpdate holds what RFC 7592 §2.2 says of the members that are not metadata.
func (r *Registry) checkUpdate(v *state.View, old *state.Client, members map[string]json.RawMessage) error {
	for _, name := range []string{"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"} {
		if _, ok := members[name]; ok {
			return bad(name, "it can't be changed; leave it out (RFC 7592 §2.2)")
		}
	}
	if id, ok := text(members["client_id"]); !ok || id != old.GetId() {
		return bad("client_id", "it must be there, and that of the client whose registration is updated")
	}
	if raw, given := members["client_secret"]; given {
		secret, ok := text(raw)
		if ok {
			var err error
			if ok, err = r.cfg.Keys.check(v, old, secret, max(r.cfg.Now().UnixMilli(), v.Clock())); err != nil {
				return err
			}
		}
		if !ok {
			return bad("client_secret", "it is not the client's; a client can't choose its secret, so leave it out")
		}
	}
	return nil
}

// DeleteOwn ends the client and its tokens (RFC 7592 §2.3).
func (r *Registry) DeleteOwn(ctx context.Context, v *state.View, tenant, id, token string) error {
	c, err := r.own(v, tenant, id, token)
	if err != nil {
		return err
	}
	_, err = r.Delete(ctx, tenant, id, c.GetGeneration())
	return err
}

// ownAnswer answers with what the state made of c.
func (r *Registry) ownAnswer(ctx context.Context, c *state.Client, secret, token string) (*SelfRegistered, error) {
	v, err := r.cfg.View(ctx, state.Local) // the proposal was applied on this node
	if err != nil {
		return nil, fmt.Errorf("read client %q back: %w", c.GetId(), err)
	}
	stored, ok := v.Client(c.GetTenant(), c.GetId())
	if !ok {
		return nil, fmt.Errorf("client %q was deleted meanwhile: %w", c.GetId(), command.NotFound)
	}
	out := FromClient(stored)
	out.secret = secret
	return &SelfRegistered{out, token}, nil
}

func text(raw json.RawMessage) (s string, ok bool) {
	return s, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
}

// selfMembers are the members that a client may say of itself. Others are not known
// here, and so ignored (RFC 7591 §2): they are the operator's.
func selfMembers() []string {
	return []string{
		"client_name", "token_endpoint_auth_method", "token_endpoint_auth_signing_alg", "jwks", "jwks_uri", "request_uris", "grant_types", "response_types", "redirect_uris", "scope",
		"client_uri", "logo_uri", "policy_uri", "tos_uri", "contacts", "software_id", "software_version",
		"application_type", "sector_identifier_uri", "subject_type", "id_token_signed_response_alg", "id_token_encrypted_response_alg", "id_token_encrypted_response_enc",
		"userinfo_signed_response_alg", "userinfo_encrypted_response_alg", "userinfo_encrypted_response_enc", "request_object_signing_alg",
		"authorization_signed_response_alg", "introspection_signed_response_alg", "default_max_age", "require_auth_time", "default_acr_values", "initiate_login_uri",
		"post_logout_redirect_uris", "frontchannel_logout_uri", "frontchannel_logout_session_required", "backchannel_logout_uri", "backchannel_logout_session_required",
		"backchannel_token_delivery_mode", "require_pkce", "require_pushed_authorization_requests", "require_signed_request_object", "dpop_bound_access_tokens",
		"tls_client_certificate_bound_access_tokens", "tls_client_auth_subject_dn", "tls_client_auth_san_dns", "tls_client_auth_san_uri", "tls_client_auth_san_ip",
		"tls_client_auth_san_email", "authorization_details_types",
	}
}

// selfClient makes the client of what it says of itself and, in an update, of what the
// operator has said of it, and judges the whole by the tenant's policy (REG-04).
func (r *Registry) selfClient(ctx context.Context, v *state.View, tenant, id string, old *state.Client, members map[string]json.RawMessage) (*state.Client, error) {
	t, ok := v.Tenant(tenant)
	if !ok {
		return nil, errToken
	}
	statement, members, err := r.stated(ctx, v, t, old, members)
	if err != nil {
		return nil, err
	}
	whole := map[string]json.RawMessage{}
	if old != nil {
		kept, err := json.Marshal(FromClient(old).Registration)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(kept, &whole); err != nil {
			return nil, err
		}
	}
	for _, name := range selfMembers() {
		delete(whole, name)
		if raw, ok := members[name]; ok && string(raw) != "null" {
			whole[name] = raw
		}
	}
	policy := t.GetSettings().GetRegistration()
	scopes := append(openIDScopes(), policy.GetScopes()...)
	reg, err := registrationOf(whole)
	if err != nil {
		return nil, err
	}
	if _, ok := whole["scope"]; !ok {
		reg.Scope = strings.Join(scopes, " ")
	}
	reg.ClientID = id
	asserts := reg.AuthMethod == string(oauth.AuthPrivateKeyJWT) || reg.AuthMethod == string(oauth.AuthSecretJWT)
	reg.AudienceIsEndpoint = asserts && (reg.AudienceIsEndpoint || old == nil && policy.GetAssertionAudienceTokenEndpoint())
	c, err := reg.client(tenant, old, r.cfg.Grants)
	if err == nil {
		err = r.callable(c, old)
	}
	if err != nil {
		return nil, err
	}
	c.SoftwareStatement = statement
	if err := judge(v, c, old, policy, scopes); err != nil {
		return nil, err
	}
	return c, r.provesSector(ctx, c, old)
}

// registrationOf decodes members one by one, so that an error names its member.
func registrationOf(members map[string]json.RawMessage) (*Registration, error) {
	reg := new(Registration)
	for name, raw := range members {
		one, err := json.Marshal(map[string]json.RawMessage{name: raw})
		if err == nil {
			err = json.Unmarshal(one, reg)
		}
		if err != nil {
			return nil, bad(name, "the value is not of the kind that this member takes")
		}
	}
	return reg, nil
}

// openIDScopes say who the user is, and so ask for consent and nothing more.
func openIDScopes() []string {
	return []string{"openid", "profile", "email", "address", "phone", "offline_access"}
}

// judge holds the tenant's policy against the resulting client. What the operator has
// given it since is its own.
func judge(v *state.View, c, old *state.Client, policy *state.RegistrationPolicy, scopes []string) error {
	grants := policy.GetGrantTypes()
	if len(grants) == 0 {
		grants = []string{string(oauth.GrantAuthorizationCode), string(oauth.GrantRefreshToken)}
	}
	for _, g := range c.GetGrantTypes() {
		if !slices.Contains(grants, g) && !slices.Contains(old.GetGrantTypes(), g) {
			return bad("grant_types", "%.64q is not for clients that register themselves; name redirect_uris for authorization_code, or ask the operator", g)
		}
	}
	for _, s := range c.GetScopes() {
		if !slices.Contains(scopes, s) && !slices.Contains(old.GetScopes(), s) {
			return bad("scope", "%.64q is not for clients that register themselves; ask the operator", s)
		}
	}
	for _, uri := range c.GetRedirectUris() {
		if scheme := PrivateScheme(uri); scheme != "" && !slices.Contains(old.GetRedirectUris(), uri) && claimed(v, c, scheme) {
			return bad("redirect_uris", "the scheme %.64q is that of another client (RFC 8252 §8.4); use a domain name of yours in reverse", scheme)
		}
	}
	return nil
}

// claimed tells whether another client of the tenant has a redirect URI of the
// private-use scheme.
func claimed(v *state.View, c *state.Client, scheme string) bool {
	const page = 256
	for after := ""; ; {
		rows := v.Clients(c.GetTenant(), after, page)
		for _, other := range rows {
			if other.GetId() != c.GetId() && slices.ContainsFunc(other.GetRedirectUris(), func(s string) bool { return PrivateScheme(s) == scheme }) {
				return true
			}
			after = other.GetId()
		}
		if len(rows) < page {
			return false
		}
	}
}
