package tokens

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
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
	slots [verifiedSlots / 2]pair
}

// pair holds the two newest tokens that belong here, so that two that are asked
// about in turn don't push each other out.
type pair [2]atomic.Pointer[genuine]

// genuine is a token that a key of set signed, or an opaque one (set is nil) whose
// row was there in that epoch. It is not changed once it is kept.
type genuine struct {
	digest [sha256.Size]byte
	set    *keySet
	epoch  uint64
	held   held
}

func (c *verified) pair(digest *[sha256.Size]byte) *pair {
	return &c.slots[binary.LittleEndian.Uint64(digest[:])%uint64(len(c.slots))]
}

// find returns the token with this digest; nil when it is not remembered.
func (c *verified) find(digest *[sha256.Size]byte) *genuine {
	p := c.pair(digest)
	for i := range p {
		if g := p[i].Load(); g != nil && g.digest == *digest {
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
