package verify

// Kinds of revocations. A kind's target is a claim of the tokens that it covers.
const (
	KindToken       = "token"       // jti, or root: what came of it by exchange goes with it
	KindGrant       = "grant"       // gid
	KindRoot        = "root"        // root
	KindClient      = "client"      // client_id, or root_client: what others got by exchange goes with it
	KindSubject     = "subject"     // sub
	KindApplication = "application" // app
	KindKeyManager  = "keymanager"  // name of the key manager, which the issuer tells
	KindKey         = "key"         // kid
	KindAPIKey      = "apikey"      // an API key's id: no JWT is one
)

// resident is the name of the built-in key manager of every tenant.
const resident = "resident"

// Revocation refuses the tokens that it covers. Instants are seconds.
type Revocation struct {
	Seq          uint64 // its place in the cluster's order
	Tenant       string // the caller looks revocations up within the token's tenant
	Issuer       string // "": whichever issuer of the tenant
	Kind, Target string
	IssuedBefore int64 // 0: not named
	ExpiresAt    int64 // when no token can be left that it covers; the caller drops it then

	// A restore takes back what was issued after its backup: with IssuedAfter not
	// 0 only tokens that were decided above the head DecidedAfter, or issued after
	// the second IssuedAfter, are meant.
	DecidedAfter uint64
	IssuedAfter  int64
}

// Covers tells whether r refuses a token. It does so for one of this cluster
// exactly when the token was decided on a view before r, whatever any clock says:
// Head < Seq, and also IssuedAt ≤ IssuedBefore when r names that (whole seconds:
// equal counts as before). A token of another issuer, which has no head, is judged
// by IssuedBefore alone, and always covered without one; so is one without iat.
// So is every token of a signing key that was revoked, whatever head it names:
// who has the key writes any head. A window (IssuedAfter) narrows all that. The
// caller has matched the tenant.
func Covers(r Revocation, c *Claims) bool {
	if r.Issuer != "" && r.Issuer != c.Issuer {
		return false
	}
	believed := c.Own && r.Kind != KindKey // its head
	if believed && c.Head >= r.Seq {
		return false
	}
	if r.IssuedBefore != 0 && c.IssuedAt > r.IssuedBefore {
		return false
	}
	if r.IssuedAfter != 0 && !after(&r, c, believed) {
		return false
	}
	return r.Target != "" && (r.Target == c.target(r.Kind) || r.Target == c.ofTree(r.Kind))
}

// ofTree is the claim of a token that came of another by exchange, by which a revocation
// of this kind reaches it as it does that one; "" for none.
func (c *Claims) ofTree(kind string) string {
	switch kind {
	case KindToken:
		return c.Root
	case KindClient:
		return c.RootClient
	}
	return ""
}

// after tells whether c lies in the window of r. Where no head is believed, iat
// decides, and a token without one is in it.
func after(r *Revocation, c *Claims, believed bool) bool {
	if believed {
		return c.Head > r.DecidedAfter || c.IssuedAt > r.IssuedAfter
	}
	return c.IssuedAt > r.IssuedAfter || c.IssuedAt == 0
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
		if c.KeyManager == "" {
			return resident
		}
		return c.KeyManager
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
		target := c.target(kind)
		if target != "" && !fn(kind, target) {
			return
		}
		if more := c.ofTree(kind); more != "" && more != target && !fn(kind, more) {
			return
		}
	}
}
