package seal

import (
	"crypto/rand"
	"fmt"
)

// Box seals values that leave the cluster and come back (codes, requests in flight)
// under a shared key: XAES-256-GCM, each with a random nonce. The label says what
// the value is for and to whom it belongs; a value opens under its own label alone.
// Immutable and safe for concurrent use.
type Box struct{ box *xaes }

// NewBox makes the box of a key.
func NewBox(k *Key) (*Box, error) {
	x, err := newXAES(k)
	if err != nil {
		return nil, fmt.Errorf("make a box: %w", err)
	}
	return &Box{x}, nil
}

// Append seals plain behind dst.
func (b *Box) Append(dst []byte, label string, plain []byte) ([]byte, error) {
	var nonce [nonceSize]byte
	rand.Read(nonce[:]) // never fails: crypto/rand ends the process instead
	return b.box.seal(append(dst, nonce[:]...), nonce[:], plain, []byte(label))
}

// Open gives back what Append sealed under this label. The error wraps ErrSealed and
// does not tell what is wrong.
func (b *Box) Open(label string, sealed []byte) ([]byte, error) {
	if len(sealed) < nonceSize+tagSize {
		return nil, fmt.Errorf("%w: it is too short", ErrSealed)
	}
	plain, err := b.box.open(sealed[:nonceSize], sealed[nonceSize:], []byte(label))
	if err != nil {
		return nil, fmt.Errorf("%w: it was changed, or made for another use or under another key", ErrSealed)
	}
	return plain, nil
}
