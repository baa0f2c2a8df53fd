package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// full is a node with rows in every table.
func full(t testing.TB) *node {
	t.Helper()
	n := booted(t)
	fill(n)
	return n
}

func fill(n *node) {
	n.must(opaque("o"))
	n.must(code("used"))
	alice := n.must(&command.PutUser{User: user("u1", "alice")}).Generation
	n.must(&command.PutSession{Session: session("of-u1", "cookie"), UserGeneration: alice})
	n.must(&command.PutConsent{Consent: consent("read")})
	n.must(&command.PutCredential{Credential: credential("u1", "p1", "passkey")})
	n.must(attempt("u1", false))
	app, _ := n.View().Client("default", "app")
	n.must(&command.Redeem{
		Authorization: &state.Authorization{Tenant: "default", ClientId: "app", User: "u1", Subject: "u1", Session: "of-u1", Sector: "app.example", Grant: "g1"},
		Family:        &state.RefreshFamily{Id: "g1", Hash: digest("r1"), ExpiresAt: seconds(600), Offline: true},
		Decided:       &command.Decided{Client: app.GetGeneration(), Tenant: 1},
	})
	device, backchannel := startDevice("d1", "BCDF"), startBackchannel("b1")
	app, _ = n.View().Client("default", "app")
	device.Request.ClientGeneration, backchannel.Request.ClientGeneration = app.GetGeneration(), app.GetGeneration()
	n.must(device)
	n.must(backchannel)
	n.must(&command.PutSigningKey{Key: signingKey("k1", "ES256")})
	n.must(&command.PutSigningKey{Key: signingKey("k2", "ES256")})
	n.must(&command.PutJoinToken{Hash: digest("j"), Token: &state.JoinToken{ExpiresAt: t0 + 60_000}})
	n.must(&command.PutGateway{Gateway: &state.Gateway{Id: "g", Credential: digest("g")}})
	n.must(revocation("subject", "alice", seconds(-1), seconds(600)))
	n.must(revocation("token", "j1", 0, seconds(600)))
	n.must(&command.PutRole{Role: &state.Role{Tenant: "default", Name: "clerk"}})
	n.must(&command.PutGroup{Group: &state.Group{Tenant: "default", Name: "staff", Roles: []string{"clerk"}}})
	n.must(&command.PutScope{Scope: &state.Scope{Tenant: "default", Name: "read", Roles: []string{"clerk"}}})
	n.must(&command.PutTrustedIssuer{Issuer: trusted("https://idp.example", 0)})
	n.keyed(&command.PutTenant{Tenant: &state.Tenant{Id: "acme"}}, "k", "b")
	n.must(initialToken(2))
	n.must(registers("own"))
}

// onMemory is a node whose store is in memory, for tests of many restores.
func onMemory(t testing.TB) *node {
	t.Helper()
	o := small()
	o.FS = vfs.NewMem()
	return openIn(t, t.TempDir(), o)
}

// tables reads the constants of the tables out of the source, so that one that
// is added later is tested too.
func tables(t *testing.T) map[byte]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("state", "tables.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[byte]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "table") || len(spec.Values) == 0 {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		number, err := strconv.ParseUint(lit.Value, 0, 8)
		if err != nil {
			t.Fatalf("%s: %v", spec.Names[0].Name, err)
		}
		if other, ok := out[byte(number)]; ok {
			t.Errorf("%s and %s have one number", other, spec.Names[0].Name)
		}
		out[byte(number)] = spec.Names[0].Name
		return true
	})
	return out
}

// cuts are the places in a stream between its blocks, and its tables.
func cuts(t *testing.T, stream []byte) (ends []int, seen map[byte]bool) {
	t.Helper()
	seen = map[byte]bool{}
	at := len(snapMagic) + 4
	ends = append(ends, 0, at)
	at += int(binary.BigEndian.Uint32(stream[at-4:]))
	ends = append(ends, at)
	for {
		size := int(binary.BigEndian.Uint32(stream[at:]))
		at += 4
		if size == 0 {
			return append(ends, at, at+8), seen
		}
		seen[stream[at]] = true
		at += size
		ends = append(ends, at)
		at += 4 + int(binary.BigEndian.Uint32(stream[at:]))
		ends = append(ends, at)
	}
}

