package adminapi_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi/adminapi"
)

func cloned(c *state.Client, name string) *state.Client {
	next := proto.CloneOf(c)
	next.Name = name
	return next
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs("")
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	token := w.mint("default", "app", "read", "api")
	for _, body := range []string{`{"token":"` + token + `"}`, `{"client_id":"app"}`, `{"subject":"alice"}`, `{"application":"shop"}`, `{"root":"r1"}`, `{"subject":"bob","issued_before":1700000000}`} {
		got := w.object(200, "POST", "/admin/v1/revocations", body)
		if got["seq"] != float64(w.fsm.View().Head()) || got["head"] != got["seq"] || got["receipt"] != nil || got["complete"] != nil {
			t.Errorf("%.40s: %v", body, got)
		}
	}
	if _, revoked := w.fsm.View().Revoked("default", "", "client", "app", 0, 0); !revoked {
		t.Error("the client's tokens are not revoked")
	}
	// REV-05: a future moment is clamped to now.
	w.object(200, "POST", "/admin/v1/revocations", fmt.Sprintf(`{"subject":"carol","issued_before":%d}`, time.Now().Unix()+1_000_000))
	if _, revoked := w.fsm.View().Revoked("default", "", "subject", "carol", 0, time.Now().Unix()+60); revoked {
		t.Error("what will be issued in a minute is revoked already")
	}
}

// TestRevocationBodies is ADM-08 and REV-05: nothing is written.
func TestRevocationBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	active := w.signs("")["kid"].(string)
	w.object(201, "POST", "/t/acme/admin/v1/clients", `{"client_id":"theirs"}`)
	w.signs("/t/acme")
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	theirs := w.mint("acme", "theirs", "read", "api")
	head := w.fsm.View().Head()
	for _, tt := range []struct {
		name, body string
		status     int
		field      string
	}{
		{"two targets", `{"client_id":"app","subject":"alice"}`, 400, ""},
		{"none", `{}`, 400, ""},
		{"an empty subject", `{"subject":""}`, 400, ""},
		{"issued_before as a string", `{"subject":"alice","issued_before":"1700000000"}`, 400, "issued_before"},
		{"issued_before negative", `{"subject":"alice","issued_before":-1}`, 400, "issued_before"},
		{"issued_before beyond 2^53", fmt.Sprintf(`{"subject":"alice","issued_before":%d}`, int64(math.MaxInt64)), 400, "issued_before"},
		{"a client of another tenant", `{"client_id":"theirs"}`, 404, "client_id"},
		{"a token of another tenant", `{"token":"` + theirs + `"}`, 400, "token"},
		{"a token that is none", `{"token":"abc"}`, 400, "token"},
		{"the key that signs, up to a moment", `{"key_id":"` + active + `","issued_before":1700000000}`, 400, "issued_before"},
		{"a key that is not there", `{"key_id":"nobodys"}`, 404, "key_id"},
		{"an endless subject", `{"subject":"` + strings.Repeat("a", 2000) + `"}`, 400, "subject"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.refused(tt.status, "", tt.field, "POST", "/admin/v1/revocations", tt.body)
		})
	}
	w.refused(400, "invalid_request", "wait", "POST", "/admin/v1/revocations?wait=nodes", `{"subject":"alice"}`)
	w.refused(400, "invalid_request", "timeout", "POST", "/admin/v1/revocations?wait=gateways&timeout=soon", `{"subject":"alice"}`)
	if w.fsm.View().Head() != head {
		t.Error("something was written")
	}
	w.object(200, "POST", "/admin/v1/revocations", `{"subject":"*"}`) // exact match alone
	if _, revoked := w.fsm.View().Revoked("default", "", "subject", "alice", 0, 0); revoked {
		t.Error("a star matched a subject")
	}
}

// TestY9LeakedKey: revoking the key that signs lets its successor sign in the same
// call, and refuses what the old one signed.
func TestY9LeakedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leaked := w.signs("")["kid"].(string)
	got := w.object(200, "POST", "/admin/v1/revocations", `{"key_id":"`+leaked+`"}`)
	v := w.fsm.View()
	if seq, revoked := v.Revoked("default", "", "key", leaked, 0, 0); !revoked || float64(seq) > got["seq"].(float64) {
		t.Errorf("revoked %v by %d, answered %v", revoked, seq, got)
	}
	if now := w.signs("")["kid"].(string); now == leaked {
		t.Error("the leaked key signs on")
	}
}

func TestReceiptInTheAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var asked adminapi.Revocation
	var timeout time.Duration
	lines, complete := []adminapi.Confirmation{{Gateway: "g1", Instance: "i1", Head: 9, MS: 12, OK: true}, {Gateway: "g2", Head: 3, MS: -1}, {Instance: "dev", Head: 9, OK: true}}, false
	w.receipt = func(r adminapi.Revocation, d time.Duration) ([]adminapi.Confirmation, bool) {
		asked, timeout = r, d
		return lines, complete
	}
	got := w.object(200, "POST", "/t/acme/admin/v1/revocations?wait=gateways&timeout=7s", `{"subject":"alice"}`)
	receipt := got["receipt"].([]any)
	if got["complete"] != false || len(receipt) != 3 {
		t.Fatalf("%v", got)
	}
	first, second, third := receipt[0].(map[string]any), receipt[1].(map[string]any), receipt[2].(map[string]any)
	if first["gateway"] != "g1" || first["head"] != 9.0 || first["ms"] != 12.0 || first["ok"] != true {
		t.Errorf("%v", first)
	}
	if second["ok"] != false || second["ms"] != nil || third["gateway"] != "dev" || third["ms"] != 0.0 {
		t.Errorf("%v %v", second, third)
	}
	if asked.Tenant != "acme" || float64(asked.Seq) != got["seq"] || asked.Epoch != 1 || timeout != 7*time.Second || asked.At.IsZero() {
		t.Errorf("asked for %+v within %v", asked, timeout)
	}
	lines, complete = nil, true
	got = w.object(200, "POST", "/admin/v1/revocations?wait=gateways&timeout=1h", `{"subject":"alice"}`)
	if r, ok := got["receipt"].([]any); !ok || len(r) != 0 || got["complete"] != true || timeout != time.Minute {
		t.Errorf("without gateways: %v, %v", got, timeout)
	}
	w.object(200, "POST", "/admin/v1/revocations?wait=gateways", `{"subject":"alice"}`)
	if timeout != 5*time.Second {
		t.Errorf("the preset is %v", timeout)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signs("")
	w.object(201, "POST", "/admin/v1/clients", `{"client_id":"app"}`)
	good := w.mint("default", "app", "read", "api")
	explain := func(token, api string) map[string]any {
		t.Helper()
		return w.object(200, "POST", "/admin/v1/explain", fmt.Sprintf(`{"token":%q,"api":%q}`, token, api))
	}
	got := explain(good, "")
	if got["accepted"] != true || got["key_manager"] != "resident" || got["reason"] != "" || got["rule"] != "issuer" || got["applied_index"] != float64(w.fsm.View().Index()) {
		t.Errorf("%v", got)
	}
	forged := good[:len(good)-8] + "AAAAAAAA"
	for _, tt := range []struct{ name, token, api, reason, rule string }{
		{"no token of anybody", "nonsense", "", "malformed", "form"},
		{"a forged signature", forged, "", "bad_signature", "signature"},
		{"an API that is not registered", good, "orders", "unknown_api", "api"},
		{"an opaque token that is unknown", "kr1_" + strings.Repeat("A", 59), "", "inactive", "introspection"},
	} {
		if got := explain(tt.token, tt.api); got["accepted"] != false || got["reason"] != tt.reason || got["rule"] != tt.rule {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if got := w.object(200, "POST", "/t/acme/admin/v1/explain", `{"token":"`+good+`"}`); got["reason"] != "unknown_issuer" || got["key_manager"] != "" {
		t.Errorf("asked of another tenant: %v", got)
	}
	seq := w.object(200, "POST", "/admin/v1/revocations", `{"client_id":"app"}`)["seq"]
	if got := explain(good, ""); got["reason"] != "revoked" || got["rule"] != "revocation client" || got["seq"] != seq {
		t.Errorf("revoked: %v", got)
	}
	if got := explain(w.mint("default", "app", "read", "api"), ""); got["accepted"] != true {
		t.Errorf("minted after the revocation: %v", got)
	}
	w.object(200, "POST", "/admin/v1/keys/rotate", `{"emergency":true}`)
	if got := explain(good, ""); got["reason"] != "revoked" || got["rule"] != "signing_key" {
		t.Errorf("of a revoked key: %v", got)
	}
	w.refused(400, "invalid_request", "token", "POST", "/admin/v1/explain", `{"token":""}`)
}
