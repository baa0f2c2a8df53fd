package tokens_test

import (
	"fmt"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/tokens"
)

// TestTheLongestLifeIsThatOfEveryClient: whatever was counted before, a revocation
// lasts as long as any token that is out.
func TestTheLongestLifeIsThatOfEveryClient(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Options{})
	var lives tokens.LongestLives
	put := func(id string, life int64) {
		t.Helper()
		old, _ := n.FSM.View().Client("default", id)
		n.Must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: id, AccessTokenLifetime: life}, Expect: old.GetGeneration()})
	}
	want := func(what string, life int64) {
		t.Helper()
		if got := lives.Of(n.FSM.View(), "default"); got != life {
			t.Errorf("%s: %d, want %d", what, got, life)
		}
	}
	for i := range 300 {
		put(fmt.Sprintf("c%03d", i), 60)
	}
	want("many short ones", tokens.DefaultLifetime)
	put("c150", 7200)
	want("one was given more", 7200)
	put("c150", 60)
	want("its tokens are still out", 7200)
	put("new", 9000)
	before := n.FSM.View()
	want("a new client", 9000)
	put("c299", 9900)
	want("the last one", 9900)
	if got := lives.Of(before, "default"); got < 9000 {
		t.Errorf("an older view: %d", got)
	}
	want("after an older view", 9900)
	if got := lives.Of(n.FSM.View(), "nobody"); got != tokens.DefaultLifetime || lives.Kept() != 1 {
		t.Errorf("a tenant that is not there: %d, %d kept", got, lives.Kept())
	}
}