// TestEveryTableIsInTheSnapshot (S3).
func TestEveryTableIsInTheSnapshot(t *testing.T) {
	t.Parallel()
	names := tables(t)
	if len(names) < 17 {
		t.Fatalf("only %d tables found in the source: %v", len(names), names)
	}
	n := full(t)
	_, seen := cuts(t, n.snapshot())
	for number, name := range names {
		if !seen[number] {
			t.Errorf("%s (%#x) is not in the snapshot of a state that should have rows everywhere", name, number)
		}
		if _, ok := layout[number]; !ok {
			t.Errorf("%s (%#x) has no line in the layout of the dumps", name, number)
		}
	}
}

// TestSnapshotRoundTrip: the restored state is the same, its deleted rows and the
// former state of the other node don't come back (S4), and both go on alike.
func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	a, b := full(t), fresh(t)
	b.must(bootstrap())
	b.must(&command.PutClient{Client: client("only here")})
	b.must(&command.PutGateway{Gateway: &state.Gateway{Id: "g2", Credential: digest("g2")}})
	stale := b.View()
	a.must(&command.DeleteGateway{Id: "g"})
	stream := a.snapshot()
	h, rows, err := Inspect(bytes.NewReader(stream))
	if want := (Header{Cluster: "c1", Generation: 1, Index: a.index, Term: 1, Epoch: 1, Head: a.View().Head(), FeatureLevel: 1, Clock: t0, TakenAt: t0}); h != want || err != nil {
		t.Errorf("header %+v, error %v, want %+v", h, err, want)
	}
	if want := int64(strings.Count(a.dump(), "\n")); rows != want {
		t.Errorf("%d rows in the stream, %d in the store", rows, want)
	}
	if p, err := Peek(bytes.NewReader(stream[:200])); err != nil || p != h {
		t.Errorf("peek: %+v, %v", p, err)
	}
	b.mustRestore(bytes.NewReader(stream))
	if a.dump() != b.dump() || a.sum() != b.sum() {
		t.Errorf("restored:\n%s\nwant:\n%s", b.dump(), a.dump())
	}
	if err := b.View().CheckMemory(); err != nil {
		t.Error(err)
	}
	if b.View() == stale || b.seen[len(b.seen)-1] != b.View() {
		t.Error("the observer was not told of the restored state")
	}
	if _, ok := stale.Client("default", "only here"); !ok {
		t.Error("a view that a request still holds has changed under it")
	}
	for _, n := range []*node{a, b} {
		n.must(&command.PutClient{Client: client("after")})
	}
	if a.View().Applied() != b.View().Applied() {
		t.Error("the nodes part after the restore")
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "db-*")); !slices.Equal(left, []string{filepath.Join(b.dir, storeName(2))}) {
		t.Errorf("stores after the restore: %q", left)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.open(); err != nil || b.sum() != a.sum() {
		t.Errorf("after a restart the restored state is another (%v)", err)
	}
}

// TestDamagedSnapshots: cut anywhere or with any bit flipped, a stream is refused
// and the node's state, files and view are as before (S2, S5).
func TestDamagedSnapshots(t *testing.T) {
	t.Parallel()
	stream := full(t).snapshot()
	for i := range stream {
		if _, _, err := Inspect(bytes.NewReader(stream[:i])); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut at %d of %d: %v", i, len(stream), err)
		}
		bad := bytes.Clone(stream)
		bad[i] ^= 0x10
		if _, _, err := Inspect(bytes.NewReader(bad)); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("flipped at %d of %d: %v", i, len(stream), err)
		}
	}
	n := onMemory(t)
	n.must(bootstrap())
	view, dump := n.View(), n.dump()
	refuse := func(what string, at int, bad []byte) {
		t.Helper()
		if err := n.Restore(bytes.NewReader(bad)); err == nil {
			t.Fatalf("%s at %d was restored", what, at)
		}
		if n.View() != view || n.dump() != dump || n.haltedBy() != nil {
			t.Fatalf("%s at %d changed the node", what, at)
		}
		if names, err := n.opts.FS.List(n.dir); err != nil || !slices.Equal(names, []string{storeName(1)}) {
			t.Fatalf("%s at %d left %q behind (%v)", what, at, names, err)
		}
	}
	ends, _ := cuts(t, stream)
	for _, at := range ends {
		refuse("cut", at, stream[:at])
		bad := bytes.Clone(stream)
		bad[at] ^= 1
		refuse("flipped", at, bad)
	}
	refuse("two streams", 0, append(bytes.Clone(stream), stream...))
	n.mustRestore(bytes.NewReader(stream))
}

