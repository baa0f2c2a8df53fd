package e2e

import (
	"net/http"
	"path/filepath"
	"testing"
)

// lineage is a family that was refreshed: its tokens, the newest last.
type lineage struct {
	access string
	tokens []string
}

func (v *visitor) lineage(t *testing.T, rotations int) lineage {
	t.Helper()
	a := v.redeem(t, v.next(), v.signIn(t))
	l := lineage{a.Access, []string{a.Refresh}}
	for range rotations {
		l.rotate(t, v)
	}
	return l
}

func (l *lineage) newest() string { return l.tokens[len(l.tokens)-1] }

func (l *lineage) rotate(t *testing.T, v *visitor) {
	t.Helper()
	a := v.refresh(t, v.next(), l.newest())
	if a.status != http.StatusOK || a.Refresh == "" || a.Refresh == l.newest() {
		t.Fatalf("the newest token gives %+v", a)
	}
	l.tokens = append(l.tokens, a.Refresh)
}

// reused shows a token that was replaced: it is refused, and with it goes all of the family.
func (l *lineage) reused(t *testing.T, v *visitor, old string) {
	t.Helper()
	for _, token := range []string{old, l.newest()} {
		if a := v.refresh(t, v.next(), token); a.status != http.StatusBadRequest || a.Error != "invalid_grant" {
			t.Errorf("TOK-26: %+v", a)
		}
	}
	if must(v.next().Active(v.w.bound(), v.client, l.access))(t) {
		t.Error("TOK-24: an access token of the family lives on")
	}
}

// TestTOK26OldRefreshTokensStayOld: a token that was replaced is refused, and ends its
// family, after a change of leader, after all nodes were killed, and after a restore of a
// backup in which it was the newest one.
func TestTOK26OldRefreshTokensStayOld(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	v := newVisitor(t, w, nodes)
	v.another(t, "strict", 0)
	t.Run("after a change of leader", func(t *testing.T) {
		defer w.during(t)()
		oldest, before, goesOn := v.lineage(t, 2), v.lineage(t, 2), v.lineage(t, 1)
		leader := w.leader(nodes...)
		leader.kill()
		rest := without(nodes, leader)
		v.nodes.Store(&rest)
		w.leader(rest...)
		oldest.reused(t, v, oldest.tokens[0])
		before.reused(t, v, before.tokens[1])
		goesOn.rotate(t, v)
		leader.run()
		v.nodes.Store(&nodes)
		w.awaitVoters(nodes[0], len(nodes))
	})
	t.Run("after a restart of all nodes", func(t *testing.T) {
		defer w.during(t)()
		oldest, before, goesOn := v.lineage(t, 2), v.lineage(t, 2), v.lineage(t, 1)
		for _, n := range nodes {
			n.kill()
		}
		for _, n := range nodes {
			n.launch()
		}
		for _, n := range nodes {
			n.awaitReady()
		}
		w.awaitVoters(nodes[0], len(nodes))
		oldest.reused(t, v, oldest.tokens[0])
		before.reused(t, v, before.tokens[1])
		goesOn.rotate(t, v)
	})
	t.Run("after a restore", func(t *testing.T) {
		defer w.during(t)()
		replaced, kept := v.lineage(t, 0), v.lineage(t, 1)
		file := filepath.Join(w.dir, "tok26.snap")
		if got := w.cli(nodes[1], "", "operator", "snapshot", "save", file); got.code != 0 {
			t.Fatalf("save: exit code %d: %s", got.code, got.err)
		}
		replaced.rotate(t, v)
		code := v.signIn(t)
		if a := v.redeem(t, v.next(), code); a.status != http.StatusOK {
			t.Fatalf("%+v", a)
		}
		if got := w.cli(nodes[2], "", "operator", "snapshot", "restore", file); got.code != 0 {
			t.Fatalf("restore: exit code %d: %s", got.code, got.err)
		}
		w.equalChecksums(nodes...)
		for what, token := range map[string]string{"replaced since": replaced.tokens[0], "made since": replaced.newest(), "of before": kept.newest()} {
			for _, n := range nodes {
				if a := v.refresh(t, n, token); a.Error != "invalid_grant" {
					t.Errorf("TOK-26: a token %s: %+v", what, a)
				}
			}
		}
		if a := v.redeem(t, v.next(), code); a.Error != "invalid_grant" {
			t.Errorf("TOK-15: a code that was used after the backup: %+v", a)
		}
		again := v.lineage(t, 1) // through a login: that of before is gone, too
		again.reused(t, v, again.tokens[0])
	})
}
