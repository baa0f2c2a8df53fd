package adminapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
)

const alice = `{"username":"Alice","password":"a long phrase of mine","email":"alice@example.com","roles":["staff"],"claims":{"department":"sales"}}`

func (w *world) makeUser(body string) (id string) {
	w.t.Helper()
	id, _ = w.object(201, "POST", "/admin/v1/users", body)["id"].(string)
	return id
}

func TestUserLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.call("POST", "/admin/v1/users", alice)
	if a.status != 201 || strings.Contains(string(a.body), "phrase") || strings.Contains(string(a.body), "argon2") {
		t.Fatalf("%d, or the password comes back: %s", a.status, a.body)
	}
	at := a.header.Get("Location")
	one := w.call("GET", at, "")
	if one.status != 200 || one.header.Get("ETag") != a.header.Get("ETag") || string(one.body) != string(a.body) || strings.Contains(string(one.body), "argon2") {
		t.Errorf("%s: %d %s, made as %s", at, one.status, one.body, a.body)
	}
	changed := w.object(200, "PATCH", at, `{"email":null,"claims":{"department":null,"floor":3},"second_factor":true}`)
	if _, mail := changed["email"]; mail || changed["second_factor"] != true || fmt.Sprint(changed["claims"]) != "map[floor:3]" || changed["has_password"] != true {
		t.Errorf("patched to %v", changed)
	}
	put := w.object(200, "PUT", at, `{"username":"alice"}`)
	if _, roles := put["roles"]; roles || put["username"] != "alice" || put["has_password"] != true {
		t.Errorf("replaced by %v", put)
	}
	w.object(200, "POST", at+"/password", `{"password":"another phrase of mine"}`)
	for _, sub := range []string{"/logins", "/lockout", ""} {
		if a := w.call("DELETE", at+sub, ""); a.status != 204 {
			t.Errorf("DELETE %s%s: %d %s", at, sub, a.status, a.body)
		}
	}
	w.refused(404, "not_found", "", "GET", at, "")
	w.refused(404, "not_found", "", "DELETE", at, "")
}

func TestUserRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.makeUser(alice)
	at := "/admin/v1/users/" + id
	for _, tt := range []struct {
		name, method, path, body, field string
		status                          int
	}{
		{"WEB-14: a name that folds to another's", "POST", "/admin/v1/users", `{"username":"ＡＬＩＣＥ"}`, "username", 409},
		{"WEB-14: mixed scripts", "POST", "/admin/v1/users", `{"username":"\u0430lice"}`, "username", 400},
		{"no name", "POST", "/admin/v1/users", `{}`, "username", 400},
		{"a short password", "POST", "/admin/v1/users", `{"username":"bob","password":"short"}`, "password", 400},
		{"a common password", "POST", at + "/password", `{"password":"password123"}`, "password", 400},
		{"no password", "POST", at + "/password", `{}`, "password", 400},
		{"WEB-14: a password over 1024 bytes", "POST", at + "/password", `{"password":"` + strings.Repeat("x", 1025) + `"}`, "password", 400},
		{"ADM-04: an id of one's own", "POST", "/admin/v1/users", `{"username":"bob","id":"x"}`, "id", 400},
		{"ADM-04: a generation", "PATCH", at, `{"generation":1}`, "generation", 400},
		{"ADM-04: a tenant", "PUT", at, `{"username":"alice","tenant":"acme"}`, "tenant", 400},
		{"REG-05: a claim that the server sets", "PATCH", at, `{"claims":{"sub":"admin"}}`, "claims", 400},
		{"ADM-05: a forged cursor", "GET", "/admin/v1/users?cursor=forged", "", "cursor", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.refused(tt.status, "", tt.field, tt.method, tt.path, tt.body)
		})
	}
	t.Run("ADM-01: another tenant's user is not found", func(t *testing.T) {
		w.refused(404, "not_found", "", "GET", "/t/acme/admin/v1/users/"+id, "", "Authorization", "Bearer "+acmeToken)
		w.refused(404, "not_found", "", "POST", "/t/acme/admin/v1/users/"+id+"/password", `{"password":"a long phrase"}`, "Authorization", "Bearer "+acmeToken)
		list := w.object(200, "GET", "/t/acme/admin/v1/users", "", "Authorization", "Bearer "+acmeToken)
		if items, _ := list["items"].([]any); len(items) != 0 {
			t.Errorf("acme sees %v", items)
		}
	})
}

