package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

func TestMain(m *testing.M) {
	// Enough to find what these tests are for, and quick under -race; a longer
	// search is -rapid.checks=5000.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// t0 is the cluster time of every test's first entry: a whole minute.
const t0 = int64(1_700_000_040_000)

// plenty is an elapsed time for which the clock is never clamped.
const plenty = 1 << 39

// node is an FSM and what feeds it.
type node struct {
	*FSM
	t     testing.TB
	dir   string
	opts  storage.Options
	index uint64
	now   int64 // the leader's clock

	record func(entry []byte) // told of each entry, when set

	mu    sync.Mutex
	halts []error
	seen  []*state.View
}

func small() storage.Options {
	return storage.Options{MemTableBytes: 256 << 10, CacheBytes: 1 << 20}
}

// openIn opens an FSM in dir; t ends it.
func openIn(t testing.TB, dir string, o storage.Options) *node {
	t.Helper()
	n := &node{t: t, dir: dir, opts: o, now: t0}
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Kill() })
	return n
}

func (n *node) open() error {
	f, err := Open(Config{
		Dir: n.dir, Storage: n.opts, Logger: slog.New(slog.DiscardHandler),
		Halt: func(err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.halts = append(n.halts, err)
		},
		Observe: func(v *state.View) { n.seen = append(n.seen, v) },
	})
	if err == nil {
		n.FSM, n.index = f, f.View().Index()
	}
	return err
}

func fresh(t testing.TB) *node {
	t.Helper()
	return openIn(t, t.TempDir(), small())
}

// booted is a cluster with the tenant "default" and the client "app".
func booted(t testing.TB) *node {
	t.Helper()
	n := fresh(t)
	n.must(bootstrap())
	n.must(&command.PutClient{Client: client("app")})
	return n
}

// halted returns why the node halted, or nil.
func (n *node) haltedBy() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.halts) > 1 {
		n.t.Errorf("Halt was called %d times: %v", len(n.halts), n.halts)
	}
	if len(n.halts) == 0 {
		return nil
	}
	return n.halts[0]
}

func (n *node) header() command.Header {
	return command.Header{Stamp: n.now, Elapsed: plenty, Epoch: n.View().Epoch()}
}

// do applies one entry of these commands at the next index.
func (n *node) do(cmds ...command.Command) []command.Result {
	n.t.Helper()
	envelopes := make([][]byte, len(cmds))
	for i, c := range cmds {
		envelopes[i] = encoded(n.t, c, key(fmt.Sprint(n.index+1, i)), [8]byte{}, false)
	}
	return n.raw(entry(n.header(), envelopes...))
}

func (n *node) raw(data []byte) []command.Result {
	n.t.Helper()
	n.index++
	if n.record != nil {
		n.record(data)
	}
	r := n.Apply(n.index, 1, data)
	if err := n.haltedBy(); err != nil {
		n.t.Fatalf("entry %d halted the node: %v", n.index, err)
	}
	return r
}

func (n *node) one(c command.Command) command.Result {
	n.t.Helper()
	return n.do(c)[0]
}

// must applies one command that has to be accepted.
func (n *node) must(c command.Command) command.Result {
	n.t.Helper()
	r := n.one(c)
	if r.Reject != command.Accepted {
		n.t.Fatalf("%T: %v", c, r.Reject)
	}
	return r
}

// refused applies one command that has to be refused so, with nothing changed.
func (n *node) refused(c command.Command, want command.Reject) {
	n.t.Helper()
	before := n.dump()
	if got := n.one(c).Reject; got != want {
		n.t.Errorf("%T: %v, want %v", c, got, want)
	}
	if after := n.dump(); rowsOnly(after) != rowsOnly(before) {
		n.t.Errorf("%T was refused and changed the state:\n%s\nbefore:\n%s", c, after, before)
	}
}

// keyed applies one command under an idempotency key, remembered.
func (n *node) keyed(c command.Command, k, body string) command.Result {
	n.t.Helper()
	var b [8]byte
	copy(b[:], body)
	return n.raw(entry(n.header(), encoded(n.t, c, key(k), b, true)))[0]
}

func (n *node) sum() string {
	n.t.Helper()
	index, sum, err := n.Checksum()
	if err != nil {
		n.t.Fatal(err)
	}
	return fmt.Sprintf("%d %x", index, sum)
}

