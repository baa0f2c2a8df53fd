package testnode_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/tokens"
)

func TestMain(m *testing.M) { testnode.Main(m) }

func tenant(id string) command.Command { return &command.PutTenant{Tenant: &state.Tenant{Id: id}} }

func TestBootstrap(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Options{})
	v := n.FSM.View()
	if _, ok := v.AdminToken([32]byte(n.Hash(testnode.AdminToken))); !ok {
		t.Error("the operators' token is unknown")
	}
	if c, _ := v.Cluster(); c.GetIssuer() != testnode.Issuer {
		t.Errorf("issuer %q", c.GetIssuer())
	}
	if _, version, err := tokens.NewClusterKeys(n.Ring).Newest(v, tokens.KeyHash); err != nil || version != 1 {
		t.Errorf("hash key of version %d, %v", version, err)
	}
}

// TestPropose: one entry a command, refusals in the result, errors of Before.
func TestPropose(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	var refuse bool
	n := testnode.New(t, testnode.Options{Before: func(command.Command) error {
		if refuse {
			return lost
		}
		return nil
	}})
	before := n.FSM.View().Index()
	n.Pass(time.Hour)
	n.Must(t, tenant("acme"))
	if v := n.FSM.View(); v.Index() != before+1 || v.Clock() != n.Now().UnixMilli() {
		t.Errorf("index %d after %d, cluster time %d at %d", v.Index(), before, v.Clock(), n.Now().UnixMilli())
	}
	r, err := n.Propose(t.Context(), &command.PutClient{Client: &state.Client{Tenant: "default", Id: "c"}, Expect: 7})
	if err != nil || r.Err() == nil || n.FSM.View().Index() != before+2 {
		t.Errorf("a change of what is not there: %v, %v, index %d after %d", r, err, n.FSM.View().Index(), before)
	}
	refuse = true
	before = n.FSM.View().Index()
	if _, err := n.Propose(t.Context(), tenant("other")); !errors.Is(err, lost) || n.FSM.View().Index() != before {
		t.Errorf("error %v, index %d after %d", err, n.FSM.View().Index(), before)
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Options{})
	lag := n.FSM.View()
	n.Must(t, tenant("acme"))
	n.Lagging.Store(lag)
	sees := func(f state.Freshness, want *state.View, wantErr bool) {
		t.Helper()
		if v, err := n.View(t.Context(), f); v != want || (err != nil) != wantErr {
			t.Errorf("got %p, %v, want %p, an error: %v", v, err, want, wantErr)
		}
	}
	sees(state.Local, lag, false)
	n.Unproven.Store(true)
	sees(state.Local, nil, true)
	sees(state.Stale, lag, false)
	n.NoLeader.Store(true)
	sees(state.Linearizable, nil, true)
	n.NoLeader.Store(false)
	n.Unproven.Store(false)
	sees(state.Linearizable, n.FSM.View(), false)
	sees(state.Local, n.FSM.View(), false)
	if n.Reads.Load() != 2 {
		t.Errorf("%d linearizable views, want 2", n.Reads.Load())
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Options{})
	ln := fasthttputil.NewInmemoryListener()
	client := testnode.Serve(t, ln, ln.Dial, httpapi.Config{View: n.View, Routes: []httpapi.Route{{
		Method: "POST", Path: "/echo", Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			c.SetBodyString(string(c.Request.Header.Peek("X-One")) + string(c.Request.Header.Peek("X-Two")) + string(c.PostBody()))
			return nil
		},
	}}})
	a, err := testnode.Send(context.Background(), client, "POST", "http://node/echo", "body", "X-One", "1", "X-Two", "2", "X-Two", "")
	if err != nil || a.Status != 200 || string(a.Body) != "1body" {
		t.Errorf("%d %q, %v", a.Status, a.Body, err)
	}
}
