package gatewayapi_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/httpapi/gatewayapi"
)

// process is a gateway that polls as the SDK does.
type process struct {
	stop func()
	node atomic.Pointer[node]
}

// follow polls with long waits from the head on, until stopped.
func follow(n *node, credential, instance string, headers ...string) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{}
	p.node.Store(n)
	var wg sync.WaitGroup
	since := n.fsm.View().Head()
	wg.Go(func() {
		for ctx.Err() == nil {
			a, err := p.node.Load().try(ctx, credential, fmt.Sprintf("%s?since=%d&wait=1s&instance=%s", polling, since, instance), headers...)
			if err != nil || a.status != 200 {
				continue
			}
			if d, err := wire.ParseJSON(a.body); err == nil {
				since = d.Next()
			}
		}
	})
	p.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	n.t.Cleanup(p.stop)
	until(n.t, instance+" to poll", func() bool {
		for _, i := range n.pollers.Instances(context.Background()) {
			if i.Instance == instance {
				return true
			}
		}
		return false
	})
	return p
}

func closed(ms int) []string {
	return []string{wire.HeaderFailMode, "closed", wire.HeaderBound, fmt.Sprint(ms)}
}

func receipt(n *node, tenant string, seq uint64, timeout time.Duration) ([]gatewayapi.Confirmation, bool) {
	return n.pollers.Receipt(context.Background(), gatewayapi.Revocation{Tenant: tenant, Epoch: 1, Seq: seq, At: time.Now()}, timeout)
}

func TestReceiptNamesWhoHasIt(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	n.tenant("acme")
	follow(n, n.gateway("g1"), "one")
	follow(n, n.gateway("g2"), "two", closed(10_000)...)
	follow(n, n.gateway("g3", "acme"), "of-acme")

	began := time.Now()
	got, complete := receipt(n, "default", n.revoke("default", "c1"), 5*time.Second)
	if len(got) != 2 || !complete || time.Since(began) > 3*time.Second {
		t.Fatalf("after %v, complete %v: %+v", time.Since(began), complete, got)
	}
	for i, want := range []string{"g1", "g2"} {
		c := got[i]
		if c.Gateway != want || !c.OK || c.MS < 0 || c.MS > 5000 || c.Head < n.fsm.View().Head() {
			t.Errorf("%+v", c)
		}
	}
	if got, complete := receipt(n, "acme", n.revoke("acme", "c1"), 5*time.Second); len(got) != 3 || !complete {
		t.Errorf("of another tenant: complete %v, %+v", complete, got)
	}
}

func TestReceiptWithoutGatewaysIsCompleteAtOnce(t *testing.T) {
	t.Parallel()
	n := start(newWorld(t), options{})
	n.get(n.gateway("g1"), polling+"?since=0") // one look, by nobody who waits: no gateway
	began := time.Now()
	got, complete := receipt(n, "default", n.revoke("default", "c1"), 5*time.Second)
	if len(got) != 0 || got == nil || !complete || time.Since(began) > 2*time.Second {
		t.Errorf("after %v, complete %v: %+v", time.Since(began), complete, got)
	}
}

// TestSilentGateways: one that fails closed is waited for as long as its bound, one
// that fails open is reported as not reached, at once.
func TestSilentGateways(t *testing.T) {
	t.Parallel()
	var shift atomic.Int64
	n := start(newWorld(t), options{without: true, clock: func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }})
	follow(n, n.gateway("g1"), "closed", closed(20_000)...).stop()
	follow(n, n.gateway("g2"), "open", wire.HeaderFailMode, "open", wire.HeaderBound, "20000").stop()

	got, complete := receipt(n, "default", n.revoke("default", "c1"), 300*time.Millisecond)
	if len(got) != 2 || complete || got[0].OK || got[0].MS != -1 || got[1].OK {
		t.Errorf("within the bound, complete %v: %+v", complete, got)
	}
	shift.Store(int64(70 * time.Second)) // the open poll was cut off at the stop; the server's end comes later
	until(t, "both polls to end", func() bool {
		for _, i := range n.pollers.Instances(context.Background()) {
			if i.Live {
				return false
			}
		}
		return true
	})
	began := time.Now()
	got, complete = receipt(n, "default", n.revoke("default", "c2"), 5*time.Second)
	if len(got) != 1 || got[0].Gateway != "g2" || got[0].OK || complete || time.Since(began) > 3*time.Second {
		t.Errorf("after %v, beyond the bound, complete %v: %+v", time.Since(began), complete, got)
	}
}

