package gossip_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyraft/keyraft/cluster/gossip"
	"github.com/keyraft/keyraft/cluster/member"
)

// TestMain waits longer than goleak does: a probe of memberlist that is under
// way when it is shut down ends by its own timer.
func TestMain(m *testing.M) {
	code := m.Run()
	for deadline := time.Now().Add(wait); code == 0; {
		err := goleak.Find()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// TestCloseDoesNotWaitForTheSilent: somebody takes the call and says nothing.
func TestCloseDoesNotWaitForTheSilent(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	a := start(t, "n1", nil)
	ended := make(chan error, 1)
	go func() {
		_, err := a.Join([]string{silent.Addr().String()})
		ended <- err
	}()
	c, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	started := time.Now()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("joined one who said nothing")
	}
	if d := time.Since(started); d > time.Second { // the exchange itself may take 2 s
		t.Errorf("Close and the end of the call took %s", d)
	}
}

const wait = 20 * time.Second

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// peer is a pool with what a test looks at.
type peer struct {
	*gossip.Pool
	head  atomic.Uint64
	heard chan uint64
	log   *captured
}

// start runs a node named name; change may alter its configuration.
func start(t *testing.T, name string, change func(*gossip.Config)) *peer {
	t.Helper()
	p := &peer{heard: make(chan uint64, 1024), log: &captured{}}
	cfg := gossip.Config{
		Label: "c1", Name: name, BindAddr: "127.0.0.1:0", Keys: [][]byte{key(1)},
		Info: func() member.Info {
			return member.Info{ID: name, Kind: member.KindNode, Head: p.head.Load(), ClusterAddr: name + ".example:8444"}
		},
		OnHead: func(_, head uint64) { p.heard <- head },
		Logger: slog.New(p.log),
	}
	if change != nil {
		change(&cfg)
	}
	pool, err := gossip.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Pool = pool
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	return p
}

func (p *peer) set(head uint64) {
	p.head.Store(head)
	p.Announce()
}

func join(t *testing.T, p, to *peer) {
	t.Helper()
	if _, err := p.Join([]string{to.Addr()}); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(wait)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", wait, what)
		}
		timer := time.NewTimer(5 * time.Millisecond)
		<-timer.C
	}
}

// sees waits until p's members have exactly these ids.
func sees(t *testing.T, p *peer, ids ...string) {
	t.Helper()
	want := strings.Join(ids, " ")
	eventually(t, "members "+want, func() bool { return names(p) == want })
}

func names(p *peer) string {
	var got []string
	for _, m := range p.Members() {
		got = append(got, m.ID)
	}
	return strings.Join(got, " ")
}

// hears waits for a head.
func hears(t *testing.T, p *peer, want uint64) {
	t.Helper()
	deadline := time.After(wait)
	for {
		select {
		case got := <-p.heard:
			if got == want {
				return
			}
		case <-deadline:
			t.Fatalf("waited %s in vain for head %d", wait, want)
		}
	}
}

// captured keeps log records as lines.
type captured struct {
	mu    sync.Mutex
	lines []string
}

func (c *captured) Enabled(context.Context, slog.Level) bool { return true }
func (c *captured) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *captured) WithGroup(string) slog.Handler            { return c }
func (c *captured) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	fmt.Fprintf(&line, "%s %s", r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&line, " %s=%s", a.Key, a.Value); return true })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, line.String())
	return nil
}

