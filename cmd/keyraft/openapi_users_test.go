package main

import "strings"

// users walks the calls of a tenant's users.
func (h *holder) users() {
	alice := map[string]any{
		"username": "Alice", "password": "a long phrase of mine", "email": "alice@example.com", "roles": []string{"staff"},
		"claims": map[string]any{"department": "sales"},
	}
	key := []string{"Idempotency-Key", "users-1"}
	made := h.admin("POST", "users", alice, 201, key...)
	if strings.Contains(string(made.body), "long phrase") || strings.Contains(string(made.body), "argon2") {
		h.t.Errorf("the answer holds the password: %s", made.body)
	}
	id := made.text("id")
	if again := h.admin("POST", "users", alice, 201, key...); again.text("id") != id {
		h.t.Errorf("a repeated call made the user %s, the first one %s", again.text("id"), id)
	}
	h.admin("POST", "users", map[string]any{"username": "other"}, 422, key...)
	h.admin("POST", "users", map[string]any{"username": "ＡＬＩＣＥ"}, 409)
	h.admin("POST", "users", map[string]any{"username": "bob", "password": "short"}, 400)
	h.admin("POST", "users", map[string]any{"username": "bob", "id": "x"}, 400)
	h.admin("POST", "users", "username=x", 415)
	h.admin("POST", "users", map[string]any{"username": "bob"}, 201)
	page := h.admin("GET", "users?limit=1", nil, 200)
	h.admin("GET", "users?limit=1&cursor="+page.text("next_cursor"), nil, 200)
	h.admin("GET", "users?username=ALICE", nil, 200)
	h.admin("GET", "users?cursor=forged", nil, 400)
	h.admin("GET", "users/nobody", nil, 404)
	one := h.admin("GET", "users/"+id, nil, 200)
	tag := one.header.Get("ETag")
	h.admin("PUT", "users/"+id, map[string]any{"username": "alice", "name": "Alice"}, 200, "If-Match", tag)
	h.admin("PUT", "users/"+id, map[string]any{"username": "alice"}, 412, "If-Match", tag)
	h.admin("PATCH", "users/"+id, map[string]any{"locale": "de", "name": nil}, 200)
	h.admin("PATCH", "users/"+id, map[string]any{"username": "a b"}, 400)
	h.admin("POST", "users/"+id+"/password", map[string]any{"password": "another phrase of mine"}, 200)
	h.admin("POST", "users/"+id+"/password", map[string]any{"password": "password123"}, 400)
	h.admin("DELETE", "users/"+id+"/lockout", nil, 204)
	h.admin("DELETE", "users/"+id+"/logins", nil, 204)
	h.admin("DELETE", "users/nobody", nil, 404)
	h.admin("DELETE", "users/"+id, nil, 204)
}
