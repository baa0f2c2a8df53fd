// Package tokens makes and checks the tokens that Keyraft hands out, and the keys
// that they are made with.
//
// A JWT access token (RFC 9068) is minted from state that is already on this
// node: one signature, no write, no network. An opaque token is its expiry
// minute, 32 random bytes and an 8-byte tag; only a keyed hash of it is stored.
// SigningKeys holds the unsealed private keys and publishes the public ones,
// KeyJob is the leader's job that makes, rotates and drops them, ClusterKeys holds
// the shared keys that hash and tag. Introspector tells what a token of ours is
// worth at this moment, Revoker takes tokens back.
//
// Units: lifetimes and instants in claims are seconds, instants in records
// milliseconds since 1970 UTC, as their fields say; sizes are bytes.
//
// Errors: refusals are *oauth.Error; command.Reject and the errors of a proposal
// are passed on wrapped. ErrNoKey says that no key may sign on this node now. No
// error holds any part of a token or key.
//
// Every type here is safe for concurrent use but Claims and Answer, which are
// values.
//
// Sources: RFC 7009, 7515, 7517, 7518, 7519, 7638, 7662, 8037, 9068; FIPS 186-5
// (deterministic ECDSA, RFC 6979); the stored hash is HighwayHash-256 over SHA-256.
package tokens

import (
	"errors"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

const (
	// DefaultTenant is the one that lives at the root of the issuer.
	DefaultTenant = "default"
	// DefaultLifetime is the life of an access token where neither client nor
	// tenant says one, in seconds. The state machine counts with the same one.
	DefaultLifetime = 3600
	// MaxLifetime bounds the life of an access token, in seconds: 30 days. One without an
	// end is state.Never, in a tenant that allows it.
	MaxLifetime = 30 * 24 * 3600

	// keptLonger is how long beyond a token's life everything is kept that may
	// refuse it, in seconds: clocks of nodes and gateways differ by up to a minute
	// either way.
	keptLonger = 120
)

// ErrNoKey says that a tenant has no key of the wanted algorithm in this view.
var ErrNoKey = errors.New("no signing key of that algorithm is ready")

// DefaultAlg signs where neither client nor tenant says another.
const DefaultAlg = "ES256"

// Algs are the algorithms that tokens are signed with, those first that a fresh
// node needs first.
func Algs() []string { return []string{"ES256", "EdDSA", "PS256", "RS256"} }

// algIndex is the place of an algorithm in Algs; -1 for none of ours.
func algIndex(alg string) int {
	switch alg {
	case "ES256":
		return 0
	case "EdDSA":
		return 1
	case "PS256":
		return 2
	case "RS256":
		return 3
	}
	return -1
}

const algCount = 4

// Lifetime is how long an access token of the client lives now, in seconds.
func Lifetime(t *state.Tenant, c *state.Client) int64 {
	return lifetime(t, c.GetAccessTokenLifetime(), t.GetSettings().GetAccessTokenLifetime())
}

// UserLifetime is that of a token that a user allowed.
func UserLifetime(t *state.Tenant, c *state.Client) int64 {
	return lifetime(t, c.GetUserAccessTokenLifetime(), c.GetAccessTokenLifetime(), t.GetSettings().GetUserAccessTokenLifetime(), t.GetSettings().GetAccessTokenLifetime())
}

// lifetime is the first that is set, within the bounds (TOK-46).
func lifetime(t *state.Tenant, set ...int64) int64 {
	for _, life := range set {
		switch {
		case life <= 0:
		case life >= state.Never && t.GetSettings().GetAllowNeverExpires():
			return state.Never
		default:
			return min(life, MaxLifetime)
		}
	}
	return DefaultLifetime
}

// clientLongest is the longest life that any token of the client can still have.
func clientLongest(t *state.Tenant, c *state.Client) int64 {
	return max(DefaultLifetime, t.GetLongestLifetime(), t.GetSettings().GetAccessTokenLifetime(), t.GetSettings().GetUserAccessTokenLifetime(),
		c.GetLongestLifetime(), c.GetAccessTokenLifetime(), c.GetUserAccessTokenLifetime(), c.GetRefreshTokenLifetime())
}

// tenantLongest is that over all clients of a tenant. A deleted client's tokens are
// revoked with it, so it no longer counts.
func tenantLongest(v *state.View, tenant string) int64 {
	const page = 512
	t, _ := v.Tenant(tenant)
	longest := clientLongest(t, nil)
	for after := ""; ; {
		clients := v.Clients(tenant, after, page)
		for _, c := range clients {
			longest = max(longest, c.GetLongestLifetime(), clientLongest(t, c))
		}
		if len(clients) < page {
			return longest
		}
		after = clients[len(clients)-1].GetId()
	}
}

// moment is the later of this node's clock and the cluster's, in seconds: a node
// whose clock lags takes no expired token for a live one.
func moment(now func() time.Time, v *state.View) int64 {
	return max(now().Unix(), v.Clock()/1000)
}

// refused turns a decision of Apply into an answer, where the caller's request
// explains it. Stale and EpochChanged are passed on: the caller decides once more
// on a fresh view.
func refused(r command.Reject) error {
	switch r {
	case command.Accepted:
		return nil
	case command.AlreadyExpired:
		return oauth.InvalidRequest.With("its time is over, so there is nothing left to do")
	case command.NotReady:
		return oauth.InvalidRequest.With("the key still signs; rotate first, with emergency set if it is in wrong hands")
	case command.Disabled, command.NotFound:
		return oauth.InvalidClient.With("the client or its tenant was disabled or deleted; ask its owner")
	}
	return r
}
