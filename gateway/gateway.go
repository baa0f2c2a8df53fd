package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"sync"
	"sync/atomic"

	"github.com/keyraft/keyraft/tokens/verify"
)

// Gateway holds the copy of the cluster's revocations and keys, and decides by
// it. Make one with New; Run keeps the copy in sync.
type Gateway struct {
	cfg    Config
	skew   int64 // seconds
	cache  *cache
	nodes  *nodes
	client *client
	counts counters
	proofs *verify.Replays // DPoP proofs that were used here

	view  atomic.Pointer[view]
	proof atomic.Pointer[instant] // when the poll was sent that proved the head fresh

	// mu orders the writers of view and of the set within it: the sync loop and
	// refreshKeys. Never held over the network.
	mu        sync.Mutex
	cluster   atomic.Pointer[string] // pinned id, nil before
	confirmed atomic.Bool            // by a node, not only by the cache file
	cached    atomic.Bool            // the copy came from the cache file
	problem   atomic.Pointer[string] // what keeps the sync from going on
	running   atomic.Bool

	seeds   atomic.Pointer[[]string] // of gossip, as the nodes tell them
	refresh refresher
	flights flights
}

// view is one publication: the head, and the set and the windows in which every
// revocation up to it is, under one pointer. gen rises with each that may change
// a decision.
type view struct {
	gen         uint64
	epoch, head uint64
	set         *revset
	windows     windows
	keys        *keyring
	// Revocations that had ended by then (seconds) may be missing here: by this
	// gateway's clock when it swept, by the cluster's when a node made the snapshot.
	swept, made int64
}

// nodeKeeps is how long beyond a token's end a node keeps what revokes it, in
// seconds: half of what it promises.
const nodeKeeps = 60

// forgotten says that revocations of a token with this end may be missing: with a
// clock that was set back, or that is far behind the nodes', it would pass by them.
func (v *view) forgotten(expires int64) bool { return max(v.swept, v.made) >= expires+nodeKeeps }

// revoked says whether any revocation covers the token.
func (v *view) revoked(e *entry) bool {
	return v.set.revoked(e) || v.windows.covers(e.who.Tenant, &e.claims.Claims)
}

// New checks the configuration and reads the cache file; it starts nothing and
// reaches for nothing on the network.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	keys, err := newKeyring(cfg.APIs)
	if err != nil {
		return nil, err
	}
	var hash hasher
	if _, err := rand.Read(hash.key[:]); err != nil {
		return nil, err
	}
	g := &Gateway{cfg: cfg, skew: int64(cfg.Skew.Seconds()), nodes: newNodes(cfg.Nodes, cfg.Clock), proofs: verify.NewReplays(cfg.MaxProofs)}
	if cfg.Cluster != "" {
		g.cluster.Store(&cfg.Cluster)
	}
	first := &view{set: newRevset(), keys: keys}
	if cfg.CacheFile != "" {
		first = g.fromFile(first, &hash)
	}
	g.view.Store(first)
	g.cache = newCache(hash, cfg.CacheBytes)
	g.client, err = newClient(&g.cfg)
	if err != nil {
		return nil, err
	}
	g.counts.init()
	g.flights.init()
	return g, nil
}

// publish makes next the view, after the set was filled. Caller holds mu.
func (g *Gateway) publish(next view) {
	next.gen = g.view.Load().gen + 1
	g.view.Store(&next)
}

// pinned is the cluster's id, empty before the first contact.
func (g *Gateway) pinned() string {
	if id := g.cluster.Load(); id != nil {
		return *id
	}
	return ""
}

// equalKey compares public keys; each type's Equal takes a crypto.PublicKey.
func equalKey(a, b crypto.PublicKey) bool {
	switch k := a.(type) {
	case *ecdsa.PublicKey:
		return k.Equal(b)
	case *rsa.PublicKey:
		return k.Equal(b)
	case ed25519.PublicKey:
		return k.Equal(b)
	}
	return false
}
