package logout_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/logout"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// application is a client that is told of logouts; it fails at first.
type application struct {
	*httptest.Server
	fails int
	told  chan string
}

func newApplication(t *testing.T, fails int) *application {
	t.Helper()
	a := &application{fails: fails, told: make(chan string, 10)}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.fails > 0 {
			a.fails--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		a.told <- r.FormValue("logout_token")
	}))
	t.Cleanup(a.Close)
	return a
}

func post(ctx context.Context, at string, form url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// keysOf are the keys of clients that have them by value.
func keysOf(_ context.Context, client *state.Client, _ string) ([]byte, error) {
	return client.GetJwks(), nil
}

// running is a notifier at work, and the keys that it signs with; stop waits for its end.
func running(t *testing.T, n *testnode.Node, post func(ctx context.Context, at string, form url.Values) error) (notifier *logout.Notifier, keys *tokens.SigningKeys, stop func()) {
	t.Helper()
	shared, keys := tokens.NewClusterKeys(n.Ring), tokens.NewSigningKeys(n.Ring)
	minter, err1 := tokens.NewMinter(keys, "n1")
	subjects, err2 := tokens.NewSubjects(shared)
	row, err3 := tokens.NewSigningKey(n.Ring, "default", "RS256")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	n.Must(t, &command.PutSigningKey{Key: row})
	notifier, err := logout.New(logout.Config{View: n.View, Minter: minter, Keys: keys, Subjects: subjects, ClientKeys: keysOf, Post: post, Now: n.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { notifier.Run(ctx); close(ended) }()
	return notifier, keys, func() { cancel(); <-ended }
}

// TestLogoutTokens: each client of a session that wants to know is told, by a token that
// passes for nothing else, and once more where it could not take it.
func TestLogoutTokens(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Options{})
	app := newApplication(t, 1)
	for id, uri := range map[string]string{"web": app.URL + "/out?x=1", "silent": ""} {
		n.Must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: id, BackchannelLogoutUri: uri}})
	}
	notifier, keys, stop := running(t, n, post)
	notifier.Ended(n.FSM.View(), &state.Session{Tenant: "default", Id: "s1", User: "u1"}, []string{"web", "silent", "gone"})
	var token string
	select {
	case token = <-app.told:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told")
	}
	stop()
	if counts := notifier.Counts(); counts[1]+counts[2] != 0 {
		t.Errorf("counts %v", counts)
	}
	read, err := verify.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Sub, Sid, Nonce string
		Events          map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(read.Claims.Raw), &said); err != nil {
		t.Fatal(err)
	}
	c := &read.Claims
	if c.Type != "logout+jwt" || c.Issuer != testnode.Issuer || len(c.Audience) != 1 || c.Audience[0] != "web" || said.Sub != "u1" || said.Sid != "s1" || said.Nonce != "" ||
		c.Expires-c.IssuedAt > 120 || c.JTI == "" || said.Events["http://schemas.openid.net/event/backchannel-logout"] == nil {
		t.Errorf("%s %s", c.Type, c.Raw)
	}
	if _, ok, err := keys.Hint(n.FSM.View(), "default", token); ok || err != nil {
		t.Errorf("a logout token passes for an ID token (JWT-24): %v", err)
	}
}

// TestSSR07ASlowApplicationHoldsUpNobody: an application that takes no logout token keeps
// no other from its own, however many of its logins end.
func TestSSR07ASlowApplicationHoldsUpNobody(t *testing.T) {
	t.Parallel()
	n := testnode.New(t, testnode.Options{})
	for _, id := range []string{"dead", "good"} {
		n.Must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: id, BackchannelLogoutUri: "https://" + id + ".example/"}})
	}
	told := make(chan struct{}, 1)
	hold := make(chan struct{})
	notifier, _, stop := running(t, n, func(ctx context.Context, at string, _ url.Values) error {
		if at == "https://good.example/" {
			told <- struct{}{}
			return nil
		}
		select { // takes the connection and never answers
		case <-hold:
		case <-ctx.Done():
		}
		return errors.New("no answer")
	})
	defer stop()
	defer close(hold)
	for i := range 200 {
		notifier.Ended(n.FSM.View(), &state.Session{Tenant: "default", Id: strconv.Itoa(i), User: "u1"}, []string{"dead"})
	}
	notifier.Ended(n.FSM.View(), &state.Session{Tenant: "default", Id: "s1", User: "u1"}, []string{"good"})
	select {
	case <-told:
	case <-time.After(8 * time.Second): // less than the patience with one that is slow
		t.Error("an application waits for its logout behind those of one that does not answer")
	}
}
