package adminapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi/adminapi"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens"
)

func TestGateways(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.object(201, "POST", "/admin/v1/gateways", `{"name":"edge1","tenants":["default","acme"]}`)
	id, credential := made["id"].(string), made["credential"].(string)
	if key, err := base64.StdEncoding.DecodeString(made["gossip_key"].(string)); err != nil || len(key) != 32 {
		t.Errorf("gossip_key %v", made["gossip_key"])
	}
	hashKey, _, err := tokens.NewClusterKeys(w.ring).Newest(w.fsm.View(), tokens.KeyHash)
	if err != nil {
		t.Fatal(err)
	}
	row, ok := w.fsm.View().GatewayByCredential(seal.Hash(hashKey, []byte(credential)))
	if !ok || row.GetId() != id || strings.Join(row.GetTenants(), " ") != "default acme" {
		t.Errorf("stored: %v", row)
	}
	w.refused(409, "exists", "name", "POST", "/admin/v1/gateways", `{"name":"edge1"}`)
	known := len(w.fsm.View().Gateways())
	w.mu.Lock()
	w.before = func(command.Command) { // another node's, between the look and the commit
		w.Must(t, &command.PutGateway{Gateway: &state.Gateway{Id: "edge9-other", Name: "edge9", Credential: bytes.Repeat([]byte{9}, 32)}})
	}
	w.mu.Unlock()
	w.refused(409, "exists", "name", "POST", "/admin/v1/gateways", `{"name":"edge9"}`, "Idempotency-Key", someKey)
	if n := len(w.fsm.View().Gateways()); n != known+1 {
		t.Errorf("%d gateways, want %d", n, known+1)
	}
	w.refused(409, "exists", "name", "POST", "/admin/v1/gateways", `{"name":"edge9"}`, "Idempotency-Key", someKey)
	w.call("DELETE", "/admin/v1/gateways/edge9", "")
	for body, field := range map[string]string{
		`{}`: "name", `{"name":""}`: "name", `{"name":"a b"}`: "name", `{"name":"` + strings.Repeat("n", 60) + `"}`: "name",
		`{"name":"x","tenants":["nobodys"]}`: "tenants", `{"name":"x","tenants":["acme","acme"]}`: "tenants", `{"name":"x","tenants":"acme"}`: "tenants",
	} {
		w.refused(400, "invalid_request", field, "POST", "/admin/v1/gateways", body)
	}
	w.object(201, "POST", "/admin/v1/gateways", `{"name":"edge2"}`)
	w.gateways = []adminapi.Instance{
		{Gateway: id, Instance: "i1", Addr: "10.0.0.7", Epoch: 1, Head: w.fsm.View().Head(), HeadMS: 90_000, SeenMS: 400, Live: true},
		{Gateway: id, Instance: "i2", Addr: "10.0.0.8", Epoch: 1, HeadMS: 70_000, SeenMS: 300, FailOpen: true},
		{Instance: "curl", Addr: "127.0.0.1", SeenMS: 5},
	}
	w.must(&command.Revoke{Tenant: "default", TargetKind: "client", Target: "c", ExpiresAt: time.Now().Unix() + 60})
	w.gateways[0].Head = w.fsm.View().Head()
	items := w.object(200, "GET", "/admin/v1/gateways", "")["items"].([]any)
	if len(items) != 4 {
		t.Fatalf("%v", items)
	}
	byPlace := map[string]map[string]any{}
	for _, i := range items {
		m := i.(map[string]any)
		byPlace[m["name"].(string)+"/"+m["instance"].(string)] = m
	}
	for place, want := range map[string]string{
		"edge1/i1": fmt.Sprintf("%s 10.0.0.7 %d 400 1 400", id, w.fsm.View().Head()), "edge1/i2": id + " 10.0.0.8 0 70000 1 300",
		"edge2/": fmt.Sprint(byPlace["edge2/"]["id"]) + "  0 -1 0 -1", "/curl": "curl 127.0.0.1 0 0 0 5",
	} {
		m := byPlace[place]
		if got := fmt.Sprintf("%v %v %v %v %v %v", m["id"], m["addr"], m["head"], m["head_age_ms"], m["epoch"], m["last_seen_ms"]); got != want {
			t.Errorf("%s is %q, want %q", place, got, want)
		}
	}
	if a := w.call("GET", "/admin/v1/gateways", ""); bytes.Contains(a.body, []byte(credential)) {
		t.Error("the list holds a credential")
	}
	for _, name := range []string{id, "edge2"} {
		if a := w.call("DELETE", "/admin/v1/gateways/"+name, ""); a.status != 204 {
			t.Errorf("delete %s: %d %s", name, a.status, a.body)
		}
	}
	w.refused(404, "not_found", "", "DELETE", "/admin/v1/gateways/"+id, "")
	if n := len(w.fsm.View().Gateways()); n != 0 {
		t.Errorf("%d gateways are left", n)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.signs("")
	if first["active"] != true || first["alg"] != "ES256" {
		t.Errorf("%v", first)
	}
	planned := w.object(200, "POST", "/admin/v1/keys/rotate", "", "Idempotency-Key", someKey)
	again := w.object(200, "POST", "/admin/v1/keys/rotate", "", "Idempotency-Key", someKey)
	if planned["active"] != false || planned["signs_from"].(float64) <= float64(time.Now().Unix()) || again["kid"] != planned["kid"] {
		t.Errorf("a planned one: %v, then %v", planned, again)
	}
	now := w.object(200, "POST", "/admin/v1/keys/rotate", `{"emergency":true,"alg":"ES256"}`, "Idempotency-Key", someKey+"e")
	same := w.object(200, "POST", "/admin/v1/keys/rotate", `{"emergency":true,"alg":"ES256"}`, "Idempotency-Key", someKey+"e")
	if now["active"] != true || now["kid"] != planned["kid"] || same["kid"] != now["kid"] {
		t.Errorf("an emergency: %v, then %v", now, same)
	}
	// Both proposals of a call, the key and its rotation, are made under the one key.
	old := w.object(200, "POST", "/admin/v1/keys/rotate", `{"alg":"EdDSA"}`)
	both := w.object(200, "POST", "/admin/v1/keys/rotate", `{"emergency":true,"alg":"EdDSA"}`, "Idempotency-Key", someKey+"b")
	if both["kid"] == old["kid"] || both["active"] != true {
		t.Errorf("from %v to %v", old, both)
	}
	state := map[string]string{}
	a := w.call("GET", "/admin/v1/keys", "")
	var list struct {
		Items []struct {
			KID, Alg, State string
			CreatedAt       int64 `json:"created_at"`
			ActiveAt        int64 `json:"active_at"`
			JWK             map[string]any
		}
	}
	if err := json.Unmarshal(a.body, &list); err != nil {
		t.Fatal(err)
	}
	for _, k := range list.Items {
		state[k.KID] = k.State
		if (k.JWK == nil) != (k.State == "revoked") || k.CreatedAt == 0 || k.JWK["d"] != nil {
			t.Errorf("%+v", k)
		}
	}
	if state[first["kid"].(string)] != "revoked" || state[now["kid"].(string)] != "active" || bytes.Contains(a.body, []byte("sealed")) {
		t.Errorf("%s", a.body)
	}
	w.refused(400, "invalid_request", "alg", "POST", "/admin/v1/keys/rotate", `{"alg":"none"}`)
}

func TestMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	status := w.object(200, "GET", "/admin/v1/cluster/status", "")
	for _, name := range []string{"node_id", "state", "leader_id", "term", "applied_index", "commit_index", "revocation_head", "feature_level", "healthy"} {
		if _, ok := status[name]; !ok {
			t.Errorf("%s is missing in %v", name, status)
		}
	}
	one := w.object(200, "GET", "/admin/v1/cluster/members", "")["items"].([]any)[0].(map[string]any)
	for _, name := range []string{"id", "role", "suffrage", "state", "api_addr", "cluster_addr", "applied_index", "last_contact_ms"} {
		if _, ok := one[name]; !ok {
			t.Errorf("%s is missing in %v", name, one)
		}
	}
	sum := w.object(200, "GET", "/admin/v1/cluster/checksum", "")
	if index, want, err := w.fsm.Checksum(); err != nil || sum["applied_index"] != float64(index) || sum["checksum"] != fmt.Sprintf("%x", want) {
		t.Errorf("%v", sum)
	}
	for _, tt := range []struct {
		method, path, body, asked string
		status                    int
	}{
		{"DELETE", "/members/n2", "", "remove n2", 204}, {"DELETE", "/members/n2?force=true", "", "force remove n2", 204},
		{"DELETE", "/members/n2?force=false", "", "remove n2", 204}, {"POST", "/members/n2/promote", "", "promote n2", 200},
		{"POST", "/transfer-leader", `{"id":"n2"}`, "transfer n2", 200}, {"POST", "/transfer-leader", "", "transfer ", 200},
		{"POST", "/gossip-keys/rotate", `{"pool":"gateways"}`, "gossip gateways", 200},
		{"POST", "/join-tokens", "", "join voter 10m0s", 201}, {"POST", "/join-tokens", `{"ttl":"1h","suffrage":"nonvoter"}`, "join nonvoter 1h0m0s", 201},
		{"POST", "/join-tokens", `{"ttl":90}`, "join voter 1m30s", 201}, {"POST", "/join-tokens", `{"ttl":"90"}`, "join voter 1m30s", 201},
		{"POST", "/members", `{"node_id":"n2"}`, "join voter 10m0s", 201},
	} {
		a := w.call(tt.method, "/admin/v1/cluster"+tt.path, tt.body)
		if asked := w.asked(); a.status != tt.status || asked != tt.asked {
			t.Errorf("%s %s %s: %d, the cluster was asked to %q: %s", tt.method, tt.path, tt.body, a.status, asked, a.body)
		}
	}
	w.object(200, "POST", "/admin/v1/cluster/gossip-keys/rotate", "")
	if a, b := w.asked(), w.asked(); a != "gossip nodes" || b != "gossip gateways" {
		t.Errorf("both pools: %q, %q", a, b)
	}
	token := w.object(201, "POST", "/admin/v1/cluster/members", `{"node_id":"n2","suffrage":"nonvoter"}`)
	if token["token"] != "krj1_token" || token["command"] != "keyraft server --join 127.0.0.1:9763 --join-token krj1_token --node-id n2 --non-voter" ||
		token["expires_at"].(float64) < float64(time.Now().Unix()) {
		t.Errorf("%v", token)
	}
	w.refused(409, "exists", "node_id", "POST", "/admin/v1/cluster/members", `{"node_id":"n1"}`)
	if a := w.call("POST", "/admin/v1/cluster/members", `{"node_id":"Node_2.a"}`); a.status != 400 || !strings.Contains(string(a.body), "1 to 64 of a-z, 0-9 and hyphen") {
		t.Errorf("a node id that no node may have: %d %s", a.status, a.body)
	}
	w.object(201, "POST", "/admin/v1/cluster/members", `{"node_id":"`+strings.Repeat("n-2", 21)+`z"}`)
	for body, field := range map[string]string{`{}`: "node_id", `{"node_id":"a b"}`: "node_id", `{"node_id":"` + strings.Repeat("n", 65) + `"}`: "node_id", `{"node_id":"n2","suffrage":"king"}`: "suffrage", `{"node_id":"n2","ttl":"0s"}`: "ttl"} {
		w.refused(400, "invalid_request", field, "POST", "/admin/v1/cluster/members", body)
	}
	w.refused(400, "invalid_request", "ttl", "POST", "/admin/v1/cluster/join-tokens", `{"ttl":"25h"}`)
	w.refused(400, "invalid_request", "force", "DELETE", "/admin/v1/cluster/members/n2?force=yes", "")
	w.refused(400, "invalid_request", "pool", "POST", "/admin/v1/cluster/gossip-keys/rotate", `{"pool":"all"}`)
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 300 {
		w.must(&command.Revoke{Tenant: "default", TargetKind: "client", Target: strings.Repeat("c", 400) + fmt.Sprint(i), ExpiresAt: time.Now().Unix() + 60})
	}
	a := w.call("GET", "/admin/v1/cluster/snapshot", "")
	if a.status != 200 || a.header.Get("Content-Type") != "application/octet-stream" || len(a.body) == 0 {
		t.Fatalf("%d %v", a.status, a.header)
	}
	header, _, err := fsm.Inspect(bytes.NewReader(a.body))
	if err != nil || header.Cluster != "test" {
		t.Errorf("%+v, %v", header, err)
	}
	w.asked()
	// Beyond the 64 KiB of other bodies.
	got := w.object(200, "POST", "/admin/v1/cluster/snapshot?foreign=true", strings.Repeat("s", 1<<20), "Content-Type", "application/octet-stream")
	if got["epoch"] != 2.0 || got["index"] != float64(1<<20) || got["revocation_head"] != 9.0 || w.asked() != "restore foreign" {
		t.Errorf("%v", got)
	}
	w.object(200, "POST", "/admin/v1/cluster/snapshot", "x", "Content-Type", "application/octet-stream")
	if asked := w.asked(); asked != "restore" {
		t.Errorf("asked to %q", asked)
	}
	if a := w.call("POST", "/admin/v1/cluster/snapshot", `{}`); a.status != 415 {
		t.Errorf("JSON: %d", a.status)
	}
	unavailable := fmt.Errorf("prove: %w", command.ErrUnavailable)
	w.refuse.Store(&unavailable)
	if a := w.refused(503, "temporarily_unavailable", "", "GET", "/admin/v1/cluster/snapshot", ""); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	req, err := http.NewRequest("POST", "http://node/admin/v1/cluster/snapshot", io.MultiReader(strings.NewReader("half"), broken{}))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/octet-stream")
	if resp, err := w.http.Do(req); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode/100 == 2 {
			t.Errorf("an upload that broke off: %d", resp.StatusCode)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestSnapshotReaderGoesAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 200 {
		w.must(&command.Revoke{Tenant: "default", TargetKind: "client", Target: strings.Repeat("c", 1000) + fmt.Sprint(i), ExpiresAt: time.Now().Unix() + 60})
	}
	for range 6 { // more often than there are slots: each is given back
		req, err := http.NewRequest("GET", "http://node/admin/v1/cluster/snapshot", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		deadline := time.Now().Add(5 * time.Second)
		for {
			resp, err := w.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = resp.Body.Read(make([]byte, 10))
			_ = resp.Body.Close()
			if resp.StatusCode == 200 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("status %d for 5 s", resp.StatusCode)
			}
		}
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.object(200, "GET", "/admin/v1/tenants", "")["items"].([]any)
	if first := items[0].(map[string]any); len(items) != 2 || first["id"] != "acme" || first["display_name"] != "ACME" || first["enabled"] != true {
		t.Errorf("%v", items)
	}
	if got := w.object(200, "GET", "/admin/v1/tenants/default", ""); got["issuer"] != issuer {
		t.Errorf("%v", got)
	}
	w.refused(404, "not_found", "", "GET", "/admin/v1/tenants/nobodys", "")
}
