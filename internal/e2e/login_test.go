package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyraft/keyraft/internal/e2e/proc"
	"github.com/keyraft/keyraft/internal/testbrowser"
)

const (
	redirect = "https://app.example/cb"
	verifier = "a-verifier-of-forty-three-characters-or-more-0123456789"
	phrase   = "a long phrase of mine"
)

// visitor is a user at a browser, and the client that they come from. Each request goes
// to the next of the nodes.
type visitor struct {
	w      *world
	client proc.Client
	*testbrowser.Browser
	nodes atomic.Pointer[[]*node]
	turn  atomic.Uint64
}

func newVisitor(t *testing.T, w *world, nodes []*node, grants ...string) *visitor {
	t.Helper()
	v := &visitor{w: w}
	v.nodes.Store(&nodes)
	if err := nodes[0].Write(w.bound(), http.MethodPost, "/admin/v1/users", map[string]any{"username": "alice", "password": phrase}, nil); err != nil {
		t.Fatal(err)
	}
	v.client = must(nodes[1].CreateClient(w.bound(), map[string]any{
		"client_id": "web", "grant_types": append(grants, "authorization_code", "refresh_token"), "response_types": []string{"code"},
		"redirect_uris": []string{redirect}, "scope": "openid offline_access", "id_token_signed_response_alg": "ES256",
	}))(t)
	var metadata struct {
		Issuer string `json:"issuer"`
	}
	if err := nodes[0].Call(w.bound(), http.MethodGet, "/.well-known/openid-configuration", nil, &metadata); err != nil {
		t.Fatal(err)
	}
	v.Browser = testbrowser.New(w.http, metadata.Issuer, func() string { return v.next().Base })
	return v
}

func (v *visitor) next() *node {
	nodes := *v.nodes.Load()
	return nodes[v.turn.Add(1)%uint64(len(nodes))]
}

