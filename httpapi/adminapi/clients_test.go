package adminapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
)

const someKey = "0123456789abcdef"

func TestClientLifeCycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.call("POST", "/admin/v1/clients", `{"client_id":"app","client_name":"The app","grant_types":["client_credentials"],"scope":"read write",
		"access_token_format":"opaque","access_token_lifetime":300,"access_token_signed_response_alg":"EdDSA","introspection":"any"}`)
	if a.status != 201 || a.header.Get("Location") != "/admin/v1/clients/app" || a.header.Get("Etag") == "" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	if !strings.Contains(string(a.body), `"client_secret":"`) || !strings.Contains(string(a.body), `"client_secret_expires_at":0`) {
		t.Errorf("no secret in the answer that makes it: %s", a.body)
	}
	got := w.call("GET", "/admin/v1/clients/app", "")
	for _, want := range []string{`"client_id":"app"`, `"client_name":"The app"`, `"scope":"read write"`, `"access_token_format":"opaque"`, `"access_token_lifetime":300`,
		`"access_token_signed_response_alg":"EdDSA"`, `"introspection":"any"`, `"token_endpoint_auth_method":"client_secret_basic"`, `"enabled":true`} {
		if !strings.Contains(string(got.body), want) {
			t.Errorf("%s is missing in %s", want, got.body)
		}
	}
	if strings.Contains(string(got.body), "client_secret\"") || got.header.Get("Etag") != a.header.Get("Etag") {
		t.Errorf("%v %s", got.header, got.body)
	}
	patched := w.object(200, "PATCH", "/admin/v1/clients/app", `{"scope":"read","client_name":null,"enabled":false}`, "Content-Type", "application/merge-patch+json")
	if patched["scope"] != "read" || patched["client_name"] != nil || patched["enabled"] != false || patched["access_token_lifetime"] != 300.0 || patched["client_secret"] != nil {
		t.Errorf("patched: %v", patched)
	}
	put := w.object(200, "PUT", "/admin/v1/clients/app", `{"client_id":"app","scope":"write"}`)
	if put["scope"] != "write" || put["access_token_lifetime"] != nil || put["enabled"] != true {
		t.Errorf("put: %v", put)
	}
	lived := w.object(200, "PATCH", "/admin/v1/clients/app", `{"access_token_lifetime":"10m","refresh_token_lifetime":"24h"}`)
	if lived["access_token_lifetime"] != 600.0 || lived["refresh_token_lifetime"] != 86400.0 {
		t.Errorf("lives as Go writes them: %v", lived)
	}
	graced := w.object(200, "PATCH", "/admin/v1/clients/app", `{"refresh_grace":0,"user_access_token_lifetime":900}`)
	if grace, there := graced["refresh_grace"]; !there || grace != 0.0 || graced["user_access_token_lifetime"] != 900.0 || graced["refresh_token_lifetime"] != 86400.0 {
		t.Errorf("no grace is not the default: %v", graced)
	}
	graced = w.object(200, "PATCH", "/admin/v1/clients/app", `{"refresh_grace":null}`)
	if grace, there := graced["refresh_grace"]; there {
		t.Errorf("null is the default, not %v", grace)
	}
	w.refused(400, "invalid_client_metadata", "refresh_grace", "PATCH", "/admin/v1/clients/app", `{"refresh_grace":-1}`)
	w.refused(400, "invalid_client_metadata", "jwks_uri", "PATCH", "/admin/v1/clients/app", `{"jwks_uri":"https://app.example/jwks"}`)
	w.refused(400, "invalid_client_metadata", "access_token_lifetime", "PATCH", "/admin/v1/clients/app", `{"access_token_lifetime":"soon"}`)
	w.refused(400, "invalid_client_metadata", "client_id", "PUT", "/admin/v1/clients/app", `{"client_id":"other"}`)
	w.refused(400, "invalid_client_metadata", "access_token_format", "PATCH", "/admin/v1/clients/app", `{"access_token_format":"xml"}`)
	w.refused(409, "exists", "client_id", "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	if a := w.call("DELETE", "/admin/v1/clients/app", ""); a.status != 204 || len(a.body) != 0 {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	for _, call := range [][3]string{{"GET", "", ""}, {"PUT", "", `{}`}, {"PATCH", "", `{}`}, {"DELETE", "", ""}, {"POST", "/secret", ""}} {
		w.refused(404, "not_found", "", call[0], "/admin/v1/clients/app"+call[1], call[2])
	}
}

