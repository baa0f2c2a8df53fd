package fsm

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

// TestExpireTakesNothingEarly: each row goes only when its end has come by the
// cluster clock, and then it goes, whatever the job asks for.
func TestExpireTakesNothingEarly(t *testing.T) {
	t.Parallel()
	rows := map[string]func(n *node, end int64) string{ // makes a row that ends then, says how its line begins
		"opaque": func(n *node, end int64) string {
			c := opaque("x")
			c.Token.ExpiresAt = end
			n.must(c)
			return "opaque "
		},
		"consumed": func(n *node, end int64) string {
			n.must(&command.Consume{Tenant: "default", ValueKind: "jti", Id: "x", ExpiresAt: end})
			return "consumed "
		},
		"revocation": func(n *node, end int64) string {
			n.must(revocation("subject", "x", 0, end))
			return "revocation "
		},
		"event": func(n *node, end int64) string {
			n.must(revocation("subject", "x", 0, end))
			return "event "
		},
		"join token": func(n *node, end int64) string {
			n.must(&command.PutJoinToken{Hash: digest("j"), Token: &state.JoinToken{ExpiresAt: end*1000 - 1}})
			return "join token "
		},
	}
	for name, put := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, life := range []int64{1, 59, 60, 61, 121} {
				n := booted(t)
				line := put(n, seconds(life))
				end := t0 + life*1000
				if name == "join token" {
					end--
				}
				for _, now := range []int64{t0, end - 1} {
					n.now = now
					n.must(&command.Expire{UpTo: math.MaxInt64, Limit: 100})
					if !strings.Contains(n.dump(), line) {
						t.Fatalf("life %d s: gone %d ms before its end", life, end-now)
					}
				}
				n.now = end + 60_000
				n.must(&command.Expire{UpTo: end - 60_000, Limit: 100})
				if !strings.Contains(n.dump(), line) {
					t.Fatalf("life %d s: gone though the job asked for less", life)
				}
				n.must(&command.Expire{UpTo: n.now, Limit: 100})
				if d := n.dump(); strings.Contains(d, line) || strings.Contains(d, "expiry ") {
					t.Fatalf("life %d s: still there a minute after its end:\n%s", life, d)
				}
				if err := n.View().CheckMemory(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestExpireIsBounded: one command takes no more rows than it was told, and
// never more than its own limit; the floor says which events are gone.
func TestExpireIsBounded(t *testing.T) {
	t.Parallel()
	n := booted(t)
	var cmds []command.Command
	for i := range 10 {
		cmds = append(cmds, revocation("subject", fmt.Sprint(i), 0, seconds(60)))
	}
	n.do(cmds...)
	n.must(revocation("subject", "later", 0, seconds(600)))
	if minute, any, err := n.View().DueMinute(); err != nil || !any || minute != state.Minute(seconds(60)) {
		t.Errorf("due at minute %d (%v, %v)", minute, any, err)
	}
	n.now += 120_000
	if took := n.must(&command.Expire{UpTo: n.now, Limit: 7}).Generation; took != 7 {
		t.Errorf("took %d rows of 20, want 7", took)
	}
	if took := n.must(&command.Expire{UpTo: n.now, Limit: 1000}).Generation; took != 13 {
		t.Errorf("took %d rows, want the other 13", took)
	}
	if c := n.View().Counters(); c.Floor != 10 || c.Head != 11 {
		t.Errorf("floor %d, head %d, want 10 and 11", c.Floor, c.Head)
	}
	if e := n.events(); len(e) != 1 || e[0].GetTarget() != "later" {
		t.Errorf("events left: %v", e)
	}
	many := make([]command.Command, 1000)
	for range 5 {
		for i := range many {
			many[i] = &command.Consume{Tenant: "default", ValueKind: "jti", Id: fmt.Sprint(n.index, i), ExpiresAt: seconds(200)}
		}
		n.do(many...)
	}
	n.now += 600_000
	if took := n.must(&command.Expire{UpTo: n.now, Limit: math.MaxUint32}).Generation; took != expireLimit {
		t.Errorf("took %d rows, want %d at most", took, expireLimit)
	}
}

// TestOneRangeTakesManyOpaqueTokens, of the minutes that are over only.
func TestOneRangeTakesManyOpaqueTokens(t *testing.T) {
	t.Parallel()
	n := booted(t)
	for i := range int64(5) {
		c := opaque(fmt.Sprint(i))
		c.Token.ExpiresAt = seconds(60 * (i + 1))
		n.must(c)
	}
	n.now += 180_000
	n.must(&command.Expire{UpTo: n.now})
	for i := range int64(5) {
		_, err := n.View().Opaque(state.Minute(seconds(60*(i+1))), digest32(fmt.Sprint(i)))
		if gone := errors.Is(err, storage.ErrNotFound); gone != (i < 3) || err != nil && !gone {
			t.Errorf("token of %d s: gone %v, error %v", 60*(i+1), gone, err)
		}
	}
}
