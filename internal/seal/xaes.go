package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// nonceSize is that of XAES-256-GCM: 192 random bits never meet a second time.
const nonceSize = 24

// xaes is XAES-256-GCM (C2SP): each nonce's first half derives a fresh AES-256
// key by CMAC (NIST SP 800-108r1), its second half is the nonce under that key.
// Plain AES-GCM with random nonces would be safe for 2^32 values a key only.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte
}

func newXAES(k *Key) (*xaes, error) {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	var carry byte
	for i := len(x.k1) - 1; i >= 0; i-- {
		carry, x.k1[i] = x.k1[i]>>7, x.k1[i]<<1|carry
	}
	x.k1[len(x.k1)-1] ^= carry * 0b10000111
	return x, nil
}

// gcm returns the AEAD that the first half of a nonce selects.
func (x *xaes) gcm(half []byte) (cipher.AEAD, error) {
	k := make([]byte, 0, 2*aes.BlockSize)
	k = append(append(k, 0, 1, 'X', 0), half...)
	k = append(append(k, 0, 2, 'X', 0), half...)
	for _, b := range [][]byte{k[:aes.BlockSize], k[aes.BlockSize:]} {
		subtle.XORBytes(b, b, x.k1[:])
		x.block.Encrypt(b, b)
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (x *xaes) seal(dst, nonce, plain, associated []byte) ([]byte, error) {
	a, err := x.gcm(nonce[:12])
	if err != nil {
		return nil, err
	}
	return a.Seal(dst, nonce[12:], plain, associated), nil
}

func (x *xaes) open(nonce, sealed, associated []byte) ([]byte, error) {
	a, err := x.gcm(nonce[:12])
	if err != nil {
		return nil, err
	}
	return a.Open(nil, nonce[12:], sealed, associated)
}
