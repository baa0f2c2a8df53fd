package main

// otherWords is what clients that are set up for WSO2's servers ask.
func (h *holder) otherWords() {
	token := h.admin("POST", "initial-access-tokens", map[string]any{"uses": 0}, 201).text("token")
	send := func(method, path, token string, body any, status int) *reply {
		h.t.Helper()
		return h.do(ask{method: method, path: path, body: body, auth: basicAuth("admin", token), status: status})
	}
	const old, dcr = "/client-registration/v0.17/register", "/api/identity/oauth2/dcr/v1.1/register"
	send("POST", old, token, map[string]any{"clientName": "rest_api", "owner": "admin", "grantType": "client_credentials", "saasApp": true}, 201)
	send("POST", old, token, map[string]any{"clientName": 7}, 400)
	send("POST", old, "admin", map[string]any{"clientName": "rest_api"}, 401)
	made := send("POST", dcr, token, map[string]any{"redirect_uris": []string{""}, "client_name": "application_1", "grant_types": []string{"client_credentials"}, "ext_pkce_mandatory": true}, 201)
	send("POST", dcr, token, map[string]any{"client_name": "application_1", "ext_param_client_id": "provided_client_id0001"}, 400)
	own, id := made.text("registration_access_token"), "/"+made.text("client_id")
	send("GET", dcr+id, own, nil, 200)
	send("GET", dcr+id, "admin", nil, 401)
	send("PUT", dcr+id, own, map[string]any{"client_id": "other"}, 400)
	own = send("PUT", dcr+id, own, map[string]any{"client_name": "application_2"}, 200).text("registration_access_token")
	send("DELETE", dcr+id, own, nil, 204)
	send("DELETE", dcr+id, own, nil, 401)
	for _, path := range []string{"/oauth2/token", "/oauth2/oidcdiscovery"} {
		h.do(ask{method: "GET", path: path + "/.well-known/openid-configuration", status: 200})
		h.do(ask{method: "GET", path: path + "/.well-known/openid-configuration", header: []string{"X_Forged", "1"}, status: 400})
	}
	page := h.browser().page
	page("GET", "/oidc/logout", "", 200)
	page("GET", "/oidc/logout?id_token_hint=forged", "", 400)
	page("POST", "/oidc/logout", "id_token_hint=forged", 400)
	page("POST", "/oidc/logout", "client_id=web", 200)
}
