package clients

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	responseCode     = "code"
	subjectPublic    = "public"
	subjectPairwise  = "pairwise"
	deliveryPoll     = "poll"
	defaultEncMethod = "A128CBC-HS256" // OpenID Connect Registration §2
)

// openIDFrom fills the members of OpenID Connect and its neighbours from c.
func (r *Registration) openIDFrom(c *state.Client) {
	r.ApplicationType, r.SectorIdentifierURI, r.SubjectType = c.GetApplicationType(), c.GetSectorIdentifierUri(), c.GetSubjectType()
	r.IDTokenAlg, r.IDTokenEncryptedAlg, r.IDTokenEncryptedEnc = c.GetIdTokenAlg(), c.GetIdTokenEncryptedAlg(), c.GetIdTokenEncryptedEnc()
	r.UserinfoAlg, r.UserinfoEncryptedAlg, r.UserinfoEncryptedEnc = c.GetUserinfoAlg(), c.GetUserinfoEncryptedAlg(), c.GetUserinfoEncryptedEnc()
	r.RequestObjectAlg, r.AuthorizationAlg, r.IntrospectionAlg = c.GetRequestObjectAlg(), c.GetAuthorizationAlg(), c.GetIntrospectionAlg()
	r.DefaultMaxAge, r.RequireAuthTime, r.DefaultACRValues = seconds(c.GetDefaultMaxAge()), c.GetRequireAuthTime(), c.GetDefaultAcrValues()
	r.InitiateLoginURI, r.IDTokenLifetime, r.SkipConsent = c.GetInitiateLoginUri(), seconds(c.GetIdTokenLifetime()), c.GetSkipConsent()
	r.PostLogoutRedirectURIs = c.GetPostLogoutRedirectUris()
	r.FrontchannelLogoutURI, r.FrontchannelLogoutSession = c.GetFrontchannelLogoutUri(), c.GetFrontchannelLogoutSessionRequired()
	r.BackchannelLogoutURI, r.BackchannelLogoutSession = c.GetBackchannelLogoutUri(), c.GetBackchannelLogoutSessionRequired()
	r.BackchannelDelivery, r.RequirePKCE, r.RequirePAR = c.GetBackchannelDelivery(), c.GetRequirePkce(), c.GetRequirePar()
	r.RequireRequestObject, r.DPoPBound, r.TLSBound = c.GetRequireRequestObject(), c.GetDpopBound(), c.GetTlsBound()
	r.TLSSubjectDN, r.TLSSanDNS, r.TLSSanURI = c.GetTlsSubjectDn(), c.GetTlsSanDns(), c.GetTlsSanUri()
	r.TLSSanIP, r.TLSSanEmail, r.DetailsTypes = c.GetTlsSanIp(), c.GetTlsSanEmail(), c.GetDetailsTypes()
	r.RefreshIdleLifetime, r.AccessTokenClaims = seconds(c.GetRefreshIdleLifetime()), ClaimRulesFrom(c.GetAccessTokenClaims())
	r.AccessTokenEncryptedAlg, r.AccessTokenEncryptedEnc, r.AccessTokenEncryptedFor = c.GetAccessTokenEncryptedAlg(), c.GetAccessTokenEncryptedEnc(), c.GetAccessTokenEncryptedFor()
	if c.RefreshRotation != nil {
		rotates := c.GetRefreshRotation()
		r.RefreshRotation = &rotates
	}
}

