package adminapi

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

// keyed is the endpoints whose answers a cluster keeps under an Idempotency-Key,
// served from a node that keeps them as a cluster does.
type keyed struct {
	*testnode.Node
	send func(path, body, key string) (int, string)
}

// Propose keeps the answer to every command under a caller's key, whatever its kind.
func (k *keyed) Propose(ctx context.Context, c command.Command) (command.Result, error) {
	key, body, named := command.KeyFrom(ctx)
	if !named {
		return k.Node.Propose(ctx, c)
	}
	envelope, err := command.Encode(c, key, body, true)
	if err != nil {
		return command.Result{}, err
	}
	v := k.FSM.View()
	header := command.Header{Stamp: k.Now().UnixMilli(), Elapsed: 1 << 39, Epoch: v.Epoch()}
	return k.FSM.Apply(v.Index()+1, 1, append(command.AppendHeader(nil, header, 1), envelope...))[0], nil
}

// joinToken derives the token from the caller's key, as a cluster does.
func (k *keyed) joinToken(ctx context.Context, ttl time.Duration, nonVoter bool) (string, time.Time, error) {
	hash := seal.Generate()
	if key, _, named := command.KeyFrom(ctx); named {
		hash = digest(string(key[:]))
	}
	expires := k.Now().Add(ttl)
	r, err := k.Propose(ctx, &command.PutJoinToken{Hash: hash[:], Token: &state.JoinToken{ExpiresAt: expires.UnixMilli(), NonVoter: nonVoter}})
	switch {
	case err != nil:
		return "", time.Time{}, err
	case r.Reject == command.KeyReused:
		return "", time.Time{}, &member.RefusedError{Status: 422, Code: keyReused, Reason: "the key was used for another request"}
	}
	return "krj1_" + hex.EncodeToString(hash[:]), expires, r.Err()
}

func newKeyed(t *testing.T) *keyed {
	t.Helper()
	k := &keyed{Node: testnode.New(t, testnode.Options{})}
	shared, signing := tokens.NewClusterKeys(k.Ring), tokens.NewSigningKeys(k.Ring)
	introspector, err := tokens.NewIntrospector(tokens.IntrospectorConfig{
		Signing: signing, Shared: shared, Now: k.Now, Absent: func(err error) bool { return err == storage.ErrNotFound },
	})
	if err != nil {
		t.Fatal(err)
	}
	revoker, err := tokens.NewRevoker(introspector, k.View, k.Propose)
	if err != nil {
		t.Fatal(err)
	}
	job, err := tokens.NewKeyJob(tokens.KeyJobConfig{View: k.View, Propose: apart(k.Propose), Ring: k.Ring, Now: k.Now})
	if err != nil {
		t.Fatal(err)
	}
	a := &api{keys: job, Deps: Deps{
		View: k.View, Propose: k.Propose, Revoker: revoker, Introspector: introspector, Signing: signing, Shared: shared, Now: k.Now, WriteTimeout: 5 * time.Second,
		Cluster:  Cluster{JoinToken: k.joinToken, Status: func() member.Status { return member.Status{NodeID: "n1"} }},
		Gateways: Gateways{Receipt: func(context.Context, Revocation, time.Duration) ([]Confirmation, bool) { return nil, true }},
	}}
	var routes []httpapi.Route
	for _, e := range append(a.revocationEndpoints(), a.clusterEndpoints()...) {
		routes = append(routes, a.route(e))
	}
	ln := fasthttputil.NewInmemoryListener()
	client := testnode.Serve(t, ln, ln.Dial, httpapi.Config{Routes: routes, View: k.View})
	k.send = func(path, body, key string) (int, string) {
		t.Helper()
		header := []string{"Authorization", "Bearer " + testnode.AdminToken, "Content-Type", "application/json"}
		if key != "" {
			header = append(header, "Idempotency-Key", key)
		}
		got, err := testnode.Send(context.Background(), client, "POST", "http://node"+path, body, header...)
		if err != nil {
			t.Fatal(err)
		}
		return got.Status, string(got.Body)
	}
	return k
}

