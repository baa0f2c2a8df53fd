package oauth

// ReservedClaim tells the claims that say what a token is, whose it is and what it is
// good for, and the members that an answer of introspection has of its own: no rule of
// ours and no other issuer may set one (REG-05). The name is in lower case: one that
// differs from it by case alone is no other name.
func ReservedClaim(name string) bool {
	switch name {
	case "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "azp", "scope", "scp", "ev", "gid", "root", "root_client", "app",
		"cnf", "act", "may_act", "authorization_details", "auth_time", "acr", "amr", "sid", "nonce", "at_hash", "c_hash", "s_hash",
		"token_use", "token_introspection", "active", "username", "token_type", "events", "typ", "alg", "kid", "tenant", "userinfo_claims", "login_scope":
		return true
	}
	return false
}
