package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// TestTOK47AClientThatIsDisabledBehindACut: a node that is cut off does not hear that a
// client was disabled. What it issues until its staleness bound is refused by gateways and
// by every other node; past the bound it issues nothing.
func TestTOK47AClientThatIsDisabledBehindACut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := newLinks(w)
	_, nodes := w.cluster(func(name string) []string { return append(k.flags(name), "--staleness-bound", "6s") })
	leader := w.leader(nodes...)
	alone := without(nodes, leader)[0]
	rest := without(nodes, alone)
	g := w.edge("gw1", rest)
	client := must(leader.CreateClient(w.bound(), map[string]any{"client_id": "doomed"}))(t)
	must(alone.Issue(w.bound(), client, ""))(t)

	k.isolate(alone.name)
	if err := leader.Write(w.bound(), http.MethodPatch, "/admin/v1/clients/"+client.ID, map[string]any{"enabled": false}, nil); err != nil {
		t.Fatal(err)
	}
	var issued []string
	var refusal error
	for ctx := w.bound(); refusal == nil && ctx.Err() == nil; {
		var token string
		if token, refusal = alone.Issue(ctx, client, ""); refusal == nil && len(issued) < 50 {
			issued = append(issued, token)
		}
	}
	if len(issued) == 0 {
		t.Error("it issued nothing within its staleness bound")
	}
	if proc.StatusOf(refusal) != http.StatusServiceUnavailable {
		t.Errorf("past its bound it refuses with %v, want 503", refusal)
	}
	for i, token := range issued {
		w.await("the gateway to have heard", func(ctx context.Context) error {
			v, err := g.Validate(ctx, token)
			if err == nil && (v.Status != http.StatusUnauthorized || v.Reason != "revoked") {
				err = fmt.Errorf("token %d of %d: %d %s", i, len(issued), v.Status, v.Reason)
			}
			return err
		})
		for _, n := range rest {
			if must(n.Active(w.bound(), w.client, token))(t) {
				t.Errorf("%s calls token %d active", n.name, i)
			}
		}
	}
	k.heal()
	w.await("the node to follow", func(ctx context.Context) error {
		if _, err := alone.Issue(ctx, client, ""); proc.StatusOf(err) != http.StatusUnauthorized {
			return fmt.Errorf("a disabled client gets %w", err)
		}
		return nil
	})
	w.equalChecksums(nodes...)
}
