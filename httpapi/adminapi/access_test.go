package adminapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/httpapi/adminapi"
	"github.com/keyraft/keyraft/internal/testproof"
	"github.com/keyraft/keyraft/tokens"
)

// each calls fn for every route of the table with ids filled in.
func (w *world) each(fn func(r httpapi.Route, path string)) {
	for _, r := range w.routes {
		fn(r, strings.ReplaceAll(r.Path, "{id}", "app"))
	}
}

// TestEveryRouteAsksWho is ADM-09 and the base of ADM-01, from the routing table: a
// new route is covered.
func TestEveryRouteAsksWho(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.each(func(r httpapi.Route, path string) {
		for _, header := range []string{"", "Bearer wrong", "Bearer " + overToken, "Basic " + adminToken, adminToken} {
			a := w.call(r.Method, path, "", "Authorization", header)
			if a.status != 401 || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), `Bearer realm="keyraft"`) || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s with %q: %d %v", r.Method, path, header, a.status, a.header)
			}
			if (header == "") == strings.Contains(a.header.Get("WWW-Authenticate"), "error=") {
				t.Errorf("%s %s with %q: challenge %q (RFC 6750 §3.1)", r.Method, path, header, a.header.Get("WWW-Authenticate"))
			}
		}
		a := w.call(r.Method, path+"?access_token="+adminToken, "", "Authorization", "")
		if a.status != 401 || strings.Contains(string(a.body), adminToken) {
			t.Errorf("%s %s with the token in the query: %d %s", r.Method, path, a.status, a.body)
		}
		if a := w.call(r.Method, path, "", "Authorization", "", "Cookie", "access_token="+adminToken); a.status != 401 {
			t.Errorf("%s %s with the token in a cookie: %d", r.Method, path, a.status)
		}
		w.refused(400, "invalid_request", "access_token", r.Method, path+"?access_token=x", "")
	})
	if call := w.asked(); call != "" {
		t.Errorf("the cluster was asked to %s", call)
	}
}

// TestATenantsTokenStaysInItsTenant is ADM-01.
func TestATenantsTokenStaysInItsTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	before := w.fsm.View().Index()
	w.each(func(r httpapi.Route, path string) {
		auth := []string{"Authorization", "Bearer " + acmeToken}
		if !r.Tenanted {
			if r.Path == "/admin/v1/tenants/{id}" { // its own administrator may ask
				w.refused(404, "not_found", "", r.Method, path, "", auth...)
				return
			}
			w.refused(403, "insufficient_scope", "", r.Method, path, "", auth...)
			if a := w.call(r.Method, "/t/acme"+path, "", auth...); a.status != 404 {
				t.Errorf("%s /t/acme%s: %d, want 404", r.Method, path, a.status)
			}
			return
		}
		for _, prefix := range []string{"", "/t/nobodys"} {
			w.refused(404, "not_found", "", r.Method, prefix+path, "", auth...)
		}
		if a := w.call(r.Method, "/t/default"+path, "", auth...); a.status != 404 {
			t.Errorf("%s /t/default%s: %d, want 404", r.Method, path, a.status)
		}
	})
	if w.fsm.View().Index() != before || w.asked() != "" {
		t.Error("something was written")
	}
	w.object(201, "POST", "/t/acme/admin/v1/clients", `{"client_id":"ours"}`, "Authorization", "Bearer "+acmeToken)
	w.object(200, "GET", "/t/acme/admin/v1/clients/ours", "", "Authorization", "Bearer "+adminToken)
	w.refused(404, "not_found", "", "GET", "/t/acme/admin/v1/clients/app", "", "Authorization", "Bearer "+acmeToken)
	a := w.object(201, "POST", "/t/acme/admin/v1/clients", `{"client_id":"app"}`, "Authorization", "Bearer "+acmeToken)
	if _, ok := w.fsm.View().Client("acme", "app"); !ok || a["client_id"] != "app" {
		t.Errorf("the same id in another tenant: %v", a)
	}
}

func TestAccessTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs("")
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"ops","scope":"keyraft:admin read"}`)
	good := w.mint("default", "ops", "read keyraft:admin", issuer)
	w.object(200, "GET", "/admin/v1/clients/ops", "", "Authorization", "Bearer "+good)
	w.refused(403, "insufficient_scope", "", "GET", "/admin/v1/clients/ops", "", "Authorization", "Bearer "+w.mint("default", "ops", "read", issuer))
	w.refused(403, "insufficient_scope", "", "GET", "/admin/v1/cluster/status", "", "Authorization", "Bearer "+good)
	w.refused(403, "insufficient_scope", "", "POST", "/admin/v1/keys/rotate", "", "Authorization", "Bearer "+good)
	w.refused(403, "insufficient_scope", "", "POST", "/admin/v1/revocations", `{"key_id":"k"}`, "Authorization", "Bearer "+good)
	w.refused(404, "not_found", "", "GET", "/t/acme/admin/v1/clients", "", "Authorization", "Bearer "+good)
	w.refused(401, "invalid_token", "", "GET", "/admin/v1/clients/ops", "", "Authorization", "Bearer "+w.mint("default", "ops", "keyraft:admin", "orders-api"))
	w.object(200, "PATCH", "/admin/v1/clients/ops", `{"scope":"read"}`)
	w.refused(403, "insufficient_scope", "", "GET", "/admin/v1/clients/ops", "", "Authorization", "Bearer "+good)
	w.object(200, "PATCH", "/admin/v1/clients/ops", `{"scope":"keyraft:admin"}`)
	w.object(200, "POST", "/admin/v1/revocations", `{"client_id":"ops"}`, "Authorization", "Bearer "+good)
	w.refused(401, "invalid_token", "", "GET", "/admin/v1/clients/ops", "", "Authorization", "Bearer "+good)
}

// TestBoundAccessTokens: one that is bound opens the admin API with its proof alone (POP-08).
func TestBoundAccessTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs("")
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"ops","scope":"keyraft:admin read"}`)
	const path = "/admin/v1/clients/ops"
	key := testproof.New(t)
	bound := w.minted(&tokens.Claims{
		Tenant: "default", Subject: "ops", ClientID: "ops", Scope: "keyraft:admin", Audience: []string{issuer}, JKT: key.Thumbprint,
	})
	proof := func(nonce string) string {
		c := testproof.With(testproof.Claims("GET", issuer+path, time.Now().Unix()), map[string]any{"ath": testproof.Hash(bound), "nonce": nonce})
		return key.Proof(t, c)
	}
	w.refused(401, "invalid_token", "", "GET", path, "", "Authorization", "Bearer "+bound)
	w.refused(401, "invalid_dpop_proof", "", "GET", path, "", "Authorization", "DPoP "+bound)
	a := w.refused(401, "use_dpop_nonce", "", "GET", path, "", "Authorization", "DPoP "+bound, "DPoP", proof("none"))
	if !strings.HasSuffix(a.header.Get("WWW-Authenticate"), `error="use_dpop_nonce"`) {
		t.Errorf("challenge %q", a.header.Get("WWW-Authenticate"))
	}
	good := proof(a.header.Get("DPoP-Nonce"))
	w.object(200, "GET", path+"?consistency=stale", "", "Authorization", "DPoP "+bound, "DPoP", good)
	w.refused(401, "invalid_dpop_proof", "", "GET", path, "", "Authorization", "DPoP "+bound, "DPoP", good)
	w.refused(401, "invalid_token", "", "GET", path, "", "Authorization", "DPoP "+adminToken) // an admin token is a bearer token
}

// TestATokenMadeElsewhere: what this node has not applied is looked for once more.
func TestATokenMadeElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lag := w.fsm.View()
	cred := w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	w.lagging.Store(lag)
	if a := w.call("GET", "/admin/v1/clients/app?consistency=stale", ""); a.status != 404 || a.header.Get("X-Keyraft-Applied-Index") != fmt.Sprint(lag.Index()) {
		t.Errorf("stale: %d %v", a.status, a.header)
	}
	w.lagging.Store(lag)
	if got := w.object(200, "GET", "/admin/v1/clients/app", ""); got["client_id"] != cred["client_id"] {
		t.Errorf("linearizable: %v", got)
	}
	w.refused(400, "invalid_request", "consistency", "GET", "/admin/v1/clients?consistency=eventual", "")
	w.noLeader.Store(true)
	w.lagging.Store(lag)
	w.object(200, "GET", "/admin/v1/cluster/status", "")
	w.object(200, "GET", "/admin/v1/cluster/members", "")
	if a := w.refused(503, "temporarily_unavailable", "", "GET", "/admin/v1/clients/app", ""); a.header.Get("Retry-After") == "" {
		t.Errorf("no Retry-After: %v", a.header)
	}
	if a := w.call("GET", "/admin/v1/cluster/status", "", "Authorization", "Bearer unknown"); a.status != 503 {
		t.Errorf("a token that can't be looked up: %d, want 503 and no refusal", a.status)
	}
}

