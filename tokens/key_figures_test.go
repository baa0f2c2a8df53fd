package tokens_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens"
)

// TestKeyFiguresTellWhenTheJobIsBehind: whatever step of a key's life is not done
// in its time shows as overdue, and no longer once it is done.
func TestKeyFiguresTellWhenTheJobIsBehind(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	k := newKit(t, tokens.KeyJobConfig{Rotation: 10 * day, Lead: 2 * day})
	es := func() tokens.KeyFigures { return k.job.Figures(k.view())["ES256"] }
	k.run(t)
	if f := es(); f.Active != 1 || f.Next != 0 || f.Overdue != 0 || f.Age >= day {
		t.Fatalf("after the first run %+v", f)
	}
	k.pass(7 * day)
	if f := es(); f.Overdue != 0 || f.Age < 7*day {
		t.Errorf("before the successor is due %+v", f)
	}
	k.pass(day + time.Hour)
	if f := es(); f.Overdue < time.Hour || f.Overdue > time.Hour+time.Minute {
		t.Errorf("an hour after a successor was due %+v", f)
	}
	k.run(t)
	if f := es(); f.Overdue != 0 || f.Next != 1 {
		t.Errorf("with the successor %+v", f)
	}
	k.pass(2 * day)
	if f := es(); f.Overdue < time.Hour || f.Overdue > time.Hour+time.Minute {
		t.Errorf("an hour after it should have taken over %+v", f)
	}
	k.run(t)
	if f := es(); f.Overdue != 0 || f.Active != 1 || f.Next != 0 || f.Retired != 1 || f.Age > 3*day {
		t.Errorf("after the rotation %+v", f)
	}
	if _, err := k.job.Rotate(context.Background(), "default", "ES256", true); err != nil {
		t.Fatal(err)
	}
	if f := es(); f.Revoked != 1 || f.Overdue != 0 {
		t.Errorf("after an emergency %+v", f)
	}
}

// TestKeyFiguresTakeTheWorstTenant: a tenant that got no key waits since it was made,
// however well the others are served.
func TestKeyFiguresTakeTheWorstTenant(t *testing.T) {
	t.Parallel()
	k := newKit(t, tokens.KeyJobConfig{})
	k.run(t)
	k.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme", CreatedAt: k.now().UnixMilli()}})
	k.pass(time.Hour)
	if f := k.job.Figures(k.view())["RS256"]; f.Active != 1 || f.Overdue != time.Hour {
		t.Errorf("%+v, want 1 active key and an hour", f)
	}
	k.run(t)
	if f := k.job.Figures(k.view())["RS256"]; f.Active != 2 || f.Overdue != 0 {
		t.Errorf("once it has its key %+v", f)
	}
}
