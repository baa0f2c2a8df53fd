package grants

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// assertionSkew is by how much the clocks of issuers may differ, in seconds.
const assertionSkew = 60

// maxSubject bounds the subject that an assertion names, in bytes (OpenID Connect Core
// §2).
const maxSubject = 255

// assertions reads JWTs of trusted issuers. Safe for concurrent use.
type assertions struct {
	keys      *issuerKeys
	now       func() time.Time
	tokenPath string
	absent    func(error) bool
}

// assertion is a JWT of a trusted issuer that is good here and now.
type assertion struct {
	issuer  *state.TrustedIssuer
	claims  *verify.Claims
	subject string
	user    *state.User // whom the subject names; nil where the issuer's names are its own
	brought []*state.Attribute
}

// assertionType and subjectType tell the typ of an assertion and of a token to exchange:
// any other says that the JWT was made for something else (RFC 8725 §3.11, JWT-24).
func assertionType(typ string) bool {
	return typ == "" || typ == "jwt" || typ == "authorization-grant+jwt"
}

func subjectType(typ string) bool { return typ == "" || typ == "jwt" || typ == "at+jwt" }

// read checks a JWT as RFC 7523 §3 and RFC 8725 have it: whom it is by, that the tenant
// trusts them for this client, signature, typ, audience, times, subject. What is wrong
// with it is told with code, which the place where it is used decides.
func (a *assertions) read(ctx context.Context, in *Input, text string, fits func(typ string) bool, code oauth.Code) (*assertion, error) {
	t, err := verify.Parse(text)
	if err != nil {
		return nil, code.With("it is not a signed JWT in compact form: " + err.Error())
	}
	issuer, ok := in.View.TrustedIssuer(in.Tenant.GetId(), t.Claims.Issuer)
	if !ok || issuer.GetDisabled() || issuer.GetKind() != KindJWT {
		return nil, code.With("its issuer is not trusted here; ask the tenant's administrator")
	}
	if len(issuer.GetClients()) > 0 && !slices.Contains(issuer.GetClients(), in.Client.GetId()) {
		return nil, code.With("its issuer is not trusted for this client; ask the tenant's administrator")
	}
	if !fits(strings.TrimPrefix(strings.ToLower(t.Header.Type), "application/")) {
		return nil, code.Withf("its typ %.64q says that it was made for something else", t.Header.Type)
	}
	now := max(a.now().Unix(), in.View.Clock()/1000)
	if err := a.verify(ctx, t, issuer, now, code); err != nil {
		return nil, err
	}
	expect := verify.Expect{
		Issuer: issuer.GetIssuer(), Audience: append([]string{in.Issuer, in.Issuer + a.tokenPath}, issuer.GetAudiences()...),
		Now: now, Skew: assertionSkew, MaxLife: firstPositive(issuer.GetMaxLife(), defaultAssertionLife),
	}
	if err := t.Check(expect); err != nil {
		return nil, code.With(err.Error())
	}
	if err := proved(t.Claims.Bound, t.Claims.JKT, t.Claims.X5T, in, code); err != nil {
		return nil, err
	}
	out := &assertion{issuer: issuer, claims: &t.Claims}
	return out, a.whom(in, out, code)
}

// verify looks for a key of the issuer's that signed it.
func (a *assertions) verify(ctx context.Context, t *verify.Token, issuer *state.TrustedIssuer, now int64, code oauth.Code) error {
	keys, err := a.keys.candidates(ctx, issuer, t.Header.KeyID, now)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(keys, func(k verify.Key) bool { return t.Verify(k) == nil }) {
		return code.With("no key of its issuer has signed it; look at its kid and alg")
	}
	return nil
}

