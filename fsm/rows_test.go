package fsm

import (
	"fmt"
	"maps"
	"math"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// sizes are those of the tables whose rows end, counted some rows at a time.
func (n *node) sizes() map[string]int {
	n.t.Helper()
	out := map[string]int{}
	for _, table := range state.Ending() {
		for after, first := []byte(nil), true; first || after != nil; first = false {
			got, last, err := n.View().Count(table, after, 3)
			if err != nil || got > 3 {
				n.t.Fatalf("count %s: %d, %v", table.Name, got, err)
			}
			out[table.Name], after = out[table.Name]+got, last
		}
	}
	return out
}

// TestRowsGoBackAfterTheirEnd: whatever a cluster has served, when all of it has ended the
// store holds what it held before, index rows and queue too, taken by commands of a bounded
// number of rows each; and so round after round.
func TestRowsGoBackAfterTheirEnd(t *testing.T) {
	t.Parallel()
	n, generation := peopled(t)
	app, _ := n.View().Client("default", "app")
	decided := &command.Decided{Client: app.GetGeneration(), Tenant: 1}
	before, idle := rowsOnly(n.dump()), n.sizes()
	const limit = 16
	for round := range 2 {
		now := n.now / 1000
		for i := range 10 {
			id := fmt.Sprintf("%d-%d", round, i)
			issue := opaque(id)
			issue.Token.ExpiresAt = now + int64(60+i)
			login, sid := session("s"+id, id), "s"+id
			login.AuthTime, login.ExpiresAt = now, now+7200
			device, backchannel := startDevice("d"+id, "BCD"+id), startBackchannel("b"+id)
			device.Request.ExpiresAt, backchannel.Request.ExpiresAt = now+600, now+300
			n.must(issue)
			n.must(&command.Consume{Tenant: "default", ValueKind: "jti", Id: id, ExpiresAt: now + 90})
			n.must(&command.PutSession{Session: login, UserGeneration: generation})
			n.must(&command.Redeem{
				ValueKind: "code", ValueId: id, ValueExpiresAt: now + 60,
				Authorization: &state.Authorization{Tenant: "default", ClientId: "app", Subject: "u1", User: "u1", Session: sid, Grant: "g" + id},
				Family:        &state.RefreshFamily{Id: "g" + id, Hash: digest(id), ExpiresAt: now + 3600}, Decided: decided,
			})
			n.must(device)
			n.must(backchannel)
			n.must(revocation("subject", id, 0, now+120))
			n.must(&command.PutJoinToken{Hash: digest("j" + id), Token: &state.JoinToken{ExpiresAt: (now + 600) * 1000}})
			initial := initialToken(1)
			initial.Token.Id, initial.Token.ExpiresAt = "t"+id, now+600
			n.must(initial)
			n.keyed(&command.Consume{Tenant: "default", ValueKind: "jti", Id: "k" + id, ExpiresAt: now + 90}, id, "body")
		}
		n.must(attempt("u1", false))
		for name, rows := range n.sizes() {
			if rows <= idle[name] {
				t.Errorf("round %d: nothing is in %s", round, name)
			}
		}
		n.now += 90_000_000 // 25 hours, longer than any of it and than what is kept of an answer
		commands := 0
		for took := uint64(limit); took == limit; commands++ {
			if took = n.must(&command.Expire{UpTo: math.MaxInt64, Limit: limit}).Generation; took > limit {
				t.Fatalf("one command took %d rows, of at most %d", took, limit)
			}
		}
		if commands < 6 {
			t.Errorf("round %d: %d commands for all that", round, commands)
		}
		if got := n.sizes(); !maps.Equal(got, idle) {
			t.Errorf("round %d: rows are %v, were %v", round, got, idle)
		}
		if after := rowsOnly(n.dump()); after != before {
			t.Errorf("round %d: left behind:\n%s\nbefore:\n%s", round, after, before)
		}
	}
}
