package tokens_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/tokens"
)

// TestIDToken: go-jose reads what we sign, with the claims of OpenID Connect Core §2 and
// the hashes of §3.1.3.6; RS256 where nothing is asked for.
func TestIDToken(t *testing.T) {
	t.Parallel()
	w := newKit(t, tokens.KeyJobConfig{})
	w.addKeys(t, tokens.Algs()...)
	for _, alg := range []string{"", "RS256", "ES256", "EdDSA", "PS256"} {
		raw, err := w.minter.AppendIDToken(t.Context(), nil, w.view(), &tokens.IDClaims{
			Tenant: "default", Subject: "u1", ClientID: "web", IssuedAt: 100, Expires: 200, AuthTime: 90, Nonce: `n"1`, ACR: "a",
			AMR: []string{"pwd", "otp"}, SessionID: "s1", AccessToken: "at", Code: "at", State: "at", Scope: "openid read", Alg: alg, Extra: []tokens.Member{{Name: "email", JSON: []byte(`"a@b"`)}},
		})
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		want := alg
		if want == "" {
			want = "RS256"
		}
		jws, err := jose.ParseSignedCompact(string(raw), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(want)})
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		set, err := w.keys.JWKS(w.view(), "default")
		if err != nil {
			t.Fatal(err)
		}
		var keys jose.JSONWebKeySet
		if err := json.Unmarshal(set, &keys); err != nil {
			t.Fatal(err)
		}
		payload, err := jws.Verify(keys.Key(jws.Signatures[0].Header.KeyID)[0])
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		var c struct {
			Sub, Aud, Nonce, Acr, Sid, Email string
			AtHash                           string `json:"at_hash"`
			CHash                            string `json:"c_hash"`
			SHash                            string `json:"s_hash"`
			AuthTime                         int64  `json:"auth_time"`
			LoginScope                       string `json:"login_scope"`
			Scope, Scp                       any
			Amr                              []string
		}
		if err := json.Unmarshal(payload, &c); err != nil {
			t.Fatalf("%s: %v: %s", alg, err, payload)
		}
		sum := sha256.Sum256([]byte("at"))
		half := base64.RawURLEncoding.EncodeToString(sum[:16])
		if alg == "EdDSA" {
			sum := sha512.Sum512([]byte("at"))
			half = base64.RawURLEncoding.EncodeToString(sum[:32])
		}
		if c.Sub != "u1" || c.Aud != "web" || c.Nonce != `n"1` || c.Acr != "a" || c.Sid != "s1" || c.AuthTime != 90 || len(c.Amr) != 2 || c.Email != "a@b" || c.AtHash != half || c.CHash != half || c.SHash != half || c.LoginScope != "openid read" || c.Scope != nil || c.Scp != nil {
			t.Errorf("%s: %s", alg, payload)
		}
		if jws.Signatures[0].Header.ExtraHeaders[jose.HeaderType] != "JWT" {
			t.Errorf("%s: typ %v", alg, jws.Signatures[0].Header.ExtraHeaders)
		}
	}
}
