// Package oauth holds the protocol's words: error codes and the immutable
// errors made from them, grant types, client authentication methods, scopes.
//
// It is a leaf. A rule that refuses a request returns an *Error; httpapi alone
// turns it into an answer, so no rule knows about HTTP beyond the status that
// the protocol itself names.
//
// All values are immutable and safe for concurrent use.
//
// Sources: RFC 6749 §3.3, §4, §5.2; RFC 6750 §3.1; RFC 7009 §2.2.1; RFC 7591
// §3.2.2; RFC 7636; RFC 8628 §3.5; RFC 8693 §2.2.2; RFC 8707 §2; RFC 9126 §2.3;
// RFC 9396 §5; RFC 9449 §5, §8; the IANA OAuth registries.
package oauth

// GrantType is a value of the parameter grant_type (RFC 6749 §4).
type GrantType string

// Grant types, as they stand on the wire.
const (
	GrantAuthorizationCode GrantType = "authorization_code"
	GrantClientCredentials GrantType = "client_credentials"
	GrantRefreshToken      GrantType = "refresh_token"
	GrantPassword          GrantType = "password"
	GrantImplicit          GrantType = "implicit" // in registrations only (RFC 7591 §2)
	GrantDeviceCode        GrantType = "urn:ietf:params:oauth:grant-type:device_code"
	GrantTokenExchange     GrantType = "urn:ietf:params:oauth:grant-type:token-exchange"
	GrantJWTBearer         GrantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	GrantSAML2Bearer       GrantType = "urn:ietf:params:oauth:grant-type:saml2-bearer"
	GrantCIBA              GrantType = "urn:openid:params:grant-type:ciba"
	GrantKerberos          GrantType = "kerberos" // WSO2's name
	GrantNTLM              GrantType = "iwa:ntlm" // WSO2's name
	GrantUMATicket         GrantType = "urn:ietf:params:oauth:grant-type:uma-ticket"
)

// AuthMethod is how a client proves who it is at the token endpoint: a value of
// token_endpoint_auth_method (RFC 7591 §2, OpenID Connect Core §9, RFC 8705 §2).
type AuthMethod string

// Client authentication methods, as they stand on the wire.
const (
	AuthNone          AuthMethod = "none"
	AuthSecretBasic   AuthMethod = "client_secret_basic"
	AuthSecretPost    AuthMethod = "client_secret_post"
	AuthSecretJWT     AuthMethod = "client_secret_jwt"
	AuthPrivateKeyJWT AuthMethod = "private_key_jwt"
	AuthTLS           AuthMethod = "tls_client_auth"
	AuthSelfSignedTLS AuthMethod = "self_signed_tls_client_auth"
)

// TokenType names a kind of token in token exchange (RFC 8693 §3).
type TokenType string

// Token types of RFC 8693 §3.
const (
	TypeAccessToken  TokenType = "urn:ietf:params:oauth:token-type:access_token"
	TypeRefreshToken TokenType = "urn:ietf:params:oauth:token-type:refresh_token"
	TypeIDToken      TokenType = "urn:ietf:params:oauth:token-type:id_token"
	TypeJWT          TokenType = "urn:ietf:params:oauth:token-type:jwt"
	TypeSAML1        TokenType = "urn:ietf:params:oauth:token-type:saml1"
	TypeSAML2        TokenType = "urn:ietf:params:oauth:token-type:saml2"
)

// ClientAssertionJWT is the one client_assertion_type (RFC 7523 §2.2).
const ClientAssertionJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
