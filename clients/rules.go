package clients

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	introspectOwn      = "own"      // what it got, and what names it in aud
	introspectAudience = "audience" // also what is for one of its resources
	introspectAny      = "any"      // every token of its tenant
	formatJWT          = "jwt"
	formatOpaque       = "opaque"

	maxID       = 120         // bytes: ids stand in every token
	maxText     = 256         // bytes of a name
	maxURI      = 2048        // bytes; browsers and proxies cut longer ones
	maxItems    = 64          // of any list
	maxScope    = 8 << 10     // bytes of all scopes together
	maxJWKS     = 32 << 10    // bytes
	maxLifetime = 30 * 86_400 // seconds: of an access token, which nobody looks up again
	maxRefresh  = 3650 * 86_400
	maxGrace    = 600 // seconds: a stolen refresh token is of use for as long
)

// check holds every rule of one member; the first that is broken is the answer.
func (r *Registration) check(served []oauth.GrantType) error {
	for _, rule := range []func() error{
		r.checkID, r.checkTexts, r.checkFetched, r.checkMethod, func() error { return r.checkGrants(served) },
		r.checkResponses, r.checkURIs, r.checkResources, r.checkExchange, r.checkTokens, r.checkLogout, r.checkAlgs, r.checkBinding,
	} {
		if err := rule(); err != nil {
			return err
		}
	}
	return nil
}

func bad(field, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...)}
}

// checkID keeps ids to what can stand in a path, a log and a Basic header as it is.
func (r *Registration) checkID() error {
	id := r.ClientID
	if id == "" || len(id) > maxID {
		return bad("client_id", "1 to %d characters are needed", maxID)
	}
	for i := range len(id) {
		b := id[i]
		letter := 'a' <= b|0x20 && b|0x20 <= 'z' || '0' <= b && b <= '9'
		if !letter && (i == 0 || strings.IndexByte("-._~:@", b) < 0) {
			return bad("client_id", "letters, digits and - . _ ~ : @ are allowed, with a letter or digit in front")
		}
	}
	return nil
}

func (r *Registration) checkTexts() error {
	for _, m := range [...]struct{ field, value string }{
		{"client_name", r.ClientName}, {"application", r.Application},
		{"software_id", r.SoftwareID}, {"software_version", r.SoftwareVersion},
	} {
		if !plain(m.value) {
			return bad(m.field, "at most %d bytes of UTF-8 without control characters, those for the direction of writing among them", maxText)
		}
	}
	if len(r.Contacts) > maxItems || slices.ContainsFunc(r.Contacts, func(s string) bool { return s == "" || !plain(s) }) {
		return bad("contacts", "at most %d texts, none empty, without control characters", maxItems)
	}
	if len(r.Scope) > maxScope {
		return bad("scope", "at most %d bytes in all", maxScope)
	}
	return nil
}

// plain keeps out what makes a text look like another one where people read it, in a
// log or on a consent page: control characters, line ends, and those that turn the
// direction of writing (ADM-12).
func plain(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
	})
}

func (r *Registration) checkMethod() error {
	const field = "token_endpoint_auth_method"
	asserts := false
	switch oauth.AuthMethod(r.AuthMethod) {
	case oauth.AuthSecretBasic, oauth.AuthSecretPost, oauth.AuthNone, oauth.AuthTLS, oauth.AuthSelfSignedTLS:
	case oauth.AuthSecretJWT:
		asserts = true
		if r.AuthSigningAlg != "" && r.AuthSigningAlg != verify.HS256 {
			return bad("token_endpoint_auth_signing_alg", "HS256 is the one for client_secret_jwt")
		}
	case oauth.AuthPrivateKeyJWT:
		asserts = true
		if !r.signs() {
			return bad("jwks", "private_key_jwt needs the client's public keys, or a jwks_uri")
		}
	default:
		return bad(field, "one of %s is needed", strings.Join(Methods(), ", "))
	}
	switch {
	case !asserts && r.AuthSigningAlg != "":
		return bad("token_endpoint_auth_signing_alg", "it is for private_key_jwt and client_secret_jwt only; leave it out")
	case !asserts && r.AudienceIsEndpoint:
		return bad("assertion_audience_token_endpoint", "it is for private_key_jwt and client_secret_jwt only; leave it out")
	case r.AuthMethod == string(oauth.AuthPrivateKeyJWT) && r.AuthSigningAlg != "" && !slices.Contains(AssertionAlgs(), r.AuthSigningAlg):
		return bad("token_endpoint_auth_signing_alg", "one of %s is needed", strings.Join(AssertionAlgs(), ", "))
	}
	return r.checkCertificates()
}

