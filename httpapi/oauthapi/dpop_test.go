package oauthapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/internal/testproof"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	tokenURL    = issuer + oauthapi.TokenPath
	userinfoURL = issuer + oauthapi.UserinfoPath
)

func (n *node) nonce(t testing.TB) string {
	t.Helper()
	nonce, err := n.proofs.Nonce(n.view(), "default")
	if err != nil {
		t.Fatal(err)
	}
	return nonce
}

// proof is a good one for the token endpoint, with changes.
func (n *node) proof(t testing.TB, by *testproof.Key, change map[string]any) string {
	t.Helper()
	c := testproof.With(testproof.Claims("POST", tokenURL, n.now().Unix()), map[string]any{"nonce": n.nonce(t)})
	return by.Proof(t, testproof.With(c, change))
}

// ask asks for a token of the client orders.
func (n *node) ask(t testing.TB, secret, proof string) *answer {
	t.Helper()
	return n.do(t, "POST", oauthapi.TokenPath, tokenForm, "Authorization", basicAuth("orders", secret), "DPoP", proof)
}

func TestBoundTokens(t *testing.T) {
	t.Parallel()
	forms(t, func(t *testing.T, n *node, id, secret string) {
		key := testproof.New(t)
		a := n.ask(t, secret, n.proof(t, key, nil))
		a.want(t, 200, "")
		token, _ := a.json["access_token"].(string)
		if a.json["token_type"] != "DPoP" || token == "" {
			t.Fatalf("answer %s", a.text)
		}
		if strings.Count(token, ".") == 2 {
			parsed, err := verify.Parse(token)
			if err != nil || !parsed.Claims.Bound || parsed.Claims.JKT != key.Thumbprint {
				t.Errorf("claims of the token: %+v, %v", parsed, err)
			}
		}
		told := n.introspect(t, id, secret, token)
		cnf, _ := told.json["cnf"].(map[string]any)
		if told.json["active"] != true || told.json["token_type"] != "DPoP" || cnf["jkt"] != key.Thumbprint {
			t.Errorf("introspection: %s", told.text)
		}
	})
}

func TestTokenEndpointHoldsProofs(t *testing.T) {
	t.Parallel()
	n := start(t)
	secret := n.client(t, orders)
	key := testproof.New(t)
	tests := []struct {
		name, proof, code string
	}{
		{"POP-01 a proof that is none", "x", "invalid_dpop_proof"},
		{"POP-02 two in one header", n.proof(t, key, nil) + "," + n.proof(t, key, nil), "invalid_dpop_proof"},
		{"POP-03 htu of another tenant", n.proof(t, key, map[string]any{"htu": issuer + "/t/acme" + oauthapi.TokenPath}), "invalid_dpop_proof"},
		{"POP-03 htu of the node's own address", n.proof(t, key, map[string]any{"htu": "http://127.0.0.1:9763" + oauthapi.TokenPath}), "invalid_dpop_proof"},
		{"POP-03 htm in another case", n.proof(t, key, map[string]any{"htm": "post"}), "invalid_dpop_proof"},
		{"POP-06 iat an hour ahead", n.proof(t, key, map[string]any{"iat": n.now().Unix() + 3600}), "invalid_dpop_proof"},
		{"POP-06 iat an hour ago", n.proof(t, key, map[string]any{"iat": n.now().Unix() - 3600}), "invalid_dpop_proof"},
		{"POP-06 no nonce", n.proof(t, key, map[string]any{"nonce": nil}), "use_dpop_nonce"},
		{"POP-07 a nonce that is forged", n.proof(t, key, map[string]any{"nonce": "AAAA"}), "use_dpop_nonce"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := n.ask(t, secret, tt.proof)
			a.want(t, 400, tt.code)
			nonce := a.header.Get("DPoP-Nonce")
			if nonce == "" {
				t.Fatal("the answer has no nonce for the next try")
			}
			n.ask(t, secret, n.proof(t, key, map[string]any{"nonce": nonce})).want(t, 200, "")
		})
	}
	t.Run("POP-02 two headers", func(t *testing.T) {
		req, err := http.NewRequestWithContext(context.Background(), "POST", "http://sts.example"+oauthapi.TokenPath, strings.NewReader(tokenForm))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", basicAuth("orders", secret))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header["DPoP"] = []string{n.proof(t, key, nil), n.proof(t, key, nil)}
		resp, err := n.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var body struct{ Error string }
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || resp.StatusCode != 400 || body.Error != "invalid_dpop_proof" {
			t.Errorf("got %d %q, %v", resp.StatusCode, body.Error, err)
		}
	})
	t.Run("POP-02 a proof in the query is not looked at", func(t *testing.T) {
		a := n.do(t, "POST", oauthapi.TokenPath+"?dpop="+n.proof(t, key, nil), tokenForm, "Authorization", basicAuth("orders", secret))
		if a.json["token_type"] == "DPoP" {
			t.Errorf("answer %s", a.text)
		}
	})
	t.Run("a refused client uses no proof up", func(t *testing.T) {
		proof := n.proof(t, key, nil)
		n.ask(t, "wrong", proof).want(t, 401, "invalid_client")
		n.ask(t, secret, proof).want(t, 200, "")
	})
}

