package tokens

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Claims are what a grant decided of one access token.
type Claims struct {
	Tenant, Subject, ClientID, Scope string
	Audience                         []string // at least one
	Grant                            string   // gid; "": the token's own id
	Application                      string   // app; "" leaves it out
	Root                             string   // root of a delegation tree; "" leaves it out
	RootClient                       string   // to which that was issued; "" leaves it out
	IssuedAt, Expires                int64    // seconds
	Alg                              string   // "" is DefaultAlg

	JKT, X5T     string // of a bound token: cnf (RFC 9449 §6.1, RFC 8705 §3.1)
	Act, Details []byte // JSON (RFC 8693 §4.1, RFC 9396 §9.1)
	AuthTime     int64  // seconds (RFC 9068 §2.2.1), as the next two
	ACR          string
	AMR          []string
	Userinfo     []string // claims that userinfo tells beside those of the scope
	Extra        []Member
}

// userinfoClaims is our own claim: names of claims that the client asked for by the
// parameter claims, and may have at userinfo (OpenID Connect Core §5.5).
const userinfoClaims = "userinfo_claims"

// Minter mints JWT access tokens.
type Minter struct {
	keys   *SigningKeys
	prefix string // node id and boot nonce
	next   atomic.Uint64
	pool   sync.Pool // *[]byte: payloads
}

// NewMinter makes the minter of a node. Ids of its tokens are the node's id, a
// nonce of this start and a counter, so that they are unique without a write.
func NewMinter(keys *SigningKeys, node string) (*Minter, error) {
	if node == "" {
		return nil, errors.New("tokens: the minter needs the node's id, or two nodes could give one id twice")
	}
	var nonce [9]byte
	rand.Read(nonce[:]) // never fails: crypto/rand ends the process instead
	m := &Minter{keys: keys, prefix: node + "." + base64.RawURLEncoding.EncodeToString(nonce[:]) + "."}
	m.pool.New = func() any { buf := make([]byte, 0, 1024); return &buf }
	return m, nil
}

// NextID returns a new token id.
func (m *Minter) NextID() string {
	var buf [96]byte // a node's name, a boot's and a number
	return string(m.appendID(buf[:0], m.next.Add(1)))
}

func (m *Minter) appendID(dst []byte, n uint64) []byte {
	return strconv.AppendUint(append(dst, m.prefix...), n, 36)
}

// AppendJWT appends a signed access token (RFC 9068) to dst. It allocates nothing
// but what the signature does. v is the view on which the grant was decided: its
// epoch and head go into the token, and its keys sign. ctx bounds the wait for an
// RSA signature.
func (m *Minter) AppendJWT(ctx context.Context, dst []byte, v *state.View, c *Claims) ([]byte, error) {
	set, err := m.keys.of(v, c.Tenant)
	if err != nil {
		return dst, err
	}
	alg := c.Alg
	if alg == "" {
		alg = DefaultAlg
	}
	key, err := m.keys.signer(set, alg)
	if err != nil {
		return dst, unready(err)
	}
	start := len(dst)
	dst = m.appendUnsigned(dst, set.issuer, v, key, c)
	end := len(dst)
	dst = append(dst, '.')
	// The signature covers what stands before the dot; its text goes behind it.
	dst, err = key.appendBehind(ctx, m.keys.lane, dst, start, end)
	if err == nil && len(dst)-start > verify.MaxSize { // nobody would read it, nor take it back
		return dst[:start], errTooLong
	}
	return dst, err
}

var errTooLong = oauth.InvalidRequest.Withf("the access token would be longer than %d bytes, and nobody takes such a one; ask for fewer resources, authorization_details or claims", verify.MaxSize)

func (m *Minter) appendUnsigned(dst []byte, issuer string, v *state.View, key *signer, c *Claims) []byte {
	buf := m.pool.Get().(*[]byte)
	payload := m.appendPayload((*buf)[:0], issuer, v, c)
	dst = base64.RawURLEncoding.AppendEncode(append(dst, key.header...), payload)
	*buf = payload
	m.pool.Put(buf)
	return dst
}

// appendPayload writes the claims of RFC 9068 §2.2 and ours: ev, gid, root, app.
func (m *Minter) appendPayload(dst []byte, issuer string, v *state.View, c *Claims) []byte {
	n := m.next.Add(1)
	dst = appendString(append(dst, `{"iss":`...), issuer)
	dst = appendString(append(dst, `,"sub":`...), c.Subject)
	dst = appendAudience(append(dst, `,"aud":`...), c.Audience)
	dst = appendString(append(dst, `,"client_id":`...), c.ClientID)
	dst = strconv.AppendInt(append(dst, `,"exp":`...), c.Expires, 10)
	dst = strconv.AppendInt(append(dst, `,"iat":`...), c.IssuedAt, 10)
	dst = m.appendIDString(append(dst, `,"jti":`...), n)
	if c.Scope != "" {
		dst = appendString(append(dst, `,"scope":`...), c.Scope)
	}
	dst = appendEvent(append(dst, `,"ev":"`...), v.Epoch(), v.Head())
	dst = append(dst, `","gid":`...)
	if c.Grant != "" {
		dst = appendString(dst, c.Grant)
	} else {
		dst = m.appendIDString(dst, n)
	}
	if c.Root != "" {
		dst = appendString(append(dst, `,"root":`...), c.Root)
	}
	if c.RootClient != "" {
		dst = appendString(append(dst, `,"root_client":`...), c.RootClient)
	}
	if c.Application != "" {
		dst = appendString(append(dst, `,"app":`...), c.Application)
	}
	if c.JKT != "" || c.X5T != "" || c.AuthTime != 0 || c.Act != nil || c.Details != nil || c.Userinfo != nil || c.Extra != nil {
		dst = appendOfUser(dst, c)
	}
	return append(dst, '}')
}

// appendOfUser writes what a client's own bearer token has nothing of.
func appendOfUser(dst []byte, c *Claims) []byte {
	dst = appendConfirmation(dst, c.JKT, c.X5T)
	login := Login{AuthTime: c.AuthTime, ACR: c.ACR, AMR: c.AMR, Act: c.Act, Details: c.Details}
	dst = login.append(dst)
	dst = appendList(dst, userinfoClaims, c.Userinfo)
	return appendMembers(dst, c.Extra)
}

func (m *Minter) appendIDString(dst []byte, n uint64) []byte {
	dst = appendString(dst, m.prefix)
	dst = dst[:len(dst)-1] // the closing quote moves behind the number
	return append(strconv.AppendUint(dst, n, 36), '"')
}

func appendEvent(dst []byte, epoch, head uint64) []byte {
	dst = append(strconv.AppendUint(dst, epoch, 10), '.')
	return strconv.AppendUint(dst, head, 10)
}
