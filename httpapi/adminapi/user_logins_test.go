package adminapi_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
)

// user is a user as the store has them.
func (w *world) user(id string) *state.User {
	w.t.Helper()
	u, err := w.fsm.View().User("default", id)
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

func items(answer map[string]any) []any {
	list, _ := answer["items"].([]any)
	return list
}

// TestUserSessions: an administrator sees those that stand, page by page, and ends one;
// nobody reaches a session by another user or another tenant.
func TestUserSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, other := w.makeUser(alice), w.makeUser(`{"username":"bob"}`)
	at := "/admin/v1/users/" + id + "/sessions"
	var cookie string
	for i := range 3 {
		value, _, err := w.sessions.Start(context.Background(), w.fsm.View(), "default", w.user(id), identity.Authentication{
			AMR: []string{"pwd"}, ACR: "1", UserAgent: fmt.Sprint("browser ", i), Address: "192.0.2.7",
		})
		if err != nil {
			t.Fatal(err)
		}
		cookie = value
	}
	first := w.object(200, "GET", at+"?limit=2", "")
	next, _ := first["next_cursor"].(string)
	if len(items(first)) != 2 || next == "" {
		t.Fatalf("%v", first)
	}
	last := items(w.object(200, "GET", at+"?limit=2&cursor="+next, ""))
	if len(last) != 1 {
		t.Fatalf("the second page has %v", last)
	}
	w.refused(400, "invalid_request", "cursor", "GET", "/admin/v1/users/"+other+"/sessions?cursor="+next, "")
	one := last[0].(map[string]any)
	sid, _ := one["id"].(string)
	if one["address"] != "192.0.2.7" || one["acr"] != "1" || fmt.Sprint(one["amr"]) != "[pwd]" {
		t.Errorf("%v", one)
	}
	w.refused(404, "not_found", "", "DELETE", "/admin/v1/users/"+other+"/sessions/"+sid, "")
	w.refused(404, "not_found", "", "GET", "/t/acme"+at, "", "Authorization", "Bearer "+acmeToken)
	w.refused(404, "not_found", "", "DELETE", "/t/acme"+at+"/"+sid, "", "Authorization", "Bearer "+acmeToken)
	if a := w.call("DELETE", at+"/"+sid, ""); a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.refused(404, "not_found", "", "DELETE", at+"/"+sid, "")
	if left := items(w.object(200, "GET", at, "")); len(left) != 2 || strings.Contains(fmt.Sprint(left), sid) {
		t.Errorf("%v are left", left)
	}
	if a := w.call("DELETE", "/admin/v1/users/"+id+"/logins", ""); a.status != 204 {
		t.Fatal(a.status)
	}
	if left := items(w.object(200, "GET", at, "")); len(left) != 0 {
		t.Errorf("after all logins were ended %v stand", left)
	}
	if s, _, _, err := w.sessions.Current(w.fsm.View(), "default", cookie); s != nil || err != nil {
		t.Errorf("a session that was ended is good: %v", err)
	}
}

func TestUserConsents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.makeUser(alice)
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"urn:app:1"}`)
	if err := w.consents.Remember(t.Context(), &state.Consent{Tenant: "default", User: id, ClientId: "urn:app:1", Scopes: []string{"read"}, Claims: []string{"email"}}); err != nil {
		t.Fatal(err)
	}
	at := "/admin/v1/users/" + id + "/consents"
	list := items(w.object(200, "GET", at, ""))
	if len(list) != 1 {
		t.Fatalf("%v", list)
	}
	if one := list[0].(map[string]any); one["client_id"] != "urn:app:1" || fmt.Sprint(one["scopes"], one["claims"]) != "[read] [email]" {
		t.Errorf("%v", one)
	}
	w.refused(404, "not_found", "", "DELETE", at+"/other", "")
	if a := w.call("DELETE", at+"/urn:app:1", ""); a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if list := items(w.object(200, "GET", at, "")); len(list) != 0 {
		t.Errorf("it is still there: %v", list)
	}
}

// TestUserCredentials: what is listed lets nobody use it, and each user's are their own.
func TestUserCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, other := w.makeUser(alice), w.makeUser(`{"username":"bob"}`)
	w.must(&command.PutCredential{Credential: &state.Credential{Tenant: "default", User: id, Id: "k1", Kind: state.KindPasskey, Name: "phone", Public: []byte(`{"key":"public"}`)}})
	w.must(&command.PutCredential{Credential: &state.Credential{Tenant: "default", User: id, Id: "t1", Kind: state.KindTOTP, Sealed: []byte("sealed-secret")}})
	if _, err := w.factors.NewRecoveryCodes(t.Context(), w.fsm.View(), w.user(id)); err != nil {
		t.Fatal(err)
	}
	at := "/admin/v1/users/" + id + "/credentials"
	a := w.call("GET", at, "")
	if a.status != 200 || strings.Contains(string(a.body), "sealed") || strings.Contains(string(a.body), "public") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if list := items(w.object(200, "GET", at, "")); len(list) != 3 {
		t.Errorf("%v", list)
	}
	w.refused(404, "not_found", "", "DELETE", "/admin/v1/users/"+other+"/credentials/k1", "")
	w.refused(405, "method_not_allowed", "", "POST", at, `{"kind":"totp"}`) // nobody but the user adds one
	for _, one := range []string{"k1", "t1"} {
		if a := w.call("DELETE", at+"/"+one, ""); a.status != 204 {
			t.Errorf("%s: %d %s", one, a.status, a.body)
		}
	}
	if list := items(w.object(200, "GET", at, "")); len(list) != 0 {
		t.Errorf("recovery codes outlive the last factor: %v", list)
	}
}