func TestErrorsOfTheRooms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("propose: %w", command.ErrUnavailable), 503, "temporarily_unavailable"},
		{fmt.Errorf("propose: %w", command.ErrOutcomeUnknown), 503, "outcome_unknown"},
		{command.EpochChanged, 503, "temporarily_unavailable"},
	} {
		w.broken.Store(&tt.err)
		for _, call := range [][3]string{
			{"POST", "/admin/v1/clients", `{}`}, {"PUT", "/admin/v1/clients/app", `{}`}, {"PATCH", "/admin/v1/clients/app", `{"scope":"read"}`},
			{"DELETE", "/admin/v1/clients/app", ""}, {"POST", "/admin/v1/clients/app/secret", ""}, {"POST", "/admin/v1/revocations", `{"subject":"alice"}`},
			{"POST", "/admin/v1/gateways", `{"name":"edge"}`}, {"POST", "/admin/v1/keys/rotate", `{}`},
		} {
			if a := w.refused(tt.status, tt.code, "", call[0], call[1], call[2]); a.header.Get("Retry-After") == "" {
				t.Errorf("%s %s: no Retry-After", call[0], call[1])
			}
		}
	}
	refused := error(&member.RefusedError{Status: 409, Code: "quorum", Reason: "removing it would leave no majority"})
	w.refuse.Store(&refused)
	for _, call := range [][2]string{
		{"DELETE", "/admin/v1/cluster/members/n2"}, {"POST", "/admin/v1/cluster/members/n2/promote"}, {"POST", "/admin/v1/cluster/transfer-leader"},
		{"POST", "/admin/v1/cluster/join-tokens"}, {"GET", "/admin/v1/cluster/snapshot"}, {"POST", "/admin/v1/cluster/gossip-keys/rotate"},
	} {
		w.refused(409, "quorum", "", call[0], call[1], "")
	}
}

// TestTheFormOfTheIdempotencyKey: 1 to 255 visible characters.
func TestTheFormOfTheIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, key := range []string{strings.Repeat("k", 256), "with a space in it", "ü"} {
		w.refused(400, "invalid_request", "Idempotency-Key", "POST", "/admin/v1/clients", `{}`, "Idempotency-Key", key)
	}
	for _, key := range []string{"k", strings.Repeat("k", 255), `"quoted~!"`} {
		first := w.object(201, "POST", "/admin/v1/clients", `{}`, "Idempotency-Key", key)
		if again := w.object(201, "POST", "/admin/v1/clients", `{}`, "Idempotency-Key", key); again["client_secret"] != first["client_secret"] {
			t.Errorf("%.20s: the retry made another secret", key)
		}
	}
}

// TestCursors is ADM-05: sealed, bound to list and tenant; limits are clamped.
func TestCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("c%d", i)
		want = append(want, id)
		w.object(201, "POST", "/admin/v1/clients", `{"client_id":"`+id+`"}`)
		w.object(201, "POST", "/t/acme/admin/v1/clients", `{"client_id":"`+id+`"}`)
	}
	var got []string
	cursor := ""
	for page := 0; page == 0 || cursor != ""; page++ {
		path := "/admin/v1/clients?limit=3"
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		p := w.object(200, "GET", path, "")
		for _, item := range p["items"].([]any) {
			got = append(got, item.(map[string]any)["client_id"].(string))
		}
		cursor, _ = p["next_cursor"].(string)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("all pages together: %v", got)
	}
	next := w.object(200, "GET", "/admin/v1/clients?limit=2", "")["next_cursor"].(string)
	flipped := []byte(next)
	flipped[len(flipped)/2] ^= 1
	for _, tt := range []struct{ name, path string }{
		{"of another tenant", "/t/acme/admin/v1/clients?cursor=" + next}, {"of another list", "/admin/v1/keys?cursor=" + next},
		{"with a bit flipped", "/admin/v1/clients?cursor=" + string(flipped)}, {"forged", "/admin/v1/clients?cursor=YzE"},
		{"no base64", "/admin/v1/clients?cursor=%25"}, {"cut short", "/admin/v1/clients?cursor=" + next[:len(next)-4]},
		{"endless", "/admin/v1/clients?cursor=" + strings.Repeat("A", 6000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.refused(400, "invalid_request", "cursor", "GET", tt.path, "")
		})
	}
	for limit, items := range map[string]int{"-1": 1, "0": 1, "1000000000": 7, "99999999999999999999": 7} {
		if p := w.object(200, "GET", "/admin/v1/clients?limit="+limit, ""); len(p["items"].([]any)) != items {
			t.Errorf("limit=%s: %d items", limit, len(p["items"].([]any)))
		}
	}
	w.refused(400, "invalid_request", "limit", "GET", "/admin/v1/clients?limit=ten", "")
}