// TestReceiptAsksTheOtherNodes: gateways of two nodes, one that dies while its gateway
// goes over to the other.
func TestReceiptAsksTheOtherNodes(t *testing.T) {
	t.Parallel()
	w, all := newWorld(t), newNodes()
	n1 := start(w, options{id: "n1", nodes: all})
	n2 := start(w, options{id: "n2", nodes: all})
	follow(n1, n1.gateway("g1"), "one", closed(10_000)...)
	second := follow(n2, n2.gateway("g2"), "two", closed(10_000)...)
	got, complete := receipt(n1, "default", w.revoke("default", "c1"), 5*time.Second)
	if len(got) != 2 || !complete {
		t.Fatalf("complete %v: %+v", complete, got)
	}

	all.set("n2", true) // its gateway is known to n1 from before
	got, complete = receipt(n1, "default", w.revoke("default", "c2"), 300*time.Millisecond)
	if len(got) != 2 || complete || got[1].OK {
		t.Errorf("a node is down and its gateway not heard of, complete %v: %+v", complete, got)
	}
	second.node.Store(n1)
	got, complete = receipt(n1, "default", w.revoke("default", "c3"), 8*time.Second)
	if len(got) != 2 || !complete {
		t.Errorf("its gateway came over, complete %v: %+v", complete, got)
	}
}

// TestReceiptWithoutANodeThatNeverAnswered: until its gateways must have failed closed,
// nobody can say that all are reached.
func TestReceiptWithoutANodeThatNeverAnswered(t *testing.T) {
	t.Parallel()
	var shift atomic.Int64
	all := newNodes()
	n := start(newWorld(t), options{nodes: all, without: true, clock: func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }})
	all.mu.Lock()
	all.all["n9"], all.down["n9"] = n.pollers, true
	all.mu.Unlock()
	if _, complete := receipt(n, "default", n.revoke("default", "c1"), 200*time.Millisecond); complete {
		t.Error("complete, though a node did not answer")
	}
	shift.Store(int64(time.Minute))
	if _, complete := receipt(n, "default", n.revoke("default", "c1"), 2*time.Second); !complete {
		t.Error("a node that has been down for a minute is still waited for")
	}
}

// TestReceiptOverACutLink: the node that writes the receipt has not reached another one
// for a minute; the rest of the cluster has, and a gateway polls there. It is waited
// for, by way of the node that both reach.
func TestReceiptOverACutLink(t *testing.T) {
	t.Parallel()
	var shift atomic.Int64
	w, all := newWorld(t), newNodes()
	n1 := start(w, options{id: "n1", nodes: all, clock: func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }})
	n2 := start(w, options{id: "n2", nodes: all})
	n3 := start(w, options{id: "n3", nodes: all})
	cred := w.gateway("g1")
	poll := func(since uint64) {
		t.Helper()
		if a := n3.get(cred, fmt.Sprintf("%s?since=%d&instance=far", polling, since), closed(60_000)...); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	sees := func(n *node) bool { return len(n.pollers.Instances(context.Background())) == 1 }
	poll(0)
	until(t, "n1 to hear of it", func() bool { return sees(n1) })
	all.mu.Lock()
	all.cut[[2]string{"n1", "n3"}] = true
	all.mu.Unlock()
	shift.Store(int64(2 * time.Minute))
	seq := w.revoke("default", "c1")
	poll(0) // alive, and does not know
	until(t, "n2 to hear of it", func() bool { return sees(n2) })

	got, complete := receipt(n1, "default", seq, 1500*time.Millisecond)
	if complete || len(got) != 1 || got[0].OK {
		t.Errorf("a gateway behind a cut link does not know, complete %v: %+v", complete, got)
	}
	poll(seq)
	got, complete = receipt(n1, "default", seq, 8*time.Second)
	if !complete || len(got) != 1 || !got[0].OK {
		t.Errorf("it knows, complete %v: %+v", complete, got)
	}
	all.set("n3", true)                            // and now it is down for everybody,
	_ = n2.pollers.Instances(context.Background()) // n2 has found out,
	shift.Store(int64(4 * time.Minute))            // and its bound is over
	until(t, "a dead node to be left out", func() bool {
		_, complete := receipt(n1, "default", w.revoke("default", "c2"), 200*time.Millisecond)
		return complete
	})
}

func TestReportedHead(t *testing.T) {
	t.Parallel()
	w, all := newWorld(t), newNodes()
	n1 := start(w, options{id: "n1", nodes: all})
	n2 := start(w, options{id: "n2", nodes: all})
	cred := w.gateway("g1")
	seq := w.revoke("default", "c1")
	n2.get(cred, fmt.Sprintf("%s?since=%d&instance=i1", polling, seq))
	n2.get(cred, fmt.Sprintf("%s?since=%d&instance=i2", polling, uint64(1)<<62)) // nobody's head
	if head := n1.pollers.ReportedHead(context.Background()); head != seq {
		t.Errorf("reported head %d, want %d", head, seq)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"tenant":"default","epoch":1,"seq":7,"wait_ms":1}`))
	f.Add([]byte(`{"wait_ms":-1}`))
	f.Add([]byte(`{"wait_ms":9223372036854775807}`))
	f.Add([]byte(`[]`))
	p, err := gatewayapi.NewPollers(gatewayapi.PollersConfig{
		View: (&world{}).View, Nodes: func() []string { return nil },
		Ask: func(context.Context, string, string, []byte) ([]byte, error) { return nil, nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if out, err := p.Answer(t.Context(), "n2", body); err == nil && string(out) != `{"items":[]}` {
			t.Errorf("%q", out)
		}
	})
}