// TestRevocationsAndJoinTokensUnderAKey: a retry gets the first answer, another body is
// refused and does nothing, another key or none is another request.
func TestRevocationsAndJoinTokensUnderAKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, path, body, other, answer string }{
		{"a revocation", "/admin/v1/revocations", `{"subject":"alice"}`, `{"subject":"bob"}`, "seq"},
		{"a join token", "/admin/v1/cluster/join-tokens", `{"ttl":60}`, `{"ttl":61}`, "token"},
		{"a member", "/admin/v1/cluster/members", `{"node_id":"n2"}`, `{"node_id":"n3"}`, "command"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newKeyed(t)
			told := func(path, body, key string) string {
				t.Helper()
				status, text := k.send(path, body, key)
				var members map[string]json.RawMessage
				if err := json.Unmarshal([]byte(text), &members); err != nil || status >= 300 || members[tt.answer] == nil {
					t.Fatalf("%s %s under %q: %d %s", path, body, key, status, text)
				}
				return string(members[tt.answer])
			}
			first := told(tt.path, tt.body, "k") // one character is enough
			if again := told(tt.path, tt.body, "k"); again != first {
				t.Errorf("again: %s, then %s", first, again)
			}
			before := k.FSM.View()
			if status, text := k.send(tt.path, tt.other, "k"); status != 422 || !strings.Contains(text, keyReused) || !strings.Contains(text, `"field":"Idempotency-Key"`) {
				t.Errorf("another body: %d %s", status, text)
			}
			if k.FSM.View().Head() != before.Head() {
				t.Error("a refused request has revoked something")
			}
			if other := told(tt.path, tt.body, "k2"); other == first {
				t.Errorf("another key got the same: %s", other)
			}
			if none := told(tt.path, tt.body, ""); none == first {
				t.Errorf("without a key it is the same: %s", none)
			}
		})
	}
}

// TestAnEmptyKeyIsRefused: who sends the header counts on it.
func TestAnEmptyKeyIsRefused(t *testing.T) {
	t.Parallel()
	r := &request{RequestCtx: new(fasthttp.RequestCtx), who: new(principal)}
	if err := r.useKey(&endpoint{keyed: true}); err != nil {
		t.Errorf("without the header: %v", err)
	}
	r.Request.Header.Set("Idempotency-Key", "")
	if err := r.useKey(&endpoint{keyed: true}); err == nil {
		t.Error("an empty key is taken for none")
	}
}

// TestTheQueryIsNoPartOfTheKey: a retry that waits for the gateways, too, is the same
// request.
func TestTheQueryIsNoPartOfTheKey(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	_, first := k.send("/admin/v1/revocations", `{"subject":"alice"}`, "k")
	status, again := k.send("/admin/v1/revocations?wait=gateways", `{"subject":"alice"}`, "k")
	if status != 200 || !strings.HasPrefix(again, strings.TrimSuffix(first, "}")) || !strings.Contains(again, `"complete":true`) {
		t.Errorf("%s, then %d %s", first, status, again)
	}
	if status, text := k.send("/admin/v1/revocations?wait=gateways", `{"subject":"bob"}`, "k"); status != 422 {
		t.Errorf("another body with a query: %d %s", status, text)
	}
}

// TestALeakedKeyUnderAKey: the successor takes over once, the retry gets the first
// answer, and a key that was used for another request lets no successor take over.
func TestALeakedKeyUnderAKey(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	row, err := tokens.NewSigningKey(k.Ring, "default", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	k.Must(t, &command.PutSigningKey{Key: row})
	active := func() (id string) {
		for _, key := range k.FSM.View().SigningKeys("default") {
			if key.GetStatus() == "active" {
				id = key.GetId()
			}
		}
		return id
	}
	leaked := active()
	k.send("/admin/v1/revocations", `{"subject":"alice"}`, "used")
	if status, text := k.send("/admin/v1/revocations", `{"key_id":"`+leaked+`"}`, "used"); status != 422 || active() != leaked {
		t.Errorf("under the key of another request: %d %s", status, text)
	}
	status, first := k.send("/admin/v1/revocations", `{"key_id":"`+leaked+`"}`, "once")
	successor := active()
	if status != 200 || successor == leaked {
		t.Fatalf("%d %s", status, first)
	}
	if status, again := k.send("/admin/v1/revocations", `{"key_id":"`+leaked+`"}`, "once"); status != 200 || again != first || active() != successor {
		t.Errorf("again: %s, then %d %s", first, status, again)
	}
	if status, text := k.send("/admin/v1/revocations", `{"key_id":"`+successor+`"}`, "once"); status != 422 || active() != successor {
		t.Errorf("another signing key under the same key: %d %s", status, text)
	}
}
