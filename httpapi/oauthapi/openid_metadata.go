package oauthapi

import (
	"slices"

	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// openIDMetadata are the members of discovery that say what is told of users, and how:
// OpenID Connect Discovery §3, RFC 9701 §7.
type openIDMetadata struct {
	Userinfo           string   `json:"userinfo_endpoint"`
	Scopes             []string `json:"scopes_supported"` // a tenant's own are its clients' to know
	Claims             []string `json:"claims_supported"`
	ClaimsParameter    bool     `json:"claims_parameter_supported"`
	UserinfoAlgs       []string `json:"userinfo_signing_alg_values_supported"`
	UserinfoEncAlgs    []string `json:"userinfo_encryption_alg_values_supported"`
	UserinfoEncMethods []string `json:"userinfo_encryption_enc_values_supported"`
	IDTokenEncAlgs     []string `json:"id_token_encryption_alg_values_supported"`
	IDTokenEncMethods  []string `json:"id_token_encryption_enc_values_supported"`
	IntrospectionAlgs  []string `json:"introspection_signing_alg_values_supported"`
}

func newOpenIDMetadata(issuer string, grants []oauth.GrantType) openIDMetadata {
	scopes, claims := identity.StandardScopes()
	return openIDMetadata{
		Userinfo: issuer + UserinfoPath, Scopes: append([]string{"openid", "offline_access"}, scopes...),
		Claims: append([]string{
			"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash", "roles", "groups", "entitlements",
		}, claims...),
		// It is a parameter of authorization requests, which only codes come of.
		ClaimsParameter: slices.Contains(grants, oauth.GrantAuthorizationCode),
		UserinfoAlgs:    tokens.Algs(), IntrospectionAlgs: tokens.Algs(),
		UserinfoEncAlgs: verify.EncryptionAlgs(), UserinfoEncMethods: verify.EncryptionMethods(),
		IDTokenEncAlgs: verify.EncryptionAlgs(), IDTokenEncMethods: verify.EncryptionMethods(),
	}
}
