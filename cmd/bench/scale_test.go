package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/tokens"
)

// TestSweep: a size that would take too long is left out and said, as is one that a run
// for function has no use for; what was measured before an error stays.
func TestSweep(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var asked []int
	w := sweep{name: "x", sizes: []int{10, 1000, 2000, 100_000}, begin: func(context.Context) (func(context.Context, int) (bench.Figures, error), error) {
		asked = nil
		return func(_ context.Context, n int) (bench.Figures, error) {
			asked = append(asked, n)
			if n == 2000 {
				return nil, broken
			}
			return bench.Figures{"rate": float64(n)}, nil
		}, nil
	}}
	c, err := w.run(t.Context(), options{}, time.Hour)
	if !errors.Is(err, broken) || len(c.Points) != 2 || len(asked) != 3 {
		t.Errorf("%+v, %v, asked for %v", c, err, asked)
	}
	if c, err = w.run(t.Context(), options{small: true}, time.Hour); err != nil || len(c.Points) != 2 || c.Skipped == "" {
		t.Errorf("small: %+v, %v", c, err)
	}
	if c, err = w.run(t.Context(), options{}, -time.Hour); err != nil || len(c.Points) != 1 || !strings.Contains(c.Skipped, "1000 would have taken") {
		t.Errorf("no time: %+v, %v", c, err)
	}
	if err := scale(t.Context(), options{data: t.TempDir(), only: regexp.MustCompile("^nothing$")}); err == nil || !strings.Contains(err.Error(), "names no curve") {
		t.Error(err)
	}
}

// TestFilledClientsCanAuthenticate: what is put in by the state machine is what the API
// would have made, but for the names; secrets that are remembered are theirs.
func TestFilledClientsCanAuthenticate(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Options{Now: time.Now})
	n.Must(t, &command.PutClient{Client: &state.Client{Tenant: fillTenant, Id: "template", AuthMethod: "client_secret_post", GrantTypes: []string{"client_credentials"}, Scopes: []string{"read"}}})
	commands, kept, err := clientsLike(n.FSM.View(), n.Ring, "template", 5, 2500, 3)
	if err != nil || len(kept) != 3 {
		t.Fatalf("%v, %v", kept, err)
	}
	if err := apply(t.Context(), n.FSM, commands); err != nil { // more than two entries
		t.Fatal(err)
	}
	v := n.FSM.View()
	key, _, err := tokens.NewClusterKeys(n.Ring).Newest(v, tokens.KeyHash)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kept {
		c, ok := v.Client(fillTenant, k.id)
		hash := seal.Hash(key, []byte(k.secret))
		if !ok || string(c.GetSecrets()[0].GetHash()) != string(hash[:]) || c.GetScopes()[0] != "read" || strings.Contains(fmt.Sprint(k), k.secret) {
			t.Errorf("client %s: %v, %v", k, c, ok)
		}
	}
	for _, id := range []string{"fill-000000005", "fill-000002504"} {
		if _, ok := v.Client(fillTenant, id); !ok {
			t.Errorf("there is no client %s", id)
		}
	}
	if _, _, err := clientsLike(v, n.Ring, "nobody", 0, 1, 1); err == nil {
		t.Error("clients like nobody")
	}
	again, _, err := clientsLike(v, n.Ring, "template", 5, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := apply(t.Context(), n.FSM, again); err == nil {
		t.Error("a refused command was not noticed")
	}

	before := v.Head()
	if err := apply(t.Context(), n.FSM, randomRevocations(1500, n.Now())); err != nil || n.FSM.View().Head() != before+1500 {
		t.Errorf("1500 revocations moved the head by %d (%v)", n.FSM.View().Head()-before, err)
	}
}

// FuzzHeadOf: what it reads is a number that is there.
func FuzzHeadOf(f *testing.F) {
	for _, seed := range []string{`{"cluster":"c","epoch":1,"head":42,"items":[]}`, `{"head":}`, `{"head":-1}`, `"head":99999999999999999999`, `"head":`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		head, err := headOf(body)
		if err == nil && !regexp.MustCompile(`"head":0*`+strconv.FormatUint(head, 10)).Match(body) {
			t.Errorf("%d of %q", head, body)
		}
	})
}

func TestAbout(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "?", 0.123: "0.12", 7: "7", 1234: "1200", 16_646_400: "17,000,000"} {
		if got := about(v); got != want {
			t.Errorf("%v is about %q, want %q", v, got, want)
		}
	}
}