func (r *Registration) checkGrants(served []oauth.GrantType) error {
	if len(r.GrantTypes) > maxItems {
		return bad("grant_types", "at most %d", maxItems)
	}
	for i, g := range r.GrantTypes {
		if !slices.Contains(served, oauth.GrantType(g)) && g != string(oauth.GrantImplicit) {
			return bad("grant_types", "%.64q is not served here; discovery lists what is", g)
		}
		if slices.Contains(r.GrantTypes[:i], g) {
			return bad("grant_types", "%.64q is there twice", g)
		}
		if (g == string(oauth.GrantClientCredentials) || g == string(oauth.GrantCIBA)) && r.AuthMethod == string(oauth.AuthNone) {
			return bad("grant_types", "%s is for clients that prove who they are; choose another token_endpoint_auth_method than none", g)
		}
	}
	return nil
}

func (r *Registration) checkURIs() error {
	for _, m := range [...]struct{ field, value string }{
		{"client_uri", r.ClientURI}, {"logo_uri", r.LogoURI}, {"policy_uri", r.PolicyURI}, {"tos_uri", r.TosURI},
	} {
		u, ok := absolute(m.value)
		if m.value != "" && (!ok || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			return bad(m.field, "an http or https URL of at most %d bytes is needed", maxURI)
		}
	}
	return r.checkRedirects()
}

func absolute(s string) (*url.URL, bool) {
	if s == "" || len(s) > maxURI {
		return nil, false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '\\' {
			return nil, false
		}
	}
	u, err := url.Parse(s)
	return u, err == nil && u.IsAbs() && u.User == nil && !strings.Contains(s, "#")
}

// checkResources takes URIs and plain names of APIs: what may stand in aud.
func (r *Registration) checkResources() error {
	return checkAudiences("resources", r.Resources)
}

func checkAudiences(field string, list []string) error {
	if len(list) > maxItems {
		return bad(field, "at most %d", maxItems)
	}
	for i, s := range list {
		ascii := s != "" && len(s) <= maxURI
		for j := range len(s) {
			ascii = ascii && s[j] > ' ' && s[j] < 0x7f && s[j] != '"' && s[j] != '\\' && s[j] != '#'
		}
		if !ascii {
			return bad(field, "each is a URI without fragment or a name, of printable ASCII without spaces and quotes")
		}
		if slices.Contains(list[:i], s) {
			return bad(field, "%.128q is there twice", s)
		}
	}
	return nil
}

func (r *Registration) checkTokens() error {
	switch r.AccessTokenFormat {
	case "", formatJWT, formatOpaque:
	default:
		return bad("access_token_format", "jwt or opaque")
	}
	switch r.Introspection {
	case "", introspectOwn, introspectAudience, introspectAny:
	default:
		return bad("introspection", "own, audience or any")
	}
	if g := r.RefreshGrace; g != nil && (*g < 0 || *g > maxGrace) {
		return bad("refresh_grace", "0 to %d seconds, as a number or such as \"10s\"; leave it out for the default", maxGrace)
	}
	for _, m := range [...]struct {
		field string
		value *Seconds
		limit Seconds
		never bool // there may be none
	}{
		{"access_token_lifetime", r.AccessTokenLifetime, maxLifetime, true},
		{"user_access_token_lifetime", r.UserTokenLifetime, maxLifetime, true},
		{"refresh_token_lifetime", r.RefreshLifetime, maxRefresh, true},
		{"refresh_token_idle_lifetime", r.RefreshIdleLifetime, maxRefresh, false},
		{"id_token_lifetime", r.IDTokenLifetime, maxLifetime, false},
		{"default_max_age", r.DefaultMaxAge, maxRefresh, false},
	} {
		if m.never && m.value != nil && *m.value == NeverExpires {
			continue // the registry asks the tenant
		}
		if m.value != nil && (*m.value < 1 || *m.value > m.limit) {
			return bad(m.field, "1 to %d seconds, as a number or such as \"10m\"; leave it out for the default", m.limit)
		}
	}
	return nil
}

// Methods are the client authentication methods that are served.
func Methods() []string {
	return []string{
		string(oauth.AuthSecretBasic), string(oauth.AuthSecretPost), string(oauth.AuthSecretJWT), string(oauth.AuthPrivateKeyJWT),
		string(oauth.AuthTLS), string(oauth.AuthSelfSignedTLS), string(oauth.AuthNone),
	}
}

// AssertionAlgs are the algorithms that client assertions may be signed with.
func AssertionAlgs() []string {
	return verify.Algs()
}
