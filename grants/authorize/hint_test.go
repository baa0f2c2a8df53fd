package authorize_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/internal/oauth"
)

// TestAUT14AHintSignsNobodyIn: a hint that can't be believed says nothing, and with
// prompt=none means that nobody is signed in; a good one asks for its user, who has to be
// there already, and never makes them so.
func TestAUT14AHintSignsNobodyIn(t *testing.T) {
	t.Parallel()
	w, foreign := newWorld(t), newWorld(t)
	answer := must(w.redeem("spa", w.code()))(t)
	good := string(answer.ID)
	others := string(must(w.redeem("other", w.code("client_id", "other")))(t).ID)
	strange := string(must(foreign.redeem("spa", foreign.code()))(t).ID)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(payloadOf(t, parts[1]), `"sub":"`, `"sub":"x`, 1))) + "." + parts[2]

	w.Must(t, &command.PutUser{User: &state.User{Tenant: "default", Id: "u2", Username: "bob", Key: "bob"}})
	bob := must(w.FSM.View().User("default", "u2"))(t)
	w.Must(t, &command.PutSession{UserGeneration: bob.GetGeneration(), Session: &state.Session{
		Tenant: "default", Id: "s9", User: "u2", Secret: make([]byte, 32), AuthTime: w.Now().Unix(), Amr: []string{"pwd"}, Acr: authorize.ACRPassword, ExpiresAt: w.Now().Unix() + 9000,
	}})
	other := authorize.Present{Session: must(w.FSM.View().Session("default", "s9"))(t), User: bob}

	step := func(who authorize.Present, hint string, pairs ...string) (authorize.Step, error) {
		v := w.FSM.View()
		r, err := w.engine.Parse(t.Context(), v, "default", asked(append(pairs, "id_token_hint", hint)...))
		if err != nil {
			return 0, err
		}
		return w.engine.Next(v, r, who)
	}
	bad := map[string]string{
		"of another issuer": strange, "of alg none": none, "that is forged": forged, "of another client": others, "that is cut": good[:len(good)-2], "that is no JWT": "alice",
		"that is an access token": string(answer.Token), "that is a refresh token": string(answer.Refresh),
	}
	for name, hint := range bad {
		if got, err := step(w.who, hint); err != nil || got != authorize.Done {
			t.Errorf("a hint %s is not ignored: %d, %v", name, got, err)
		}
		if got, err := step(authorize.Present{}, hint); err != nil || got != authorize.Login {
			t.Errorf("a hint %s signs in: %d, %v", name, got, err)
		}
		_, err := step(w.who, hint, "prompt", "none")
		w.refused("prompt=none with a hint "+name, err, oauth.LoginRequired)
	}
	hold := func(when string) {
		if got, err := step(w.who, good, "prompt", "none"); err != nil || got != authorize.Done {
			t.Errorf("%s: the user themselves: %d, %v", when, got, err)
		}
		if got, err := step(authorize.Present{}, good); err != nil || got != authorize.Login {
			t.Errorf("%s: a hint signs its user in: %d, %v", when, got, err)
		}
		if got, err := step(other, good); err != nil || got != authorize.Login {
			t.Errorf("%s: a hint of another user: %d, %v", when, got, err)
		}
		_, err := step(other, good, "prompt", "none")
		w.refused(when+": a hint of another user, and no page", err, oauth.LoginRequired)
		_, err = step(authorize.Present{}, good, "prompt", "none")
		w.refused(when+": nobody, and no page", err, oauth.LoginRequired)
	}
	hold("fresh")
	w.Pass(90 * time.Minute)
	hold("expired")
	_, err := w.engine.Parse(t.Context(), w.FSM.View(), "default", asked("id_token_hint", good, "claims", `{"id_token":{"sub":{"value":"u2"}}}`))
	w.refused("a hint and claims that name two users", err, oauth.LoginRequired)
}

func payloadOf(t *testing.T, part string) string {
	t.Helper()
	return string(must(base64.RawURLEncoding.DecodeString(part))(t))
}