// openIDTo writes them into c. The rules have passed them.
func (r *Registration) openIDTo(c *state.Client) {
	c.ApplicationType, c.SectorIdentifierUri, c.SubjectType = r.ApplicationType, r.SectorIdentifierURI, r.SubjectType
	c.IdTokenAlg, c.IdTokenEncryptedAlg, c.IdTokenEncryptedEnc = r.IDTokenAlg, r.IDTokenEncryptedAlg, r.IDTokenEncryptedEnc
	c.UserinfoAlg, c.UserinfoEncryptedAlg, c.UserinfoEncryptedEnc = r.UserinfoAlg, r.UserinfoEncryptedAlg, r.UserinfoEncryptedEnc
	c.RequestObjectAlg, c.AuthorizationAlg, c.IntrospectionAlg = r.RequestObjectAlg, r.AuthorizationAlg, r.IntrospectionAlg
	c.DefaultMaxAge, c.RequireAuthTime, c.DefaultAcrValues = valueOf(r.DefaultMaxAge), r.RequireAuthTime, r.DefaultACRValues
	c.InitiateLoginUri, c.IdTokenLifetime, c.SkipConsent = r.InitiateLoginURI, valueOf(r.IDTokenLifetime), r.SkipConsent
	c.PostLogoutRedirectUris = r.PostLogoutRedirectURIs
	c.FrontchannelLogoutUri, c.FrontchannelLogoutSessionRequired = r.FrontchannelLogoutURI, r.FrontchannelLogoutSession
	c.BackchannelLogoutUri, c.BackchannelLogoutSessionRequired = r.BackchannelLogoutURI, r.BackchannelLogoutSession
	c.BackchannelDelivery, c.RequirePkce, c.RequirePar = r.BackchannelDelivery, r.RequirePKCE, r.RequirePAR
	c.RequireRequestObject, c.DpopBound, c.TlsBound = r.RequireRequestObject, r.DPoPBound, r.TLSBound
	c.TlsSubjectDn, c.TlsSanDns, c.TlsSanUri = r.TLSSubjectDN, r.TLSSanDNS, r.TLSSanURI
	c.TlsSanIp, c.TlsSanEmail, c.DetailsTypes = r.TLSSanIP, r.TLSSanEmail, r.DetailsTypes
	c.RefreshIdleLifetime, c.RefreshRotation = valueOf(r.RefreshIdleLifetime), r.RefreshRotation
	c.AccessTokenClaims = ClaimRulesTo(r.AccessTokenClaims)
	c.AccessTokenEncryptedAlg, c.AccessTokenEncryptedEnc, c.AccessTokenEncryptedFor = r.AccessTokenEncryptedAlg, r.AccessTokenEncryptedEnc, r.AccessTokenEncryptedFor
}

// responseTypes are those of OAuth 2.0 Multiple Response Type Encoding Practices that
// are served, with the grant types that each needs (OpenID Connect Registration §2).
// token alone is not among them: no use of it is left (RFC 9700 §2.1.2).
func responseTypes() map[string][]oauth.GrantType {
	code, implicit := oauth.GrantAuthorizationCode, oauth.GrantImplicit
	return map[string][]oauth.GrantType{
		responseCode:          {code},
		"id_token":            {implicit},
		"id_token token":      {implicit},
		"code id_token":       {code, implicit},
		"code token":          {code, implicit},
		"code id_token token": {code, implicit},
	}
}

// checkResponses holds response types and grant types against each other (REG-03).
func (r *Registration) checkResponses() error {
	known := responseTypes()
	var needed []string
	for i, t := range r.ResponseTypes {
		grants, ok := known[t]
		if !ok || slices.Contains(r.ResponseTypes[:i], t) {
			return bad("response_types", "code, id_token, id_token token, code id_token, code token or code id_token token, each once and with its words in this order")
		}
		for _, g := range grants {
			if !r.grants(g) {
				return bad("response_types", "%q needs the grant type %s among grant_types", t, g)
			}
			needed = append(needed, string(g))
		}
	}
	for _, g := range []oauth.GrantType{oauth.GrantAuthorizationCode, oauth.GrantImplicit} {
		if r.grants(g) && !slices.Contains(needed, string(g)) {
			return bad("response_types", "none of them uses the grant type %s; add one or leave the grant out", g)
		}
	}
	if r.grants(oauth.GrantCIBA) && r.BackchannelDelivery != "" && r.BackchannelDelivery != deliveryPoll || !r.grants(oauth.GrantCIBA) && r.BackchannelDelivery != "" {
		return bad("backchannel_token_delivery_mode", "poll, for clients of the grant type %s only", oauth.GrantCIBA)
	}
	return r.checkSubject()
}

// checkSubject: pairwise identifiers are calculated from one host, so it must be clear
// which one (OpenID Connect Core §8.1).
func (r *Registration) checkSubject() error {
	switch r.SubjectType {
	case "", subjectPublic, subjectPairwise:
	default:
		return bad("subject_type", "public or pairwise")
	}
	const field = "sector_identifier_uri"
	if r.SectorIdentifierURI != "" {
		u, ok := absolute(r.SectorIdentifierURI)
		if !ok || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) || !plainAuthority(u) {
			return bad(field, "an https URL, or http on loopback, of at most %d bytes is needed", maxURI)
		}
		return nil
	}
	hosts := redirectHosts(r.RedirectURIs)
	if r.SubjectType == subjectPairwise && (len(hosts) > 1 || len(hosts) == 1 && hosts[0] == "") {
		return bad(field, "it is needed for subject_type pairwise, since the redirect URIs are not all of one host")
	}
	return nil
}

