package adminapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"testing"

	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/tokens/verify"
)

// issuerKeys is a key set of another server's, and the same key as PEM.
func issuerKeys(t *testing.T) (jwks, text, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err1 := x509.MarshalPKIXPublicKey(&key.PublicKey)
	secret, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	block := func(kind string, b []byte) string {
		quoted, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})))
		if err != nil {
			t.Fatal(err)
		}
		return string(quoted)
	}
	return string(verify.AppendJWKS(nil, []verify.Key{{ID: "k1", Alg: verify.ES256, Public: &key.PublicKey}})), block("PUBLIC KEY", der), block("PRIVATE KEY", secret)
}

func TestTrustedIssuers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	jwks, text, private := issuerKeys(t)
	const path, iss = "/admin/v1/trusted-issuers", "https://idp.example"
	at := path + "/~" + base64.RawURLEncoding.EncodeToString([]byte(iss))
	a := w.call("POST", path, `{"issuer":"`+iss+`","jwks":`+jwks+`,"map_to_user":true,"clients":["app"],"scopes":["read"],"claim_mapping":[{"remote":"dept","local":"department"}],"max_lifetime":"10m"}`)
	if a.status != 201 || a.header.Get("Location") != at || a.header.Get("Etag") == "" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	got := w.object(200, "GET", at, "")
	if got["issuer"] != iss || got["name"] != nil || got["enabled"] != true || got["max_lifetime"] != 600.0 || got["jwks"] == nil {
		t.Errorf("it is %v", got)
	}
	w.refused(409, "exists", "issuer", "POST", path, `{"issuer":"`+iss+`","jwks":`+jwks+`}`)
	off := w.object(200, "PATCH", at, `{"enabled":false}`, "If-Match", a.header.Get("Etag"))
	if off["enabled"] != false || off["map_to_user"] != true {
		t.Errorf("disabled: %v", off)
	}
	w.refused(412, "precondition_failed", "If-Match", "PUT", at, `{"jwks":`+jwks+`}`, "If-Match", a.header.Get("Etag"))
	w.refused(412, "precondition_failed", "If-Match", "DELETE", at, "", "If-Match", a.header.Get("Etag"))
	w.refused(400, "invalid_request", "issuer", "PATCH", at, `{"issuer":"https://other.example"}`)
	if got := w.object(200, "PATCH", at, `{"jwks":null,"pem":`+text+`}`); got["jwks"] != nil || got["pem"] == nil {
		t.Errorf("with PEM: %v", got)
	}
	if got := w.object(200, "PATCH", at, `{"pem":null,"jwks_uri":"https://idp.example/jwks"}`); got["jwks_uri"] != "https://idp.example/jwks" {
		t.Errorf("with a URL: %v", got)
	}
	for name, tt := range map[string]struct{ field, body string }{
		"REG-05 a protected claim":     {"claim_mapping", `"jwks":` + jwks + `,"claim_mapping":[{"remote":"x","local":"scope"}]`},
		"SSR-01 a private address":     {"jwks_uri", `"jwks_uri":"https://169.254.169.254/latest"`},
		"SSR-01 this machine":          {"jwks_uri", `"jwks_uri":"https://127.0.0.1/jwks"`},
		"SSR-02 in other clothes":      {"jwks_uri", `"jwks_uri":"https://[::ffff:10.0.0.1]/jwks"`},
		"plain http":                   {"jwks_uri", `"jwks_uri":"http://idp.example/jwks"`},
		"no keys":                      {"jwks_uri", `"map_to_user":true`},
		"keys by two ways":             {"jwks_uri", `"jwks":` + jwks + `,"pem":` + text},
		"JWT-27 a symmetric key":       {"jwks", `"jwks":{"keys":[{"kty":"oct","k":"AAAA"}]}`},
		"a private key":                {"pem", `"pem":` + private},
		"a life of a year":             {"max_lifetime", `"jwks":` + jwks + `,"max_lifetime":"8760h"`},
		"ADM-04 what the server owns":  {"generation", `"jwks":` + jwks + `,"generation":3`},
		"ADM-04 another tenant's":      {"tenant", `"jwks":` + jwks + `,"tenant":"acme"`},
		"a scope that is none":         {"scopes", `"jwks":` + jwks + `,"scopes":["a b"]`},
		"a subject claim that is none": {"subject_claim", `"jwks":` + jwks + `,"subject_claim":"a b"`},
		"the same audience twice":      {"audiences", `"jwks":` + jwks + `,"audiences":["a","a"]`},
		"a client without a name":      {"clients", `"jwks":` + jwks + `,"clients":[""]`},
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(400, "invalid_request", tt.field, "POST", path, `{"issuer":"https://x.example",`+tt.body+`}`)
		})
	}
	w.refused(400, "invalid_request", "issuer", "POST", path, `{"issuer":"`+testnode.Issuer+`","jwks":`+jwks+`}`)
	if a := w.call("DELETE", at, ""); a.status != 204 {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.refused(404, "not_found", "", "GET", at, "")
}