// TestAPatchGrantsNothing: a client that is registered for no grant has none after a
// patch of something else, and gets no token.
func TestAPatchGrantsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.object(201, "POST", "/admin/v1/clients", `{"client_id":"idle","grant_types":[]}`)
	patched := w.object(200, "PATCH", "/admin/v1/clients/idle", `{"client_name":"Idle"}`)
	for what, client := range map[string]map[string]any{"made": made, "patched": patched} {
		if grants, ok := client["grant_types"].([]any); !ok || len(grants) != 0 {
			t.Errorf("%s: grant_types %v", what, client["grant_types"])
		}
	}
	reset := w.object(200, "PATCH", "/admin/v1/clients/idle", `{"grant_types":null}`)
	if grants, ok := reset["grant_types"].([]any); !ok || len(grants) != 1 || grants[0] != "client_credentials" {
		t.Errorf("null is the default: %v", reset["grant_types"])
	}
}

func TestIntrospectionIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if made := w.object(201, "POST", "/admin/v1/clients", `{"client_id":"api"}`); made["introspection"] != "own" {
		t.Errorf("the default: %v", made)
	}
	for _, value := range []string{"any", "audience", "own"} {
		if got := w.object(200, "PATCH", "/admin/v1/clients/api", `{"introspection":"`+value+`"}`); got["introspection"] != value {
			t.Errorf("%s: %v", value, got)
		}
		if got := w.object(200, "PATCH", "/admin/v1/clients/api", `{"client_name":"x"}`); got["introspection"] != value {
			t.Errorf("%s after another change: %v", value, got)
		}
	}
	w.refused(400, "invalid_client_metadata", "introspection", "PATCH", "/admin/v1/clients/api", `{"introspection":"all"}`)
}

func TestRotateSecretKeepsTheOneBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)["client_secret"].(string)
	second := w.object(200, "POST", "/admin/v1/clients/app/secret", "")["client_secret"].(string)
	third := w.object(200, "POST", "/admin/v1/clients/app/secret", `{"keep":"10m"}`)["client_secret"].(string)
	c, _ := w.fsm.View().Client("default", "app")
	if len(c.GetSecrets()) != 2 || c.GetSecrets()[1].GetExpiresAt() == 0 || first == second || second == third {
		t.Errorf("secrets %v", c.GetSecrets())
	}
	w.object(200, "POST", "/admin/v1/clients/app/secret", `{"keep":600}`)
	for _, none := range []string{`0`, `"0"`, `"0s"`} { // what has leaked ends at once
		w.object(200, "POST", "/admin/v1/clients/app/secret", `{"keep":`+none+`}`)
		if c, _ := w.fsm.View().Client("default", "app"); len(c.GetSecrets()) != 1 {
			t.Errorf("keep %s: %d secrets are left", none, len(c.GetSecrets()))
		}
		w.object(200, "POST", "/admin/v1/clients/app/secret", "")
	}
	for _, keep := range []string{`"soon"`, `-1`, `null`, `1e9`, `"-5m"`, `{}`, `99999999999`} {
		w.refused(400, "invalid_request", "keep", "POST", "/admin/v1/clients/app/secret", `{"keep":`+keep+`}`)
	}
}

// TestLostUpdate is ADM-07: a stale ETag is 412, and a change without one is decided
// anew when another came first.
func TestLostUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tag := w.call("POST", "/admin/v1/clients", `{"client_id":"app","scope":"a"}`).header.Get("Etag")
	w.object(200, "PATCH", "/admin/v1/clients/app", `{"scope":"b"}`, "If-Match", tag)
	for _, call := range [][3]string{{"PUT", "", `{}`}, {"PATCH", "", `{"scope":"c"}`}, {"DELETE", "", ""}, {"POST", "/secret", ""}} {
		w.refused(412, "precondition_failed", "If-Match", call[0], "/admin/v1/clients/app"+call[1], call[2], "If-Match", tag)
		w.refused(412, "precondition_failed", "If-Match", call[0], "/admin/v1/clients/app"+call[1], call[2], "If-Match", "W/"+w.call("GET", "/admin/v1/clients/app", "").header.Get("Etag"))
		w.refused(400, "invalid_request", "If-Match", call[0], "/admin/v1/clients/app"+call[1], call[2], "If-Match", "17")
	}
	other := func(command.Command) { // somebody else is first
		c, _ := w.fsm.View().Client("default", "app")
		w.must(&command.PutClient{Client: cloned(c, "theirs"), Expect: c.GetGeneration()})
	}
	w.mu.Lock()
	w.before = other
	w.mu.Unlock()
	got := w.object(200, "PATCH", "/admin/v1/clients/app", `{"scope":"mine"}`)
	if got["scope"] != "mine" || got["client_name"] != "theirs" {
		t.Errorf("one of two changes at the same moment is lost: %v", got)
	}
	now := w.call("GET", "/admin/v1/clients/app", "").header.Get("Etag")
	w.mu.Lock()
	w.before = other
	w.mu.Unlock()
	w.refused(412, "precondition_failed", "If-Match", "PUT", "/admin/v1/clients/app", `{}`, "If-Match", now)
	if a := w.call("PUT", "/admin/v1/clients/app", `{}`, "If-Match", "*"); a.status != 200 {
		t.Errorf("If-Match: *: %d %s", a.status, a.body)
	}
	if a := w.call("PUT", "/admin/v1/clients/app", `{}`, "If-Match", `"1", `+w.call("GET", "/admin/v1/clients/app", "").header.Get("Etag")); a.status != 200 {
		t.Errorf("a list of tags: %d %s", a.status, a.body)
	}
}

