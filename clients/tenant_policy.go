package clients

import (
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens/verify"
)

// allowed holds c against what its tenant lets clients have. A lifetime that old had
// already stays, since a client must be changeable, and above all disabled, after its
// tenant's operator has thought better of it: tokens live no longer for it.
func allowed(v *state.View, c, old *state.Client) error {
	t, _ := v.Tenant(c.GetTenant())
	for _, m := range [...]struct {
		field    string
		now, was int64
	}{
		{"access_token_lifetime", c.GetAccessTokenLifetime(), old.GetAccessTokenLifetime()},
		{"user_access_token_lifetime", c.GetUserAccessTokenLifetime(), old.GetUserAccessTokenLifetime()},
		{"refresh_token_lifetime", c.GetRefreshTokenLifetime(), old.GetRefreshTokenLifetime()},
	} {
		if m.now == state.Never && m.was != state.Never && !t.GetSettings().GetAllowNeverExpires() {
			return bad(m.field, "%d is a token that never expires, which the cluster's operator has not allowed this tenant (allow_never_expires); name a lifetime in seconds, or leave it out for the default", NeverExpires)
		}
	}
	return encryptable(v, c)
}

// encryptable tells whether the access tokens of c can be encrypted, if they are to be.
func encryptable(v *state.View, c *state.Client) error {
	if c.GetAccessTokenEncryptedAlg() == "" || Recipient(c) == c.GetId() {
		return nil // the rules have looked for its own key
	}
	server, ok := v.Client(c.GetTenant(), Recipient(c))
	if !ok {
		return bad("access_token_encrypted_for", "there is no client of that id; register the resource server as a client first, with its public key in jwks")
	}
	if _, err := verify.FindEncryptionKey(server.GetJwks(), c.GetAccessTokenEncryptedAlg()); err != nil {
		return bad("access_token_encrypted_for", "that client has no key for %s in its jwks, with use enc: %v", c.GetAccessTokenEncryptedAlg(), err)
	}
	return nil
}

// Recipient is the id of the client that stands for the resource server to whose key the
// access tokens of c are encrypted: c itself where it names no other.
func Recipient(c *state.Client) string {
	if id := c.GetAccessTokenEncryptedFor(); id != "" {
		return id
	}
	return c.GetId()
}

// Serves tells whether all of an audience is the resource server that c stands for.
func Serves(c *state.Client, audience []string) bool {
	return !slices.ContainsFunc(audience, func(a string) bool { return a != c.GetId() && !slices.Contains(c.GetResources(), a) })
}
