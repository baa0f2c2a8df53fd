package main

import (
	"encoding/json"
	"net/url"
)

// issuers walks the calls of trusted issuers, and the token exchange.
func (h *holder) issuers() {
	const path, iss = "trusted-issuers", "https://idp.example"
	one := path + "/~aHR0cHM6Ly9pZHAuZXhhbXBsZQ"
	jwks := json.RawMessage(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)
	made := map[string]any{
		"issuer": iss, "jwks": jwks, "map_to_user": true, "audiences": []string{"keyraft"}, "subject_claim": "user", "clients": []string{"app"},
		"scopes": []string{"read"}, "max_lifetime": "10m", "token_exchange": true, "claim_mapping": []map[string]string{{"remote": "dept", "local": "department"}},
	}
	h.admin("POST", path, made, 201)
	h.admin("POST", path, made, 409)
	h.admin("POST", path, map[string]any{"issuer": "https://x.example", "jwks_uri": "https://169.254.169.254/"}, 400)
	h.admin("GET", path+"?limit=1", nil, 200)
	h.admin("GET", path+"?limit=x", nil, 400)
	got := h.admin("GET", one, nil, 200)
	h.admin("PUT", one, map[string]any{"jwks_uri": "https://idp.example/jwks", "enabled": false}, 200, "If-Match", got.header.Get("ETag"))
	h.admin("PUT", one, map[string]any{"jwks": jwks}, 412, "If-Match", got.header.Get("ETag"))
	h.admin("PATCH", one, map[string]any{"enabled": nil}, 200)
	h.admin("PATCH", one, map[string]any{"colour": "red"}, 400)
	h.admin("DELETE", one, nil, 204)
	h.admin("DELETE", one, nil, 404)
	h.admin("GET", one, nil, 404)

	const grant = "urn:ietf:params:oauth:grant-type:token-exchange"
	svc := h.admin("POST", "clients", map[string]any{
		"client_id": "exchanger", "grant_types": []string{"client_credentials", grant}, "scope": "read", "resources": []string{"https://api.example"},
		"token_exchange_subjects": []string{"https://api.example"}, "token_exchange_audiences": []string{"https://api.example"}, "token_exchange_impersonation": true,
	}, 201)
	auth := basicAuth("exchanger", svc.text("client_secret"))
	own := h.do(ask{method: "POST", path: "/oauth2/token", body: "grant_type=client_credentials&resource=https://api.example", auth: auth, status: 200})
	form := "grant_type=" + url.QueryEscape(grant) + "&subject_token_type=urn:ietf:params:oauth:token-type:access_token&subject_token="
	h.do(ask{method: "POST", path: "/oauth2/token", body: form + own.text("access_token"), auth: auth, status: 200})
	h.do(ask{method: "POST", path: "/oauth2/token", body: form + "x", auth: auth, status: 400})
	h.do(ask{method: "POST", path: "/oauth2/token", body: "grant_type=" + url.QueryEscape("urn:ietf:params:oauth:grant-type:jwt-bearer") + "&assertion=x", auth: auth, status: 400})
	h.admin("DELETE", "clients/exchanger", nil, 204)
}
