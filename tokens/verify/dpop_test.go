package verify_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/tokens/verify"
)

const tokenURL = "https://as.example/oauth2/token"

// proofOf signs a proof of alg's key with changes to a good one's header and payload: an
// empty value takes a member away.
func proofOf(t testing.TB, alg string, header, payload map[string]any) string {
	t.Helper()
	h := map[string]any{"typ": "dpop+jwt", "alg": alg, "jwk": json.RawMessage(jwkOf(t, alg, map[string]any{"alg": "", "use": "", "kid": ""}))}
	p := map[string]any{"jti": "j1", "htm": "POST", "htu": tokenURL, "iat": testNow}
	for _, both := range [...][2]map[string]any{{h, header}, {p, payload}} {
		for name, value := range both[1] {
			if value == "" {
				delete(both[0], name)
			} else {
				both[0][name] = value
			}
		}
	}
	headerText, err1 := json.Marshal(h)
	payloadText, err2 := json.Marshal(p)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return mint(t, alg, string(headerText), string(payloadText))
}

func atToken() verify.ProofExpect {
	return verify.ProofExpect{Method: "POST", URL: tokenURL, Now: testNow}
}

func checkProof(text string, e verify.ProofExpect) error {
	p, err := verify.ParseProof(text)
	if err != nil {
		return err
	}
	return p.Check(e)
}

func TestProofOfEachAlgorithm(t *testing.T) {
	t.Parallel()
	for _, alg := range verify.ProofAlgs() {
		p, err := verify.ParseProof(proofOf(t, alg, nil, map[string]any{"nonce": "n1"}))
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if err := p.Check(atToken()); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		other := jose.JSONWebKey{Key: signers()[alg].Public()}
		want, err := other.Thumbprint(5) // crypto.SHA256
		if err != nil {
			t.Fatal(err)
		}
		if p.Thumbprint != b64.EncodeToString(want) {
			t.Errorf("%s: thumbprint %s, another library says %s", alg, p.Thumbprint, b64.EncodeToString(want))
		}
		if p.Nonce != "n1" || p.JTI != "j1" {
			t.Errorf("%s: read %+v", alg, p)
		}
	}
}