// proved holds a token that is bound to a key against the keys that the request proved:
// nobody but its holder gets something for it (RFC 9449 §5, RFC 8705 §3).
func proved(bound bool, jkt, x5t string, in *Input, code oauth.Code) error {
	switch {
	case !bound:
		return nil
	case jkt == "" && x5t == "":
		return code.With("it is bound in a way that can't be checked here")
	case jkt != "" && jkt != in.Binding.JKT:
		return code.With("it is bound to a DPoP key; send a proof of that key in the DPoP header")
	case x5t != "" && x5t != in.Binding.X5T:
		return code.With("it is bound to a client certificate; it is good for that client, registered for tokens that are bound to it, over a connection with it")
	}
	return nil
}

// whom finds out who the subject is and what else the assertion says of them. Where the
// issuer's names are its own, one that means a user or client of this tenant is
// refused: nobody becomes somebody here by a name alone (JWT-22).
func (a *assertions) whom(in *Input, out *assertion, code oauth.Code) error {
	said := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(out.claims.Raw), &said); err != nil {
		return code.With("its payload is no JSON object")
	}
	claim := out.issuer.GetSubjectClaim()
	if claim == "" {
		claim = "sub"
	}
	if json.Unmarshal(said[claim], &out.subject) != nil || !subjectFits(out.subject) {
		return code.Withf("its %.100s is missing, or no name of at most %d bytes without control characters", claim, maxSubject)
	}
	for _, m := range out.issuer.GetClaimMapping() {
		if value, ok := said[m.GetRemote()]; ok && string(value) != "null" && !oauth.ReservedClaim(strings.ToLower(m.GetLocal())) {
			out.brought = append(out.brought, &state.Attribute{Name: m.GetLocal(), Json: value})
		}
	}
	tenant := in.Tenant.GetId()
	if !out.issuer.GetMapToUser() {
		_, isClient := in.View.Client(tenant, out.subject)
		_, err := in.View.UserBySubject(tenant, out.subject)
		if err != nil && !a.absent(err) {
			return err
		}
		if isClient || err == nil {
			return code.With("its subject is the name of somebody of this tenant, for whom its issuer may not speak")
		}
		return nil
	}
	key, err := identity.FoldName(out.subject)
	if err != nil {
		return errNobody(code)
	}
	user, err := in.View.UserByName(tenant, key)
	switch {
	case a.absent(err):
		return errNobody(code)
	case err != nil:
		return err
	case user.GetUsername() != out.subject: // two of its subjects would be one user (JWT-22)
		return errNobody(code)
	}
	out.user = user
	return nil
}

func errNobody(code oauth.Code) error {
	return code.With("its subject names no user who may sign in now, spelled just so")
}

func subjectFits(s string) bool {
	return s != "" && len(s) <= maxSubject && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// id stands for the assertion among those that were used: of its issuer and jti, or its
// whole payload where it has none. Never of its text, which has many spellings.
func (x *assertion) id() string {
	what, value := "jti", x.claims.JTI
	if value == "" {
		what, value = "payload", x.claims.Raw
	}
	h := sha256.New()
	for _, part := range [...]string{x.claims.Issuer, what, value} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// scope is what the issuer's word gives of what was asked: what client and user may
// have, and no more than the issuer may give. Who is no user here has no role.
func (x *assertion) scope(in *Input) (string, error) {
	user := x.user
	if user == nil {
		user = &state.User{Tenant: in.Tenant.GetId()}
	}
	scope, err := Narrow(in.View, in.Tenant, in.Client, user, in.Scope)
	if err != nil {
		return "", err
	}
	most := x.issuer.GetScopes()
	drop := in.Scope == "" || in.Tenant.GetSettings().GetNarrowScopes()
	return capped(scope, drop, func(item string) bool {
		return item != "offline_access" && (len(most) == 0 || slices.Contains(most, item))
	})
}

// capped leaves of a scope what may says; what was asked for is refused, unless drop.
func capped(scope string, drop bool, may func(string) bool) (string, error) {
	var kept []string
	for _, item := range strings.Fields(scope) {
		switch {
		case may(item):
			kept = append(kept, item)
		case !drop:
			return "", oauth.InvalidScope.Withf("the scope %.100s is more than this grant gives; ask for less", item)
		}
	}
	return strings.Join(kept, " "), nil
}