func TestUserChangesMeet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := "/admin/v1/users/" + w.makeUser(alice)
	tag := w.call("GET", at, "").header.Get("ETag")
	w.object(200, "PATCH", at, `{"name":"A"}`, "If-Match", tag)
	w.refused(412, "precondition_failed", "If-Match", "PATCH", at, `{"name":"B"}`, "If-Match", tag)
	w.refused(412, "precondition_failed", "If-Match", "POST", at+"/password", `{"password":"another phrase of mine"}`, "If-Match", tag)
	w.refused(412, "precondition_failed", "If-Match", "DELETE", at, "", "If-Match", tag)

	// Another change that is quicker is kept, and this one is decided on it.
	w.overtake(func() { w.object(200, "PATCH", at, `{"locale":"de"}`) })
	both := w.object(200, "PATCH", at, `{"name":"C"}`)
	if both["locale"] != "de" || both["name"] != "C" {
		t.Errorf("ADM-07: one change was lost: %v", both)
	}
}

// overtake does something before the next proposal.
func (w *world) overtake(do func()) {
	w.mu.Lock()
	w.before = func(command.Command) { do() }
	w.mu.Unlock()
}

func TestUserRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := func(k string) []string { return []string{"Idempotency-Key", k} }
	first := w.call("POST", "/admin/v1/users", alice, key("make")...)
	again := w.call("POST", "/admin/v1/users", alice, key("make")...)
	if first.status != 201 || string(first.body) != string(again.body) || first.header.Get("Location") != again.header.Get("Location") {
		t.Errorf("made %s, and again %d %s", first.body, again.status, again.body)
	}
	w.refused(422, "idempotency_key_reused", "Idempotency-Key", "POST", "/admin/v1/users", `{"username":"bob"}`, key("make")...)
	at := first.header.Get("Location")
	tag := first.header.Get("ETag")
	for range 2 {
		if a := w.call("POST", at+"/password", `{"password":"another phrase of mine"}`, append(key("set"), "If-Match", tag)...); a.status != 200 {
			t.Errorf("set a password: %d %s", a.status, a.body)
		}
	}
	for range 2 {
		if a := w.call("DELETE", at, "", key("gone")...); a.status != 204 {
			t.Errorf("delete: %d %s", a.status, a.body)
		}
	}
}

func TestUserList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := map[string]bool{}
	for i := range 5 {
		want[w.makeUser(fmt.Sprintf(`{"username":"user-%d"}`, i))] = true
	}
	got, path := map[string]bool{}, "/admin/v1/users?limit=2"
	for pages := 0; ; pages++ {
		if pages > 5 {
			t.Fatal("the list has no end")
		}
		page := w.object(200, "GET", path, "")
		items, _ := page["items"].([]any)
		for _, i := range items {
			id, _ := i.(map[string]any)["id"].(string)
			if got[id] {
				t.Errorf("%s came twice", id)
			}
			got[id] = true
		}
		next, _ := page["next_cursor"].(string)
		if next == "" {
			break
		}
		path = "/admin/v1/users?limit=2&cursor=" + next
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v, made %v", got, want)
	}
	for name, found := range map[string]int{"USER-1": 1, "nobody": 0, "a%20b": 0} {
		items, _ := w.object(200, "GET", "/admin/v1/users?username="+name, "")["items"].([]any)
		if len(items) != found {
			t.Errorf("%d users of the name %q, want %d", len(items), name, found)
		}
	}
}
