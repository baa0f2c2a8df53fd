package tokens

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math/big"
	"testing"
	"unicode/utf8"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

func benchSigner(t testing.TB) *signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSigner(&state.SigningKey{Id: "wJmvNFzVhWJkGGNnV6gcd3o2p3wYwPjNnUvzvVgGJqs", Alg: "ES256"}, private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func unsigned(t testing.TB) func() {
	t.Helper()
	m, err := NewMinter(NewSigningKeys(nil), "n1")
	if err != nil {
		t.Fatal(err)
	}
	c := &Claims{Tenant: "default", Subject: "orders", ClientID: "orders", Scope: "read write", Audience: []string{"https://api.example"}, IssuedAt: 1_790_000_000, Expires: 1_790_003_600}
	v, key, buf := new(state.View), benchSigner(t), make([]byte, 0, 1024)
	return func() { buf = m.appendUnsigned(buf[:0], "https://sts.example", v, key, c) }
}

// TestMintAllocatesNothingBesideTheSignature is F3's half that a test can hold.
func TestMintAllocatesNothingBesideTheSignature(t *testing.T) {
	if n := testing.AllocsPerRun(1000, unsigned(t)); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMintWithoutSignature(b *testing.B) {
	run := unsigned(b)
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}

func BenchmarkSignatureAlone(b *testing.B) {
	s := benchSigner(b)
	digest := sha256.Sum256([]byte("x"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ecdsa.SignASN1(rand.Reader, s.ec, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSignatureServed is the signature that an ES256 token gets: deterministic.
func BenchmarkSignatureServed(b *testing.B) {
	s := benchSigner(b)
	digest := sha256.Sum256([]byte("x"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.ec.Sign(nil, digest[:], crypto.SHA256); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRawECDSA compares the fixed-width form with big numbers, short parts included.
func TestRawECDSA(t *testing.T) {
	t.Parallel()
	der := func(r, s []byte) []byte {
		out := []byte{0x30, 0}
		for _, n := range [][]byte{r, s} {
			b := new(big.Int).SetBytes(n).Bytes()
			if b[0] >= 0x80 {
				b = append([]byte{0}, b...)
			}
			out = append(append(out, 2, byte(len(b))), b...)
		}
		out[1] = byte(len(out) - 2)
		return out
	}
	long := make([]byte, 32)
	long[0], long[31] = 0xff, 7
	for _, tt := range []struct{ r, s []byte }{{long, long}, {[]byte{1}, long}, {long, []byte{0x80, 1}}, {[]byte{0x7f}, []byte{0xff}}} {
		var raw [64]byte
		if !rawECDSA(&raw, der(tt.r, tt.s)) {
			t.Fatalf("refused %x %x", tt.r, tt.s)
		}
		if new(big.Int).SetBytes(raw[:32]).Cmp(new(big.Int).SetBytes(tt.r)) != 0 || new(big.Int).SetBytes(raw[32:]).Cmp(new(big.Int).SetBytes(tt.s)) != 0 {
			t.Errorf("got %x for %x %x", raw, tt.r, tt.s)
		}
	}
	good := der(long, long)
	for name, broken := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-1], "longer": append(good[:len(good):len(good)], 0),
		"of another type": append([]byte{0x31}, good[1:]...), "zero": {0x30, 6, 2, 1, 0, 2, 1, 1},
	} {
		var raw [64]byte
		if rawECDSA(&raw, broken) {
			t.Errorf("a signature that is %s was taken", name)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("plain")
	f.Add("q\"b\\n\n\x00\x1f\x7f\xff\xc0\xafé\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		text := appendString(nil, s)
		if !json.Valid(text) || json.Unmarshal(text, &got) != nil {
			t.Fatalf("%q became %s", s, text)
		}
		if utf8.ValidString(s) && got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func FuzzParseOpaque(f *testing.F) {
	f.Add("kr1_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("kr1_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB")
	f.Add("kr1_\n")
	f.Fuzz(func(t *testing.T, s string) {
		raw, ok := parseOpaque(s)
		if !ok {
			return
		}
		if again := string(encodeOpaque(nil, &raw)); again != s {
			t.Errorf("%q and %q are spellings of one token", s, again)
		}
	})
}

func TestTenantOf(t *testing.T) {
	t.Parallel()
	c := &state.Cluster{Issuer: "https://a.example", FormerIssuers: []string{"https://old.example"}}
	for issuer, want := range map[string]string{
		"https://a.example": "default", "https://a.example/t/acme": "acme", "https://old.example": "default", "https://old.example/t/acme": "acme",
		"https://a.example/": "", "https://A.example": "", "https://a.example:443": "", "https://a.example/t/": "", "https://a.example/t/default": "",
		"https://a.exampleevil": "", "": "", "https://b.example": "",
	} {
		got, ok := tenantOf(c, issuer)
		if got != want || ok != (want != "") {
			t.Errorf("issuer %q is of tenant %q, want %q", issuer, got, want)
		}
	}
	if _, ok := tenantOf(&state.Cluster{}, ""); ok {
		t.Error("an empty issuer is of a tenant")
	}
}

func TestRSAWaitIsBounded(t *testing.T) {
	t.Parallel()
	l := lane{slots: make(chan struct{}, 1), line: make(chan struct{}, 2)}
	l.slots <- struct{}{} // a signature is running
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.sign(ctx, &signer{}, [32]byte{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	l.line <- struct{}{}
	l.line <- struct{}{}
	_, err := l.sign(context.Background(), &signer{}, [32]byte{})
	var refusal *oauth.Error
	if !errors.As(err, &refusal) || refusal.Code() != oauth.TemporarilyUnavailable || refusal.RetryAfter() == 0 {
		t.Errorf("error %v, want temporarily_unavailable with Retry-After", err)
	}
}
