package grants_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/internal/testproof"
)

func vouchedWorld(t testing.TB) *world {
	w := newWorld(t)
	w.client("app", func(*clients.Registration) {})
	return w
}

func (w *world) bears(assertion string, pairs ...string) (*grants.Answer, error) {
	return w.ask("app", jwtBearer, append([]string{"assertion", assertion}, pairs...)...)
}

// TestAssertionOfAUser is RFC 7523 §2.1: the issuer's word for a user of the tenant.
func TestAssertionOfAUser(t *testing.T) {
	t.Parallel()
	w := vouchedWorld(t)
	w.trust(func(i *state.TrustedIssuer) {
		i.Scopes = []string{"read", "openid"}
		i.ClaimMapping = []*state.ClaimMapping{{Remote: "dept", Local: "department"}, {Remote: "absent", Local: "x"}}
	})
	said := w.assertion("dept", map[string]any{"id": 7})
	before := len(w.writes)
	out, err := w.bears(said, "resource", api)
	c := w.good(out, err)
	if c["sub"] != "u1" || c["scope"] != "read" || c["aud"] != api || fmt.Sprint(c["department"]) != "map[id:7]" || c["x"] != nil {
		t.Errorf("the token says %v", c)
	}
	if len(out.Refresh) != 0 {
		t.Error("RFC 7521 §4.1: an assertion gave a refresh token")
	}
	if n := len(w.writes) - before; n != 1 {
		t.Errorf("%d writes for one assertion, want 1", n)
	}
	for _, aud := range []any{testnode.Issuer, testnode.Issuer + "/oauth2/token", []string{"https://other.example", testnode.Issuer}} {
		w.good(w.bears(w.assertion("aud", aud)))
	}
	_, err = w.bears(w.assertion(), "scope", "read write")
	w.refused("more than the issuer may give", nil, err, oauth.InvalidScope)
	w.trust(func(i *state.TrustedIssuer) { i.Audiences = []string{"keyraft"} })
	w.good(w.bears(w.assertion("aud", "keyraft")))
	w.good(w.bears(w.assertion("jti", nil)))
	if out, err := w.bears(w.assertion(), "scope", "openid read"); err != nil || len(out.ID) == 0 {
		t.Errorf("no ID token for the scope openid: %v", err)
	}
}

// TestAssertionOfAnIssuersOwnName: the subject is no user here.
func TestAssertionOfAnIssuersOwnName(t *testing.T) {
	t.Parallel()
	w := vouchedWorld(t)
	w.trust(func(i *state.TrustedIssuer) { i.MapToUser, i.SubjectClaim = false, "workload" })
	c := w.good(w.bears(w.assertion("workload", "repo:acme/web"), "scope", "read"))
	if c["sub"] != "repo:acme/web" {
		t.Errorf("sub is %v", c["sub"])
	}
	_, err := w.bears(w.assertion("workload", "repo:acme/web"), "scope", "openid")
	w.refused("openid for nobody of this tenant", nil, err, oauth.InvalidScope)
	for name, sub := range map[string]any{
		"JWT-22 a user's id": "u1", "JWT-22 a client": "app", "JWT-22 missing": nil, "JWT-22 a number": 7, "JWT-22 empty": "", "JWT-22 a line end": "a\nb", "JWT-22 long": strings.Repeat("x", 256),
	} {
		_, err := w.bears(w.assertion("workload", sub))
		w.refused(name, nil, err, oauth.InvalidGrant)
	}
}

