package tokens

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
)

// Names of the cluster keys that this room uses.
const (
	KeyHash     = "hash"     // what is stored of secrets and opaque tokens
	KeyTag      = "tag"      // the tag in opaque tokens
	KeyCode     = "code"     // what is sealed into codes, logins in flight and pushed requests
	KeyNonce    = "nonce"    // DPoP nonces
	KeyPairwise = "pairwise" // pairwise subjects; it never rotates
)

// SharedKeys are the names of the keys that every cluster has: made at bootstrap, or
// by the leader's key job in a cluster of an older version.
func SharedKeys() []string { return []string{KeyHash, KeyTag, KeyCode, KeyNonce, KeyPairwise} }

const clusterKeyActive = "active"

// SealLabel is the label under which a version of a cluster key is sealed, so that
// no sealed value passes for another.
func SealLabel(name string, version uint32) string {
	return fmt.Sprintf("cluster-key/%s/%d", name, version)
}

// NewClusterKey makes a random 256-bit key that all nodes share, sealed and active.
func NewClusterKey(ring *seal.Keyring, name string, version uint32, now time.Time) (*state.ClusterKey, error) {
	k := seal.Generate()
	sealed, err := ring.Seal(SealLabel(name, version), k[:])
	if err != nil {
		return nil, fmt.Errorf("seal cluster key %q: %w", name, err)
	}
	return &state.ClusterKey{Name: name, Version: version, Sealed: sealed, Status: clusterKeyActive, CreatedAt: now.UnixMilli()}, nil
}

// ClusterKeys unseals the keys that all nodes share and keeps them: a version's
// contents never change within an epoch, so nothing is ever unsealed twice.
type ClusterKeys struct {
	ring *seal.Keyring
	mu   sync.Mutex // of those who add
	keys atomic.Pointer[map[clusterKeyName]*seal.Key]

	newest atomic.Pointer[map[string]newestKey] // of one view: asked for by every request
}

// newestKey is what Newest found in the view at index of epoch.
type newestKey struct {
	epoch, index uint64
	key          *seal.Key
	version      uint32
}

type clusterKeyName struct {
	epoch   uint64 // a restore may bring another key of the same name and version
	name    string
	version uint32
}

// NewClusterKeys makes an empty cache over the node's keyring.
func NewClusterKeys(ring *seal.Keyring) *ClusterKeys {
	k := &ClusterKeys{ring: ring}
	k.keys.Store(&map[clusterKeyName]*seal.Key{})
	k.newest.Store(&map[string]newestKey{})
	return k
}

// Newest is the key of the newest active version: the one that hashes or tags. It
// does not allocate when the view is the one of the call before.
func (k *ClusterKeys) Newest(v *state.View, name string) (*seal.Key, uint32, error) {
	if n := (*k.newest.Load())[name]; n.key != nil && n.epoch == v.Epoch() && n.index == v.Index() {
		return n.key, n.version, nil
	}
	key, version, err := k.findNewest(v, name)
	if err != nil {
		return nil, 0, err
	}
	next := make(map[string]newestKey, 2)
	for other, n := range *k.newest.Load() {
		next[other] = n
	}
	next[name] = newestKey{v.Epoch(), v.Index(), key, version}
	k.newest.Store(&next) // of two at once one is lost, and found again
	return key, version, nil
}

func (k *ClusterKeys) findNewest(v *state.View, name string) (*seal.Key, uint32, error) {
	versions := v.ClusterKeys(name)
	for i := len(versions) - 1; i >= 0; i-- {
		if versions[i].GetStatus() == clusterKeyActive {
			key, err := k.open(v.Epoch(), versions[i])
			return key, versions[i].GetVersion(), err
		}
	}
	return nil, 0, fmt.Errorf("the cluster has no active key %q; it is made at bootstrap, so this state is not a whole cluster", name)
}

// Version is one version of a key, whatever its status. It does not allocate once
// the version was used.
func (k *ClusterKeys) Version(v *state.View, name string, version uint32) (*seal.Key, error) {
	if key := (*k.keys.Load())[clusterKeyName{v.Epoch(), name, version}]; key != nil {
		return key, nil
	}
	for _, row := range v.ClusterKeys(name) {
		if row.GetVersion() == version {
			return k.open(v.Epoch(), row)
		}
	}
	return nil, fmt.Errorf("the cluster has no version %d of key %q; what it hashed can't be checked any more", version, name)
}

// Each calls fn for every version, newest first, until fn says false: what was made
// under an older key stays good after a rotation.
func (k *ClusterKeys) Each(v *state.View, name string, fn func(version uint32, key *seal.Key) bool) error {
	versions := v.ClusterKeys(name)
	for i := len(versions) - 1; i >= 0; i-- {
		key, err := k.open(v.Epoch(), versions[i])
		if err != nil {
			return err
		}
		if !fn(versions[i].GetVersion(), key) {
			return nil
		}
	}
	return nil
}

func (k *ClusterKeys) open(epoch uint64, row *state.ClusterKey) (*seal.Key, error) {
	at := clusterKeyName{epoch, row.GetName(), row.GetVersion()}
	if key := (*k.keys.Load())[at]; key != nil {
		return key, nil
	}
	plain, err := k.ring.Open(SealLabel(at.name, at.version), row.GetSealed())
	if err != nil {
		return nil, fmt.Errorf("open version %d of cluster key %q: %w", at.version, at.name, err)
	}
	if len(plain) != len(seal.Key{}) {
		return nil, fmt.Errorf("version %d of cluster key %q has %d bytes, want %d: the state is damaged", at.version, at.name, len(plain), len(seal.Key{}))
	}
	key := seal.Key(plain)
	k.mu.Lock()
	defer k.mu.Unlock()
	next := make(map[clusterKeyName]*seal.Key)
	for name, have := range *k.keys.Load() {
		if name.epoch+1 >= epoch { // those of long gone epochs are asked for no more
			next[name] = have
		}
	}
	next[at] = &key
	k.keys.Store(&next)
	return &key, nil
}

// Hashes are what is stored of a generated secret, under each version of KeyHash, the
// newest's first: what was stored under an older one is still found.
func (k *ClusterKeys) Hashes(v *state.View, secret []byte) (hashes [][32]byte, err error) {
	err = k.Each(v, KeyHash, func(_ uint32, key *seal.Key) bool {
		hashes = append(hashes, seal.Hash(key, secret))
		return true
	})
	return hashes, err
}