// TestProofsOverNodes: POP-04 over the token endpoints of two nodes.
func TestProofsOverNodes(t *testing.T) {
	t.Parallel()
	one := start(t)
	two := serve(t, one.world)
	secret := one.client(t, orders)
	key := testproof.New(t)
	proof := one.proof(t, key, nil)
	two.ask(t, secret, proof).want(t, 200, "")
	one.ask(t, secret, proof).want(t, 400, "invalid_dpop_proof")
	two.ask(t, secret, proof).want(t, 400, "invalid_dpop_proof")
	one.pass(time.Minute)
	one.ask(t, secret, proof).want(t, 400, "invalid_dpop_proof")

	proof = two.proof(t, key, nil)
	one.join(two.id, nil) // that node is gone
	a := one.ask(t, secret, proof)
	a.want(t, 400, "use_dpop_nonce")
	one.ask(t, secret, one.proof(t, key, map[string]any{"nonce": a.header.Get("DPoP-Nonce")})).want(t, 200, "")
}

func TestClientsWithBoundTokensGetNoOthers(t *testing.T) {
	t.Parallel()
	n := start(t)
	bound := orders
	bound.DPoPBound = true
	secret := n.client(t, bound)
	n.do(t, "POST", oauthapi.TokenPath, tokenForm, "Authorization", basicAuth("orders", secret)).want(t, 400, "invalid_dpop_proof") // POP-10
	n.ask(t, secret, n.proof(t, testproof.New(t), nil)).want(t, 200, "")

	tls := clients.Registration{ClientID: "tls", Scope: "read", TLSBound: true}
	secret = n.client(t, tls)
	n.do(t, "POST", oauthapi.TokenPath, tokenForm, "Authorization", basicAuth("tls", secret)).want(t, 400, "invalid_request")
}

