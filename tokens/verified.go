package tokens

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"github.com/minio/highwayhash"

	"github.com/keyraft/keyraft/internal/seal"
)

// verifiedSlots bounds the tokens that are remembered; each takes about 1 KiB.
const verifiedSlots = 8192

// verified remembers tokens of ours that were found genuine, since callers ask
// about the same token again and again, and a signature or a read of the store
// costs more than all the rest. Only genuine tokens get in. Whether one is still
// good is decided each time: a JWT's key set must be the present one, an opaque
// token's epoch too, and revocations are looked up.
//
// Safe for concurrent use: a slot is one pointer, and losing it costs one
// verification.
type verified struct {
	key   seal.Key // this process's own: nobody can choose tokens that meet
	slots [verifiedSlots / 2]pair
}

// digest names a token: HighwayHash-256 under a random key that goes nowhere, an
// eighth of SHA-256's time for a JWT.
type digest [highwayhash.Size]byte

func newVerified() *verified {
	c := new(verified)
	rand.Read(c.key[:]) // never fails (crypto/rand)
	return c
}

func (c *verified) digest(token string) digest {
	return highwayhash.Sum(unsafe.Slice(unsafe.StringData(token), len(token)), c.key[:]) // it only reads
}

// pair holds the two newest tokens that belong here, so that two that are asked
// about in turn don't push each other out.
type pair [2]atomic.Pointer[genuine]

// genuine is a token that a key of set signed, or an opaque one (set is nil) whose
// row was there in that epoch. It is not changed once it is kept.
type genuine struct {
	digest digest
	set    *keySet
	epoch  uint64
	held   held
}

func (c *verified) pair(d *digest) *pair {
	return &c.slots[binary.LittleEndian.Uint64(d[:])%uint64(len(c.slots))]
}

// find returns the token with this digest; nil when it is not remembered.
func (c *verified) find(d *digest) *genuine {
	p := c.pair(d)
	for i := range p {
		if g := p[i].Load(); g != nil && g.digest == *d {
			return g
		}
	}
	return nil
}

func (c *verified) keep(g *genuine) {
	p := c.pair(&g.digest)
	if was := p[0].Swap(g); was != nil && was.digest != g.digest {
		p[1].Store(was)
	}
}
