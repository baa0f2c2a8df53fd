package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const tokenAnswer = `{"access_token":"t0k3n","token_type":"Bearer","expires_in":3600,"scope":"read"}`

func TestTokenIssue(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("p:ss w/rd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("or+ders:p%3Ass+w%2Frd"))
	for _, tt := range []struct {
		name          string
		args          []string
		env           map[string]string
		authorization string
		form          url.Values
	}{
		{name: "basic, both parts form-encoded", args: []string{"--client-id", "or ders", "--client-secret-file", file, "--scope", "read", "--resource", "https://a", "--resource", "https://b", "--audience", "api"},
			authorization: basic, form: url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}, "resource": {"https://a", "https://b"}, "audience": {"api"}}},
		{name: "from variables", env: map[string]string{"KEYRAFT_CLIENT_ID": "or ders", "KEYRAFT_CLIENT_SECRET": "p:ss w/rd"},
			authorization: basic, form: url.Values{"grant_type": {"client_credentials"}}},
		{name: "post", args: []string{"--client-id", "orders", "--client-secret", "x", "--auth-method", "post"},
			form: url.Values{"grant_type": {"client_credentials"}, "client_id": {"orders"}, "client_secret": {"x"}}},
		{name: "a public client", args: []string{"--client-id", "orders"}, form: url.Values{"grant_type": {"client_credentials"}, "client_id": {"orders"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, map[string][]answer{"POST /oauth2/token": {{200, tokenAnswer, nil}}})
			got := n.at(t, call{args: append([]string{"token", "issue"}, tt.args...), env: tt.env})
			if got.code != 0 || got.out != "t0k3n\n" || got.err != "Bearer, expires in 1h0m0s, scope read\n" {
				t.Fatalf("exit code %d: %q %q", got.code, got.out, got.err)
			}
			r := n.requests()[0]
			// The admin token must not go along: the client asks, not we.
			if r.Header.Get("Authorization") != tt.authorization || r.Body != tt.form.Encode() {
				t.Errorf("sent %q %q, want %q %q", r.Header.Get("Authorization"), r.Body, tt.authorization, tt.form.Encode())
			}
		})
	}
	n := newNode(t, map[string][]answer{"POST /oauth2/token": {{401, `{"error":"invalid_client","error_description":"unknown client or secret"}`, nil}}})
	got := n.at(t, call{args: []string{"token", "issue", "--client-id", "a", "--client-secret", "hunter2"}})
	if got.code != 1 || got.err != "keyraft: unknown client or secret (invalid_client); check --client-id and --client-secret\n" {
		t.Errorf("exit code %d: %q", got.code, got.err)
	}
	if got := n.at(t, call{args: []string{"token", "issue", "--client-id", "a", "--client-secret", "b", "--auth-method", "digest"}}); got.code != 2 {
		t.Errorf("an unknown method: exit code %d: %q", got.code, got.err)
	}
}

// TestPrivateKeyJWT: the assertion is signed by the client's key, for the issuer,
// once.
func TestPrivateKeyJWT(t *testing.T) {
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, tt := range []struct {
		kind   string
		der    []byte
		public any
		alg    jose.SignatureAlgorithm
	}{
		{"PRIVATE KEY", pkcs8(ec), &ec.PublicKey, jose.ES256},
		{"EC PRIVATE KEY", sec1, &ec.PublicKey, jose.ES256},
		{"PRIVATE KEY", pkcs8(ed), ed.Public(), jose.EdDSA},
		{"RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rs), &rs.PublicKey, jose.PS256},
	} {
		t.Run(tt.kind+" "+string(tt.alg), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: tt.kind, Bytes: tt.der}), 0o600); err != nil {
				t.Fatal(err)
			}
			n := newNode(t, map[string][]answer{
				"GET /.well-known/oauth-authorization-server": {{200, `{"issuer":"https://login.example.com"}`, nil}},
				"POST /oauth2/token":                          {{200, tokenAnswer, nil}},
			})
			got := n.at(t, call{args: []string{"token", "issue", "--client-id", "orders", "--private-key", file, "--key-id", "k1"}})
			if got.code != 0 {
				t.Fatalf("exit code %d: %s", got.code, got.err)
			}
			form, err := url.ParseQuery(n.requests()[1].Body)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := jose.ParseSigned(form.Get("client_assertion"), []jose.SignatureAlgorithm{tt.alg})
			if err != nil {
				t.Fatal(err)
			}
			payload, err := signed.Verify(tt.public)
			if err != nil {
				t.Fatal(err)
			}
			var claims struct {
				Iss, Sub, Aud, JTI string
				Exp                int64
			}
			if err := json.Unmarshal(payload, &claims); err != nil {
				t.Fatal(err)
			}
			if claims.Iss != "orders" || claims.Sub != "orders" || claims.Aud != "https://login.example.com" || len(claims.JTI) < 16 ||
				claims.Exp <= time.Now().Unix() || signed.Signatures[0].Header.KeyID != "k1" || form.Get("client_id") != "orders" {
				t.Errorf("claims %+v, form %v", claims, form)
			}
		})
	}
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := (call{args: []string{"token", "issue", "--client-id", "a", "--private-key", bad}}).run(t); got.code != 2 || !strings.Contains(got.err, "openssl genpkey") {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
}

// jwt signs claims with a new key and returns the token and the JWKS.
func jwt(t *testing.T, claims map[string]any) (token, jwks string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", "k1"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	if token, err = signed.CompactSerialize(); err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	return token, string(set)
}