func TestCodesAndRefreshTokensKeepToTheirKey(t *testing.T) {
	t.Parallel()
	p := signedIn(t, func(r *clients.Registration) { r.AuthMethod, r.GrantTypes = "none", r.GrantTypes[:2] })
	key, other := testproof.New(t), testproof.New(t)
	post := func(form, proof string) *answer {
		if proof == "" {
			return p.do(t, "POST", oauthapi.TokenPath, form+"&client_id=web")
		}
		return p.do(t, "POST", oauthapi.TokenPath, form+"&client_id=web", "DPoP", proof)
	}
	code := codeForm + p.code("openid read", "", key.Thumbprint)
	post(code, "").want(t, 400, "invalid_dpop_proof")                     // POP-09 proof dropped at redemption
	post(code, p.proof(t, other, nil)).want(t, 400, "invalid_dpop_proof") // POP-09 another key than dpop_jkt
	a := post(code, p.proof(t, key, nil))                                 // neither try used the code up
	if a.want(t, 200, ""); a.json["token_type"] != "DPoP" || t.Failed() {
		t.Fatalf("answer %s", a.text)
	}
	refresh := "grant_type=refresh_token&refresh_token=" + a.json["refresh_token"].(string)
	post(refresh, "").want(t, 400, "invalid_grant")                     // POP-10 a public client's refresh with none
	post(refresh, p.proof(t, other, nil)).want(t, 400, "invalid_grant") // POP-10 with another key
	post(refresh, p.proof(t, key, nil)).want(t, 200, "")

	t.Run("POP-08 userinfo", func(t *testing.T) {
		token := a.json["access_token"].(string)
		proof := func(by *testproof.Key, change map[string]any) string {
			c := testproof.With(testproof.Claims("GET", userinfoURL, p.now().Unix()), map[string]any{"nonce": p.nonce(t), "ath": testproof.Hash(token)})
			return by.Proof(t, testproof.With(c, change))
		}
		used := proof(key, nil)
		good := p.do(t, "GET", oauthapi.UserinfoPath, "", "Authorization", "DPoP "+token, "DPoP", used)
		if good.want(t, 200, ""); good.json["sub"] == nil || good.header.Get("DPoP-Nonce") == "" {
			t.Errorf("answer %s", good.text)
		}
		for _, tt := range []struct{ name, scheme, proof, code string }{
			{"as bearer token", "Bearer", "", "invalid_token"},
			{"as bearer token with its proof", "Bearer", proof(key, nil), "invalid_token"},
			{"without proof", "DPoP", "", "invalid_dpop_proof"},
			{"with the proof of before", "DPoP", used, "invalid_dpop_proof"},
			{"with another key's", "DPoP", proof(other, nil), "invalid_dpop_proof"},
			{"without ath", "DPoP", proof(key, map[string]any{"ath": nil}), "invalid_dpop_proof"},
			{"with the token endpoint's", "DPoP", p.proof(t, key, map[string]any{"ath": testproof.Hash(token)}), "invalid_dpop_proof"},
			{"without nonce", "DPoP", proof(key, map[string]any{"nonce": nil}), "use_dpop_nonce"},
		} {
			header := []string{"Authorization", tt.scheme + " " + token}
			if tt.proof != "" {
				header = append(header, "DPoP", tt.proof)
			}
			got := p.do(t, "GET", oauthapi.UserinfoPath, "", header...)
			got.want(t, 401, tt.code)
			if c := got.header.Get("WWW-Authenticate"); !strings.HasPrefix(c, `DPoP algs="ES256 `) || !strings.Contains(c, `error="`+tt.code+`"`) {
				t.Errorf("%s: challenge %q", tt.name, c)
			}
			if (got.header.Get("DPoP-Nonce") != "") != (tt.proof != "") {
				t.Errorf("%s: nonce %q", tt.name, got.header.Get("DPoP-Nonce"))
			}
		}
		inForm := p.do(t, "POST", oauthapi.UserinfoPath, "access_token="+token, "DPoP", proof(key, map[string]any{"htm": "POST"}))
		inForm.want(t, 401, "invalid_token")
	})
}

func TestABearerTokenIsNoBoundOne(t *testing.T) {
	t.Parallel()
	p := signedIn(t, nil)
	token := p.granted("openid", "")
	proof := testproof.New(t).Proof(t, testproof.With(testproof.Claims("GET", userinfoURL, p.now().Unix()),
		map[string]any{"nonce": p.nonce(t), "ath": testproof.Hash(token)}))
	p.do(t, "GET", oauthapi.UserinfoPath, "", "Authorization", "DPoP "+token, "DPoP", proof).want(t, 401, "invalid_token") // POP-08
	p.userinfo(token).want(t, 200, "")
}

// TestProofNotUsedUpByARefusedGrant: what a grant refuses fills no memory (POP-05).
func TestProofNotUsedUpByARefusedGrant(t *testing.T) {
	t.Parallel()
	n := start(t)
	secret := n.client(t, orders)
	for range 3 {
		a := n.do(t, "POST", oauthapi.TokenPath, tokenForm+"&scope=admin", "Authorization", basicAuth("orders", secret), "DPoP", n.proof(t, testproof.New(t), nil))
		a.want(t, 400, "invalid_scope")
	}
	if got := n.proofs.Remembered(); got != 0 {
		t.Errorf("%d proofs are remembered", got)
	}
}
