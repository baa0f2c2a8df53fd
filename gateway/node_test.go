package gateway_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/tokens/verify"
)

const issuer = "https://sts.example"

// testCluster is an event log with signing keys: what the nodes of a test share.
type testCluster struct {
	t           testing.TB
	mu          sync.Mutex
	id          string
	epoch, head uint64
	floor       uint64
	events      []wire.Event
	keys        []*signingKey
	published   int // how many of keys are in the JWKS
	credential  string
	opaque      map[string]map[string]any
	members     wire.Members  // as every node tells them
	former      []string      // names that the issuer had
	others      []wire.Issuer // of other tenants
	wake        chan struct{} // closed and renewed at each event
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

func newCluster(t testing.TB, id string) *testCluster {
	c := &testCluster{t: t, id: id, epoch: 1, credential: "first", opaque: map[string]map[string]any{}, wake: make(chan struct{})}
	c.addKey("k1")
	c.published = 1
	return c
}

func (c *testCluster) addKey(id string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	c.keys = append(c.keys, &signingKey{id, k})
}

// append adds an event and wakes the long polls. It returns the seq.
func (c *testCluster) append(e wire.Event) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head++
	e.Seq = c.head
	c.events = append(c.events, e)
	close(c.wake)
	c.wake = make(chan struct{})
	return e.Seq
}

func (c *testCluster) revoke(kind, target string) uint64 {
	return c.append(wire.Event{Tenant: "default", Issuer: issuer, Kind: kind, Target: target, ExpiresAt: time.Now().Unix() + 3600})
}

// restore replaces history: a new epoch, the log forgotten, seq going on (R15).
func (c *testCluster) restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.head += 1 << 32
	c.floor = c.head
	c.events = nil
	close(c.wake)
	c.wake = make(chan struct{})
}

// forget drops every event, as a cluster does whose clock says that they have ended.
func (c *testCluster) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor = c.head
	c.events = nil
}

// compact makes everything up to the head reachable by snapshot alone.
func (c *testCluster) compact() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor = c.head
}

func (c *testCluster) jwks() []byte {
	var keys []verify.Key
	for _, k := range c.keys[:c.published] {
		keys = append(keys, verify.Key{ID: k.id, Alg: verify.ES256, Public: &k.private.PublicKey})
	}
	return verify.AppendJWKS(nil, keys)
}

// mint signs a token that was decided on the cluster's present view.
func (c *testCluster) mint(claims map[string]any) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().Unix()
	all := map[string]any{
		"iss": issuer, "sub": "alice", "client_id": "orders", "aud": "api", "jti": rand.Text(), "scope": "read write",
		"iat": now, "exp": now + 600, "ev": fmt.Sprintf("%d.%d", c.epoch, c.head), "gid": "g1",
	}
	for k, v := range claims {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	return sign(c.t, c.keys[len(c.keys)-1], "at+jwt", all)
}

