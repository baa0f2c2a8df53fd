package e2e

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// TestR11OutcomeUnknown: the majority stops between the moment at which the leader
// takes a write and its commit. Nobody is told that it failed: the answer is 503
// outcome_unknown with Retry-After, within the write timeout, at the leader and at
// a follower alike; with the majority back the same node writes again.
func TestR11OutcomeUnknown(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	c := must(nodes[0].CreateClient(w.bound(), map[string]any{"access_token_format": "opaque"}))(t) // its tokens are written, with no read before
	for _, at := range []string{"leader", "follower"} {
		unknown := false
		for round := 0; round < 5 && !unknown; round++ {
			leader := w.leader(nodes...)
			asked, paused := leader, without(nodes, leader)
			if at == "follower" {
				asked, paused = paused[0], []*node{leader, paused[1]}
			}
			// Its connections stand, and it has proved its state since it was woken.
			w.await("the asked node", func(ctx context.Context) error {
				_, err := asked.Issue(ctx, c, "")
				return err
			})
			for _, n := range paused {
				n.pause()
			}
			begun := time.Now()
			_, err := asked.Issue(w.bound(), c, "")
			took := time.Since(begun)
			for _, n := range nodes {
				n.cont()
			}
			var refused *proc.Refused
			if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.RetryAfter == "" || took > 7*time.Second {
				t.Errorf("at the %s: answered after %s with %v; want 503 with Retry-After within 5 s", at, took, err)
				break
			}
			// The leader may have stepped down a moment before it came.
			unknown = strings.Contains(refused.Body, `"outcome_unknown"`)
			w.await("writes again", func(ctx context.Context) error {
				_, err := asked.Issue(ctx, c, "")
				return err
			})
		}
		if !unknown {
			t.Errorf("at the %s: no write was left with an unknown outcome", at)
		}
	}
	w.equalChecksums(nodes...)
}
