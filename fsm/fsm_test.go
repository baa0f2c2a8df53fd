package fsm

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func TestOpenSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := Open(Config{Dir: t.TempDir()}); err == nil {
		t.Error("opened without Halt and Logger")
	}
}

// TestAfterACleanStop: Close flushes, the next Open has everything.
func TestAfterACleanStop(t *testing.T) {
	t.Parallel()
	n := booted(t)
	want, at := n.sum(), n.View().Applied()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	if n.sum() != want || n.View().Applied() != at {
		t.Error("the state after a clean stop is another")
	}
	if err := n.View().CheckMemory(); err != nil {
		t.Error(err)
	}
}

// TestARepeatedEntry: what was there at Open may come again and is passed over;
// any other repeated index stops the node (R7).
func TestARepeatedEntry(t *testing.T) {
	t.Parallel()
	n := booted(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	at := n.View().Applied()
	data := entry(n.header(), encoded(t, &command.SetIssuer{Issuer: "https://new"}, key("k"), [8]byte{}, false))
	for i := uint64(1); i <= n.index; i++ {
		if r := n.Apply(i, 1, data); r != nil {
			t.Errorf("entry %d was applied again", i)
		}
	}
	if n.haltedBy() != nil || n.View().Applied() != at {
		t.Fatalf("the replay changed or halted the node: %v", n.haltedBy())
	}
	n.raw(data)
	if r := n.Apply(n.index, 1, data); r != nil || n.haltedBy() == nil {
		t.Errorf("an index that came twice gave %v and halt %v", r, n.haltedBy())
	}
	if r := n.Apply(n.index+1, 1, data); r != nil {
		t.Error("a halted node goes on applying")
	}
	if _, err := n.Snapshot(t0); err == nil {
		t.Error("a halted node gives a snapshot: its log would be cut behind entries that it did not apply")
	}
}

// field appends an unknown field of number 99 to a message.
func field(m []byte) []byte {
	return protowire.AppendVarint(protowire.AppendTag(m, 99, protowire.VarintType), 1)
}

// TestWhatThisBinaryDoesNotKnow: an entry of a newer binary halts the node before
// any of its commands is applied, and says which level is missing (U2).
func TestWhatThisBinaryDoesNotKnow(t *testing.T) {
	t.Parallel()
	good := encoded(t, &command.SetIssuer{Issuer: "https://new"}, key("good"), [8]byte{}, true)
	change := func(at int, to byte) []byte {
		e := slices.Clone(good)
		e[at] = to
		return e
	}
	payload := func(c command.Command, raw []byte) []byte {
		e := encoded(t, c, key("bad"), [8]byte{}, false)[:32]
		e[28], e[29], e[30], e[31] = 0, 0, 0, byte(len(raw))
		return append(e, raw...)
	}
	nested := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), field(nil))
	deeper := protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), field(nil)) // a secret of a client
	for name, bad := range map[string][]byte{
		"unknown kind":                         change(1, 200),
		"kind zero":                            change(1, 0),
		"unknown version":                      change(2, 2),
		"version zero":                         change(2, 0),
		"unknown flag":                         change(3, 3),
		"unknown field":                        payload(&command.SetIssuer{}, field(nil)),
		"unknown field of a record within":     payload(&command.PutClient{}, nested),
		"unknown field of an item of a record": payload(&command.PutClient{}, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), deeper)),
		"feature level above this binary's":    encoded(t, &command.SetFeatureLevel{Level: command.Level + 1}, key("level"), [8]byte{}, false),
		"payload that is no message":           payload(&command.SetIssuer{}, []byte{0xff}),
		"text that is not UTF-8":               payload(&command.SetIssuer{}, []byte{10, 1, 0xff}),
		"cut short":                            good[:len(good)-1],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := booted(t)
			before, sum := n.View(), n.dump()
			if r := n.Apply(n.index+1, 1, entry(n.header(), good, bad, good)); r != nil {
				t.Errorf("answered %v", r)
			}
			if n.haltedBy() == nil {
				t.Fatal("the node goes on")
			}
			if !strings.Contains(n.haltedBy().Error(), "level") && !errors.Is(n.haltedBy(), command.ErrEntry) {
				t.Errorf("the operator is not told what to do: %v", n.haltedBy())
			}
			if n.View() != before || n.dump() != sum {
				t.Error("part of the entry was applied")
			}
		})
	}
}

func TestStateOfANewerBinaryIsNotOpened(t *testing.T) {
	t.Parallel()
	n := booted(t)
	b := state.NewBatch(n.View())
	b.SetLevel(command.Level + 1)
	if _, err := b.Commit(n.index+1, 1); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.open(); err == nil || !strings.Contains(err.Error(), "start a newer one") {
		t.Errorf("opened a state above its level: %v", err)
	}
}

// TestAFirstEntryThatChangesNothing may be all that a store holds.
func TestAFirstEntryThatChangesNothing(t *testing.T) {
	t.Parallel()
	n := fresh(t)
	n.raw(entry(command.Header{}, encoded(t, &command.TermStart{}, key("k"), [8]byte{}, false)))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.open(); err != nil || n.View().Index() != 1 {
		t.Errorf("open: %v", err)
	}
}

// TestOrderOfPublishing: the observer sees each position once, in order, and the
// view of it is then the one that everybody gets.
func TestOrderOfPublishing(t *testing.T) {
	t.Parallel()
	n := booted(t)
	n.must(&command.Revoke{Tenant: "default", TargetKind: "subject", Target: "alice", ExpiresAt: seconds(60)})
	var got []string
	for _, v := range n.seen {
		got = append(got, fmt.Sprint(v.Index(), " ", v.Head()))
	}
	if want := []string{"1 0", "2 0", "3 1"}; !slices.Equal(got, want) {
		t.Errorf("observed %q, want %q", got, want)
	}
	if n.seen[2] != n.View() {
		t.Error("the observer was shown another view")
	}
}

func TestFolderOfTheState(t *testing.T) {
	t.Parallel()
	n := booted(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(n.dir, storeName(2), "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(n.dir, storeName(2))); !os.IsNotExist(err) {
		t.Errorf("what an interrupted restore left is still there: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(n.dir, currentFile)
	for name, change := range map[string]func() error{
		"damaged": func() error { return os.WriteFile(at, []byte("../elsewhere\n"), 0o600) },
		"missing": func() error { return os.Remove(at) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: n.dir, Halt: func(error) {}, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), currentFile) {
			t.Errorf("%s CURRENT: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(n.dir, storeName(1))); err != nil {
			t.Errorf("%s CURRENT: the store was touched: %v", name, err)
		}
	}
}
