package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// begun is the answer to a request that its user decides elsewhere.
type begun struct {
	Device    string `json:"device_code"`
	Code      string `json:"user_code"`
	Link      string `json:"verification_uri_complete"`
	AuthReqID string `json:"auth_req_id"`
	URI       string `json:"request_uri"`
	Error     string `json:"error"`
}

// begin asks at the next node.
func (v *visitor) begin(t *testing.T, path string, form url.Values) begun {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, v.next().Base+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(v.client.ID, v.client.Secret)
	resp, err := v.w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	var out begun
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s: %d %+v, %v", path, resp.StatusCode, out, err)
	}
	return out
}

func (v *visitor) device(t *testing.T) begun {
	t.Helper()
	return v.begin(t, "/oauth2/device_authorization", url.Values{"scope": {"openid"}})
}

func (v *visitor) backchannel(t *testing.T) begun {
	t.Helper()
	return v.begin(t, "/oauth2/bc-authorize", url.Values{"scope": {"openid"}, "login_hint": {"alice"}, "binding_message": {"W4SCT"}})
}

func (v *visitor) poll(t *testing.T, at *node, b begun) got {
	t.Helper()
	if b.AuthReqID != "" {
		return v.token(t, at, "grant_type", "urn:openid:params:grant-type:ciba", "auth_req_id", b.AuthReqID)
	}
	return v.token(t, at, "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", b.Device)
}

// allow goes through whatever pages come until the request is allowed.
func (v *visitor) allow(t *testing.T, b begun) {
	t.Helper()
	p := v.Open(t, "/requests")
	if b.AuthReqID == "" {
		link, err := url.Parse(b.Link)
		if err != nil {
			t.Fatal(err)
		}
		p = v.Submit(t, v.Open(t, link.RequestURI()))
	}
	if len(p.Forms) > 0 && strings.HasSuffix(p.Forms[0].Action, "/login") {
		p = v.Submit(t, p, "username", "alice", "password", phrase)
	}
	told := v.Submit(t, p, "decision", "allow")
	if told.Status != http.StatusOK || !strings.Contains(told.Text, "Access allowed") {
		t.Fatalf("%d %s", told.Status, told.Text)
	}
}

// TestDevicesOnThreeNodes: each request of a device's and of a back channel's login goes to
// another node (T5): polls are paced over all of them, one of many wins, and a leader that
// dies between the beginning and the tokens takes nothing.
func TestDevicesOnThreeNodes(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	v := newVisitor(t, w, nodes, "urn:ietf:params:oauth:grant-type:device_code", "urn:openid:params:grant-type:ciba")
	for _, kind := range []struct {
		name  string
		begin func(*testing.T) begun
	}{{"a device", v.device}, {"a back channel", v.backchannel}} {
		t.Run(kind.name+" is paced and gets its tokens once", func(t *testing.T) {
			defer w.during(t)()
			b := kind.begin(t)
			if a := v.poll(t, nodes[0], b); a.Error != "authorization_pending" {
				t.Errorf("first poll: %+v", a)
			}
			slowed := false
			for range 10 { // one of them comes within the interval, however busy the machine is
				slowed = slowed || v.poll(t, v.next(), b).Error == "slow_down"
			}
			if !slowed { // TOK-40
				t.Error("ten polls without a pause, over all nodes, were not told to slow down")
			}
			v.allow(t, b)
			var won []got
			for _, a := range v.storm(t, 100, func(at *node) got { return v.poll(t, at, b) }) {
				if a.status == http.StatusOK {
					won = append(won, a)
				} else if a.Error != "invalid_grant" {
					t.Errorf("%+v", a)
				}
			}
			if len(won) != 1 || won[0].ID == "" {
				t.Fatalf("%d of 100 polls got tokens", len(won))
			}
			if a := v.refresh(t, v.next(), won[0].Refresh); a.status != http.StatusOK {
				t.Errorf("what came of it does not go on: %+v", a)
			}
		})
	}
	t.Run("what a device's login writes", func(t *testing.T) {
		defer w.during(t)()
		before := v.writes(t)
		b := v.device(t)
		v.poll(t, nodes[0], b)
		v.allow(t, b)
		if a := v.poll(t, nodes[1], b); a.status != http.StatusOK {
			t.Fatalf("%+v", a)
		}
		for range 5 {
			v.poll(t, v.next(), b)
		}
		after := v.writes(t)
		want := map[string]int{"StartDevice": 1, "PollDevice": 1, "RecordAttempt": 1, "DecideDevice": 1, "Redeem": 1}
		for kind := range after {
			if n := after[kind] - before[kind]; n != want[kind] {
				t.Errorf("%d of %s were written, want %d", n, kind, want[kind])
			}
		}
	})
	t.Run("the leader dies between the beginning and the tokens", func(t *testing.T) {
		defer w.during(t)()
		waits, allowed, asked := v.device(t), v.device(t), v.backchannel(t)
		v.allow(t, allowed)
		old := w.leader(nodes...)
		rest := without(nodes, old)
		old.kill()
		v.nodes.Store(&rest)
		w.leader(rest...) // they have another
		if a := v.poll(t, rest[0], allowed); a.status != http.StatusOK {
			t.Errorf("what was allowed is lost: %+v", a)
		}
		if a := v.poll(t, rest[1], allowed); a.Error != "invalid_grant" {
			t.Errorf("it is good twice: %+v", a)
		}
		for _, b := range []begun{waits, asked} {
			if a := v.poll(t, rest[0], b); a.Error != "authorization_pending" {
				t.Errorf("what waits is lost: %+v", a)
			}
			v.allow(t, b)
			if a := v.poll(t, rest[1], b); a.status != http.StatusOK {
				t.Errorf("%+v", a)
			}
		}
		old.run()
		w.awaitVoters(rest[0], 3)
		w.equalChecksums(nodes...)
	})
}
