package main

import (
	"net/url"
	"strings"
)

// waiting is what devices and back channels ask, and where their users answer.
func (h *holder) waiting() {
	const deviceGrant, cibaGrant = "urn:ietf:params:oauth:grant-type:device_code", "urn:openid:params:grant-type:ciba"
	made := h.admin("POST", "clients", map[string]any{
		"client_id": "console", "grant_types": []string{deviceGrant, cibaGrant}, "scope": "openid", "backchannel_token_delivery_mode": "poll",
	}, 201)
	basic := basicAuth("console", made.text("client_secret"))
	post := func(path, body string, status int, code string) *reply {
		h.t.Helper()
		return h.do(ask{method: "POST", path: path, body: body, auth: basic, status: status, code: code})
	}
	begun := post("/oauth2/device_authorization", "scope=openid", 200, "")
	post("/oauth2/device_authorization", "scope=admin", 400, "invalid_scope")
	post("/oauth2/device_authorize", "scope=openid", 200, "")
	post("/oauth2/device_authorize", "scope=admin", 400, "invalid_scope")
	post("/oauth2/token", "grant_type="+deviceGrant+"&device_code="+begun.text("device_code"), 400, "authorization_pending")
	post("/oauth2/token", "grant_type="+deviceGrant+"&device_code="+begun.text("device_code"), 400, "slow_down")
	asked := post("/oauth2/bc-authorize", "scope=openid&login_hint=visitor&binding_message=W4SCT&requested_expiry=60", 200, "")
	post("/oauth2/bc-authorize", "scope=openid&login_hint=nobody", 400, "unknown_user_id")
	for range 15 {
		post("/oauth2/bc-authorize", "scope=openid&login_hint=visitor", 200, "")
	}
	post("/oauth2/bc-authorize", "scope=openid&login_hint=visitor", 403, "access_denied")
	post("/oauth2/token", "grant_type="+cibaGrant+"&auth_req_id="+asked.text("auth_req_id"), 400, "authorization_pending")

	b := h.browser()
	b.page("GET", "/device", "", 200)
	b.page("GET", "/device?user_code=a&user_code=b", "", 400)
	b.page("GET", "/oauth2/device?user_code="+begun.text("user_code"), "", 200)
	b.page("GET", "/oauth2/device?user_code=a&user_code=b", "", 400)
	b.page("GET", "/requests?a=1&a=2", "", 400)
	b.page("GET", "/requests", "", 200)
	login := b.page("POST", "/device", "user_code="+begun.text("user_code"), 200)
	onward := b.page("POST", "/login", "flow="+b.hidden(login, "flow")+"&username=visitor&password="+url.QueryEscape(phrase), 303)
	question := b.page("GET", onward.header.Get("Location"), "", 200)
	b.page("POST", "/device", "flow=forged&decision=allow", 400)
	b.page("POST", "/device", "flow="+b.hidden(question, "flow")+"&decision=allow", 200)
	post("/oauth2/token", "grant_type="+deviceGrant+"&device_code="+begun.text("device_code"), 200, "")
	list := b.page("GET", "/requests", "", 200)
	if !strings.Contains(string(list.body), "W4SCT") {
		h.t.Errorf("the list has no message: %s", list.body)
	}
	b.page("POST", "/requests", "flow=forged&decision=allow", 400)
	b.page("POST", "/requests", "flow="+b.hidden(list, "flow")+"&decision=deny", 200)
}