func TestProofIsRefused(t *testing.T) {
	t.Parallel()
	with := func(name string, value any) map[string]any { return map[string]any{name: value} }
	jwk := func(alg string, change map[string]any) map[string]any {
		return with("jwk", json.RawMessage(jwkOf(t, alg, change)))
	}
	es := verify.ES256
	good := proofOf(t, es, nil, nil)
	parts := strings.Split(good, ".")
	hs, none := b64.EncodeToString([]byte(`{"typ":"dpop+jwt","alg":"HS256"}`)), b64.EncodeToString([]byte(`{"typ":"dpop+jwt","alg":"none"}`))
	tests := []struct{ name, proof string }{
		{"POP-01 without typ", proofOf(t, es, with("typ", ""), nil)},
		{"POP-01 with the typ of an access token", proofOf(t, es, with("typ", "at+jwt"), nil)},
		{"POP-01 alg none", none + "." + parts[1] + "." + parts[2]},
		{"POP-01 alg HS256", hs + "." + parts[1] + "." + parts[2]},
		{"POP-01 no jwk", proofOf(t, es, with("jwk", ""), nil)},
		{"POP-01 jwk with private d", proofOf(t, es, jwk(es, with("d", "AAAA")), nil)},
		{"POP-01 symmetric jwk", proofOf(t, es, with("jwk", map[string]any{"kty": "oct", "k": "AAAA"}), nil)},
		{"POP-01 jwk of another key", proofOf(t, es, jwk(verify.ES384, with("alg", "")), nil)},
		{"POP-01 jwk that is for encryption", proofOf(t, es, jwk(es, with("use", "enc")), nil)},
		{"POP-01 jwk whose alg is another", proofOf(t, verify.PS256, jwk(verify.RS256, nil), nil)},
		{"POP-01 bad signature", parts[0] + "." + parts[1] + "." + b64.EncodeToString(make([]byte, 64))},
		{"POP-01 payload of another proof", parts[0] + "." + strings.Split(proofOf(t, es, nil, with("jti", "j2")), ".")[1] + "." + parts[2]},
		{"POP-01 no jti", proofOf(t, es, nil, with("jti", ""))},
		{"POP-01 no htm", proofOf(t, es, nil, with("htm", ""))},
		{"POP-01 no htu", proofOf(t, es, nil, with("htu", ""))},
		{"POP-01 no iat", proofOf(t, es, nil, with("iat", ""))},
		{"POP-01 iat that is text", proofOf(t, es, nil, with("iat", "1700000000"))},
		{"POP-01 jti twice", mint(t, es, headerOf(t, good), `{"jti":"a","jti":"b","htm":"POST","htu":"`+tokenURL+`","iat":1700000000}`)},
		{"POP-01 Htu in another case", proofOf(t, es, nil, with("HTU", tokenURL))},
		{"POP-01 crit", proofOf(t, es, with("crit", []string{"x"}), nil)},
		{"POP-02 two in one header", good + ", " + good},
		{"POP-05 jti of 129 bytes", proofOf(t, es, nil, with("jti", strings.Repeat("j", 129)))},
		{"POP-05 longer than 8 KiB", proofOf(t, es, nil, with("x", strings.Repeat("x", 8<<10)))},
		{"JWT-13 point that is not on the curve", proofOf(t, es, jwk(es, map[string]any{"alg": "", "x": b64.EncodeToString(make([]byte, 32)), "y": b64.EncodeToString(make([]byte, 32))}), nil)},
		{"JWT-13 RSA exponent 1", proofOf(t, verify.RS256, jwk(verify.RS256, with("e", "AQ")), nil)},
		{"JWT-13 RSA of 512 bits", proofOf(t, verify.RS256, jwk(verify.RS256, with("n", b64.EncodeToString([]byte(strings.Repeat("\xff", 64))))), nil)},
		{"POP-03 another host", proofOf(t, es, nil, with("htu", "https://rs.example/oauth2/token"))},
		{"POP-03 another tenant", proofOf(t, es, nil, with("htu", "https://as.example/t/acme/oauth2/token"))},
		{"POP-03 another port", proofOf(t, es, nil, with("htu", "https://as.example:8443/oauth2/token"))},
		{"POP-03 http", proofOf(t, es, nil, with("htu", "http://as.example/oauth2/token"))},
		{"POP-03 http with the port of https", proofOf(t, es, nil, with("htu", "http://as.example:443/oauth2/token"))},
		{"POP-03 a letter percent-encoded", proofOf(t, es, nil, with("htu", "https://as.example/oauth2/%74oken"))},
		{"POP-03 trailing slash", proofOf(t, es, nil, with("htu", tokenURL+"/"))},
		{"POP-03 path in another case", proofOf(t, es, nil, with("htu", "https://as.example/OAuth2/token"))},
		{"POP-03 a user before the host", proofOf(t, es, nil, with("htu", "https://a@as.example/oauth2/token"))},
		{"POP-03 a path alone", proofOf(t, es, nil, with("htu", "/oauth2/token"))},
		{"POP-03 htm in another case", proofOf(t, es, nil, with("htm", "post"))},
		{"POP-03 htm of another method", proofOf(t, es, nil, with("htm", "GET"))},
		{"POP-06 iat 61 seconds ago", proofOf(t, es, nil, with("iat", testNow-61))},
		{"POP-06 iat 61 seconds ahead", proofOf(t, es, nil, with("iat", testNow+61))},
		{"POP-06 exp has passed", proofOf(t, es, nil, with("exp", testNow-60))},
		{"POP-06 nbf lies ahead", proofOf(t, es, nil, with("nbf", testNow+61))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := checkProof(tt.proof, atToken())
			if !errors.Is(err, verify.ErrProof) {
				t.Fatalf("error %v, want ErrProof", err)
			}
			if strings.Contains(err.Error(), parts[2]) {
				t.Error("the error tells the proof")
			}
		})
	}
}