// forge writes a stream as a snapshot is written, checksum and all.
func forge(t *testing.T, h Header, rows [][2][]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	out := newSummer(&buf)
	_, _ = out.Write(h.append(nil))
	for _, r := range rows {
		_, _ = out.Write(appendRow(nil, r[0], r[1]))
	}
	if err := out.finish(uint64(len(rows))); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (n *node) rows() (rows [][2][]byte) {
	n.t.Helper()
	if err := n.db.Scan(nil, nil, func(k, v []byte) error {
		rows = append(rows, [2][]byte{bytes.Clone(k), bytes.Clone(v)})
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return rows
}

// TestForgedSnapshots are whole, and say something else than they hold.
func TestForgedSnapshots(t *testing.T) {
	t.Parallel()
	a := full(t)
	rows, good := a.rows(), headerOf(a.View())
	n := onMemory(t)
	n.must(bootstrap())
	before := n.dump()
	for name, change := range map[string]func(h *Header, rows [][2][]byte) [][2][]byte{
		"another index":     func(h *Header, r [][2][]byte) [][2][]byte { h.Index++; return r },
		"another term":      func(h *Header, r [][2][]byte) [][2][]byte { h.Term++; return r },
		"another cluster":   func(h *Header, r [][2][]byte) [][2][]byte { h.Cluster = "c2"; return r },
		"a lower head":      func(h *Header, r [][2][]byte) [][2][]byte { h.Head--; return r },
		"another epoch":     func(h *Header, r [][2][]byte) [][2][]byte { h.Epoch++; return r },
		"a later clock":     func(h *Header, r [][2][]byte) [][2][]byte { h.Clock++; return r },
		"a newer level":     func(h *Header, r [][2][]byte) [][2][]byte { h.FeatureLevel = command.Level + 1; return r },
		"a lower level":     func(h *Header, r [][2][]byte) [][2][]byte { h.FeatureLevel = 0; return r },
		"no position":       func(_ *Header, r [][2][]byte) [][2][]byte { return r[1:] },
		"no counters":       func(_ *Header, r [][2][]byte) [][2][]byte { return append(r[:1], r[2:]...) },
		"a row twice":       func(_ *Header, r [][2][]byte) [][2][]byte { return append(r, r[len(r)-1]) },
		"rows out of order": func(_ *Header, r [][2][]byte) [][2][]byte { slices.Reverse(r); return r },
		"a damaged client": func(_ *Header, r [][2][]byte) [][2][]byte {
			for i := range r {
				if r[i][0][0] == 0x03 {
					r[i][1] = []byte{0xff}
				}
			}
			return r
		},
	} {
		h := good
		changed := change(&h, slices.Clone(rows))
		if err := n.Restore(bytes.NewReader(forge(t, h, changed))); err == nil || strings.Contains(err.Error(), "not empty") {
			t.Errorf("%s: %v", name, err)
		}
		if n.dump() != before {
			t.Fatalf("%s: the node changed", name)
		}
	}
	n.mustRestore(bytes.NewReader(forge(t, good, rows)))
}

// TestNothingIsSwallowedBehindARestore: a stream that claims a higher index than
// the log's must not make the node pass over the commands that follow (K12).
func TestNothingIsSwallowedBehindARestore(t *testing.T) {
	t.Parallel()
	a, n := full(t), fresh(t)
	n.must(bootstrap())
	n.mustRestore(bytes.NewReader(a.snapshot()))
	if r := n.Apply(2, 1, entry(n.header(), encoded(t, code("x"), key("k"), [8]byte{}, false))); r != nil || n.haltedBy() == nil {
		t.Errorf("entry 2 behind a restore of %d: %v, halt %v", n.View().Index(), r, n.haltedBy())
	}
}

// TestFailureAtTheSwap: from the rename on a restore never returns an error, it
// halts; the next start has the old state or the new one, whole (K9, R6).
func TestFailureAtTheSwap(t *testing.T) {
	t.Parallel()
	failed := errors.New("disk is gone")
	for name, swap := range map[string]func(dir, name string) error{
		"before the rename": func(string, string) error { return failed },
		"after the rename":  func(dir, name string) error { return errors.Join(setCurrent(dir, name), failed) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, n := full(t), fresh(t)
			n.must(bootstrap())
			if err := n.Flush(); err != nil {
				t.Fatal(err)
			}
			want, view := n.sum(), n.View()
			if strings.HasPrefix(name, "after") {
				want = a.sum()
			}
			stream := a.snapshot()
			n.swap = swap
			if err := n.Restore(bytes.NewReader(stream)); err != nil {
				t.Errorf("Restore returned %v: raft would go on with the old state", err)
			}
			if !errors.Is(n.haltedBy(), failed) {
				t.Fatalf("halt: %v", n.haltedBy())
			}
			if r := n.Apply(n.index+1, 1, entry(n.header(), encoded(t, code("x"), key("k"), [8]byte{}, false))); r != nil || n.View() != view {
				t.Error("a halted node goes on")
			}
			if err := n.Restore(bytes.NewReader(stream)); err == nil {
				t.Error("a halted node restores once more")
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			if err := n.open(); err != nil {
				t.Fatal(err)
			}
			if n.sum() != want {
				t.Error("after the restart the state is neither the old nor the new one")
			}
			n.mu.Lock()
			n.halts = nil // another process
			n.mu.Unlock()
			if r := n.Apply(n.index, 1, nil); r != nil || n.haltedBy() != nil {
				t.Errorf("the entry at the restored index is not passed over: %v", n.haltedBy())
			}
			n.must(code("goes on"))
		})
	}
}

// TestSnapshotWhileApplying: it holds the moment at which it was taken.
func TestSnapshotWhileApplying(t *testing.T) {
	t.Parallel()
	n := full(t)
	want := n.snapshot()
	s, err := n.Snapshot(t0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	n.must(&command.DeleteClient{Tenant: "default", Id: "app"})
	var out bytes.Buffer
	if _, err := s.WriteTo(&out); err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("the snapshot moved with the state (%v)", err)
	}
}

// TestSnapshotEndsWithItsStore: a restore closes the store under a snapshot that
// is being streamed; nothing waits for a flush that will never end.
func TestSnapshotEndsWithItsStore(t *testing.T) {
	t.Parallel()
	n := full(t)
	s, err := n.Snapshot(t0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	s.flushed = make(chan struct{}) // a flush that was dropped
	if _, err := s.WriteTo(writerFunc(func(p []byte) (int, error) { return len(p), nil })); err != nil {
		t.Error(err)
	}
	n.mustRestore(bytes.NewReader(n.snapshot()))
	if _, err := s.WriteTo(&bytes.Buffer{}); err == nil {
		t.Error("a snapshot of a closed store was streamed")
	}
	full := errors.New("no space")
	s2, err := n.Snapshot(t0)
	if err != nil {
		t.Fatal(err)
	}
	defer s2.Release()
	if _, err := s2.WriteTo(writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("a full disk gave %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestFirstVersionOpens: the log, the snapshot and the data folder that the first
// version wrote open for ever and give the same state (I8, U6).
func TestFirstVersionOpens(t *testing.T) {
	dir := filepath.Join("testdata", "v1")
	if _, err := os.Stat(dir); os.IsNotExist(err) && *write {
		writeFirstVersion(t, dir)
	}
	sum, err := os.ReadFile(filepath.Join(dir, "checksum"))
	if err != nil {
		t.Fatal(err)
	}
	dump, err := os.ReadFile(filepath.Join(dir, "dump"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, n *node) {
		t.Helper()
		if got := n.sum(); got != strings.TrimSpace(string(sum)) || n.dump() != string(dump) {
			t.Errorf("%s: checksum %s, want %s; rows:\n%s\nwant:\n%s", what, got, sum, n.dump(), dump)
		}
		if err := n.View().CheckMemory(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	log := readHex(t, filepath.Join(dir, "log"))
	n := fresh(t)
	for len(log) > 0 {
		size := int(binary.BigEndian.Uint32(log))
		n.raw(log[4 : 4+size])
		log = log[4+size:]
	}
	check("log", n)

	n = fresh(t)
	n.mustRestore(bytes.NewReader(readHex(t, filepath.Join(dir, "snapshot"))))
	check("snapshot", n)

	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(dir, "folder"))); err != nil {
		t.Fatal(err)
	}
	n = openIn(t, folder, small())
	check("data folder", n)
	n.must(code("goes on"))
}

// writeFirstVersion makes the files that TestFirstVersionOpens reads, once.
func writeFirstVersion(t *testing.T, dir string) {
	t.Helper()
	n := fresh(t)
	var log []byte
	n.record = func(data []byte) {
		log = binary.BigEndian.AppendUint32(log, uint32(len(data)))
		log = append(log, data...)
	}
	n.must(bootstrap())
	n.must(&command.PutClient{Client: client("app")})
	fill(n)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeNew(t, filepath.Join(dir, "log"), hexLines(log))
	writeNew(t, filepath.Join(dir, "snapshot"), hexLines(n.snapshot()))
	writeNew(t, filepath.Join(dir, "checksum"), []byte(n.sum()+"\n"))
	writeNew(t, filepath.Join(dir, "dump"), []byte(n.dump()))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "folder"), os.DirFS(n.dir)); err != nil {
		t.Fatal(err)
	}
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
}
