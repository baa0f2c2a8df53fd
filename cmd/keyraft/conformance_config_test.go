package main

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestConformanceConfig is the plan of OPs that publish configuration, and the discovery
// modules of the logout plans and of FAPI 2.0.
func TestConformanceConfig(t *testing.T) {
	t.Parallel()
	node := startLive(t, map[string]string{"dev": "true", "dev-tls": "true"})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the certificate is of this very test
	t.Cleanup(client.CloseIdleConnections)
	get := func(address, media string) map[string]any {
		t.Helper()
		resp, err := client.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var out map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != media {
			t.Fatalf("%s: %d %s %v", address, resp.StatusCode, resp.Header.Get("Content-Type"), err)
		}
		return out
	}
	patch, err := http.NewRequest("PATCH", node.url+"/admin/v1/tenants/default", strings.NewReader(`{"grant_types":["authorization_code","refresh_token","implicit"]}`))
	if err != nil {
		t.Fatal(err)
	}
	patch.Header.Set("Authorization", "Bearer "+node.admin())
	patch.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(patch)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	_ = resp.Body.Close()

	said := get(node.url+"/.well-known/openid-configuration", "application/json")
	other := get(node.url+"/.well-known/oauth-authorization-server", "application/json")
	if said["issuer"] != node.url || other["issuer"] != node.url {
		t.Errorf("the issuer is %v, and %v", said["issuer"], other["issuer"])
	}
	for name, value := range said {
		address, _ := value.(string)
		if (strings.HasSuffix(name, "_endpoint") || strings.HasSuffix(name, "_uri")) && !strings.HasPrefix(address, "https://") {
			t.Errorf("%s is %v, not https", name, value)
		}
	}
	if lacks := missing(said, "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "registration_endpoint", "end_session_endpoint",
		"pushed_authorization_request_endpoint"); len(lacks) > 0 {
		t.Errorf("discovery lacks %v", lacks)
	}
	for name, needed := range map[string][]string{
		"response_types_supported": {"code", "id_token", "id_token token"}, "grant_types_supported": {"authorization_code", "implicit"},
		"response_modes_supported": {"query", "fragment", "form_post"}, "subject_types_supported": {"public", "pairwise"},
		"id_token_signing_alg_values_supported": {"RS256", "PS256", "ES256"}, "userinfo_signing_alg_values_supported": {"RS256", "PS256"},
		"request_object_signing_alg_values_supported": {"RS256", "PS256"}, "dpop_signing_alg_values_supported": {"PS256", "ES256", "EdDSA"},
		"token_endpoint_auth_methods_supported": {"client_secret_basic", "client_secret_post", "private_key_jwt"}, "code_challenge_methods_supported": {"S256"},
		"token_endpoint_auth_signing_alg_values_supported": {"RS256", "PS256", "ES256"}, "scopes_supported": {"openid", "profile", "email", "address", "phone"},
		"claims_supported": {"sub", "name", "email", "address", "phone_number"}, "acr_values_supported": {"urn:keyraft:acr:1fa"},
	} {
		for _, value := range needed {
			if !slices.Contains(texts(said[name]), value) {
				t.Errorf("%s is %v, without %s", name, said[name], value)
			}
		}
	}
	for _, name := range []string{
		"claims_parameter_supported", "request_parameter_supported", "request_uri_parameter_supported", "require_request_uri_registration",
		"frontchannel_logout_supported", "frontchannel_logout_session_supported", "backchannel_logout_supported", "backchannel_logout_session_supported",
		"authorization_response_iss_parameter_supported",
	} {
		if said[name] != true {
			t.Errorf("%s is %v", name, said[name])
		}
	}
	keys, _ := get(said["jwks_uri"].(string), "application/jwk-set+json")["keys"].([]any)
	var ids []string
	for _, k := range keys {
		key, _ := k.(map[string]any)
		if lacks := missing(key, "kid", "kty", "use", "alg"); len(lacks) > 0 || key["d"] != nil || key["k"] != nil {
			t.Errorf("a key lacks %v, or tells too much: %v", lacks, key)
		}
		ids = append(ids, key["kid"].(string))
	}
	if slices.Sort(ids); len(ids) == 0 || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("the kids are %v", ids)
	}
}

// TestConformanceTLS is what the plans of FAPI 2.0 ask of connections: of TLS 1.2 no other
// cipher suites than those of RFC 9325 §4.2.
func TestConformanceTLS(t *testing.T) {
	t.Parallel()
	node := startLive(t, map[string]string{"dev": "true", "dev-tls": "true"})
	address := strings.TrimPrefix(node.url, "https://")
	good := map[uint16]bool{}
	for _, id := range ciphers12() {
		good[id] = true
	}
	some := 0
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			continue
		}
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
		if err == nil {
			some++
			_ = conn.Close()
		}
		if err == nil && !good[suite.ID] {
			t.Errorf("%s is taken", suite.Name)
		}
	}
	if some == 0 {
		t.Error("nothing is taken over TLS 1.2")
	}
	for version, taken := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
		if (err == nil) != taken {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}
