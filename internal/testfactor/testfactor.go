// Package testfactor is what users prove themselves with, for tests and by the standard
// library alone: an authenticator app's codes (RFC 6238), and a browser's and an
// authenticator's part of WebAuthn, which makes passkeys (ES256, attestation "none") and
// proofs by them, and forged ones.
package testfactor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"
)

// Authenticator holds the passkeys of one browser. Its counter stands at 0 unless Counts,
// as that of passkeys that are synced between devices does.
type Authenticator struct {
	Origin string // of the page that asks
	Counts bool

	keys []*passkey
}

type passkey struct {
	id      []byte
	private *ecdsa.PrivateKey
	party   string
	handle  []byte
	count   uint32
}

// Answer is what is signed and sent; a test changes it to forge one.
type Answer struct {
	Type, Challenge, Origin string
	CrossOrigin             bool
	Party                   string // whose hash is signed
	Present, Verified       bool
	Count                   uint32
	Handle                  []byte
	ID                      []byte
	BadSignature            bool
	Padding                 int // bytes of CBOR behind the public key
}

// asked are the options of a page, of both ceremonies.
type asked struct {
	Challenge string `json:"challenge"`
	RPID      string `json:"rpId"`
	RP        struct {
		ID string `json:"id"`
	} `json:"rp"`
	User struct {
		ID string `json:"id"`
	} `json:"user"`
	Allow []struct {
		ID string `json:"id"`
	} `json:"allowCredentials"`
	Exclude []struct {
		ID string `json:"id"`
	} `json:"excludeCredentials"`
}

func read(t testing.TB, options string) *asked {
	t.Helper()
	a := &asked{}
	if err := json.Unmarshal([]byte(options), a); err != nil || a.Challenge == "" {
		t.Fatalf("options of a page %.200q: %v", options, err)
	}
	return a
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatalf("base64url %.100q: %v", text, err)
	}
	return b
}

// Create makes a passkey for what a page asks, and the browser's answer as JSON.
func (a *Authenticator) Create(t testing.TB, options string, forge ...func(*Answer)) string {
	t.Helper()
	o := read(t, options)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := &passkey{id: []byte(rand.Text()), private: private, party: o.RP.ID, handle: decode(t, o.User.ID)}
	for _, e := range o.Exclude {
		if slices.ContainsFunc(a.keys, func(k *passkey) bool { return encode(k.id) == e.ID }) {
			t.Fatal("this authenticator has a passkey of the user already")
		}
	}
	w := &Answer{Type: "webauthn.create", Challenge: o.Challenge, Origin: a.Origin, Party: o.RP.ID, Present: true, Verified: true, ID: k.id}
	if a.Counts {
		k.count++
		w.Count = k.count
	}
	for _, f := range forge {
		f(w)
	}
	k.id = w.ID
	a.keys = append(a.keys, k)
	data := w.authData(0x40)
	data = append(data, make([]byte, 16)...)                       // AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(w.ID)))  // attested credential data
	data = append(append(data, w.ID...), coseKey(t, k.private)...) // RFC 9053 §7.1.1
	data = append(data, slices.Repeat([]byte{0x81}, w.Padding)...) // arrays in arrays
	object := append([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59"), 0, 0)
	binary.BigEndian.PutUint16(object[len(object)-2:], uint16(len(data)))
	return w.json(t, map[string]any{
		"clientDataJSON": encode(w.clientData(t)), "attestationObject": encode(append(object, data...)), "transports": []string{"internal"},
	})
}

// Get proves by a passkey what a page asks, as the browser's answer in JSON. The user has
// shown a finger.
func (a *Authenticator) Get(t testing.TB, options string, forge ...func(*Answer)) string {
	t.Helper()
	o := read(t, options)
	at := slices.IndexFunc(a.keys, func(k *passkey) bool {
		if len(o.Allow) == 0 {
			return k.party == o.RPID
		}
		for _, e := range o.Allow {
			if e.ID == encode(k.id) {
				return true
			}
		}
		return false
	})
	if at < 0 {
		t.Fatal("this authenticator has no passkey for the page")
	}
	k := a.keys[at]
	if a.Counts {
		k.count++
	}
	w := &Answer{Type: "webauthn.get", Challenge: o.Challenge, Origin: a.Origin, Party: o.RPID, Present: true, Verified: true, Count: k.count, Handle: k.handle, ID: k.id}
	for _, f := range forge {
		f(w)
	}
	data, client := w.authData(0), w.clientData(t)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(slices.Clone(data), hash[:]...))
	if w.BadSignature {
		digest[0]++
	}
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return w.json(t, map[string]any{
		"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature), "userHandle": encode(w.Handle),
	})
}

// authData is what authenticators sign (WebAuthn L2 §6.1). A passkey may be synced, so
// both backup flags are set.
func (w *Answer) authData(flags byte) []byte {
	flags |= 0x08 | 0x10
	if w.Present {
		flags |= 0x01
	}
	if w.Verified {
		flags |= 0x04
	}
	party := sha256.Sum256([]byte(w.Party))
	return binary.BigEndian.AppendUint32(append(party[:], flags), w.Count)
}

func (w *Answer) clientData(t testing.TB) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{"type": w.Type, "challenge": w.Challenge, "origin": w.Origin, "crossOrigin": w.CrossOrigin})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (w *Answer) json(t testing.TB, response map[string]any) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"id": encode(w.ID), "rawId": encode(w.ID), "type": "public-key", "response": response,
		"clientExtensionResults": map[string]any{}, "authenticatorAttachment": "platform",
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func coseKey(t testing.TB, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	out := append([]byte("\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20"), point[1:33]...)
	return append(append(out, "\x22\x58\x20"...), point[33:]...)
}
