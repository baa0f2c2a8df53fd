package main

import (
	"net/url"
	"regexp"
	"strings"
)

// account is what a user sees of themselves, and what an operator sees of a user. Who is not
// signed in is shown the login page; login has made the user visitor and the client web.
func (h *holder) account() {
	get := func(path string) {
		h.t.Helper()
		h.do(ask{method: "GET", path: path, status: 200})
		h.do(ask{method: "GET", path: path + "?ui_locales=de&ui_locales=en", status: 400})
	}
	post := func(path string) {
		h.t.Helper()
		h.do(ask{method: "POST", path: path, body: "token=x", status: 303})
		h.do(ask{method: "POST", path: path, body: "token=x", header: []string{"Origin", "https://evil.example"}, status: 403})
	}
	get("/account")
	for _, path := range []string{"/account/authenticator", "/account/passkey", "/account/recovery", "/account/remove", "/account/password"} {
		get(path)
		post(path)
	}
	post("/account/sessions")
	post("/account/consents")

	first := h.do(ask{method: "GET", path: "/account", status: 200})
	cookie, _, _ := strings.Cut(first.header.Get("Set-Cookie"), ";")
	flow := regexp.MustCompile(`name="flow" value="([^"]+)"`).FindSubmatch(first.body)
	if flow == nil {
		h.t.Fatalf("no login page: %s", first.body)
	}
	for _, path := range []string{"/passkey", "/factor", "/factor/setup"} {
		h.do(ask{method: "POST", path: path, body: "flow=" + string(flow[1]), header: []string{"Cookie", cookie}, status: 200})
		h.do(ask{method: "POST", path: path, body: "flow=forged", header: []string{"Cookie", cookie}, status: 400})
	}
	session := h.do(ask{method: "POST", path: "/login", body: "flow=" + string(flow[1]) + "&username=visitor&password=" + url.QueryEscape(phrase), header: []string{"Cookie", cookie}, status: 303})
	for _, line := range session.header.Values("Set-Cookie") {
		pair, _, _ := strings.Cut(line, ";")
		cookie += "; " + pair
	}
	h.do(ask{method: "GET", path: "/account", header: []string{"Cookie", cookie}, status: 200})
	h.do(ask{method: "GET", path: "/account/recovery", header: []string{"Cookie", cookie}, status: 303})
	h.do(ask{method: "POST", path: "/account/sessions", body: "token=x", header: []string{"Cookie", cookie}, status: 403})

	id := h.admin("GET", "users?username=visitor", nil, 200).item(0)["id"].(string)
	sid := h.admin("GET", "users/"+id+"/sessions", nil, 200).item(0)["id"].(string)
	h.admin("GET", "users/"+id+"/sessions?cursor=forged", nil, 400)
	h.admin("DELETE", "users/"+id+"/sessions/"+sid, nil, 204)
	h.admin("DELETE", "users/"+id+"/sessions/"+sid, nil, 404)
	h.admin("GET", "users/"+id+"/consents", nil, 200)
	h.admin("GET", "users/nobody/consents", nil, 404)
	h.admin("DELETE", "users/"+id+"/consents/web", nil, 204)
	h.admin("DELETE", "users/"+id+"/consents/web", nil, 404)
	h.admin("GET", "users/nobody/credentials", nil, 404)
	h.credentials(id)
}

// item is one of the items of a page.
func (r *reply) item(i int) map[string]any {
	items, _ := r.json["items"].([]any)
	if i >= len(items) {
		return map[string]any{}
	}
	m, _ := items[i].(map[string]any)
	return m
}

// credentials takes a second factor away from a user, which only the user can have added.
func (h *holder) credentials(id string) {
	view := h.node.rooms.server.node.FSM().View()
	user, err := view.User("default", id)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.node.rooms.people.factors.NewRecoveryCodes(h.t.Context(), view, user); err != nil {
		h.t.Fatal(err)
	}
	one := h.admin("GET", "users/"+id+"/credentials", nil, 200).item(0)["id"].(string)
	h.admin("DELETE", "users/"+id+"/credentials/"+one, nil, 204)
	h.admin("DELETE", "users/"+id+"/credentials/"+one, nil, 404)
}
