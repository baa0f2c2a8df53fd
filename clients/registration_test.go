package clients

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/internal/oauth"
)

var served = []oauth.GrantType{oauth.GrantClientCredentials, oauth.GrantAuthorizationCode, oauth.GrantCIBA}

const testJWKS = `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"k1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

func TestRegistrationRules(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, json, field string }{
		{"the least that is needed", `{"client_id":"a"}`, ""},
		{"everything", `{"client_id":"orders.v1","client_name":"Orders é","enabled":false,"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_signing_alg":"EdDSA","assertion_audience_token_endpoint":true,"jwks":` + testJWKS + `,"grant_types":["client_credentials","authorization_code"],"response_types":["code"],"redirect_uris":["https://a.example/cb","http://127.0.0.1:9/cb","http://localhost/cb","com.example.app:/cb"],"scope":"read write","resources":["https://api.example","orders-api"],"application":"shop","introspection":"any","access_token_format":"opaque","access_token_lifetime":60,"user_access_token_lifetime":60,"refresh_token_lifetime":86400,"refresh_grace":"30s","access_token_signed_response_alg":"EdDSA","client_uri":"https://a.example","contacts":["ops@a.example"],"software_id":"s","software_version":"1"}`, ""},
		{"no id", `{}`, "client_id"},
		{"an id with a slash", `{"client_id":"a/b"}`, "client_id"},
		{"an id with a space", `{"client_id":"a b"}`, "client_id"},
		{"an id that begins with a dot", `{"client_id":".."}`, "client_id"},
		{"an id that is too long", `{"client_id":"` + strings.Repeat("a", 121) + `"}`, "client_id"},
		{"a name with a line break", `{"client_id":"a","client_name":"x\ny"}`, "client_name"},
		{"an unknown method", `{"client_id":"a","token_endpoint_auth_method":"magic"}`, "token_endpoint_auth_method"},
		{"client_secret_jwt", `{"client_id":"a","token_endpoint_auth_method":"client_secret_jwt","token_endpoint_auth_signing_alg":"HS256"}`, ""},
		{"client_secret_jwt with another algorithm", `{"client_id":"a","token_endpoint_auth_method":"client_secret_jwt","token_endpoint_auth_signing_alg":"ES256"}`, "token_endpoint_auth_signing_alg"},
		{"tls_client_auth", `{"client_id":"a","token_endpoint_auth_method":"tls_client_auth","tls_client_auth_subject_dn":"CN=a,O=b"}`, ""},
		{"tls_client_auth without a name", `{"client_id":"a","token_endpoint_auth_method":"tls_client_auth"}`, "tls_client_auth_subject_dn"},
		{"tls_client_auth with two names (POP-12)", `{"client_id":"a","token_endpoint_auth_method":"tls_client_auth","tls_client_auth_subject_dn":"CN=a","tls_client_auth_san_dns":"a.example"}`, "tls_client_auth_san_dns"},
		{"tls_client_auth with a wildcard (POP-12)", `{"client_id":"a","token_endpoint_auth_method":"tls_client_auth","tls_client_auth_san_dns":"*.example"}`, "tls_client_auth_san_dns"},
		{"tls_client_auth with half a name", `{"client_id":"a","token_endpoint_auth_method":"tls_client_auth","tls_client_auth_subject_dn":"CN"}`, "tls_client_auth_subject_dn"},
		{"self_signed_tls_client_auth without a certificate (POP-13)", `{"client_id":"a","token_endpoint_auth_method":"self_signed_tls_client_auth","jwks":` + testJWKS + `}`, "jwks"},
		{"a certificate that is none", `{"client_id":"a","jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","x5c":["AAAA"]}]}}`, "jwks"},
		{"private_key_jwt without keys", `{"client_id":"a","token_endpoint_auth_method":"private_key_jwt"}`, "jwks"},
		{"private_key_jwt with null keys", `{"client_id":"a","token_endpoint_auth_method":"private_key_jwt","jwks":null}`, "jwks"},
		{"a private key among the keys", `{"client_id":"a","jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"AA"}]}}`, "jwks"},
		{"an HMAC algorithm", `{"client_id":"a","token_endpoint_auth_method":"private_key_jwt","jwks":` + testJWKS + `,"token_endpoint_auth_signing_alg":"HS256"}`, "token_endpoint_auth_signing_alg"},
		{"an assertion algorithm for a secret", `{"client_id":"a","token_endpoint_auth_signing_alg":"ES256"}`, "token_endpoint_auth_signing_alg"},
		{"a grant that is not served", `{"client_id":"a","grant_types":["password"]}`, "grant_types"},
		{"a grant twice", `{"client_id":"a","grant_types":["client_credentials","client_credentials"]}`, "grant_types"},
		{"client_credentials for a public client", `{"client_id":"a","token_endpoint_auth_method":"none","grant_types":["client_credentials"]}`, "grant_types"},
		{"the back channel for a public client", `{"client_id":"a","token_endpoint_auth_method":"none","grant_types":["urn:openid:params:grant-type:ciba"]}`, "grant_types"},
		{"response type token", `{"client_id":"a","grant_types":["authorization_code"],"response_types":["token"]}`, "response_types"},
		{"a scope with a quote", `{"client_id":"a","scope":"a\"b"}`, "scope"},
		{"a doubled space in scope", `{"client_id":"a","scope":"a  b"}`, "scope"},
		{"a redirect to http elsewhere", `{"client_id":"a","redirect_uris":["http://a.example/cb"]}`, "redirect_uris"},
		{"a redirect with a fragment", `{"client_id":"a","redirect_uris":["https://a.example/cb#x"]}`, "redirect_uris"},
		{"a redirect to a script", `{"client_id":"a","redirect_uris":["javascript:alert(1)"]}`, "redirect_uris"},
		{"a redirect with user information", `{"client_id":"a","redirect_uris":["https://u@a.example/cb"]}`, "redirect_uris"},
		{"a resource with a fragment", `{"client_id":"a","resources":["https://a.example#x"]}`, "resources"},
		{"a format that is not there", `{"client_id":"a","access_token_format":"saml"}`, "access_token_format"},
		{"a life of 0 (TOK-46)", `{"client_id":"a","access_token_lifetime":0}`, "access_token_lifetime"},
		{"a negative life", `{"client_id":"a","refresh_token_lifetime":-2}`, "refresh_token_lifetime"},
		{"an idle life without an end", `{"client_id":"a","refresh_token_idle_lifetime":-1}`, "refresh_token_idle_lifetime"},
		{"an ID token without an end", `{"client_id":"a","id_token_lifetime":-1}`, "id_token_lifetime"},
		{"a life beyond 2^31", `{"client_id":"a","user_access_token_lifetime":4294967296}`, "user_access_token_lifetime"},
		{"lives as Go writes them, or in digits", `{"client_id":"a","access_token_lifetime":"10m","user_access_token_lifetime":"600","refresh_token_lifetime":"24h0m1s"}`, ""},
		{"a life of half a second", `{"client_id":"a","access_token_lifetime":"500ms"}`, "access_token_lifetime"},
		{"a life of one and a half", `{"client_id":"a","access_token_lifetime":1.5}`, "access_token_lifetime"},
		{"a negative life as Go writes it", `{"client_id":"a","refresh_token_lifetime":"-10m"}`, "refresh_token_lifetime"},
		{"a life beyond the limit as Go writes it", `{"client_id":"a","access_token_lifetime":"721h"}`, "access_token_lifetime"},
		{"a life that is a word", `{"client_id":"a","user_access_token_lifetime":"soon"}`, "user_access_token_lifetime"},
		{"an empty life", `{"client_id":"a","access_token_lifetime":""}`, "access_token_lifetime"},
		{"a life that is an object", `{"client_id":"a","access_token_lifetime":{}}`, "access_token_lifetime"},
		{"tokens signed with HS256", `{"client_id":"a","access_token_signed_response_alg":"HS256"}`, "access_token_signed_response_alg"},
		{"tokens of its resources", `{"client_id":"a","introspection":"audience"}`, ""},
		{"the default, named", `{"client_id":"a","introspection":"own"}`, ""},
		{"no grace", `{"client_id":"a","refresh_grace":0}`, ""},
		{"a negative grace", `{"client_id":"a","refresh_grace":-1}`, "refresh_grace"},
		{"a grace of an hour", `{"client_id":"a","refresh_grace":"1h"}`, "refresh_grace"},
		{"keys by value and at a URL (REG-03)", `{"client_id":"a","jwks_uri":"https://a.example/jwks","jwks":{"keys":[]}}`, "jwks_uri"},
		{"a name that turns the direction of writing (ADM-12)", `{"client_id":"a","client_name":"x\u202ey"}`, "client_name"},
		{"a name with a line separator (ADM-12)", `{"client_id":"a","client_name":"x\u2028y"}`, "client_name"},
		{"a name in Arabic", `{"client_id":"a","client_name":"متجر"}`, ""},
		{"another word for introspection", `{"client_id":"a","introspection":"all"}`, "introspection"},
		{"a logo that is no URL", `{"client_id":"a","logo_uri":"data:image/png,x"}`, "logo_uri"},
		{"an empty contact", `{"client_id":"a","contacts":[""]}`, "contacts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r Registration
			if err := json.Unmarshal([]byte(tt.json), &r); err != nil {
				t.Fatal(err)
			}
			_, err := r.client("default", nil, served)
			var field *FieldError
			if errors.As(err, &field) != (tt.field != "") || field != nil && field.Field != tt.field {
				t.Errorf("error %v, want one of member %q", err, tt.field)
			}
		})
	}
}