// TestPagesMissNothing: ids of different lengths, of which the state holds the shorter
// ones first.
func TestPagesMissNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{"zz", "n1", "n10", "n9"} {
		w.Must(t, &command.PutTenant{Tenant: &state.Tenant{Id: id}})
	}
	var got []string
	for cursor, first := "", true; first || cursor != ""; first = false {
		path := "/admin/v1/tenants?limit=1"
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		p := w.object(200, "GET", path, "")
		for _, item := range p["items"].([]any) {
			got = append(got, item.(map[string]any)["id"].(string))
		}
		cursor, _ = p["next_cursor"].(string)
	}
	if want := "acme default n1 n10 n9 zz"; strings.Join(got, " ") != want {
		t.Errorf("all pages together: %v, want %s", got, want)
	}
}

// TestBodiesAreStrict is ADM-04 for every call that takes one.
func TestBodiesAreStrict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	before, _ := json.Marshal(w.object(200, "GET", "/admin/v1/clients/app", ""))
	for _, call := range [][2]string{
		{"POST", "/admin/v1/clients"}, {"PUT", "/admin/v1/clients/app"}, {"PATCH", "/admin/v1/clients/app"}, {"POST", "/admin/v1/clients/app/secret"},
		{"POST", "/admin/v1/revocations"}, {"POST", "/admin/v1/explain"}, {"POST", "/admin/v1/gateways"}, {"POST", "/admin/v1/keys/rotate"},
		{"POST", "/admin/v1/cluster/members"}, {"POST", "/admin/v1/cluster/join-tokens"}, {"POST", "/admin/v1/cluster/transfer-leader"}, {"POST", "/admin/v1/cluster/gossip-keys/rotate"},
	} {
		for _, field := range []string{"id_", "tenant", "secret_hash", "created_at", "global", "roles", "seq", "generation", "updated_at", "client_secret", "software_statement"} {
			w.refused(400, "", field, call[0], call[1], `{"`+field+`":1}`)
		}
		for _, body := range []string{`[]`, `"x"`, `null`, `{`, `{} {}`, "\xff"} {
			if a := w.call(call[0], call[1], body); a.status != 400 {
				t.Errorf("%s %s %q: %d %s", call[0], call[1], body, a.status, a.body)
			}
		}
		if a := w.call(call[0], call[1], `x=1`, "Content-Type", "application/x-www-form-urlencoded"); a.status != 415 {
			t.Errorf("%s %s: a form got %d", call[0], call[1], a.status)
		}
	}
	w.refused(400, "invalid_request", "scope", "PATCH", "/admin/v1/clients/app", `{"scope":"a","scope":"b"}`)
	w.refused(400, "invalid_request", "scope", "POST", "/admin/v1/clients", `{"scope":1}`)
	w.refused(400, "invalid_request", "grant_types", "PATCH", "/admin/v1/clients/app", `{"grant_types":"client_credentials"}`)
	if after, _ := json.Marshal(w.object(200, "GET", "/admin/v1/clients/app", "")); string(after) != string(before) {
		t.Errorf("the client changed: %s", after)
	}
}

func TestDepsAreChecked(t *testing.T) {
	t.Parallel()
	if _, err := adminapi.Routes(adminapi.Deps{Now: time.Now}); err == nil {
		t.Error("routes without the rooms that decide")
	}
}
