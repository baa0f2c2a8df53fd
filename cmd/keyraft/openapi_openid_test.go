package main

import (
	"net/url"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/tokens"
)

// openid is what is told of users. The code is one that the login page would have sealed.
func (h *holder) openid() {
	const redirect = "https://app.example/cb"
	user := h.admin("POST", "users", map[string]any{"username": "info", "password": "a long phrase of mine", "email": "info@x.example"}, 201)
	app := h.admin("POST", "clients", map[string]any{
		"client_id": "app", "grant_types": []string{"authorization_code"}, "response_types": []string{"code"}, "redirect_uris": []string{redirect},
		"scope": "openid email", "skip_consent": true, "id_token_signed_response_alg": "ES256",
	}, 201)
	basic := basicAuth("app", app.text("client_secret"))
	token := func(scope string) string {
		v := h.node.rooms.server.node.FSM().View()
		client, _ := v.Client("default", "app")
		code, err := grants.SealCode(tokens.NewBoxes(h.node.rooms.shared, tokens.KeyCode), v, &state.AuthorizationCode{
			Id: tokens.NewGrantID(), ExpiresAt: v.Clock()/1000 + 3600, ClientCreatedAt: client.GetCreatedAt(), Epoch: v.Epoch(), RedirectUri: redirect,
			Authorization: &state.Authorization{
				Tenant: "default", ClientId: "app", User: user.text("id"), Subject: user.text("id"), AuthTime: 1_700_000_000, Acr: "1",
				Amr: []string{"pwd"}, Scope: scope, Grant: tokens.NewGrantID(), Act: []byte(`{"sub":"support"}`), Details: []byte(`[{"type":"pay"}]`),
			},
		})
		if err != nil {
			h.t.Fatal(err)
		}
		got := h.do(ask{method: "POST", path: "/oauth2/token", body: "grant_type=authorization_code&redirect_uri=" + url.QueryEscape(redirect) + "&code=" + url.QueryEscape(code), auth: basic, status: 200})
		if scope == "openid email" && got.text("id_token") == "" {
			h.t.Errorf("no ID token in %s", got.body)
		}
		return got.text("access_token")
	}
	good := token("openid email")
	for _, method := range []string{"GET", "POST"} {
		info := h.do(ask{method: method, path: "/oauth2/userinfo", auth: "Bearer " + good, status: 200})
		if info.text("sub") != user.text("id") || info.text("email") != "info@x.example" {
			h.t.Errorf("userinfo: %s", info.body)
		}
		h.do(ask{method: method, path: "/oauth2/userinfo", status: 401, code: "invalid_token"})
		h.do(ask{method: method, path: "/oauth2/userinfo", auth: "Bearer " + token("email"), status: 403, code: "insufficient_scope"})
	}
	h.do(ask{method: "POST", path: "/oauth2/userinfo", body: "access_token=" + good, status: 200})
	h.do(ask{method: "POST", path: "/oauth2/userinfo", body: "access_token=" + good, auth: "Bearer " + good, status: 400, code: "invalid_request"})
	if said := h.do(ask{method: "POST", path: "/oauth2/introspect", body: "token=" + good, auth: basic, status: 200}); said.text("username") != "info" || said.json["act"] == nil {
		h.t.Errorf("introspection: %s", said.body)
	}
}
