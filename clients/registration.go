package clients

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Registration is a client as the admin API reads and writes it: the member names
// of RFC 7591 §2, and ours. Nil pointers and absent members are the defaults.
type Registration struct {
	ClientID   string `json:"client_id,omitempty"`
	ClientName string `json:"client_name,omitempty"`
	Enabled    *bool  `json:"enabled,omitempty"`

	AuthMethod          string          `json:"token_endpoint_auth_method,omitempty"`
	AuthSigningAlg      string          `json:"token_endpoint_auth_signing_alg,omitempty"`
	AudienceIsEndpoint  bool            `json:"assertion_audience_token_endpoint,omitempty"` // old clients; JWT-19
	JWKS                json.RawMessage `json:"jwks,omitempty"`
	JWKSURI             string          `json:"jwks_uri,omitempty"` // where its keys are fetched from
	GrantTypes          []string        `json:"grant_types"`        // none is not the default: it must be told
	ResponseTypes       []string        `json:"response_types,omitempty"`
	RedirectURIs        []string        `json:"redirect_uris,omitempty"`
	Scope               string          `json:"scope,omitempty"`
	Resources           []string        `json:"resources,omitempty"` // resource indicators it may name (RFC 8707)
	Application         string          `json:"application,omitempty"`
	Introspection       string          `json:"introspection,omitempty"` // "own", "audience", "any"
	AccessTokenFormat   string          `json:"access_token_format,omitempty"`
	AccessTokenLifetime *Seconds        `json:"access_token_lifetime,omitempty"`
	UserTokenLifetime   *Seconds        `json:"user_access_token_lifetime,omitempty"`
	RefreshLifetime     *Seconds        `json:"refresh_token_lifetime,omitempty"`
	RefreshGrace        *Seconds        `json:"refresh_grace,omitempty"` // 0: none
	SigningAlg          string          `json:"access_token_signed_response_alg,omitempty"`

	// A JWE around its access tokens, to a key of the client that stands for the resource
	// server; its own when it names none (RFC 9068 §4).
	AccessTokenEncryptedAlg string `json:"access_token_encrypted_response_alg,omitempty"`
	AccessTokenEncryptedEnc string `json:"access_token_encrypted_response_enc,omitempty"`
	AccessTokenEncryptedFor string `json:"access_token_encrypted_for,omitempty"` // client_id

	// OpenID Connect Registration §2; "" of an algorithm is that document's default.
	ApplicationType      string   `json:"application_type,omitempty"`
	SectorIdentifierURI  string   `json:"sector_identifier_uri,omitempty"`
	SubjectType          string   `json:"subject_type,omitempty"`
	IDTokenAlg           string   `json:"id_token_signed_response_alg,omitempty"` // "": RS256
	IDTokenEncryptedAlg  string   `json:"id_token_encrypted_response_alg,omitempty"`
	IDTokenEncryptedEnc  string   `json:"id_token_encrypted_response_enc,omitempty"`
	UserinfoAlg          string   `json:"userinfo_signed_response_alg,omitempty"` // "": plain JSON
	UserinfoEncryptedAlg string   `json:"userinfo_encrypted_response_alg,omitempty"`
	UserinfoEncryptedEnc string   `json:"userinfo_encrypted_response_enc,omitempty"`
	RequestObjectAlg     string   `json:"request_object_signing_alg,omitempty"`
	RequestURIs          []string `json:"request_uris,omitempty"`                      // where its request objects may be fetched from
	AuthorizationAlg     string   `json:"authorization_signed_response_alg,omitempty"` // JARM
	IntrospectionAlg     string   `json:"introspection_signed_response_alg,omitempty"` // RFC 9701
	DefaultMaxAge        *Seconds `json:"default_max_age,omitempty"`
	RequireAuthTime      bool     `json:"require_auth_time,omitempty"`
	DefaultACRValues     []string `json:"default_acr_values,omitempty"`
	InitiateLoginURI     string   `json:"initiate_login_uri,omitempty"`
	IDTokenLifetime      *Seconds `json:"id_token_lifetime,omitempty"`
	SkipConsent          bool     `json:"skip_consent,omitempty"`

	PostLogoutRedirectURIs    []string `json:"post_logout_redirect_uris,omitempty"`
	FrontchannelLogoutURI     string   `json:"frontchannel_logout_uri,omitempty"`
	FrontchannelLogoutSession bool     `json:"frontchannel_logout_session_required,omitempty"`
	BackchannelLogoutURI      string   `json:"backchannel_logout_uri,omitempty"`
	BackchannelLogoutSession  bool     `json:"backchannel_logout_session_required,omitempty"`
	BackchannelDelivery       string   `json:"backchannel_token_delivery_mode,omitempty"` // CIBA

	RequirePKCE          bool     `json:"require_pkce,omitempty"` // always for public clients
	RequirePAR           bool     `json:"require_pushed_authorization_requests,omitempty"`
	RequireRequestObject bool     `json:"require_signed_request_object,omitempty"`
	DPoPBound            bool     `json:"dpop_bound_access_tokens,omitempty"`
	TLSBound             bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	TLSSubjectDN         string   `json:"tls_client_auth_subject_dn,omitempty"`
	TLSSanDNS            string   `json:"tls_client_auth_san_dns,omitempty"`
	TLSSanURI            string   `json:"tls_client_auth_san_uri,omitempty"`
	TLSSanIP             string   `json:"tls_client_auth_san_ip,omitempty"`
	TLSSanEmail          string   `json:"tls_client_auth_san_email,omitempty"`
	DetailsTypes         []string `json:"authorization_details_types,omitempty"` // RFC 9396
	RefreshRotation      *bool    `json:"refresh_token_rotation,omitempty"`      // nil: rotates
	RefreshIdleLifetime  *Seconds `json:"refresh_token_idle_lifetime,omitempty"`

	// What a client may do by token exchange (RFC 8693), beside having the grant type.
	ExchangeSubjects      []string `json:"token_exchange_subjects,omitempty"`      // audiences of others' tokens that it may show
	ExchangeAudiences     []string `json:"token_exchange_audiences,omitempty"`     // of its resources, those that it may exchange for
	ExchangeImpersonation bool     `json:"token_exchange_impersonation,omitempty"` // nobody is named as actor where it shows no actor token

	// AccessTokenClaims are claims from what is known of the user. They count for
	// clients that an administrator registered.
	AccessTokenClaims []ClaimRule `json:"access_token_claims,omitempty"`

	ClientURI       string   `json:"client_uri,omitempty"`
	LogoURI         string   `json:"logo_uri,omitempty"`
	PolicyURI       string   `json:"policy_uri,omitempty"`
	TosURI          string   `json:"tos_uri,omitempty"`
	Contacts        []string `json:"contacts,omitempty"`
	SoftwareID      string   `json:"software_id,omitempty"`
	SoftwareVersion string   `json:"software_version,omitempty"`
}