func (n *node) snapshot() []byte {
	n.t.Helper()
	s, err := n.Snapshot(n.now)
	if err != nil {
		n.t.Fatal(err)
	}
	defer s.Release()
	var out bytes.Buffer
	size, err := s.WriteTo(&out)
	if err != nil {
		n.t.Fatal(err)
	}
	if size != int64(out.Len()) {
		n.t.Errorf("the snapshot says it has %d bytes, it has %d", size, out.Len())
	}
	return out.Bytes()
}

func (n *node) mustRestore(r io.Reader) {
	n.t.Helper()
	if err := n.Restore(r); err != nil {
		n.t.Fatal(err)
	}
	if err := n.haltedBy(); err != nil {
		n.t.Fatal(err)
	}
	n.index = max(n.index, n.View().Index())
}

func key(name string) command.Key {
	sum := sha256.Sum256([]byte(name))
	return command.Key(sum[:16])
}

func digest(name string) []byte {
	sum := sha256.Sum256([]byte("hash " + name))
	return sum[:]
}

func digest32(name string) [32]byte { return [32]byte(digest(name)) }

func encoded(t testing.TB, c command.Command, k command.Key, body [8]byte, remember bool) []byte {
	t.Helper()
	e, err := command.Encode(c, k, body, remember)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func entry(h command.Header, envelopes ...[]byte) []byte {
	out := command.AppendHeader(nil, h, len(envelopes))
	for _, e := range envelopes {
		out = append(out, e...)
	}
	return out
}

func bootstrap() *command.Bootstrap {
	return &command.Bootstrap{
		Cluster:    &state.Cluster{Id: "c1", Generation: 1, SealCheck: []byte("check"), CreatedAt: t0, Issuer: "https://sts.example"},
		Tenant:     &state.Tenant{Id: "default", DisplayName: "Default", CreatedAt: t0, Settings: &state.TenantSettings{AccessTokenLifetime: 600}},
		Keys:       []*state.ClusterKey{{Name: "ca", Version: 1, Sealed: []byte("ca key"), PublicPart: []byte("ca cert"), Status: "active"}, {Name: "hash", Version: 1, Sealed: []byte("hash key"), Status: "active"}},
		Node:       &state.Node{Id: "n1", ClusterAddr: "127.0.0.1:7401", PublicKey: digest("n1 key"), JoinedAt: t0, FeatureLevel: 1},
		AdminToken: digest("admin"),
	}
}

func client(id string) *state.Client {
	return &state.Client{Tenant: "default", Id: id, Name: "Client " + id, AuthMethod: "client_secret_basic",
		Secrets: []*state.SecretHash{{Id: "s1", Hash: digest(id), KeyVersion: 1}}, Scopes: []string{"read", "write"}, GrantTypes: []string{"client_credentials"}}
}

func signingKey(id, alg string) *state.SigningKey {
	return &state.SigningKey{Tenant: "default", Id: id, Alg: alg, Sealed: []byte("sealed " + id), PublicKey: []byte("public " + id)}
}

// seconds is the cluster time of a test plus d seconds, in seconds.
func seconds(d int64) int64 { return t0/1000 + d }

// layout says how the key of a table is cut for reading: s string, x string in
// hex, n number, h 32 bytes in hex, r another row's key in hex.
var layout = map[byte]struct {
	name, parts string
	value       func() proto.Message
}{
	0x00: {"meta", "s", nil},
	0x01: {"cluster", "", func() proto.Message { return &state.Cluster{} }},
	0x02: {"tenant", "s", func() proto.Message { return &state.Tenant{} }},
	0x03: {"client", "ss", func() proto.Message { return &state.Client{} }},
	0x04: {"signing key", "ss", func() proto.Message { return &state.SigningKey{} }},
	0x05: {"cluster key", "sn", func() proto.Message { return &state.ClusterKey{} }},
	0x06: {"node", "s", func() proto.Message { return &state.Node{} }},
	0x07: {"join token", "x", func() proto.Message { return &state.JoinToken{} }},
	0x08: {"gateway", "s", func() proto.Message { return &state.Gateway{} }},
	0x09: {"gateway by credential", "x", nil},
	0x0a: {"admin token", "x", func() proto.Message { return &state.AdminToken{} }},
	0x0b: {"revocation", "sssss", nil},
	0x0c: {"event", "n", func() proto.Message { return &state.Event{} }},
	0x0d: {"opaque", "nh", func() proto.Message { return &state.OpaqueToken{} }},
	0x0e: {"consumed", "sss", func() proto.Message { return &state.Consumed{} }},
	0x0f: {"answered", "x", func() proto.Message { return &state.Answered{} }},
	0x10: {"expiry", "nr", nil},
	0x11: {"user", "ss", func() proto.Message { return &state.User{} }},
	0x12: {"user by name", "ss", nil},
	0x13: {"session", "ss", func() proto.Message { return &state.Session{} }},
	0x14: {"session by user", "sss", nil},
	0x15: {"client of session", "sss", nil},
	0x16: {"consent", "sss", func() proto.Message { return &state.Consent{} }},
	0x17: {"family", "ss", func() proto.Message { return &state.RefreshFamily{} }},
	0x18: {"family by user", "sss", nil},
	0x19: {"family by session", "sss", nil},
	0x1a: {"sector", "sss", nil},
	0x1e: {"pairwise", "ss", nil},
	0x1b: {"attempts", "sss", func() proto.Message { return &state.Attempts{} }},
	0x20: {"device", "sx", func() proto.Message { return &state.DeviceRequest{} }},
	0x21: {"device by user code", "ss", nil},
	0x22: {"backchannel", "sx", func() proto.Message { return &state.BackchannelRequest{} }},
	0x23: {"backchannel by user", "sss", nil},
	0x40: {"scope", "ss", func() proto.Message { return &state.Scope{} }},
	0x41: {"role", "ss", func() proto.Message { return &state.Role{} }},
	0x42: {"group", "ss", func() proto.Message { return &state.Group{} }},
	0x43: {"trusted issuer", "ss", func() proto.Message { return &state.TrustedIssuer{} }},
	0x44: {"initial access token", "ss", func() proto.Message { return &state.InitialAccessToken{} }},
	0x45: {"registrations", "s", func() proto.Message { return &state.Registrations{} }},
	0x1c: {"credential", "sss", func() proto.Message { return &state.Credential{} }},
	0x1d: {"credential by passkey", "ss", nil},
}

// dump is every row, one a line, in words that don't change with a library.
func (n *node) dump() string {
	n.t.Helper()
	var out strings.Builder
	err := n.db.Scan(nil, nil, func(k, v []byte) error {
		line, err := dumpRow(k, v)
		out.WriteString(line + "\n")
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return out.String()
}

// rowsOnly leaves out what every entry changes: position and counters.
func rowsOnly(dump string) string {
	var out []string
	for _, line := range strings.Split(dump, "\n") {
		if !strings.HasPrefix(line, "meta ") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func dumpRow(k, v []byte) (string, error) {
	l, ok := layout[k[0]]
	if !ok {
		return "", fmt.Errorf("table %#x has no line in the layout of this test", k[0])
	}
	line, rest := l.name, k[1:]
	for _, p := range l.parts {
		var s string
		ok := true
		switch p {
		case 's', 'x':
			if s, rest, ok = storage.CutString(rest); p == 's' {
				s = strconv.Quote(s)
			} else {
				s = hex.EncodeToString([]byte(s))
			}
		case 'n':
			var num uint64
			num, rest, ok = storage.CutUint64(rest)
			s = strconv.FormatUint(num, 10)
		case 'h', 'r':
			s, rest = hex.EncodeToString(rest), nil
		}
		if !ok {
			return "", fmt.Errorf("key %x of table %s is cut short", k, l.name)
		}
		line += " " + s
	}
	if len(rest) != 0 {
		return "", fmt.Errorf("key %x of table %s goes on behind its parts", k, l.name)
	}
	if l.value == nil {
		return line + " = " + hex.EncodeToString(v), nil
	}
	m := l.value()
	if err := proto.Unmarshal(v, m); err != nil {
		return "", err
	}
	return line + " = " + text(m.ProtoReflect()), nil
}

// text writes a record's fields in the order of their declaration. (The library's
// own text form changes from build to build on purpose.)
func text(m protoreflect.Message) string {
	var out []string
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		if f.IsList() {
			for l, j := m.Get(f).List(), 0; j < l.Len(); j++ {
				out = append(out, string(f.Name())+":"+textOf(f, l.Get(j)))
			}
			continue
		}
		out = append(out, string(f.Name())+":"+textOf(f, m.Get(f)))
	}
	return "{" + strings.Join(out, " ") + "}"
}

func textOf(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return text(v.Message())
	case protoreflect.BytesKind:
		return hex.EncodeToString(v.Bytes())
	case protoreflect.StringKind:
		return strconv.Quote(v.String())
	default:
		return v.String()
	}
}