func sign(t testing.TB, k *signingKey, typ string, claims map[string]any) string {
	t.Helper()
	header, err := json.Marshal(map[string]string{"alg": "ES256", "typ": typ, "kid": k.id})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	e := base64.RawURLEncoding
	text := e.EncodeToString(header) + "." + e.EncodeToString(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + e.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// testNode speaks the gateway API over real HTTP, as the contract says. Its own
// head may lag behind the cluster's.
type testNode struct {
	c       *testCluster
	srv     *httptest.Server
	limit   atomic.Uint64 // events above it are not here yet
	page    atomic.Int64  // items in one delta; 0: all
	polls   atomic.Int64
	jwks    atomic.Int64
	asked   atomic.Int64                                                  // introspections
	instead atomic.Pointer[func(http.ResponseWriter, *http.Request) bool] // true: it answered
	frozen  atomic.Pointer[chan struct{}]                                 // requests hang until closed
}

func (c *testCluster) start() *testNode {
	n := &testNode{c: c}
	n.limit.Store(1 << 63)
	n.srv = httptest.NewUnstartedServer(http.HandlerFunc(n.serve))
	n.srv.Start()
	c.t.Cleanup(n.stop)
	return n
}

func (n *testNode) stop() {
	n.thaw()
	n.srv.CloseClientConnections()
	n.srv.Close()
}

func (n *testNode) freeze() {
	ch := make(chan struct{})
	n.frozen.Store(&ch)
}

func (n *testNode) thaw() {
	if ch := n.frozen.Swap(nil); ch != nil {
		close(*ch)
	}
}

func (n *testNode) answer(fn func(http.ResponseWriter, *http.Request) bool) { n.instead.Store(&fn) }

func (n *testNode) serve(w http.ResponseWriter, r *http.Request) {
	if ch := n.frozen.Load(); ch != nil {
		select {
		case <-*ch:
		case <-r.Context().Done():
			return
		}
	}
	n.c.mu.Lock()
	credential := n.c.credential
	n.c.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+credential {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Header.Get(wire.HeaderFailMode) == "" || r.Header.Get(wire.HeaderBound) == "" {
		w.WriteHeader(http.StatusBadRequest) // so that a receipt could not judge this gateway
		return
	}
	if fn := n.instead.Load(); fn != nil && (*fn)(w, r) {
		return
	}
	switch r.URL.Path {
	case "/gateway/v1/jwks":
		n.jwks.Add(1)
		n.c.mu.Lock()
		k := wire.Keys{Cluster: n.c.id, Epoch: n.c.epoch, Head: n.headLocked(), Issuers: append([]wire.Issuer{{Tenant: "default", Issuer: issuer, FormerIssuers: n.c.former, JWKS: n.c.jwks()}}, n.c.others...)}
		n.c.mu.Unlock()
		w.Header().Set("Content-Type", wire.TypeJSON)
		_, _ = w.Write(k.AppendJSON(nil))
	case "/gateway/v1/revocations":
		n.polls.Add(1)
		n.delta(w, r)
	case "/gateway/v1/revocations/snapshot":
		n.snapshot(w)
	case "/gateway/v1/members":
		n.c.mu.Lock()
		m := n.c.members
		n.c.mu.Unlock()
		w.Header().Set("Content-Type", wire.TypeJSON)
		_, _ = w.Write(m.AppendJSON(nil))
	case "/oauth2/introspect":
		n.asked.Add(1)
		n.introspect(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (n *testNode) headLocked() uint64 { return min(n.c.head, n.limit.Load()) }

func (n *testNode) delta(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	since, err := strconv.ParseUint(q.Get("since"), 10, 63)
	wait, errWait := time.ParseDuration(q.Get("wait"))
	if err != nil || errWait != nil || q.Get("instance") == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		d, refused, wake := n.look(since, q.Get("epoch"))
		if refused != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(refused.Status)
			_, _ = w.Write(refused.AppendJSON(nil))
			return
		}
		if d.Head > since || wait == 0 {
			n.write(w, r, d)
			return
		}
		select {
		case <-wake:
		case <-deadline.C:
			wait = 0
		case <-r.Context().Done():
			return
		}
	}
}

func (n *testNode) look(since uint64, epoch string) (*wire.Delta, *wire.Refusal, chan struct{}) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	head := n.headLocked()
	refuse := func(status int, code string) (*wire.Delta, *wire.Refusal, chan struct{}) {
		return nil, &wire.Refusal{Status: status, Code: code, Epoch: c.epoch, Head: head}, nil
	}
	switch {
	case epoch != "" && epoch != strconv.FormatUint(c.epoch, 10):
		return refuse(409, wire.Epoch)
	case since > c.head:
		return refuse(409, wire.Ahead)
	case since > head:
		return refuse(409, wire.Behind)
	case since < c.floor:
		return refuse(410, wire.Compacted)
	}
	d := &wire.Delta{Cluster: c.id, Epoch: c.epoch, Head: head}
	for _, e := range c.events {
		if e.Seq <= since || e.Seq > head {
			continue
		}
		if page := n.page.Load(); page > 0 && len(d.Items) == int(page) {
			d.Truncated = true
			break
		}
		d.Items = append(d.Items, e)
	}
	return d, nil, c.wake
}

func (n *testNode) write(w http.ResponseWriter, r *http.Request, d *wire.Delta) {
	if r.Header.Get("Accept") == wire.TypeProto {
		w.Header().Set("Content-Type", wire.TypeProto)
		_, _ = w.Write(d.AppendProto(nil))
		return
	}
	w.Header().Set("Content-Type", wire.TypeJSON)
	_, _ = w.Write(d.AppendJSON(nil))
}

func (n *testNode) snapshot(w http.ResponseWriter) {
	c := n.c
	c.mu.Lock()
	head, epoch := n.headLocked(), c.epoch
	events := append([]wire.Event(nil), c.events...)
	c.mu.Unlock()
	w.Header().Set("Content-Type", wire.TypeSnapshot)
	w.Header().Set(wire.HeaderClock, strconv.FormatInt(time.Now().Unix(), 10))
	_ = wire.EncodeSnapshot(w, c.id, epoch, head, func(yield func(wire.Event, error) bool) {
		for _, e := range events {
			if e.Seq <= head && e.Kind != wire.KindKeys && !yield(e, nil) {
				return
			}
		}
	})
}

func (n *testNode) introspect(w http.ResponseWriter, r *http.Request) {
	n.c.mu.Lock()
	answer, known := n.c.opaque[r.PostFormValue("token")]
	n.c.mu.Unlock()
	if !known {
		answer = map[string]any{"active": false}
	}
	w.Header().Set("Content-Type", wire.TypeJSON)
	_ = json.NewEncoder(w).Encode(answer)
}

// cut answers with the first n bytes of what the node would have said, and then
// breaks the connection.
func (n *testNode) cut(at int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/gateway/v1/revocations" {
			return false
		}
		whole := httptest.NewRecorder()
		n.delta(whole, r)
		var raw bytes.Buffer
		res := whole.Result()
		res.ContentLength = int64(whole.Body.Len())
		_ = res.Write(&raw)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return false
		}
		_, _ = conn.Write(raw.Bytes()[:min(at, raw.Len()-1)])
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		return true
	}
}