// Registered is the answer of the calls that make or read a client (RFC 7591
// §3.2.1). Secret is set only in the answer of the call that made it.
type Registered struct {
	Registration
	IssuedAt   int64  `json:"client_id_issued_at"` // seconds
	UpdatedAt  int64  `json:"updated_at"`          // seconds
	Generation uint64 `json:"generation"`          // the ETag: give it to change just this one
	// SelfRegistered says that the client registered itself (RFC 7591).
	SelfRegistered bool `json:"self_registered,omitempty"`
	// SoftwareStatement is the one by which it did, as it came (RFC 7591 §3.2.1).
	SoftwareStatement string `json:"software_statement,omitempty"`
	// Warnings say what was allowed although it is risky.
	Warnings []string `json:"warnings,omitempty"`
	secret   string
}

// hiddenSecret is what String and loggers see of an answer with a secret.
const hiddenSecret = "[hidden]"

// String hides the secret.
func (r Registered) String() string { return "client " + r.ClientID + " " + hiddenSecret }

// Secret is the secret that this call made; "" for none.
func (r *Registered) Secret() string { return r.secret }

// MarshalWithSecret is the JSON of the one answer that hands a new secret out: it
// alone has the members client_secret and client_secret_expires_at. Without a new
// secret it is that of r itself.
func (r *Registered) MarshalWithSecret() ([]byte, error) {
	if r.secret == "" {
		return json.Marshal(r)
	}
	return json.Marshal(struct {
		*Registered
		Secret    string `json:"client_secret"`
		ExpiresAt int64  `json:"client_secret_expires_at"` // 0: never (RFC 7591 §3.2.1)
	}{r, r.secret, 0})
}