// TestAttacksOnAssertions are JWT-01 to JWT-11, JWT-22 to JWT-27 at the grant: each is
// invalid_grant, and uses nothing up.
func TestAttacksOnAssertions(t *testing.T) {
	t.Parallel()
	w := vouchedWorld(t)
	evil, now := newIDP(t, w.idp.issuer), w.Now().Unix()
	acme := newIDP(t, "https://acme.example")
	w.Must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	w.Must(t, &command.PutTrustedIssuer{Issuer: &state.TrustedIssuer{Tenant: "acme", Issuer: acme.issuer, Kind: "jwt", Jwks: acme.jwks(), MapToUser: true}})
	head := map[string]any{"alg": "ES256", "kid": "k1"}
	with := func(name string, value any) map[string]any {
		h := map[string]any{"alg": "ES256", "kid": "k1"}
		h[name] = value
		return h
	}
	claims := string(must(json.Marshal(w.says()))(t))
	good := w.assertion()
	parts := strings.Split(good, ".")
	mac := hmac.New(sha256.New, w.idp.jwks())
	hs := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"k1"}`)) + "." + parts[1]
	mac.Write([]byte(hs))
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	rows := map[string]string{
		"JWT-01 none":                       none,
		"JWT-01 an empty signature":         parts[0] + "." + parts[1] + ".",
		"JWT-02 the public key as a secret": hs + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
		"JWT-03 another alg":                w.idp.sign(t, map[string]any{"alg": "ES384", "kid": "k1"}, w.says()),
		"JWT-04 a key in the header":        evil.sign(t, with("jwk", json.RawMessage(must(json.Marshal(map[string]string{"kty": "EC"}))(t))), w.says()),
		"JWT-04 a URL in the header":        evil.sign(t, with("jku", "https://evil.example/jwks"), w.says()),
		"JWT-05 another kid":                w.idp.sign(t, with("kid", "../../dev/null"), w.says()),
		"JWT-06 crit":                       w.idp.sign(t, with("crit", []string{"b64"}), w.says()),
		"JWT-07 a member twice":             w.idp.key.SignRaw(t, `{"alg":"ES256","kid":"k1"}`, strings.Replace(claims, `"sub":"alice"`, `"sub":"bob","s\u0075b":"alice"`, 1)),
		"JWT-07 another case":               w.idp.key.SignRaw(t, `{"alg":"ES256","kid":"k1"}`, strings.Replace(claims, `"sub":"alice"`, `"Sub":"alice","sub":"bob"`, 1)),
		"JWT-08 JSON serialisation":         `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"JWT-08 four dots":                  good + "..",
		"JWT-09 padding":                    good + "=",
		"JWT-09 a line end":                 good + "\n",
		"JWT-10 too long":                   w.assertion("x", strings.Repeat("y", 20_000)),
		"JWT-11 no exp":                     w.assertion("exp", nil),
		"JWT-11 exp as text":                w.assertion("exp", "soon"),
		"JWT-11 expired":                    w.assertion("exp", now-61, "iat", now-300),
		"JWT-11 iat ahead":                  w.assertion("iat", now+120),
		"JWT-11 nbf ahead":                  w.assertion("nbf", now+120),
		"JWT-11 a life of a day":            w.assertion("exp", now+86_400),
		"JWT-11 a life of a day, no iat":    w.assertion("exp", now+86_400, "iat", nil),
		"JWT-22 an issuer of nobody's":      evil.sign(t, head, w.says("iss", "https://evil.example")),
		"JWT-22 an issuer of another's":     acme.sign(t, head, w.says("iss", acme.issuer)),
		"JWT-22 another's key":              evil.sign(t, head, w.says()),
		"JWT-22 no subject":                 w.assertion("sub", nil),
		"JWT-22 nobody":                     w.assertion("sub", "mallory"),
		"JWT-22 two of one user":            w.assertion("sub", "Alice"),
		"JWT-22 a user's id":                w.assertion("sub", "u1"),
		"JWT-22 a client":                   w.assertion("sub", "app"),
		"JWT-22 another server's":           w.assertion("aud", "https://other.example"),
		"JWT-22 an ID token for the client": w.assertion("aud", "app"),
		"JWT-22 our issuer and a slash":     w.assertion("aud", testnode.Issuer+"/"),
		"JWT-25 the issuer and a slash":     w.assertion("iss", w.idp.issuer+"/"),
		"JWT-25 the issuer in capitals":     w.assertion("iss", strings.ToUpper(w.idp.issuer)),
		"JWT-26 no audience":                w.assertion("aud", nil),
		"JWT-26 an empty audience":          w.assertion("aud", []string{}),
		"JWT-26 a part of us":               w.assertion("aud", testnode.Issuer[:12]),
		"JWT-26 an audience of null":        w.assertion("aud", []any{nil}),
		"POP-10 bound, without a proof":     w.assertion("cnf", map[string]string{"jkt": "x"}),
		"POP-10 bound in an unknown way":    w.assertion("cnf", map[string]string{"kid": "x"}),
	}
	for _, typ := range []string{"at+jwt", "logout+jwt", "dpop+jwt", "token-introspection+jwt", "oauth-authz-req+jwt", "client-authentication+jwt", "secevent+jwt"} {
		rows["JWT-24 typ "+typ] = w.idp.sign(t, with("typ", typ), w.says())
	}
	writes := len(w.writes)
	for name, text := range rows {
		out, err := w.bears(text)
		w.refused(name, out, err, oauth.InvalidGrant)
		if err != nil && (strings.Contains(err.Error(), parts[2]) || strings.Contains(err.Error(), "alice")) {
			t.Errorf("%s: the error tells what was in it: %v", name, err)
		}
	}
	_, err := w.bears("")
	w.refused("no assertion", nil, err, oauth.InvalidRequest)
	if len(w.writes) != writes {
		t.Errorf("refused assertions cost %d writes", len(w.writes)-writes)
	}
	w.good(w.bears(w.idp.sign(t, with("typ", "application/Authorization-Grant+JWT"), w.says())))
	w.trust(func(i *state.TrustedIssuer) { i.Clients = []string{"other"} })
	_, err = w.bears(w.assertion())
	w.refused("a client for which the issuer is not trusted", nil, err, oauth.InvalidGrant)
}

