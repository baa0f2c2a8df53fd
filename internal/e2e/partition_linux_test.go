package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// TestN1LeaderAlone: the leader is cut off from both others. It acknowledges no
// write from then on and answers no linearizable read; the others have a leader
// soon; it issues JWTs up to its staleness bound and refuses after it. Healed, all
// agree and nothing acknowledged is lost.
func TestN1LeaderAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := newLinks(w)
	_, nodes := w.cluster(func(name string) []string { return append(k.flags(name), "--staleness-bound", "2s") })
	old := w.leader(nodes...)
	rest := without(nodes, old)
	before := must(old.CreateClient(w.bound(), nil))(t)
	token := must(old.Issue(w.bound(), w.client, ""))(t)

	k.isolate(old.name)
	cut := time.Now()
	stopped := make(chan time.Duration, 1)
	go func() { // until the first refusal
		issued := 0
		for ctx := w.bound(); ctx.Err() == nil; issued++ {
			if _, err := old.Issue(ctx, w.client, ""); err == nil {
				continue
			} else if proc.StatusOf(err) != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "fresh") {
				t.Errorf("the minority refuses a token with %v; want 503 and the reason", err)
			}
			break
		}
		if issued == 0 {
			t.Error("the minority issued nothing within its staleness bound")
		}
		stopped <- time.Since(cut)
	}()
	next := w.leader(rest...)
	t.Logf("%s leads %s after the cut", next.name, time.Since(cut).Round(time.Millisecond))
	r := must(rest[0].Revoke(w.bound(), map[string]any{"token": token}, 0))(t)
	during := must(rest[1].CreateClient(w.bound(), nil))(t)

	begun := time.Now()
	err := old.Call(w.bound(), http.MethodPost, "/admin/v1/clients", map[string]any{"client_id": "never", "grant_types": []string{"client_credentials"}}, nil)
	if took := time.Since(begun); proc.StatusOf(err) != http.StatusServiceUnavailable || took > 7*time.Second {
		t.Errorf("a write at the minority is answered after %s with %v; want 503 within 5 s", took, err)
	}
	if active, err := old.Active(w.bound(), w.client, token); err == nil {
		t.Errorf("I2: the minority introspects: active %v", active)
	}
	took := <-stopped
	t.Logf("the minority issues no token %s after the cut", took.Round(time.Millisecond))
	if took > 4*time.Second {
		t.Errorf("the minority issued tokens for %s with a staleness bound of 2 s", took)
	}
	if _, err := w.delta(w.bound(), old, r.Seq, 0); proc.StatusOf(err) != http.StatusConflict {
		t.Errorf("the minority answers a poll since %d with %v, want 409", r.Seq, err)
	}

	k.heal()
	w.await("the old leader to follow", func(ctx context.Context) error {
		_, err := old.Issue(ctx, w.client, "")
		return err
	})
	if active, err := old.Active(w.bound(), w.client, token); err != nil || active {
		t.Errorf("I2: after the healing it says active %v, %v", active, err)
	}
	w.equalChecksums(nodes...)
	w.kept(map[string]time.Time{before.ID: {}, during.ID: {}}, nodes...)
	for _, n := range nodes {
		w.gapless(n, map[uint64]bool{r.Seq: true})
	}
}