// FromClient is the registration of a stored client.
func FromClient(c *state.Client) *Registered {
	enabled := !c.GetDisabled()
	r := Registration{
		ClientID: c.GetId(), ClientName: c.GetName(), Enabled: &enabled,
		AuthMethod: c.GetAuthMethod(), AuthSigningAlg: c.GetAssertionAlg(), AudienceIsEndpoint: c.GetAssertionAudienceTokenEndpoint(),
		GrantTypes: append([]string{}, c.GetGrantTypes()...), ResponseTypes: c.GetResponseTypes(), RedirectURIs: c.GetRedirectUris(),
		Scope: strings.Join(c.GetScopes(), " "), Resources: c.GetResources(), Application: c.GetApplication(),
		AccessTokenFormat: c.GetAccessTokenFormat(), AccessTokenLifetime: seconds(c.GetAccessTokenLifetime()),
		UserTokenLifetime: seconds(c.GetUserAccessTokenLifetime()), RefreshLifetime: seconds(c.GetRefreshTokenLifetime()),
		SigningAlg: c.GetSigningAlg(), ClientURI: c.GetUri(), LogoURI: c.GetLogoUri(), PolicyURI: c.GetPolicyUri(),
		TosURI: c.GetTosUri(), Contacts: c.GetContacts(), SoftwareID: c.GetSoftwareId(), SoftwareVersion: c.GetSoftwareVersion(),
	}
	r.JWKSURI, r.RequestURIs = c.GetJwksUri(), c.GetRequestUris()
	if len(c.GetJwks()) > 0 {
		r.JWKS = json.RawMessage(c.GetJwks())
	}
	switch {
	case c.GetIntrospectAny():
		r.Introspection = introspectAny
	case c.GetIntrospectAudience():
		r.Introspection = introspectAudience
	default:
		r.Introspection = introspectOwn
	}
	if c.RefreshGrace != nil {
		grace := Seconds(c.GetRefreshGrace())
		r.RefreshGrace = &grace
	}
	r.openIDFrom(c)
	r.ExchangeSubjects, r.ExchangeAudiences, r.ExchangeImpersonation = c.GetExchangeSubjects(), c.GetExchangeAudiences(), c.GetExchangeImpersonation()
	return &Registered{
		Registration: r, IssuedAt: c.GetCreatedAt() / 1000, UpdatedAt: c.GetUpdatedAt() / 1000, Generation: c.GetGeneration(),
		SelfRegistered: c.GetSelfRegistered(), SoftwareStatement: c.GetSoftwareStatement(), Warnings: warnings(c),
	}
}

// Seconds is a duration that is written as a number of seconds, and read from that or
// from a string: Go's form, or seconds in digits.
type Seconds int64

// noSeconds stands for what is no duration of whole seconds. The rules refuse it as
// they do any negative one, for they know the name of the member.
const noSeconds Seconds = math.MinInt64