func (c *captured) has(parts ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.lines {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}

func TestHeadReachesTheOthers(t *testing.T) {
	t.Parallel()
	a, b, c := start(t, "n1", nil), start(t, "n2", nil), start(t, "n3", nil)
	join(t, b, a)
	join(t, c, a)
	for _, p := range []*peer{a, b, c} {
		sees(t, p, "n1", "n2", "n3")
	}
	b.set(7)
	hears(t, a, 7)
	hears(t, c, 7)
	eventually(t, "the record that goes with it", func() bool {
		m := a.Members()
		return len(m) == 3 && m[1].Head == 7 && m[1].ClusterAddr == "n2.example:8444"
	})
	if len(b.heard) != 0 {
		t.Error("a member was told of its own head")
	}
}

func TestWhatIsNotFurtherIsNotTold(t *testing.T) {
	t.Parallel()
	a, b := start(t, "n1", nil), start(t, "n2", nil)
	a.head.Store(10)
	join(t, b, a)
	sees(t, a, "n1", "n2")
	b.set(10) // as far as a, no further
	eventually(t, "the record of head 10", func() bool { m := a.Members(); return len(m) == 2 && m[1].Head == 10 })
	b.set(11)
	hears(t, a, 11)
	if n := len(a.heard); n != 0 {
		t.Errorf("%d more heads were told", n)
	}
}

// TestForgedHead is row G8: a holder of the key says 2^63; true heads are told
// afterwards none the less.
func TestForgedHead(t *testing.T) {
	t.Parallel()
	a, b, liar := start(t, "n1", nil), start(t, "n2", nil), start(t, "n3", nil)
	join(t, b, a)
	join(t, liar, a)
	liar.set(1 << 63)
	hears(t, a, 1<<63)
	b.set(5)
	hears(t, a, 5)
}

func TestAnnouncementsMerge(t *testing.T) {
	t.Parallel()
	a, b := start(t, "n1", nil), start(t, "n2", nil)
	join(t, b, a)
	sees(t, a, "n1", "n2")
	const heads = 5000
	for h := uint64(1); h <= heads; h++ {
		b.set(h)
	}
	hears(t, a, heads)
	if n := len(a.heard); n > 100 {
		t.Errorf("%d announcements became %d calls", heads, n)
	}
}

// TestPoolsStayApart is row G10: clusters with one key, and one cluster's
// members with two keys, never merge, whoever calls whom.
func TestPoolsStayApart(t *testing.T) {
	t.Parallel()
	a := start(t, "n1", nil)
	label := start(t, "l1", func(c *gossip.Config) { c.Label = "c2" })
	other := start(t, "k1", func(c *gossip.Config) { c.Keys = [][]byte{key(2)} })
	for _, p := range []*peer{label, other} {
		if _, err := p.Join([]string{a.Addr()}); err == nil {
			t.Error("a stranger joined")
		}
		if _, err := a.Join([]string{p.Addr()}); err == nil {
			t.Error("joined a stranger")
		}
	}
	b := start(t, "n2", nil)
	join(t, b, a)
	sees(t, a, "n1", "n2")
	sees(t, label, "l1")
	sees(t, other, "k1")
	if !a.log.has("WARN", "c2") {
		t.Error("the meeting with another cluster was not logged with its id")
	}
}

// TestReusedName is row K28: the conflict is a warning with both addresses.
func TestReusedName(t *testing.T) {
	t.Parallel()
	a, b := start(t, "n1", nil), start(t, "n1", nil)
	_, _ = b.Join([]string{a.Addr()})
	eventually(t, "a warning with both addresses", func() bool {
		for _, p := range []*peer{a, b} {
			if p.log.has("WARN", "one name", "name=n1", a.Addr(), b.Addr()) {
				return true
			}
		}
		return false
	})
	if got := names(a); got != "n1" {
		t.Errorf("the first has members %q", got)
	}
}

func TestGatewaysOfOneIDBothLive(t *testing.T) {
	t.Parallel()
	gateway := func(c *gossip.Config) {
		c.Info = func() member.Info { return member.Info{ID: "g1", Kind: member.KindGateway} }
	}
	a, b := start(t, gossip.GatewayName("g1"), gateway), start(t, gossip.GatewayName("g1"), gateway)
	join(t, b, a)
	sees(t, a, "g1", "g1")
	sees(t, b, "g1", "g1")
}

// TestOversizedRecord is row K28: memberlist would panic above 512 bytes.
func TestOversizedRecord(t *testing.T) {
	t.Parallel()
	_, err := gossip.Start(gossip.Config{
		Label: "c1", Name: "n1", BindAddr: "127.0.0.1:0", Keys: [][]byte{key(1)},
		Info: func() member.Info {
			return member.Info{ID: "n1", Kind: member.KindNode, APIAddr: strings.Repeat("a", 600)}
		},
	})
	if err == nil {
		t.Fatal("an oversized record is accepted at the start")
	}
	var long atomic.Bool
	a := start(t, "n1", func(c *gossip.Config) {
		c.Info = func() member.Info {
			i := member.Info{ID: "n1", Kind: member.KindNode, APIAddr: "short:1"}
			if long.Load() {
				i.APIAddr = strings.Repeat("a", 600)
			}
			return i
		}
	})
	long.Store(true)
	a.Announce()
	eventually(t, "a warning", func() bool { return a.log.has("WARN", "can't be spread") })
	if m := a.Members(); len(m) != 1 || m[0].APIAddr != "short:1" {
		t.Errorf("members %+v, want the last good record", m)
	}
}

// TestKeyRotation is the plain case of row Y6.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	a, b := start(t, "n1", nil), start(t, "n2", nil)
	join(t, b, a)
	both := []*peer{a, b}
	step := func(what string, do func(*peer) error, head uint64) {
		t.Helper()
		for _, p := range both {
			if err := do(p); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		b.set(head)
		hears(t, a, head)
	}
	if err := a.UseKey(key(2)); err == nil {
		t.Error("a key that is not installed is used")
	}
	step("install", func(p *peer) error { return p.InstallKey(key(2)) }, 1)
	step("use", func(p *peer) error { return p.UseKey(key(2)) }, 2)
	if err := a.RemoveKey(key(2)); err == nil {
		t.Error("the key in use is removed")
	}
	step("remove", func(p *peer) error { return p.RemoveKey(key(1)) }, 3)
	step("remove again", func(p *peer) error { return p.RemoveKey(key(1)) }, 4)
	if ids := a.KeyIDs(); len(ids) != 1 || ids[0] != b.KeyIDs()[0] {
		t.Errorf("keys %v and %v", ids, b.KeyIDs())
	}
	old := start(t, "n3", nil) // has the old key only
	if _, err := old.Join([]string{a.Addr()}); err == nil {
		t.Error("the removed key still opens the pool")
	}
	if err := a.InstallKey(key(3)[:16]); err == nil {
		t.Error("a short key is installed")
	}
	for _, err := range []error{a.UseKey(key('K')), a.RemoveKey(key(2))} {
		if err == nil || strings.Contains(err.Error(), "KKKK") {
			t.Errorf("error %v, want one that hides the key", err)
		}
	}
}

// TestIslandsMerge is row K30.
func TestIslandsMerge(t *testing.T) {
	t.Parallel()
	var bridge atomic.Pointer[string]
	a := start(t, "n1", func(c *gossip.Config) {
		c.Rejoin = func() []string {
			if to := bridge.Load(); to != nil {
				return []string{*to}
			}
			return []string{"127.0.0.1:1"} // nobody there: the network is not yet whole
		}
	})
	b, c, d := start(t, "n2", nil), start(t, "n3", nil), start(t, "n4", nil)
	join(t, b, a)
	join(t, d, c)
	sees(t, b, "n1", "n2")
	sees(t, d, "n3", "n4")
	to := c.Addr()
	bridge.Store(&to)
	for _, p := range []*peer{a, b, c, d} {
		sees(t, p, "n1", "n2", "n3", "n4")
	}
}

func TestLeaveAndClose(t *testing.T) {
	t.Parallel()
	a, b := start(t, "n1", nil), start(t, "n2", nil)
	join(t, b, a)
	sees(t, a, "n1", "n2")
	if err := b.Leave(time.Millisecond); err != nil {
		t.Errorf("leave: %v", err)
	}
	sees(t, a, "n1")
	if _, err := b.Join([]string{a.Addr()}); !errors.Is(err, gossip.ErrClosed) {
		t.Errorf("join after leaving: %v", err)
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := b.Leave(time.Second); !errors.Is(err, gossip.ErrClosed) {
		t.Errorf("leave after closing: %v", err)
	}
	b.Announce()
	if _, err := b.Join([]string{a.Addr()}); !errors.Is(err, gossip.ErrClosed) {
		t.Errorf("join after closing: %v", err)
	}
}

func TestADeadMemberGoes(t *testing.T) {
	t.Parallel()
	a, b := start(t, "n1", nil), start(t, "n2", nil)
	join(t, b, a)
	sees(t, a, "n1", "n2")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, a, "n1")
	// And its name comes back from another address (DeadNodeReclaimTime).
	again := start(t, "n2", nil)
	eventually(t, "the name is free again", func() bool {
		_, _ = again.Join([]string{a.Addr()})
		return names(a) == "n1 n2"
	})
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*gossip.Config){
		"no key":                   func(c *gossip.Config) { c.Keys = nil },
		"a short key":              func(c *gossip.Config) { c.Keys = [][]byte{key(1), key(2)[:16]} },
		"no label":                 func(c *gossip.Config) { c.Label = "" },
		"no name":                  func(c *gossip.Config) { c.Name = "" },
		"a name with a slash":      func(c *gossip.Config) { c.Name = "a/b" },
		"no Info":                  func(c *gossip.Config) { c.Info = nil },
		"an address without port":  func(c *gossip.Config) { c.BindAddr = "127.0.0.1" },
		"a port that is no number": func(c *gossip.Config) { c.BindAddr = "127.0.0.1:x" },
		"a bad advertised address": func(c *gossip.Config) { c.AdvertiseAddr = "127.0.0.1" },
	} {
		cfg := gossip.Config{Label: "c1", Name: "n1", BindAddr: "127.0.0.1:0", Keys: [][]byte{key(1)},
			Info: func() member.Info { return member.Info{ID: "n1", Kind: member.KindNode, Instance: math.MaxUint64} }}
		change(&cfg)
		if p, err := gossip.Start(cfg); err == nil {
			_ = p.Close()
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestAdvertisedAddress(t *testing.T) {
	t.Parallel()
	a := start(t, "n1", func(c *gossip.Config) { c.AdvertiseAddr = "192.0.2.1:0" })
	if b := start(t, "n2", func(c *gossip.Config) { c.AdvertiseAddr = "192.0.2.1:7946" }); b.Addr() != "192.0.2.1:7946" {
		t.Errorf("advertised as %s", b.Addr())
	}
	host, port, err := net.SplitHostPort(a.Addr())
	if err != nil || host != "192.0.2.1" || port == "0" {
		t.Errorf("advertised as %s, want the given address with the port that was bound", a.Addr())
	}
}

func TestConfigHidesItsKeys(t *testing.T) {
	t.Parallel()
	cfg := gossip.Config{Label: "c1", Name: "n1", Keys: [][]byte{key('K')}}
	var shown strings.Builder
	fmt.Fprintf(&shown, "%v %+v %#v %s %x %d", cfg, cfg, cfg, cfg, cfg, cfg)
	slog.New(slog.NewTextHandler(&shown, nil)).Info("x", "cfg", cfg)
	for _, secret := range []string{"KKKK", "4b4b4b", "75 75 75", "0x4b"} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("shown: %s", shown.String())
		}
	}
}

// TestOnALAN runs the pace that is not loopback's.
func TestOnALAN(t *testing.T) {
	t.Parallel()
	lan := func(c *gossip.Config) { c.BindAddr, c.AdvertiseAddr = "0.0.0.0:0", "localhost:0" }
	a, b := start(t, "n1", lan), start(t, "n2", lan)
	join(t, b, a)
	sees(t, a, "n1", "n2")
	b.set(3)
	hears(t, a, 3)
	if err := b.Leave(time.Millisecond); err != nil {
		t.Errorf("leave, which needs more than the time that was asked: %v", err)
	}
	sees(t, a, "n1")
}
