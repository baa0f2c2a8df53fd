package clients

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const encJWKS = `{"keys":[{"kty":"EC","crv":"P-256","use":"enc","kid":"e1","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`

// TestOpenIDRegistrationRules (REG-03 and the rules of the documents).
func TestOpenIDRegistrationRules(t *testing.T) {
	t.Parallel()
	const code = `"redirect_uris":["https://a.example/cb"],`
	for _, tt := range []struct{ name, json, field string }{
		{"everything of OpenID Connect", code + `"application_type":"web","sector_identifier_uri":"https://a.example/s","subject_type":"pairwise","id_token_signed_response_alg":"ES256","userinfo_signed_response_alg":"PS256","request_object_signing_alg":"EdDSA","jwks":` + testJWKS + `,"authorization_signed_response_alg":"ES256","introspection_signed_response_alg":"RS256","default_max_age":3600,"require_auth_time":true,"default_acr_values":["2"],"initiate_login_uri":"https://a.example/login","id_token_lifetime":"5m","skip_consent":true`, ""},
		{"everything of logout", code + `"post_logout_redirect_uris":["https://a.example/bye"],"frontchannel_logout_uri":"https://a.example:443/f","frontchannel_logout_session_required":true,"backchannel_logout_uri":"https://a.example/b","backchannel_logout_session_required":true`, ""},
		{"what FAPI asks for", code + `"require_pkce":true,"require_pushed_authorization_requests":true,"dpop_bound_access_tokens":true,"authorization_details_types":["payment"],"refresh_token_rotation":false,"refresh_token_idle_lifetime":600`, ""},
		{"code without a redirect URI", `"grant_types":["authorization_code"]`, "redirect_uris"},
		{"implicit with id_token", code + `"grant_types":["implicit"],"response_types":["id_token","id_token token"]`, ""},
		{"hybrid", code + `"grant_types":["authorization_code","implicit"],"response_types":["code id_token","code token","code id_token token"]`, ""},
		{"hybrid without implicit", code + `"grant_types":["authorization_code"],"response_types":["code id_token"]`, "response_types"},
		{"token alone (AUT-07)", code + `"grant_types":["implicit"],"response_types":["token"]`, "response_types"},
		{"none (AUT-07)", code + `"grant_types":["authorization_code"],"response_types":["none"]`, "response_types"},
		{"words in another order (AUT-07)", code + `"grant_types":["authorization_code","implicit"],"response_types":["id_token code"]`, "response_types"},
		{"implicit unused", code + `"grant_types":["authorization_code","implicit"],"response_types":["code"]`, "response_types"},
		{"implicit without response types", code + `"grant_types":["implicit"]`, "response_types"},
		{"code unused", code + `"grant_types":["authorization_code","implicit"],"response_types":["id_token"]`, "response_types"},
		{"implicit to plain http", `"redirect_uris":["http://127.0.0.1/cb"],"grant_types":["implicit"],"response_types":["id_token"]`, "redirect_uris"},
		{"a private scheme for web", `"redirect_uris":["com.example:/cb"],"application_type":"web"`, "redirect_uris"},
		{"another application type", `"application_type":"desktop"`, "application_type"},
		{"a redirect URI twice", `"redirect_uris":["https://a.example","https://a.example"]`, "redirect_uris"},
		{"a thousand redirect URIs (REG-02)", `"redirect_uris":["https://a.example/` + strings.Repeat(`x","https://a.example/`, 999) + `y"]`, "redirect_uris"},
		{"pairwise for two hosts", `"redirect_uris":["https://a.example","https://b.example"],"subject_type":"pairwise"`, "sector_identifier_uri"},
		{"pairwise for no host", `"redirect_uris":["com.example:/cb"],"subject_type":"pairwise"`, "sector_identifier_uri"},
		{"a sector over http (REG-11)", `"sector_identifier_uri":"http://a.example"`, "sector_identifier_uri"},
		{"another subject type", `"subject_type":"secret"`, "subject_type"},
		{"an unsigned ID token (REG-03)", `"id_token_signed_response_alg":"none"`, "id_token_signed_response_alg"},
		{"userinfo with none (REG-03)", `"userinfo_signed_response_alg":"none"`, "userinfo_signed_response_alg"},
		{"request objects with none (REG-03)", `"request_object_signing_alg":"none","jwks":` + testJWKS, "request_object_signing_alg"},
		{"request objects without keys", `"request_object_signing_alg":"ES256"`, "jwks"},
		{"HS256 for an ID token", `"id_token_signed_response_alg":"HS256"`, "id_token_signed_response_alg"},
		{"encryption with RSA1_5", `"id_token_encrypted_response_alg":"RSA1_5","jwks":` + encJWKS, "id_token_encrypted_response_alg"},
		{"encryption without a key for it", `"id_token_encrypted_response_alg":"RSA-OAEP-256","jwks":` + encJWKS, "jwks"},
		{"encryption to a key for signatures", `"userinfo_encrypted_response_alg":"ECDH-ES","jwks":` + testJWKS, "jwks"},
		{"enc without alg", `"userinfo_encrypted_response_enc":"A128GCM"`, "userinfo_encrypted_response_enc"},
		{"encryption", `"id_token_encrypted_response_alg":"ECDH-ES","jwks":` + encJWKS, ""},
		{"private_key_jwt with a key for encryption only", `"token_endpoint_auth_method":"private_key_jwt","jwks":` + encJWKS, "jwks"},
		{"a front-channel logout elsewhere", code + `"frontchannel_logout_uri":"https://b.example/f"`, "frontchannel_logout_uri"},
		{"a back-channel logout over http", `"backchannel_logout_uri":"http://a.example/b"`, "backchannel_logout_uri"},
		{"sessions for no logout URI", `"backchannel_logout_session_required":true`, "backchannel_logout_session_required"},
		{"logout to a script", `"post_logout_redirect_uris":["javascript:alert(1)"]`, "post_logout_redirect_uris"},
		{"a max age of nothing", `"default_max_age":0`, "default_max_age"},
		{"an acr with a space", `"default_acr_values":["a b"]`, "default_acr_values"},
		{"two bindings", `"dpop_bound_access_tokens":true,"tls_client_certificate_bound_access_tokens":true`, "dpop_bound_access_tokens"},
		{"a certificate's name for a secret", `"tls_client_auth_san_dns":"a.example"`, "tls_client_auth_san_dns"},
		{"a public client whose refresh tokens stay", code + `"token_endpoint_auth_method":"none","refresh_token_rotation":false`, "refresh_token_rotation"},
		{"delivery without CIBA", `"backchannel_token_delivery_mode":"poll"`, "backchannel_token_delivery_mode"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r Registration
			if err := json.Unmarshal([]byte(`{`+tt.json+`,"client_id":"a"}`), &r); err != nil {
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

// TestWhatIsTakenIsShown: a registration comes back with what was left out filled in,
// and is taken again as it is (RFC 7591 §3.2.1).
func TestWhatIsTakenIsShown(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"client_id":"a","redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"none"}`:                                                      `"require_pkce":true`, // AUT-05
		`{"client_id":"b","redirect_uris":["https://a.example/cb"]}`:                                                                                          `"response_types":["code"]`,
		`{"client_id":"c","id_token_encrypted_response_alg":"ECDH-ES","jwks":` + encJWKS + `}`:                                                                `"id_token_encrypted_response_enc":"A128CBC-HS256"`,
		`{"client_id":"d","userinfo_encrypted_response_alg":"ECDH-ES","jwks":` + encJWKS + `}`:                                                                `"kid":"e1"`,
		`{"client_id":"e","redirect_uris":["https://a.example/cb"],"grant_types":["implicit"],"response_types":["id_token"],"tls_client_auth_subject_dn":""}`: `"warnings":["the grant type implicit`,
	} {
		var r Registration
		if err := json.Unmarshal([]byte(in), &r); err != nil {
			t.Fatal(err)
		}
		c, err := r.client("default", nil, served)
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		first := FromClient(c)
		out, err := json.Marshal(first)
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s is missing in %s (%v)", want, out, err)
		}
		again, err := first.client("default", c, served)
		if err != nil {
			t.Fatalf("what was shown is refused: %v", err)
		}
		if second, err := json.Marshal(FromClient(again)); err != nil || string(second) != string(out) {
			t.Errorf("then %s (%v)", second, err)
		}
	}
}

func TestDistinguishedNames(t *testing.T) {
	t.Parallel()
	same := func(a, b string) bool {
		x, ok := parseDN(a)
		y, ok2 := parseDN(b)
		return ok && ok2 && sameDN(x, y)
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"CN=a,O=b", "cn=a, o=b", true},
		{"CN=a,O=b", "2.5.4.3=a,OID.2.5.4.10=b", true},
		{`CN=a\,b`, `CN=a\2cb`, true},
		{"CN=a+OU=b,C=c", "OU=b+CN=a,C=c", true},
		{"emailAddress=a@b.example", "E=a@b.example", true},
		{"CN=a ,O=b", "CN=a,O=b", true},
		{`CN=a\ ,O=b`, "CN=a,O=b", false},
		{"CN=a,O=b", "O=b,CN=a", false},
		{"CN=a", "CN=A", false},
		{"CN=a,O=b", "CN=a", false},
		{"CN=a,OU=b", "CN=a+OU=b", false},
	} {
		if same(tt.a, tt.b) != tt.want {
			t.Errorf("POP-12: %q and %q: want %t", tt.a, tt.b, tt.want)
		}
	}
	for _, s := range []string{"", "a", "CN=", "CN=a,", "=a", "CN=#0401", `CN=a\`, `CN=a\2`, `CN="a"`, "CN=a;O=b", "X=a", "01.2=a", "CN=a\x00", "CN=\xff"} {
		if validDN(s) {
			t.Errorf("%q is taken", s)
		}
	}
}

func FuzzDN(f *testing.F) {
	f.Add(`CN=a\,b+OU=c, O=d`)
	f.Add("2.5.4.3=\\20x\\ ")
	f.Fuzz(func(t *testing.T, s string) {
		dn, ok := parseDN(s)
		if !ok {
			return
		}
		var parts []string // written out, it reads as the same name
		for _, rdn := range dn {
			var set []string
			for _, a := range rdn {
				value := ""
				for i := range len(a.value) {
					value += fmt.Sprintf(`\%02x`, a.value[i])
				}
				set = append(set, a.oid+"="+value)
			}
			parts = append(parts, strings.Join(set, "+"))
		}
		text := strings.Join(parts, ",")
		if again, ok := parseDN(text); !sameDN(dn, again) && len(text) <= maxURI {
			t.Errorf("%q is %v, written out as %q it is %v, %t", s, dn, text, again, ok)
		}
	})
}