// UnmarshalJSON never fails: see noSeconds.
func (s *Seconds) UnmarshalJSON(raw []byte) error {
	*s = noSeconds
	text := string(raw)
	if strings.HasPrefix(text, `"`) {
		if json.Unmarshal(raw, &text) != nil || len(text) > 64 {
			return nil
		}
		if d, err := time.ParseDuration(text); err == nil {
			if d%time.Second == 0 {
				*s = Seconds(d / time.Second)
			}
			return nil
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		*s = Seconds(n)
	}
	return nil
}

func seconds(n int64) *Seconds {
	if n == 0 {
		return nil
	}
	if n == state.Never {
		n = NeverExpires
	}
	s := Seconds(n)
	return &s
}

// NeverExpires is a lifetime without an end, as it is asked for; a record has state.Never.
const NeverExpires = -1

func valueOf(s *Seconds) int64 {
	switch {
	case s == nil:
		return 0
	case *s == NeverExpires:
		return state.Never
	}
	return int64(*s)
}

// client checks r and makes the row of it. old is what it replaces (nil: new): what
// no registration names is kept from there.
func (r *Registration) client(tenant string, old *state.Client, served []oauth.GrantType) (*state.Client, error) {
	d := r.withDefaults()
	if err := d.check(served); err != nil {
		return nil, err
	}
	scopes, err := oauth.SplitScope(d.Scope)
	if err != nil {
		return nil, &FieldError{"scope", "names of printable ASCII without quotes and backslashes, separated by single spaces, at most 256"}
	}
	jwks, err := d.jwks()
	if err != nil {
		return nil, err
	}
	c := &state.Client{}
	if old != nil {
		c = proto.CloneOf(old)
	}
	c.Tenant, c.Id, c.Name, c.Disabled = tenant, d.ClientID, d.ClientName, d.Enabled != nil && !*d.Enabled
	c.AuthMethod, c.AssertionAlg, c.AssertionAudienceTokenEndpoint, c.Jwks = d.AuthMethod, d.AuthSigningAlg, d.AudienceIsEndpoint, jwks
	c.Scopes, c.GrantTypes, c.Resources = scopes, d.GrantTypes, d.Resources
	c.RedirectUris, c.ResponseTypes, c.Application = d.RedirectURIs, d.ResponseTypes, d.Application
	c.AccessTokenFormat, c.SigningAlg = d.AccessTokenFormat, d.SigningAlg
	c.IntrospectAny, c.IntrospectAudience = d.Introspection == introspectAny, d.Introspection == introspectAudience
	c.AccessTokenLifetime, c.UserAccessTokenLifetime = valueOf(d.AccessTokenLifetime), valueOf(d.UserTokenLifetime)
	c.RefreshTokenLifetime, c.RefreshGrace = valueOf(d.RefreshLifetime), (*int64)(d.RefreshGrace)
	c.Uri, c.LogoUri, c.PolicyUri, c.TosUri = d.ClientURI, d.LogoURI, d.PolicyURI, d.TosURI
	c.Contacts, c.SoftwareId, c.SoftwareVersion = d.Contacts, d.SoftwareID, d.SoftwareVersion
	c.JwksUri, c.RequestUris = d.JWKSURI, d.RequestURIs
	d.openIDTo(c)
	c.ExchangeSubjects, c.ExchangeAudiences, c.ExchangeImpersonation = d.ExchangeSubjects, d.ExchangeAudiences, d.ExchangeImpersonation
	return c, nil
}

// withDefaults fills what RFC 7591 §2 lets a client leave out. Its default grant is
// authorization_code; a client without a redirect URI can only mean
// client_credentials.
func (r *Registration) withDefaults() Registration {
	d := *r
	if d.AuthMethod == "" {
		d.AuthMethod = string(oauth.AuthSecretBasic)
	}
	if d.GrantTypes == nil && len(d.RedirectURIs) > 0 {
		d.GrantTypes = []string{string(oauth.GrantAuthorizationCode)}
	}
	if d.GrantTypes == nil && d.AuthMethod != string(oauth.AuthNone) {
		d.GrantTypes = []string{string(oauth.GrantClientCredentials)}
	}
	if d.ResponseTypes == nil && slices.Contains(d.GrantTypes, string(oauth.GrantAuthorizationCode)) {
		d.ResponseTypes = []string{responseCode}
	}
	d.IDTokenEncryptedEnc = defaultEnc(d.IDTokenEncryptedAlg, d.IDTokenEncryptedEnc)
	d.AccessTokenEncryptedEnc = defaultEnc(d.AccessTokenEncryptedAlg, d.AccessTokenEncryptedEnc)
	d.UserinfoEncryptedEnc = defaultEnc(d.UserinfoEncryptedAlg, d.UserinfoEncryptedEnc)
	d.RequirePKCE = d.RequirePKCE || d.AuthMethod == string(oauth.AuthNone)
	return d
}