// redirectHosts are the different hosts of redirect URIs, "" for a URI without one.
func redirectHosts(uris []string) []string {
	var hosts []string
	for _, s := range uris {
		host := ""
		if u, err := url.Parse(s); err == nil {
			host = strings.ToLower(u.Hostname())
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// checkLogout holds the rules of the logout documents, and of where a login starts.
func (r *Registration) checkLogout() error {
	const post = "post_logout_redirect_uris"
	if len(r.PostLogoutRedirectURIs) > maxItems {
		return bad(post, "at most %d", maxItems)
	}
	for _, s := range r.PostLogoutRedirectURIs {
		if err := redirectable(post, s); err != nil {
			return err
		}
	}
	for _, m := range [...]struct{ field, value string }{
		{"frontchannel_logout_uri", r.FrontchannelLogoutURI}, {"backchannel_logout_uri", r.BackchannelLogoutURI}, {"initiate_login_uri", r.InitiateLoginURI},
	} {
		if m.value != "" && (PrivateScheme(m.value) != "" || redirectable(m.field, m.value) != nil) {
			return bad(m.field, "an https URL, or http on loopback, of at most %d bytes is needed, without fragment", maxURI)
		}
	}
	if r.FrontchannelLogoutURI != "" && !slices.ContainsFunc(r.RedirectURIs, func(s string) bool { return origin(s) == origin(r.FrontchannelLogoutURI) }) {
		return bad("frontchannel_logout_uri", "it must have scheme, host and port of one of the redirect_uris (OpenID Connect Front-Channel Logout §2)")
	}
	if r.FrontchannelLogoutSession && r.FrontchannelLogoutURI == "" {
		return bad("frontchannel_logout_session_required", "it needs a frontchannel_logout_uri")
	}
	if r.BackchannelLogoutSession && r.BackchannelLogoutURI == "" {
		return bad("backchannel_logout_session_required", "it needs a backchannel_logout_uri")
	}
	return nil
}

func origin(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// signAlgs are the algorithms that we sign with for clients.
func signAlgs() []string { return []string{verify.ES256, verify.EdDSA, verify.PS256, verify.RS256} }

func defaultEnc(alg, enc string) string {
	if alg != "" && enc == "" {
		return defaultEncMethod
	}
	return enc
}

// checkAlgs holds the algorithms; none is not one of them, anywhere.
func (r *Registration) checkAlgs() error {
	for _, m := range [...]struct {
		field, value string
		known        []string
	}{
		{"access_token_signed_response_alg", r.SigningAlg, signAlgs()},
		{"id_token_signed_response_alg", r.IDTokenAlg, signAlgs()},
		{"userinfo_signed_response_alg", r.UserinfoAlg, signAlgs()},
		{"authorization_signed_response_alg", r.AuthorizationAlg, signAlgs()},
		{"introspection_signed_response_alg", r.IntrospectionAlg, signAlgs()},
		{"request_object_signing_alg", r.RequestObjectAlg, AssertionAlgs()},
		{"id_token_encrypted_response_alg", r.IDTokenEncryptedAlg, verify.EncryptionAlgs()},
		{"id_token_encrypted_response_enc", r.IDTokenEncryptedEnc, verify.EncryptionMethods()},
		{"userinfo_encrypted_response_alg", r.UserinfoEncryptedAlg, verify.EncryptionAlgs()},
		{"userinfo_encrypted_response_enc", r.UserinfoEncryptedEnc, verify.EncryptionMethods()},
		{"access_token_encrypted_response_alg", r.AccessTokenEncryptedAlg, verify.EncryptionAlgs()},
		{"access_token_encrypted_response_enc", r.AccessTokenEncryptedEnc, verify.EncryptionMethods()},
	} {
		if m.value != "" && !slices.Contains(m.known, m.value) {
			return bad(m.field, "one of %s is needed", strings.Join(m.known, ", "))
		}
	}
	if err := r.checkEncryption(); err != nil {
		return err
	}
	if (r.RequestObjectAlg != "" || r.RequireRequestObject) && !r.signs() {
		return bad("jwks", "signed request objects need the client's public keys, or a jwks_uri")
	}
	if len(r.DefaultACRValues) > maxItems || slices.ContainsFunc(r.DefaultACRValues, notToken) {
		return bad("default_acr_values", "at most %d names without spaces", maxItems)
	}
	if err := CheckDetailsTypes(r.DetailsTypes); err != nil {
		return err
	}
	return CheckClaims(r.AccessTokenClaims)
}

// checkEncryption looks for the keys that answers are encrypted to.
func (r *Registration) checkEncryption() error {
	switch {
	case r.AccessTokenEncryptedAlg != "" && r.AccessTokenFormat == formatOpaque:
		return bad("access_token_encrypted_response_alg", "an opaque token says nothing that could be encrypted; leave it out, or access_token_format")
	case r.AccessTokenEncryptedFor != "" && r.AccessTokenEncryptedAlg == "":
		return bad("access_token_encrypted_for", "it needs an access_token_encrypted_response_alg")
	}
	for _, m := range [...]struct {
		alg, enc, kind string
		own            bool // the key is the client's own
	}{
		{r.IDTokenEncryptedAlg, r.IDTokenEncryptedEnc, "id_token", true}, {r.UserinfoEncryptedAlg, r.UserinfoEncryptedEnc, "userinfo", true},
		{r.AccessTokenEncryptedAlg, r.AccessTokenEncryptedEnc, "access_token", r.ownEncryption()},
	} {
		if m.enc != "" && m.alg == "" {
			return bad(m.kind+"_encrypted_response_enc", "it needs a %s_encrypted_response_alg", m.kind)
		}
		if m.alg == "" || !m.own {
			continue
		}
		if r.JWKSURI != "" {
			continue // what is there is looked at when something is encrypted
		}
		if _, err := verify.FindEncryptionKey(r.JWKS, m.alg); err != nil {
			return bad("jwks", "%s_encrypted_response_alg %s needs a public key of the client for it, with use enc or without use, or a jwks_uri: %v", m.kind, m.alg, err)
		}
	}
	return nil
}

// CheckDetailsTypes holds types of authorization_details (RFC 9396 §2) to their form.
func CheckDetailsTypes(types []string) error {
	if len(types) > maxItems || slices.ContainsFunc(types, notToken) {
		return bad("authorization_details_types", "at most %d names without spaces", maxItems)
	}
	return nil
}

// notToken tells what cannot stand in a list that is separated by spaces.
func notToken(s string) bool {
	return s == "" || len(s) > maxText || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '\\' })
}

// checkBinding holds what a client is known by beside a secret: certificates (RFC 8705
// §2.1.2), and how its tokens are bound.
func (r *Registration) checkBinding() error {
	names := 0
	for _, m := range [...]struct {
		field, value string
		ok           func(string) bool
	}{
		{"tls_client_auth_subject_dn", r.TLSSubjectDN, validDN},
		{"tls_client_auth_san_dns", r.TLSSanDNS, func(s string) bool { return !notToken(s) && !strings.ContainsAny(s, "*:/@") }},
		{"tls_client_auth_san_uri", r.TLSSanURI, func(s string) bool { _, ok := absolute(s); return ok }},
		{"tls_client_auth_san_ip", r.TLSSanIP, func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && a.Zone() == "" }},
		{"tls_client_auth_san_email", r.TLSSanEmail, func(s string) bool { return !notToken(s) && strings.Count(s, "@") == 1 }},
	} {
		if m.value == "" {
			continue
		}
		names++
		switch {
		case r.AuthMethod != string(oauth.AuthTLS):
			return bad(m.field, "it is for tls_client_auth only; leave it out")
		case names > 1:
			return bad(m.field, "one expected name of the certificate only (RFC 8705 §2.1.2)")
		case !m.ok(m.value):
			return bad(m.field, "it is not well-formed, or holds a wildcard")
		}
	}
	public := r.AuthMethod == string(oauth.AuthNone)
	switch {
	case r.AuthMethod == string(oauth.AuthTLS) && names == 0:
		return bad("tls_client_auth_subject_dn", "tls_client_auth needs one of tls_client_auth_subject_dn, _san_dns, _san_uri, _san_ip and _san_email")
	case r.DPoPBound && r.TLSBound:
		return bad("dpop_bound_access_tokens", "tokens are bound to a DPoP key or to a certificate, not to both")
	case r.RefreshRotation != nil && !*r.RefreshRotation && public && !r.DPoPBound && !r.TLSBound:
		return bad("refresh_token_rotation", "a public client's refresh tokens rotate, unless dpop_bound_access_tokens or tls_client_certificate_bound_access_tokens is set (RFC 9700 §4.14.2)")
	}
	return nil
}

// warnings say what of a client is allowed although there is a better way.
func warnings(c *state.Client) []string {
	var w []string
	if slices.Contains(c.GetGrantTypes(), string(oauth.GrantImplicit)) {
		w = append(w, "the grant type implicit hands tokens out in the browser's address; use authorization_code with PKCE instead (RFC 9700 §2.1.2)")
	}
	if slices.Contains(c.GetGrantTypes(), string(oauth.GrantPassword)) {
		w = append(w, "the grant type password shows the user's password to the client; use authorization_code instead (RFC 9700 §2.4)")
	}
	if c.GetExchangeImpersonation() {
		w = append(w, "token_exchange_impersonation: the tokens that it gets by exchange don't tell who acts; leave it off where an act claim does no harm (RFC 8693 §1.1)")
	}
	return w
}
