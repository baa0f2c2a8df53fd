package clients

import "github.com/keyraft/keyraft/internal/oauth"

// claimNone reads the method none (RFC 7591 §2): a public client says who it is and
// proves nothing.
func (r *Request) claimNone() claim {
	return claim{method: oauth.AuthNone, id: r.ID, broken: r.ID == ""}
}
