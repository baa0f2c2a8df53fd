package seal

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/minio/highwayhash"
)

// Hash is what is stored of a generated secret (at least 128 random bits):
// HighwayHash-256 under key, over SHA-256 of the secret. SHA-256 makes it one-way
// even to one who has the key, HighwayHash unlinkable for one who has not. It
// does not allocate. Never for what people choose: that is Passwords'.
func Hash(key *Key, secret []byte) [32]byte {
	digest := sha256.Sum256(secret)
	return HashDigest(key, &digest)
}

// HashDigest is Hash for one who has the secret's SHA-256, and hashes it under more
// than one key.
func HashDigest(key *Key, digest *[32]byte) [32]byte {
	return highwayhash.Sum(digest[:], key[:])
}

// Tag is HMAC-SHA-256 (RFC 2104) under key, cut to 8 bytes, of the label's length
// in two bytes, the label, and data. It tells a forged or mistyped token from ours
// without a lookup. It does not allocate while label and data stay below 250
// bytes. Compare tags with subtle.ConstantTimeCompare. A label is a constant of
// ours of at most 65535 bytes.
func Tag(key *Key, label string, data []byte) [8]byte {
	// By hand, since hmac.New allocates five times: inner pad, then outer pad, of
	// one 64-byte block each, the 32-byte key filled up with zeros.
	var stack [sha256.BlockSize + 2 + 254]byte
	msg := stack[:sha256.BlockSize]
	pad(msg, key, 0x36)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(label)))
	msg = append(append(msg, label...), data...)
	inner := sha256.Sum256(msg)

	var last [sha256.BlockSize + sha256.Size]byte
	pad(last[:sha256.BlockSize], key, 0x5c)
	copy(last[sha256.BlockSize:], inner[:])
	outer := sha256.Sum256(last[:])
	return [8]byte(outer[:8])
}

func pad(block []byte, key *Key, with byte) {
	for i := range block {
		block[i] = with
	}
	for i, b := range key {
		block[i] ^= b
	}
}
