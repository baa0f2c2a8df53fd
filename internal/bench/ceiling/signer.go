package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const algorithms = "ES256 (hedged, as Go does it), ES256-deterministic (RFC 6979), EdDSA or RS256"

// signer appends the signature of a message to dst, in the form that a JWS has it.
type signer struct {
	alg    string
	public crypto.PublicKey
	sign   func(dst, message []byte) ([]byte, error)
}

func newSigner(alg string) (signer, error) {
	switch alg {
	case "ES256", "ES256-deterministic":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return signer{}, err
		}
		var random io.Reader // nil: deterministic
		if alg == "ES256" {
			random = rand.Reader
		}
		return signer{"ES256", &key.PublicKey, func(dst, message []byte) ([]byte, error) { return signP256(dst, message, key, random) }}, nil
	case "EdDSA":
		public, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return signer{}, err
		}
		return signer{alg, public, func(dst, message []byte) ([]byte, error) { return append(dst, ed25519.Sign(key, message)...), nil }}, nil
	case "RS256":
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return signer{}, err
		}
		return signer{alg, &key.PublicKey, func(dst, message []byte) ([]byte, error) {
			digest := sha256.Sum256(message)
			sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
			return append(dst, sig...), err
		}}, nil
	}
	return signer{}, fmt.Errorf("-alg %q is not known; use %s", alg, algorithms)
}

// signP256 writes r and s, of 32 bytes each (RFC 7518 §3.4), in place of DER.
func signP256(dst, message []byte, key *ecdsa.PrivateKey, random io.Reader) ([]byte, error) {
	digest := sha256.Sum256(message)
	der, err := key.Sign(random, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var pair, r, s cryptobyte.String
	in := cryptobyte.String(der)
	if !in.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1(&r, asn1.INTEGER) || !pair.ReadASN1(&s, asn1.INTEGER) {
		return nil, fmt.Errorf("the signature is not DER")
	}
	var raw [64]byte
	for i, part := range []cryptobyte.String{r, s} {
		for len(part) > 32 {
			part = part[1:] // the zero before a set highest bit
		}
		copy(raw[32*(i+1)-len(part):], part)
	}
	return append(dst, raw[:]...), nil
}

// minter writes access tokens (RFC 9068) by hand.
type minter struct {
	signer signer
	header string // encoded, with the dot behind it
	number atomic.Uint64
}

func newMinter(s signer) *minter {
	return &minter{signer: s, header: base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"`+s.alg+`","typ":"at+jwt","kid":"ceiling"}`)) + "."}
}

// work holds the buffers of one request.
type work struct{ payload, token, sig, body []byte }

// mint leaves the token in w.token.
func (m *minter) mint(w *work, client []byte, now time.Time) error {
	p := append(w.payload[:0], `{"iss":"https://ceiling.example","sub":"`...)
	p = append(append(p, client...), `","client_id":"`...)
	p = append(append(p, client...), `","aud":"https://ceiling.example/api","scope":"read write","iat":`...)
	p = strconv.AppendInt(p, now.Unix(), 10)
	p = append(p, `,"exp":`...)
	p = strconv.AppendInt(p, now.Unix()+3600, 10)
	p = append(p, `,"jti":"n1-0123456789abcdef-`...)
	p = strconv.AppendUint(p, m.number.Add(1), 16)
	w.payload = append(p, `"}`...)
	w.token = append(w.token[:0], m.header...)
	w.token = base64.RawURLEncoding.AppendEncode(w.token, w.payload)
	var err error
	if w.sig, err = m.signer.sign(w.sig[:0], w.token); err != nil {
		return err
	}
	w.token = append(w.token, '.')
	w.token = base64.RawURLEncoding.AppendEncode(w.token, w.sig)
	return nil
}