func (v *visitor) request() string {
	sum := sha256.Sum256([]byte(verifier))
	return "/oauth2/authorize?" + url.Values{
		"client_id": {v.client.ID}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"openid"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode()
}

// signIn goes through whatever pages come and gives the code.
func (v *visitor) signIn(t *testing.T) string {
	t.Helper()
	p := v.Open(t, v.request())
	for range 4 {
		if p.Away != nil {
			return p.Away.Query().Get("code")
		}
		switch {
		case len(p.Forms) == 0:
			t.Fatalf("%d %s", p.Status, p.Text)
		case strings.HasSuffix(p.Forms[0].Action, "/login"):
			p = v.Submit(t, p, "username", "alice", "password", phrase)
		default:
			p = v.Submit(t, p, "decision", "allow")
		}
	}
	t.Fatalf("still at %s: %s", p.URL, p.Text)
	return ""
}

// got is an answer of the token endpoint.
type got struct {
	status             int
	Error              string `json:"error"`
	Access             string `json:"access_token"`
	Refresh            string `json:"refresh_token"`
	ID                 string `json:"id_token"`
	Description, Scope string
}

func (v *visitor) token(t *testing.T, at *node, pairs ...string) got {
	t.Helper()
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.Base+"/oauth2/token", strings.NewReader(f.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(v.client.ID, v.client.Secret)
	resp, err := v.w.http.Do(req)
	if err != nil {
		t.Errorf("%s: %v", at.name, err)
		return got{}
	}
	defer func() { _ = resp.Body.Close() }() // only read
	out := got{status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Error(err)
	}
	return out
}

func (v *visitor) redeem(t *testing.T, at *node, code string) got {
	t.Helper()
	return v.token(t, at, "grant_type", "authorization_code", "code", code, "redirect_uri", redirect, "code_verifier", verifier)
}

func (v *visitor) refresh(t *testing.T, at *node, token string) got {
	t.Helper()
	return v.token(t, at, "grant_type", "refresh_token", "refresh_token", token)
}

// writes are the commands that the nodes have proposed for requests, by kind.
func (v *visitor) writes(t *testing.T) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, n := range *v.nodes.Load() {
		resp, err := v.w.http.Get(n.Base + "/metrics") // in --dev it is there, too
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // only read
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^keyraft_writes_total\{kind="(\w+)"\} (\d+)$`).FindAllStringSubmatch(string(text), -1) {
			count, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			all[m[1]] += count
		}
	}
	if len(all) == 0 {
		t.Fatal("no writes are counted")
	}
	return all
}

// costs holds what was written since the last call against what should have been.
func (v *visitor) costs(t *testing.T) func(what string, want map[string]int) {
	t.Helper()
	before := v.writes(t)
	return func(what string, want map[string]int) {
		t.Helper()
		after := v.writes(t)
		for kind := range after {
			if n := after[kind] - before[kind]; n != want[kind] {
				t.Errorf("%s: %d of %s were written, want %d", what, n, kind, want[kind])
			}
		}
		before = after
	}
}

// TestLoginsOnThreeNodes: each request of a login goes to another node; one of many tries
// wins; a leader that dies between the code and its tokens takes neither.
func TestLoginsOnThreeNodes(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	v := newVisitor(t, w, nodes)

	t.Run("what a login writes", func(t *testing.T) {
		defer w.during(t)()
		cost := v.costs(t)
		code := v.signIn(t)
		cost("a first login, with consent", map[string]int{"PutSession": 1, "PutConsent": 1})
		first := v.redeem(t, v.next(), code)
		cost("a code", map[string]int{"Redeem": 1})
		if first.status != 200 || first.ID == "" {
			t.Fatalf("%+v", first)
		}
		if second := v.refresh(t, v.next(), first.Refresh); second.status != 200 {
			t.Errorf("%+v", second)
		}
		cost("a refresh", map[string]int{"RotateRefresh": 1})
		code = v.signIn(t)
		cost("a request of somebody who is signed in", nil)
		v.redeem(t, v.next(), code)
		cost("its code", map[string]int{"Redeem": 1})
		if active := must(v.next().Active(w.bound(), v.client, first.Access))(t); !active {
			t.Error("the access token is not active")
		}
		cost("introspection", nil)
	})
	t.Run("of many tries at once over all nodes one wins", func(t *testing.T) {
		defer w.during(t)()
		code := v.signIn(t)
		answers := v.storm(t, 100, func(at *node) got { return v.redeem(t, at, code) })
		var won []got
		for _, a := range answers {
			if a.status == http.StatusOK {
				won = append(won, a)
			} else if a.Error != "invalid_grant" {
				t.Errorf("%+v", a)
			}
		}
		if len(won) != 1 {
			t.Fatalf("%d of 100 got tokens for one code", len(won))
		}
		if a := v.refresh(t, v.next(), won[0].Refresh); a.status != http.StatusBadRequest {
			t.Errorf("what came of a code that was shown twice lives on: %+v", a)
		}
		family := v.redeem(t, v.next(), v.signIn(t)).Refresh
		successors := map[string]bool{}
		for _, a := range v.storm(t, 100, func(at *node) got { return v.refresh(t, at, family) }) {
			if a.status != http.StatusOK && a.Error != "invalid_grant" {
				t.Errorf("%+v", a)
			}
			if a.Refresh != "" {
				successors[a.Refresh] = true
			}
		}
		if len(successors) != 1 {
			t.Errorf("one refresh token has %d successors", len(successors))
		}
	})
	t.Run("the leader dies between the code and its tokens", func(t *testing.T) {
		defer w.during(t)()
		code := v.signIn(t)
		old := w.leader(nodes...)
		rest := without(nodes, old)
		old.kill()
		v.nodes.Store(&rest)
		w.leader(rest...) // they have another
		first := v.redeem(t, rest[0], code)
		if first.status != http.StatusOK {
			t.Fatalf("the code is lost: %+v", first)
		}
		if again := v.redeem(t, rest[1], code); again.Error != "invalid_grant" {
			t.Errorf("the code is good twice: %+v", again)
		}
		if second := v.redeem(t, rest[1], v.signIn(t)); second.status != http.StatusOK {
			t.Errorf("the login is lost: %+v", second)
		}
		old.run()
		w.awaitVoters(rest[0], 3)
		w.equalChecksums(nodes...)
	})
}

// storm asks many times at once, over all nodes.
func (v *visitor) storm(t *testing.T, times int, ask func(at *node) got) []got {
	t.Helper()
	var all sync.WaitGroup
	answers := make([]got, times)
	for i := range answers {
		all.Go(func() { answers[i] = ask(v.next()) })
	}
	all.Wait()
	return answers
}
