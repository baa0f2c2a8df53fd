package verify

// Kinds of revocations. A kind's target is a claim of the tokens that it covers.
const (
	KindToken       = "token"       // jti
	KindGrant       = "grant"       // gid
	KindRoot        = "root"        // root
	KindClient      = "client"      // client_id
	KindSubject     = "subject"     // sub
	KindApplication = "application" // app
	KindKeyManager  = "keymanager"  // iss
	KindKey         = "key"         // kid
	KindAPIKey      = "apikey"      // an API key's id: no JWT is one
)

// Revocation refuses the tokens that it covers. Instants are seconds.
type Revocation struct {
	Seq          uint64 // its place in the cluster's order
	Tenant       string // the caller looks revocations up within the token's tenant
	Issuer       string // "": whichever issuer of the tenant
	Kind, Target string
	IssuedBefore int64 // 0: not named
	ExpiresAt    int64 // when no token can be left that it covers; the caller drops it then
}

// Covers tells whether r refuses a token. It does so for one of this cluster
// exactly when the token was decided on a view before r, whatever any clock says:
// Head < Seq, and also IssuedAt ≤ IssuedBefore when r names that (whole seconds:
// equal counts as before). A token of another issuer, which has no head, is judged
// by IssuedBefore alone, and always covered without one; so is one without iat.
// The caller has matched the tenant.
func Covers(r Revocation, c *Claims) bool {
	if r.Issuer != "" && r.Issuer != c.Issuer {
		return false
	}
	if c.Own && c.Head >= r.Seq {
		return false
	}
	if r.IssuedBefore != 0 && c.IssuedAt > r.IssuedBefore {
		return false
	}
	return r.Target != "" && r.Target == c.target(r.Kind)
}

// target is the claim that a revocation of this kind is looked up by; "" for none.
func (c *Claims) target(kind string) string {
	switch kind {
	case KindToken:
		return c.JTI
	case KindGrant:
		return c.Grant
	case KindRoot:
		return c.Root
	case KindClient:
		return c.ClientID
	case KindSubject:
		return c.Subject
	case KindApplication:
		return c.Application
	case KindKeyManager:
		return c.Issuer
	case KindKey:
		return c.KeyID
	}
	return ""
}

// Targets calls fn with each kind and target by which a token can be revoked,
// until fn returns false. It does not allocate.
func Targets(c *Claims, fn func(kind, target string) bool) {
	for _, kind := range [...]string{
		KindToken, KindGrant, KindRoot, KindClient, KindSubject, KindApplication, KindKeyManager, KindKey,
	} {
		if target := c.target(kind); target != "" && !fn(kind, target) {
			return
		}
	}
}