// TestLifetimesAreAnsweredAsNumbers, however they were written.
func TestLifetimesAreAnsweredAsNumbers(t *testing.T) {
	t.Parallel()
	var r Registration
	if err := json.Unmarshal([]byte(`{"client_id":"a","access_token_lifetime":"10m","user_access_token_lifetime":"90","refresh_token_lifetime":86400}`), &r); err != nil {
		t.Fatal(err)
	}
	c, err := r.client("default", nil, served)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(FromClient(c))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"access_token_lifetime":600,`, `"user_access_token_lifetime":90,`, `"refresh_token_lifetime":86400,`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s is missing in %s", want, out)
		}
	}
}

func TestRegistrationDefaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, json, method, grants string
	}{
		{"nothing said", `{"client_id":"a"}`, "client_secret_basic", "client_credentials"},
		{"a redirect URI means a user's login", `{"client_id":"a","redirect_uris":["https://a.example"]}`, "client_secret_basic", "authorization_code"},
		{"a public client without one gets no grant", `{"client_id":"a","token_endpoint_auth_method":"none"}`, "none", ""},
		{"an empty list stays empty", `{"client_id":"a","grant_types":[]}`, "client_secret_basic", ""},
	} {
		var r Registration
		if err := json.Unmarshal([]byte(tt.json), &r); err != nil {
			t.Fatal(err)
		}
		c, err := r.client("default", nil, served)
		if err != nil || c.GetAuthMethod() != tt.method || strings.Join(c.GetGrantTypes(), " ") != tt.grants {
			t.Errorf("%s: %v, %q, %q", tt.name, err, c.GetAuthMethod(), c.GetGrantTypes())
		}
	}
}

// FuzzRegistration: what is taken comes back as it was, and is taken again.
func FuzzRegistration(f *testing.F) {
	f.Add([]byte(`{"client_id":"a","scope":"read","jwks":` + testJWKS + `}`))
	f.Add([]byte(`{"client_id":"a","redirect_uris":["com.example:/x"],"grant_types":["authorization_code"],"access_token_lifetime":1}`))
	f.Add([]byte(`{"client_id":"a","access_token_lifetime":"10m","refresh_token_lifetime":1e9}`))
	f.Add([]byte(`{"client_id":"\u0000"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Registration
		if json.Unmarshal(data, &r) != nil {
			return
		}
		c, err := r.client("default", nil, served)
		if err != nil {
			var field *FieldError
			if !errors.As(err, &field) {
				t.Fatalf("error %v names no member", err)
			}
			return
		}
		back := FromClient(c).Registration
		again, err := back.client("default", nil, served)
		if err != nil {
			t.Fatalf("what was stored is refused: %v", err)
		}
		if got := FromClient(again).Registration; !reflect.DeepEqual(got, back) {
			t.Errorf("not stable: %+v, then %+v", back, got)
		}
	})
}