// testClock is the machine's clock with an offset that a test moves.
type testClock struct {
	begin      time.Time
	wall, boot atomic.Int64
}

func newClock() *testClock { return &testClock{begin: time.Now()} }

// sleep is a suspension of the machine: boot and wall clock run on, Go's
// monotonic clock stands still.
func (c *testClock) sleep(d time.Duration) {
	c.wall.Add(int64(d))
	c.boot.Add(int64(d))
}

func (c *testClock) clock() gateway.Clock {
	return gateway.Clock{
		Now:  func() time.Time { return c.now() },
		Boot: func() time.Duration { return time.Since(c.begin) + time.Duration(c.boot.Load()) },
	}
}

func (c *testCluster) config(nodes ...*testNode) gateway.Config {
	file := filepath.Join(c.t.TempDir(), "credential")
	if err := os.WriteFile(file, []byte("first\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	cfg := gateway.Config{CredentialFile: file, CacheBytes: 1 << 20}
	for _, n := range nodes {
		cfg.Nodes = append(cfg.Nodes, n.srv.URL)
	}
	return cfg
}

// run starts a gateway and stops it at the end of the test, or by the result.
func run(t testing.TB, cfg gateway.Config) (*gateway.Gateway, func()) {
	t.Helper()
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g, begin(t, g)
}

// begin runs a gateway until the end of the test, or the call of the result.
func begin(t testing.TB, g *gateway.Gateway) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// until waits for a condition, with a deadline.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !await(ok) {
		t.Fatalf("waited 10 s for %s", what)
	}
}

func await(ok func() bool) bool {
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
	return true
}

func synced(t testing.TB, g *gateway.Gateway, c *testCluster) {
	t.Helper()
	until(t, "the gateway to reach the cluster's head", func() bool {
		s := g.Status()
		c.mu.Lock()
		defer c.mu.Unlock()
		return s.State == gateway.Synced && s.Epoch == c.epoch && s.Head == c.head
	})
}

func reason(g *gateway.Gateway, token string) gateway.Reason {
	_, err := g.Validate(context.Background(), gateway.Request{Token: token})
	if err == nil {
		return ""
	}
	return gateway.ReasonOf(err)
}

func want(t testing.TB, g *gateway.Gateway, token string, want gateway.Reason) {
	t.Helper()
	if got := reason(g, token); got != want {
		t.Errorf("the token gets %q, want %q", got, want)
	}
}

// now is the wall clock with the offset, and a monotonic reading without it, as
// the runtime gives after a suspension: only Time.Sub of two such values, which
// goes by the monotonic reading, could tell, and no exported call makes one. So
// the reading is left out, and the boot clock alone shows the pause.
func (c *testClock) now() time.Time {
	return time.Now().Add(time.Duration(c.wall.Load())).Round(0)
}