// TestIdempotencyKeyWithIfMatch: a retry names the ETag that its own first try has
// moved on from. It gets the kept answer, a secret included; a change that was never made
// is refused still.
func TestIdempotencyKeyWithIfMatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	first := w.call("GET", "/admin/v1/clients/app", "").header.Get("Etag")
	for _, call := range [][3]string{{"POST", "/secret", ""}, {"PUT", "", `{"client_name":"a"}`}, {"PATCH", "", `{"client_name":"b"}`}, {"DELETE", "", ""}} {
		now := w.call("GET", "/admin/v1/clients/app", "").header.Get("Etag")
		headers := []string{"If-Match", now, "Idempotency-Key", someKey + call[0]}
		one := w.call(call[0], "/admin/v1/clients/app"+call[1], call[2], headers...)
		two := w.call(call[0], "/admin/v1/clients/app"+call[1], call[2], headers...)
		if one.status > 299 || two.status != one.status || string(two.body) != string(one.body) {
			t.Errorf("%s: %d %s, again %d %s", call[0], one.status, one.body, two.status, two.body)
		}
		if call[0] != "DELETE" {
			w.refused(412, "precondition_failed", "If-Match", call[0], "/admin/v1/clients/app"+call[1], call[2], "If-Match", first, "Idempotency-Key", someKey+"late"+call[0])
		}
	}
}

// TestIdempotencyKey is ADM-07 too: the same request again gives one object and the
// same answer, its secret included.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, call := range []struct {
		path, body string
		status     int
	}{
		{"/admin/v1/clients", `{"client_name":"orders"}`, 201},
		{"/admin/v1/gateways", `{"name":"edge"}`, 201},
	} {
		first := w.call("POST", call.path, call.body, "Idempotency-Key", someKey)
		again := w.call("POST", call.path, call.body, "Idempotency-Key", someKey)
		if first.status != call.status || string(first.body) != string(again.body) || again.status != first.status {
			t.Errorf("%s: %d %s, then %d %s", call.path, first.status, first.body, again.status, again.body)
		}
		w.refused(422, "idempotency_key_reused", "Idempotency-Key", "POST", call.path, strings.Replace(call.body, `"name":"`, `"name":"x`, 1)+" ", "Idempotency-Key", someKey)
		if other := w.call("POST", call.path, strings.Replace(call.body, "edge", "edge2", 1), "Idempotency-Key", someKey+"2"); other.status != call.status || string(other.body) == string(first.body) {
			t.Errorf("%s under another key: %d %s", call.path, other.status, other.body)
		}
	}
	if n := len(w.fsm.View().Clients("default", "", 100)); n != 2 {
		t.Errorf("%d clients, want 2", n)
	}
	acme := w.object(201, "POST", "/t/acme/admin/v1/clients", `{"client_name":"orders"}`, "Idempotency-Key", someKey)
	here := w.object(201, "POST", "/admin/v1/clients", `{"client_name":"orders"}`, "Idempotency-Key", someKey)
	if acme["client_id"] == here["client_id"] || acme["client_secret"] == here["client_secret"] {
		t.Error("the same key in two tenants made the same secret")
	}
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	one := w.object(200, "POST", "/admin/v1/clients/app/secret", "", "Idempotency-Key", someKey)
	two := w.object(200, "POST", "/admin/v1/clients/app/secret", "", "Idempotency-Key", someKey)
	if one["client_secret"] != two["client_secret"] || one["client_secret"] == nil {
		t.Errorf("rotation again: %v, then %v", one, two)
	}
	for range 2 {
		if a := w.call("DELETE", "/admin/v1/clients/app", "", "Idempotency-Key", someKey); a.status != 204 {
			t.Errorf("delete: %d %s", a.status, a.body)
		}
	}
	w.call("DELETE", "/admin/v1/gateways/edge", "")
	w.refused(409, "gone", "Idempotency-Key", "POST", "/admin/v1/gateways", `{"name":"edge"}`, "Idempotency-Key", someKey)
}

func TestSecretsAreNotStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secret := w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)["client_secret"].(string)
	credential := w.object(201, "POST", "/admin/v1/gateways", `{"name":"edge"}`)["credential"].(string)
	s, err := w.fsm.Snapshot(time.Now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var out strings.Builder
	if _, err := s.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{secret, credential, adminToken} {
		if strings.Contains(out.String(), hidden) {
			t.Error("a secret lies in the state")
		}
	}
}
