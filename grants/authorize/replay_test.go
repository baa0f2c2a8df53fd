package authorize_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/internal/oauth"
)

// TestTOK26OldRefreshTokensStayOldWhateverTheClockSays: a replaced token is told by what
// the family holds. Neither a clock that goes back, nor a leap of it, nor a restore of a
// backup in which it was the newest, makes it good again.
func TestTOK26OldRefreshTokensStayOldWhateverTheClockSays(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(w *world, backup []byte){
		"the clock steps back an hour":   func(w *world, _ []byte) { w.Pass(-time.Hour) },
		"the clock steps back a month":   func(w *world, _ []byte) { w.Pass(-31 * 24 * time.Hour) },
		"the clock leaps and comes back": func(w *world, _ []byte) { w.Pass(time.Hour); w.disturb(); w.Pass(-time.Hour) },
		"a backup is restored":           func(w *world, backup []byte) { w.Restore(t, backup) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withoutGrace()
			first := string(must(w.redeem("spa", w.code()))(t).Refresh)
			other := string(must(w.redeem("spa", w.code()))(t).Refresh)
			backup := w.Backup(t)
			w.Pass(time.Second)
			second := string(must(w.refresh("spa", first))(t).Refresh)
			change(w, backup)
			_, err := w.refresh("spa", first)
			w.refused("the token that was replaced", err, oauth.InvalidGrant)
			_, err = w.refresh("spa", second)
			w.refused("the newest of a family that was reused, or forgotten", err, oauth.InvalidGrant)
			_, err = w.refresh("spa", other)
			if restored := w.FSM.View().Epoch() > 1; (err != nil) != restored {
				t.Errorf("a token that was not replaced: %v", err)
			}
			if w.FSM.View().Epoch() > 1 { // what begins after a restore goes on
				w.Pass(time.Second)
				w.signInAgain()
				again := string(must(w.redeem("spa", w.code()))(t).Refresh)
				must(w.refresh("spa", again))(t)
			}
		})
	}
}

// signInAgain makes another session.
func (w *world) signInAgain() {
	w.t.Helper()
	w.Must(w.t, &command.PutSession{UserGeneration: w.who.User.GetGeneration(), Session: &state.Session{
		Tenant: "default", Id: "s2", User: "u1", Secret: make([]byte, 32), AuthTime: w.Now().Unix(), Amr: []string{"pwd"}, Acr: authorize.ACRPassword, ExpiresAt: w.Now().Unix() + 7200,
	}})
	w.who.Session = must(w.FSM.View().Session("default", "s2"))(w.t)
}

// withoutGrace gives the window up.
func (w *world) withoutGrace() {
	w.t.Helper()
	have, _ := w.FSM.View().Client("default", "spa")
	strict := proto.CloneOf(have)
	strict.RefreshGrace = new(int64)
	w.Must(w.t, &command.PutClient{Client: strict, Expect: have.GetGeneration()})
}

// disturb writes something, so that the cluster's clock follows.
func (w *world) disturb() {
	w.t.Helper()
	w.Must(w.t, &command.Expire{UpTo: 1, Limit: 1})
}