// TestOurOwnJWTsAreNoAssertions is JWT-24: nor would they be if an administrator trusted
// us by our own name.
func TestOurOwnJWTsAreNoAssertions(t *testing.T) {
	t.Parallel()
	w := vouchedWorld(t)
	login := w.login("app", "openid read", "resource", api)
	for name, text := range map[string]string{"access token": string(login.Token), "ID token": string(login.ID), "refresh token": string(login.Refresh)} {
		_, err := w.bears(text)
		w.refused("JWT-24 our "+name, nil, err, oauth.InvalidGrant)
	}
	err := grants.CheckIssuer(&state.TrustedIssuer{Issuer: testnode.Issuer, Kind: "jwt", Jwks: w.idp.jwks()}, testnode.Issuer, nil)
	if err == nil {
		t.Error("we may be trusted as somebody else")
	}
}

// TestAnAssertionIsGoodOnce is JWT-21 at the grant: once in the cluster, whoever shows
// it at the same time, and whatever its signature looks like.
func TestAnAssertionIsGoodOnce(t *testing.T) {
	t.Parallel()
	w := vouchedWorld(t)
	w.client("other", func(*clients.Registration) {})
	for _, said := range []map[string]any{w.says(), w.says("jti", nil)} {
		head := map[string]any{"alg": "ES256", "kid": "k1"}
		first, second := w.idp.sign(t, head, said), w.idp.sign(t, head, said)
		if first == second {
			t.Fatal("two signatures are one")
		}
		w.good(w.bears(first))
		for _, again := range []string{first, second} {
			_, err := w.bears(again)
			w.refused("JWT-21 a replay", nil, err, oauth.InvalidGrant)
			_, err = w.ask("other", jwtBearer, "assertion", again)
			w.refused("JWT-21 a replay by another client", nil, err, oauth.InvalidGrant)
		}
	}
	said := w.assertion()
	var won atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := w.bears(said); err == nil {
				won.Add(1)
			} else if !errors.Is(err, oauth.InvalidGrant) {
				t.Errorf("a loser is told %v", err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 20 won", won.Load())
	}
	// Its use is remembered as long as it could be shown.
	late := w.assertion("exp", w.Now().Unix()+300)
	w.good(w.bears(late))
	w.Pass(359 * time.Second)
	w.Must(t, &command.Expire{UpTo: w.Now().UnixMilli(), Limit: 1000})
	_, err := w.bears(late)
	w.refused("JWT-21 a replay in the skew", nil, err, oauth.InvalidGrant)
}

// TestABoundAssertionNeedsItsKey is POP-10 for assertions.
func TestABoundAssertionNeedsItsKey(t *testing.T) {
	t.Parallel()
	w := vouchedWorld(t)
	key, other := testproof.New(t), testproof.New(t)
	bound := func() string { return w.assertion("cnf", map[string]string{"jkt": key.Thumbprint}) }
	w.prove(other)
	_, err := w.bears(bound())
	w.refused("another key", nil, err, oauth.InvalidGrant)
	w.prove(key)
	c := w.good(w.bears(bound()))
	if cnf, _ := c["cnf"].(map[string]any); cnf["jkt"] != key.Thumbprint {
		t.Errorf("the token is bound to %v", c["cnf"])
	}
}

// TestKeysOfAnIssuerAtAURL is JWT-05 and JWT-27: fetched once in a cool-down, replaced
// and not merged, and trusted for a bounded time when they can't be had again.
func TestKeysOfAnIssuerAtAURL(t *testing.T) {
	t.Parallel()
	w := vouchedWorld(t)
	const at = "https://idp.example/jwks"
	w.trust(func(i *state.TrustedIssuer) { i.Jwks, i.JwksUri = nil, at })
	var fetches atomic.Int64
	var down atomic.Bool
	var set atomic.Pointer[[]byte]
	serve := func(jwks []byte) { set.Store(&jwks) }
	serve(w.idp.jwks())
	w.fetched = func(url string) ([]byte, error) {
		fetches.Add(1)
		if url != at || down.Load() {
			return nil, errors.New("unreachable")
		}
		return *set.Load(), nil
	}
	var all sync.WaitGroup
	for range 10 {
		text := w.assertion()
		all.Go(func() {
			if _, err := w.bears(text); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	want := func(n int64) {
		t.Helper()
		if fetches.Load() != n {
			t.Errorf("%d fetches so far, want %d", fetches.Load(), n)
		}
	}
	want(1)
	unknown := func() string { return w.idp.sign(t, map[string]any{"alg": "ES256", "kid": "random"}, w.says()) }
	for range 50 {
		_, err := w.bears(unknown())
		w.refused("JWT-27 random kids", nil, err, oauth.InvalidGrant)
	}
	want(1)
	w.Pass(31 * time.Second)
	for range 50 {
		_, _ = w.bears(unknown())
	}
	want(2)
	// A new key is found after the cool-down, and the old one is gone with it.
	old := *w.idp
	w.idp.key, w.idp.kid = newIDP(t, w.idp.issuer).key, "k2"
	serve(w.idp.jwks())
	w.Pass(31 * time.Second)
	w.good(w.bears(w.assertion()))
	want(3)
	_, err := w.bears(old.sign(t, map[string]any{"alg": "ES256", "kid": "k1"}, w.says()))
	w.refused("JWT-27 a key that was taken out", nil, err, oauth.InvalidGrant)
	// While its server is gone the set is good for an hour.
	down.Store(true)
	w.Pass(50 * time.Minute)
	w.good(w.bears(w.assertion()))
	want(4)
	w.Pass(11 * time.Minute)
	_, err = w.bears(w.assertion())
	w.refused("JWT-27 stale keys", nil, err, oauth.TemporarilyUnavailable)
	if told := w.keysFailed.Load(); told != 2 {
		t.Errorf("the operator was told of %d fetches that failed, want 2", told)
	}
	if strings.Contains(err.Error(), "idp.example") || strings.Contains(err.Error(), "unreachable") {
		t.Errorf("SSR-06: the client is told why: %v", err)
	}
	for _, bad := range []string{`<html>`, `{"keys":[]}`, `{"keys":[{"kty":"oct","kid":"k2","k":"c2VjcmV0"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","kid":"k2","x":"a","y":"b","d":"c"}]}`} {
		down.Store(false)
		serve([]byte(bad))
		w.Pass(31 * time.Second)
		_, err = w.bears(w.assertion())
		w.refused("JWT-27 a set of "+bad, nil, err, oauth.TemporarilyUnavailable)
	}
}

// TestKeysInPEM: certificates count while they are valid, and only with the algorithm of
// their key.
func TestKeysInPEM(t *testing.T) {
	t.Parallel()
	w := vouchedWorld(t)
	der := must(x509.MarshalPKIXPublicKey(w.idp.key.Public()))(t)
	text := grants.FormatPEM([][]byte{der})
	if got, err := grants.ParsePEM(text); err != nil || string(got[0]) != string(der) {
		t.Fatalf("%v, %v", got, err)
	}
	w.trust(func(i *state.TrustedIssuer) { i.Jwks, i.Certificates = nil, [][]byte{der} })
	w.good(w.bears(w.idp.sign(t, map[string]any{"alg": "ES256"}, w.says())))
	w.good(w.bears(w.idp.sign(t, map[string]any{"alg": "ES256", "kid": "whatever"}, w.says())))
	_, err := w.bears(newIDP(t, w.idp.issuer).sign(t, map[string]any{"alg": "ES256"}, w.says()))
	w.refused("another key", nil, err, oauth.InvalidGrant)
	for name, text := range map[string]string{
		"nothing": "", "no PEM": "x", "a private key": "-----BEGIN PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END PRIVATE KEY-----\n", "text behind it": text + "x",
	} {
		if _, err := grants.ParsePEM(text); err == nil {
			t.Errorf("PEM of %s was taken", name)
		}
	}
}

// TestCheckIssuer are the rules of a record.
func TestCheckIssuer(t *testing.T) {
	t.Parallel()
	keys := newIDP(t, "").jwks()
	url := func(string) error { return errors.New("not to be called") }
	good := func() *state.TrustedIssuer {
		return &state.TrustedIssuer{Tenant: "default", Issuer: "https://idp.example", Kind: "jwt", Jwks: keys}
	}
	if err := grants.CheckIssuer(good(), testnode.Issuer, url); err != nil {
		t.Error(err)
	}
	for field, change := range map[string]func(i *state.TrustedIssuer){
		"issuer":        func(i *state.TrustedIssuer) { i.Issuer = "https://idp example" },
		"kind":          func(i *state.TrustedIssuer) { i.Kind = "none" },
		"max_lifetime":  func(i *state.TrustedIssuer) { i.MaxLife = 86_401 },
		"subject_claim": func(i *state.TrustedIssuer) { i.SubjectClaim = "a b" },
		"jwks_uri":      func(i *state.TrustedIssuer) { i.JwksUri, i.Jwks = "https://10.0.0.1/", nil },
		"jwks":          func(i *state.TrustedIssuer) { i.Jwks = []byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`) },
		"pem":           func(i *state.TrustedIssuer) { i.Jwks, i.Certificates = nil, [][]byte{[]byte("x")} },
		"audiences":     func(i *state.TrustedIssuer) { i.Audiences = []string{"a", "a"} },
		"clients":       func(i *state.TrustedIssuer) { i.Clients = []string{""} },
		"scopes":        func(i *state.TrustedIssuer) { i.Scopes = []string{`a"b`} },
		"claim_mapping": func(i *state.TrustedIssuer) {
			i.ClaimMapping = []*state.ClaimMapping{{Remote: "x", Local: "Scope"}} // REG-05
		},
	} {
		i := good()
		change(i)
		var refusal *clients.FieldError
		if err := grants.CheckIssuer(i, testnode.Issuer, url); !errors.As(err, &refusal) || refusal.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	both := good()
	both.JwksUri = "https://idp.example/jwks"
	if grants.CheckIssuer(both, testnode.Issuer, url) == nil {
		t.Error("keys by two ways were taken")
	}
}

// FuzzAssertion: whatever is shown, the answer is a refusal of the protocol or a token,
// and nothing that is not signed by the issuer is taken.
func FuzzAssertion(f *testing.F) {
	w := vouchedWorld(f)
	good := w.assertion()
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add(w.idp.key.SignRaw(f, `{"alg":"ES256","kid":"k1"}`, `{"iss":"https://idp.example","sub":null,"exp":1e400}`))
	f.Add(newIDP(f, w.idp.issuer).sign(f, map[string]any{"alg": "ES256", "kid": "k1"}, w.says()))
	w.good(w.bears(good))
	f.Fuzz(func(t *testing.T, text string) {
		_, err := w.bears(text)
		if err == nil || !errors.Is(err, oauth.InvalidGrant) && !errors.Is(err, oauth.InvalidRequest) {
			t.Errorf("%q: %v", text, err)
		}
		_, err = w.exchanged("app", text)
		if err == nil || !errors.Is(err, oauth.InvalidRequest) {
			t.Errorf("%q as an access token: %v", text, err)
		}
		_, err = w.ask("app", exchange, "subject_token", text, "subject_token_type", plainJWT)
		if err == nil && text != good {
			t.Errorf("%q was exchanged", text)
		}
	})
}
