package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/keyraft/keyraft/cluster/member"
)

func TestNotifyAliveBoundsWhatIsRemembered(t *testing.T) {
	t.Parallel()
	s := newSeen(nil)
	if err := s.NotifyAlive(&memberlist.Node{Name: "a", Meta: make([]byte, member.MaxEncoded)}); err != nil {
		t.Errorf("the longest record: %v", err)
	}
	if err := s.NotifyAlive(&memberlist.Node{Name: "a", Meta: make([]byte, member.MaxEncoded+1)}); err == nil {
		t.Error("a longer record is let in")
	}
	if err := s.NotifyAlive(&memberlist.Node{Name: strings.Repeat("a", maxName+1)}); err == nil {
		t.Error("a long name is let in")
	}
	meta, err := member.Info{ID: "x", Kind: member.KindNode}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxMembers {
		s.NotifyJoin(&memberlist.Node{Name: fmt.Sprint(i), Meta: meta})
	}
	if err := s.NotifyAlive(&memberlist.Node{Name: "new"}); err == nil {
		t.Error("more members than the bound are let in")
	}
	if err := s.NotifyAlive(&memberlist.Node{Name: "7"}); err != nil {
		t.Errorf("a member that is here: %v", err)
	}
}

// TestOneHeadIsToldOnce: further members that say the same are no news.
func TestOneHeadIsToldOnce(t *testing.T) {
	t.Parallel()
	told := make(chan uint64, 16)
	p := &Pool{seen: newSeen(nil), done: make(chan struct{}), cfg: Config{
		Info:   func() member.Info { return member.Info{} },
		OnHead: func(_, head uint64) { told <- head },
	}}
	var wg sync.WaitGroup
	wg.Go(p.headLoop)
	defer wg.Wait()
	defer close(p.done)
	says := func(name string, head uint64) {
		meta, err := member.Info{ID: name, Kind: member.KindNode, Head: head}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		p.seen.NotifyUpdate(&memberlist.Node{Name: name, Meta: meta})
		for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			p.seen.mu.Lock()
			taken := p.seen.best == place{}
			p.seen.mu.Unlock()
			if taken {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the head was not taken up")
			}
		}
	}
	says("n2", 9)
	says("n3", 9)
	says("n3", 10)
	for _, want := range []uint64{9, 10} {
		if got := <-told; got != want {
			t.Errorf("told %d, want %d", got, want)
		}
	}
}

func TestAnUnreadableRecordIsNoMember(t *testing.T) {
	t.Parallel()
	s := newSeen(nil)
	s.NotifyJoin(&memberlist.Node{Name: "later version", Meta: []byte{2, 1, 1}})
	if m := s.members(); len(m) != 0 {
		t.Errorf("members %v", m)
	}
	if len(s.notes) != 1 || len(s.heard) != 0 {
		t.Errorf("%d notes, want one; %d heads, want none", len(s.notes), len(s.heard))
	}
	for range 2 * cap(s.notes) { // with nobody reading: must not block
		s.NotifyConflict(&memberlist.Node{Name: "a"}, &memberlist.Node{Name: "a"})
	}
}

// TestRemoveMovesNothing: memberlist's readers hold the slice of keys while
// they try one after the other. Its own removal shifts that slice under them,
// so that a key is passed over and a good packet is dropped.
func TestRemoveMovesNothing(t *testing.T) {
	t.Parallel()
	named := func(b byte) []byte { return bytes.Repeat([]byte{b}, keyLength) }
	k, err := newKeys([][]byte{named(1), named(2), named(3), named(4), named(5)})
	if err != nil {
		t.Fatal(err)
	}
	p := &Pool{keys: k}
	for _, b := range []byte{3, 2, 5, 4, 9} {
		held := k.ring.GetKeys()
		before := bytes.Join(held, nil)
		if err := p.RemoveKey(named(b)); err != nil {
			t.Errorf("remove key %d: %v", b, err)
		}
		if !bytes.Equal(bytes.Join(held, nil), before) {
			t.Errorf("removing key %d moved keys under a reader", b)
		}
		if !bytes.Equal(k.ring.GetPrimaryKey(), named(1)) {
			t.Errorf("removing key %d changed the one in use", b)
		}
		for _, key := range k.ring.GetKeys() {
			if bytes.Equal(key, named(b)) {
				t.Errorf("key %d is still there", b)
			}
		}
	}
	if ids := p.KeyIDs(); len(ids) != 1 {
		t.Errorf("%d keys are left, want one", len(ids))
	}
}

func TestBridge(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	b := newBridge(slog.New(slog.NewTextHandler(&out, nil)))
	for _, tt := range []struct{ line, want string }{
		{"[WARN] memberlist: odd\n", "level=WARN msg=odd"},
		{"[ERR] memberlist: failed\n", "level=WARN msg=failed"},
		{"[INFO] memberlist: fine\n", "level=INFO msg=fine"},
		{"no level\n", `level=INFO msg="no level"`},
	} {
		out.Reset()
		if _, err := b.Write([]byte(tt.line)); err != nil || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%q became %q, want %q", tt.line, out.String(), tt.want)
		}
	}
	out.Reset()
	_, _ = b.Write([]byte("[DEBUG] memberlist: detail\n"))
	if out.Len() != 0 {
		t.Errorf("a debug line was written at level info: %q", out.String())
	}
	for range 1000 {
		_, _ = b.Write([]byte("[ERR] memberlist: flood\n"))
	}
	if n := strings.Count(out.String(), "flood"); n > 100 || n == 0 {
		t.Errorf("a flood of 1000 lines became %d", n)
	}
	if b.dropped.Load() == 0 {
		t.Error("what was dropped is not counted")
	}
	if !b.logger.Enabled(context.Background(), slog.LevelWarn) {
		t.Error("warnings are off: this test proves nothing")
	}
}
