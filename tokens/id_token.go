package tokens

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"strconv"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens/verify"
)

// DefaultIDTokenAlg signs ID tokens where the client asks for nothing (OpenID Connect
// Core §15.1, Registration §2).
const DefaultIDTokenAlg = "RS256"

// DefaultIDTokenLifetime is how long an ID token lives where neither client nor tenant
// says it, in seconds.
const DefaultIDTokenLifetime = 3600

// loginScope is the claim of IDClaims.Scope.
const loginScope = "login_scope"

// Member is one claim: its name and its value as JSON.
type Member struct {
	Name string
	JSON []byte
}

// IDClaims are what an ID token says (OpenID Connect Core §2). Empty members are left
// out.
type IDClaims struct {
	Tenant, Subject, ClientID string
	IssuedAt, Expires         int64 // seconds
	AuthTime                  int64 // seconds
	Nonce, ACR                string
	AMR                       []string
	SessionID                 string // sid
	AccessToken, Code         string // of which the hashes are told (§3.1.3.6, §3.3.2.11)
	State                     string // as them, in an authorization answer (FAPI 1.0 Part 2 §5.2.2.1)
	Alg                       string // "" is DefaultIDTokenAlg
	// Grant is that of the access token beside it: gid. With it stands ev, the view on which
	// it was decided, so that what takes the one back reaches the other where it is
	// exchanged.
	Grant string
	// Scope is what the grant allowed: login_scope, a name that no resource reads, since an
	// ID token opens none. An exchange of it gives no more.
	Scope string
	Extra []Member
}

// AppendIDToken appends a signed ID token to dst.
func (m *Minter) AppendIDToken(ctx context.Context, dst []byte, v *state.View, c *IDClaims) ([]byte, error) {
	set, err := m.keys.of(v, c.Tenant)
	if err != nil {
		return dst, err
	}
	alg := c.Alg
	if alg == "" {
		alg = DefaultIDTokenAlg
	}
	b := appendString([]byte(`{"iss":`), set.issuer)
	b = appendString(append(b, `,"sub":`...), c.Subject)
	b = appendString(append(b, `,"aud":`...), c.ClientID)
	b = strconv.AppendInt(append(b, `,"exp":`...), c.Expires, 10)
	b = strconv.AppendInt(append(b, `,"iat":`...), c.IssuedAt, 10)
	if c.AuthTime != 0 {
		b = strconv.AppendInt(append(b, `,"auth_time":`...), c.AuthTime, 10)
	}
	for _, t := range [...][2]string{
		{"nonce", c.Nonce}, {"acr", c.ACR}, {"sid", c.SessionID}, {"at_hash", halfHash(alg, c.AccessToken)}, {"c_hash", halfHash(alg, c.Code)},
		{"s_hash", halfHash(alg, c.State)},
	} {
		if t[1] != "" {
			b = appendString(append(b, `,"`+t[0]+`":`...), t[1])
		}
	}
	b = appendList(b, "amr", c.AMR)
	b = append(appendEvent(append(b, `,"ev":"`...), v.Epoch(), v.Head()), '"')
	if c.Grant != "" {
		b = appendString(append(b, `,"gid":`...), c.Grant)
	}
	if c.Scope != "" {
		b = appendString(append(b, `,"`+loginScope+`":`...), c.Scope)
	}
	b = append(appendMembers(b, c.Extra), '}')
	return m.appendSigned(ctx, dst, set, alg, idTokenType, b)
}

// halfHash is the left half of a value's hash, by the algorithm that signs.
func halfHash(alg, value string) string {
	if value == "" {
		return ""
	}
	if alg == verify.EdDSA { // Ed25519 hashes with SHA-512
		sum := sha512.Sum512([]byte(value))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// AppendSigned appends a JWS of ours to dst: payload is a JSON object, typ says what the
// token is for, so that none passes for another (RFC 8725 §3.11).
func (m *Minter) AppendSigned(ctx context.Context, dst []byte, v *state.View, tenant, alg, typ string, payload []byte) ([]byte, error) {
	set, err := m.keys.of(v, tenant)
	if err != nil {
		return dst, err
	}
	return m.appendSigned(ctx, dst, set, alg, typ, payload)
}

func (m *Minter) appendSigned(ctx context.Context, dst []byte, set *keySet, alg, typ string, payload []byte) ([]byte, error) {
	key, err := m.keys.signer(set, alg)
	if err != nil {
		return dst, unready(err)
	}
	start := len(dst)
	header := appendString(append(appendString([]byte(`{"typ":`), typ), `,"alg":"`+alg+`","kid":`...), key.id)
	dst = append(base64.RawURLEncoding.AppendEncode(dst, append(header, '}')), '.')
	dst = base64.RawURLEncoding.AppendEncode(dst, payload)
	end := len(dst)
	return key.appendBehind(ctx, m.keys.lane, append(dst, '.'), start, end)
}

// Signs tells whether the tenant can sign with alg ("": the default of ID tokens) here
// and now: what is asked before something is used up for a token.
func (m *Minter) Signs(v *state.View, tenant, alg string) error {
	set, err := m.keys.of(v, tenant)
	if err != nil {
		return err
	}
	if alg == "" {
		alg = DefaultIDTokenAlg
	}
	_, err = m.keys.signer(set, alg)
	return unready(err)
}

// appendList writes ,"name":[…] unless the list is empty.
func appendList(dst []byte, name string, list []string) []byte {
	for i, item := range list {
		if i == 0 {
			dst = append(append(append(dst, `,"`...), name...), `":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendString(dst, item)
	}
	if len(list) > 0 {
		dst = append(dst, ']')
	}
	return dst
}

// appendObject writes the members as one object; nothing where there is none.
func appendObject(dst []byte, members []Member) []byte {
	if len(members) == 0 {
		return dst
	}
	start := len(dst)
	dst = append(appendMembers(dst, members), '}')
	dst[start] = '{' // in place of the first comma
	return dst
}

// appendMembers writes ,"name":value of each.
func appendMembers(dst []byte, members []Member) []byte {
	for i := range members {
		dst = append(appendString(append(dst, ','), members[i].Name), ':')
		dst = append(dst, members[i].JSON...)
	}
	return dst
}