func headerOf(t testing.TB, proof string) string {
	t.Helper()
	text, err := b64.DecodeString(strings.Split(proof, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestProofIsTakenInEachSpelling(t *testing.T) {
	t.Parallel()
	for _, htu := range []string{
		tokenURL, "HTTPS://AS.Example/oauth2/token", "https://as.example:443/oauth2/token",
		tokenURL + "?a=b", tokenURL + "#f", tokenURL + "?a#b?c",
	} {
		if err := checkProof(proofOf(t, verify.ES256, nil, map[string]any{"htu": htu}), atToken()); err != nil {
			t.Errorf("POP-03: htu %q: %v", htu, err)
		}
	}
	for _, iat := range []int{testNow - 60, testNow + 60} {
		if err := checkProof(proofOf(t, verify.ES256, nil, map[string]any{"iat": iat}), atToken()); err != nil {
			t.Errorf("POP-06: iat %d: %v", iat, err)
		}
	}
	root := verify.ProofExpect{Method: "GET", URL: "http://rs.example/", Now: testNow}
	if err := checkProof(proofOf(t, verify.ES256, map[string]any{"typ": "application/DPoP+JWT"}, map[string]any{"htm": "GET", "htu": "http://rs.example:80"}), root); err != nil {
		t.Errorf("an empty path is the root: %v", err)
	}
}

func TestProofOfAnAccessToken(t *testing.T) {
	t.Parallel()
	const token = "kr1_token"
	ath := func(s string) string { sum := sha256.Sum256([]byte(s)); return b64.EncodeToString(sum[:]) }
	e := atToken()
	e.Token = token
	for name, value := range map[string]string{
		"POP-08 no ath": "", "POP-08 ath of another token": ath("other"), "POP-08 ath of a prefix": ath(token[:5]),
		"POP-08 a prefix of ath": ath(token)[:20], "POP-08 the token itself": token,
	} {
		if err := checkProof(proofOf(t, verify.ES256, nil, map[string]any{"ath": value}), e); !errors.Is(err, verify.ErrProof) {
			t.Errorf("%s: error %v, want ErrProof", name, err)
		}
	}
	if err := checkProof(proofOf(t, verify.ES256, nil, map[string]any{"ath": ath(token)}), e); err != nil {
		t.Errorf("the right ath: %v", err)
	}
}

func TestProofIDIsOfKeyJTIAndURL(t *testing.T) {
	t.Parallel()
	id := func(alg string, payload map[string]any) verify.ProofID {
		p, err := verify.ParseProof(proofOf(t, alg, nil, payload))
		if err != nil {
			t.Fatal(err)
		}
		return p.ID()
	}
	first := id(verify.ES256, nil)
	if again := id(verify.ES256, map[string]any{"nonce": "n"}); again != first { // also another signature
		t.Error("POP-04: the same jti, key and htu gave another id")
	}
	for name, other := range map[string]verify.ProofID{
		"key": id(verify.ES384, nil), "jti": id(verify.ES256, map[string]any{"jti": "j2"}), "htu": id(verify.ES256, map[string]any{"htu": tokenURL + "2"}),
	} {
		if other == first {
			t.Errorf("another %s gave the same id", name)
		}
	}
}

func TestReplays(t *testing.T) {
	t.Parallel()
	id := func(n int) verify.ProofID { return verify.ProofID{byte(n), byte(n >> 8), byte(n >> 16)} }
	t.Run("POP-04 a second use is refused until its time is over", func(t *testing.T) {
		r := verify.NewReplays(8)
		if err := r.Use(id(1), 120, 0); err != nil {
			t.Fatal(err)
		}
		for _, now := range []int64{0, 60, 120} {
			if err := r.Use(id(1), 120, now); !errors.Is(err, verify.ErrReplayed) {
				t.Errorf("at %d: %v, want ErrReplayed", now, err)
			}
		}
	})
	t.Run("POP-05 a full memory refuses new ones and forgets no old one", func(t *testing.T) {
		r := verify.NewReplays(100)
		for n := range 100 {
			if err := r.Use(id(n), 100+int64(n%7), 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Use(id(100), 100, 0); !errors.Is(err, verify.ErrFull) || errors.Is(err, verify.ErrProof) {
			t.Errorf("error %v, want ErrFull", err)
		}
		for n := range 100 {
			if err := r.Use(id(n), 100+int64(n%7), 99); !errors.Is(err, verify.ErrReplayed) {
				t.Fatalf("proof %d was forgotten: %v", n, err)
			}
		}
		if r.Len() != 100 {
			t.Errorf("%d are remembered", r.Len())
		}
	})
	t.Run("POP-05 what has ended makes room", func(t *testing.T) {
		r := verify.NewReplays(100)
		for n := range 1000 {
			if err := r.Use(id(n), int64(n)+60, int64(n)); err != nil {
				t.Fatal(err)
			}
		}
		if r.Len() > 61 {
			t.Errorf("%d are remembered", r.Len())
		}
	})
	t.Run("POP-04 a clock that goes back brings no proof back", func(t *testing.T) {
		r := verify.NewReplays(100)
		if err := errors.Join(r.Use(id(1), 120, 0), r.Use(id(2), 5000, 4900)); err != nil {
			t.Fatal(err)
		}
		if err := r.Use(id(1), 120, 0); !errors.Is(err, verify.ErrReplayed) {
			t.Errorf("error %v, want ErrReplayed", err)
		}
	})
	t.Run("an end that is earlier than others is swept too", func(t *testing.T) {
		r := verify.NewReplays(2)
		if err := errors.Join(r.Use(id(1), 200, 0), r.Use(id(2), 100, 0), r.Use(id(3), 300, 150)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestReplaysTakeOneOfMany: of many uses of one proof at once, one is taken.
func TestReplaysTakeOneOfMany(t *testing.T) {
	t.Parallel()
	r := verify.NewReplays(0)
	taken := make(chan error, 64)
	for range cap(taken) {
		go func() { taken <- r.Use(verify.ProofID{1}, 120, 0) }()
	}
	good := 0
	for range cap(taken) {
		if err := <-taken; err == nil {
			good++
		} else if !errors.Is(err, verify.ErrReplayed) {
			t.Error(err)
		}
	}
	if good != 1 {
		t.Errorf("POP-04: %d uses of one proof were taken", good)
	}
}

func FuzzParseProof(f *testing.F) {
	for _, alg := range verify.ProofAlgs() {
		f.Add(proofOf(f, alg, nil, nil))
	}
	for _, htu := range []string{"https://a:443", "http://[::1]:80/x?y#z", "://", "https:///p"} {
		f.Add(proofOf(f, verify.ES256, nil, map[string]any{"htu": htu, "ath": "a", "nonce": "n", "exp": testNow}))
	}
	f.Add("e30.e30.AA")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := verify.ParseProof(text)
		if err != nil {
			if !errors.Is(err, verify.ErrProof) {
				t.Fatalf("error %v does not wrap ErrProof", err)
			}
			return
		}
		if len(p.Thumbprint) != 43 || p.JTI == "" || len(p.JTI) > 128 || p.Method == "" || p.URL == "" {
			t.Fatalf("took %+v", p)
		}
		if err := p.Check(verify.ProofExpect{Method: p.Method, URL: p.URL, Now: p.IssuedAt}); err != nil && !errors.Is(err, verify.ErrProof) {
			t.Fatal(err)
		}
	})
}

func BenchmarkProof(b *testing.B) {
	text := proofOf(b, verify.ES256, nil, map[string]any{"nonce": strings.Repeat("n", 120)})
	r := verify.NewReplays(0)
	b.ReportAllocs()
	for b.Loop() {
		p, err := verify.ParseProof(text)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Check(atToken()); err != nil {
			b.Fatal(err)
		}
		if err := r.Use(p.ID(), p.KeepUntil(), testNow); err != nil && !errors.Is(err, verify.ErrReplayed) {
			b.Fatal(err)
		}
	}
}

func ExampleParseProof() {
	_, err := verify.ParseProof("not a proof")
	fmt.Println(errors.Is(err, verify.ErrProof))
	// Output: true
}

// FuzzProofMembers: of what a key signs, a proof is made only where encoding/json finds
// what RFC 9449 §4.2 asks for, and it is good for the method, the address and the minute
// that it names, and for no other.
func FuzzProofMembers(f *testing.F) {
	jwk := jwkOf(f, verify.ES256, map[string]any{"alg": "", "use": "", "kid": ""})
	header := `{"typ":"dpop+jwt","alg":"ES256","jwk":` + jwk + `}`
	payload := fmt.Sprintf(`{"jti":"j1","htm":"POST","htu":"%s","iat":%d}`, tokenURL, testNow)
	f.Add(header, payload)
	for _, change := range [][2]string{
		{`"POST"`, `"post"`}, {`"POST"`, `null`}, {tokenURL, tokenURL + "?x=1#y"}, {tokenURL, strings.ToUpper(tokenURL)}, {tokenURL, "https://other.example/oauth2/token"},
		{`"j1"`, `""`}, {`"j1"`, `"` + strings.Repeat("j", 200) + `"`}, {fmt.Sprint(testNow), fmt.Sprint(testNow + 4000)}, {fmt.Sprint(testNow), `"1"`}, {`{`, `{"htm":"GET",`}, {`{`, `{"ath":"x","nonce":"n",`},
	} {
		f.Add(header, strings.Replace(payload, change[0], change[1], 1))
	}
	for _, change := range [][2]string{{`"dpop+jwt"`, `"JWT"`}, {`"ES256"`, `"none"`}, {`"kty"`, `"d":"AA","kty"`}, {`"typ"`, `"crit":["b64"],"typ"`}, {`"typ"`, `"kid":"k","typ"`}} {
		f.Add(strings.Replace(header, change[0], change[1], 1), payload)
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		text := mint(t, verify.ES256, header, payload)
		p, err := verify.ParseProof(text)
		if err != nil {
			return
		}
		var head struct {
			Typ, Alg string
			JWK      map[string]any
		}
		var said struct {
			JTI string
			HTM string
			HTU string
			IAT int64
		}
		if json.Unmarshal([]byte(header), &head) != nil || json.Unmarshal([]byte(payload), &said) != nil {
			t.Fatalf("%s %s is taken", header, payload)
		}
		if !strings.EqualFold(strings.TrimPrefix(strings.ToLower(head.Typ), "application/"), "dpop+jwt") || head.Alg != "ES256" || head.JWK["d"] != nil ||
			said.JTI != p.JTI || p.JTI == "" || said.HTM != p.Method || p.Method == "" || said.IAT != p.IssuedAt {
			t.Errorf("%s %s is taken as %+v", header, payload, p)
		}
		if p.Check(verify.ProofExpect{Method: "POST", URL: tokenURL, Now: testNow}) == nil &&
			(said.HTM != "POST" || said.IAT < testNow-120 || said.IAT > testNow+120 || !strings.EqualFold(said.HTU[:min(len(said.HTU), 8)], tokenURL[:8])) {
			t.Errorf("%s is good for POST %s", payload, tokenURL)
		}
		for _, e := range []verify.ProofExpect{
			{Method: "POST", URL: tokenURL + "/x", Now: p.IssuedAt}, {Method: "GET", URL: tokenURL, Now: p.IssuedAt}, {Method: "POST", URL: tokenURL, Now: testNow, Token: "t"},
		} {
			if said.HTM == "POST" && said.HTU == tokenURL && p.Check(e) == nil && !strings.Contains(payload, `ath`) {
				t.Errorf("%s is good for %+v", payload, e)
			}
		}
	})
}