// TestTokenInspect: decoded without a node, and never called verified unless it is.
func TestTokenInspect(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	token, jwks := jwt(t, map[string]any{"iss": "https://a", "sub": "orders", "aud": "api", "jti": "j1", "iat": now, "exp": now + 3599})
	old, oldKeys := jwt(t, map[string]any{"iss": "https://a", "sub": "orders", "iat": now - 7200, "exp": now - 3600})
	_, otherKeys := jwt(t, map[string]any{})
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keys, otherFile, oldFile := write("jwks.json", jwks), write("other.json", otherKeys), write("old.json", oldKeys)
	n := newNode(t, map[string][]answer{"GET /oauth2/jwks": {{200, jwks, nil}}, "GET /keys?x=1": {{200, jwks, nil}}})
	forged := token[:strings.IndexByte(token, '.')+1] + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"\u001b[31mroot","exp":1}`)) + ".AAAA"
	for _, tt := range []struct {
		name  string
		args  []string
		stdin string
		code  int
		shows []string
		asks  bool
	}{
		{name: "alone it is not verified", args: []string{token}, shows: []string{"NOT verified: anybody could have written this", "valid for 59m", "sub  orders", "alg  ES256"}},
		{name: "KEYRAFT_ADDR alone asks nobody", args: []string{"-"}, stdin: token + "\n", shows: []string{"NOT verified"}},
		{name: "with the keys it is", args: []string{token, "--jwks", keys}, shows: []string{"signature verified with key k1"}},
		{name: "with a node too", args: []string{token, "--addr", n.URL}, shows: []string{"signature verified with key k1"}, asks: true},
		{name: "with a URL too", args: []string{token, "--jwks", n.URL + "/keys?x=1"}, shows: []string{"signature verified with key k1"}, asks: true},
		{name: "another's keys", args: []string{token, "--jwks", otherFile}, code: 1, shows: []string{"NOT verified: the token's signature does not verify"}},
		{name: "expired, though signed", args: []string{old, "--jwks", oldFile}, code: 1, shows: []string{"signature verified", "EXPIRED 1h0m"}},
		{name: "expired is shown without keys as well", args: []string{old}, shows: []string{"EXPIRED 1h0m"}},
		{name: "a forged one is shown, harmless", args: []string{forged}, shows: []string{"NOT verified, and Keyraft refuses it", "sub   [31mroot"}},
		{name: "a forged one fails with keys", args: []string{forged, "--jwks", keys}, code: 1, shows: []string{"NOT verified, and Keyraft refuses it"}},
		{name: "an opaque token", args: []string{"kr1_abc"}, code: 1, shows: []string{"an opaque token says nothing by itself, ask a node"}},
		{name: "an encrypted one", args: []string{"a.b.c.d.e"}, code: 1, shows: []string{"this is an encrypted JWT"}},
		{name: "half a token", args: []string{"eyJ.eyJ"}, code: 1, shows: []string{"it has 2 parts between dots"}},
		{name: "no JSON", args: []string{"abc.def.ghi"}, code: 1, shows: []string{"its header is not JSON in base64url"}},
		{name: "keys that are none", args: []string{token, "--jwks", write("bad.json", `{"keys":7}`)}, code: 1, shows: []string{"the keys of "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(n.requests())
			got := n.at(t, call{args: append([]string{"token", "inspect"}, tt.args...), stdin: tt.stdin})
			if got.code != tt.code {
				t.Errorf("exit code %d, want %d", got.code, tt.code)
			}
			for _, text := range tt.shows {
				if !strings.Contains(got.out+got.err, text) {
					t.Errorf("%q is not shown:\n%s%s", text, got.out, got.err)
				}
			}
			if strings.ContainsRune(got.out+got.err, '\x1b') {
				t.Error("an escape sequence of the token reached the terminal")
			}
			asked := n.requests()[before:]
			if (len(asked) > 0) != tt.asks {
				t.Errorf("asked %+v", asked)
			}
			for _, r := range asked {
				if r.Header.Get("Authorization") != "" || strings.Contains(fmt.Sprint(r), token) {
					t.Errorf("a secret went along: %+v", r)
				}
			}
		})
	}
	got := n.at(t, call{args: []string{"token", "inspect", token, "--jwks", keys, "-o", "json"}})
	var shown struct {
		Verified bool
		Payload  struct{ Sub string }
	}
	if err := json.Unmarshal([]byte(got.out), &shown); err != nil || !shown.Verified || shown.Payload.Sub != "orders" {
		t.Errorf("%v: %s", err, got.out)
	}
}

// TestIntrospectAsClient: a client that is named asks in its own name.
func TestIntrospectAsClient(t *testing.T) {
	t.Parallel()
	n := newNode(t, map[string][]answer{"POST /oauth2/introspect": {{200, `{"active":true}`, nil}}})
	got := n.at(t, call{args: []string{"token", "introspect", "tok", "--client-id", "a", "--client-secret", "b"}})
	if got.code != 0 {
		t.Fatalf("exit code %d: %s", got.code, got.err)
	}
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("a:b")); n.requests()[0].Header.Get("Authorization") != want {
		t.Errorf("Authorization %q, want %q", n.requests()[0].Header.Get("Authorization"), want)
	}
}

// FuzzInspect: no text makes the decoder panic, and nothing unsigned is verified.
func FuzzInspect(f *testing.F) {
	for _, seed := range []string{"", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjFlMzA4fQ.AA", "e30.e30.e30", "bnVsbA.W10.x", strings.Repeat(".", 9)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		seen, _, err := decodeToken(token, time.Unix(1700000000, 0))
		if err == nil && (seen.Verified || !strings.HasPrefix(seen.Verdict, "NOT verified")) {
			t.Errorf("%q counts as verified", token)
		}
	})
}
