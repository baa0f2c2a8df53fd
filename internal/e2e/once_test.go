package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// tries is how many show one value at once, over all nodes.
const tries = 200

// How one try ended.
const (
	won     = iota + 1 // tokens, or a code
	refused            // invalid_grant, or its like at the authorization endpoint
	unknown            // no answer, or 503: it may have counted, or never will
	active             // of a look at what the winner got
	inactive
)

// shown is one try: which value, and what is done with it.
type shown struct {
	value string
	look  bool // introspection of what came of it
}

// gave is how it ended, and what the winner has.
type gave struct {
	how          int
	next, access string // the refresh token, or the code; the access token
}

// once is the model of a value that is good once. What came of it ends when it is shown
// again, for values that are of that kind. had: somebody was told that it counted, so that
// no try without an answer is the one that did.
func once(ends, had bool) porcupine.Model {
	type value struct{ used, ended bool }
	return porcupine.Model{
		Init: func() any { return value{} },
		Step: func(s, in, out any) (bool, any) {
			v := s.(value)
			switch out.(gave).how {
			case won:
				return !v.used, value{used: true}
			case refused:
				return v.used, value{true, ends}
			case active:
				return v.used && !v.ended, v
			case inactive:
				return v.ended, v
			default: // it counted at any time from then on, or at the end of all
				return true, value{v.used || !had, v.ended || v.used && ends}
			}
		},
		DescribeOperation: describe,
	}
}

// branches is the model of a refresh token and its successors. Within the grace window the
// one before gives the same successor again; without one, or two rotations later, it ends
// them all.
func branches(first string, grace bool) porcupine.Model {
	type chain struct {
		before, now string
		ended       bool
	}
	return porcupine.Model{
		Init: func() any { return chain{now: first} },
		Step: func(s, in, out any) (bool, any) {
			c, show, g := s.(chain), in.(shown).value, out.(gave)
			switch g.how {
			case won:
				if c.ended || g.next == "" {
					return false, c
				}
				if show == c.now {
					return true, chain{before: show, now: g.next}
				}
				return grace && show == c.before && g.next == c.now, c
			case refused:
				if c.ended {
					return true, c
				}
				return show != c.now && !(grace && show == c.before), chain{ended: true}
			case active:
				return !c.ended, c
			case inactive:
				return c.ended, c
			default: // within the window it changes nothing that another would not change so
				return true, c
			}
		},
		DescribeOperation: describe,
	}
}

func describe(in, out any) string {
	what := "show"
	if in.(shown).look {
		what = "look"
	}
	return fmt.Sprintf("%s %.12s…: %s", what, in.(shown).value, [...]string{"", "won", "refused", "unknown", "active", "inactive"}[out.(gave).how])
}

// race is a history of tries at one value.
type race struct {
	v      *visitor
	began  time.Time
	mu     sync.Mutex
	ops    []porcupine.Operation
	ended  int // tries of the storm that have an answer
	after  int // so many of them close enough
	enough chan struct{}
}

func newRace(v *visitor) *race { return &race{v: v, began: time.Now()} }

func (r *race) now() int64 { return time.Since(r.began).Nanoseconds() }

// one makes a try and notes it.
func (r *race) one(client int, in shown, try func() gave) gave {
	call := r.now()
	g := try()
	end := r.now()
	if g.how == unknown {
		end = int64(time.Hour)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: g, Return: end})
	if r.ended++; r.ended == r.after {
		close(r.enough)
	}
	return g
}

// storm shows a value so often at once, over all nodes. After so many answers the leader is
// killed with no word before; 0 for never. It returns the wins.
func (r *race) storm(t *testing.T, value string, killAfter int, try func(at *node) gave) []gave {
	t.Helper()
	nodes := *r.v.nodes.Load()
	leader := r.v.w.leader(nodes...)
	var all sync.WaitGroup
	answers := make([]gave, tries)
	r.ended, r.after, r.enough = 0, killAfter, make(chan struct{})
	for i := range answers {
		at := r.v.next()
		all.Go(func() { answers[i] = r.one(i, shown{value: value}, func() gave { return try(at) }) })
	}
	if killAfter > 0 {
		<-r.enough
		leader.kill()
		rest := without(nodes, leader)
		r.v.nodes.Store(&rest)
	}
	all.Wait()
	var wins []gave
	open := 0
	for _, a := range answers {
		switch a.how {
		case won:
			wins = append(wins, a)
		case unknown:
			open++
		}
	}
	t.Logf("%d tries: %d won, %d without an answer", tries, len(wins), open)
	if killAfter == 0 && open > 0 {
		t.Errorf("%d tries without an answer, and nobody was killed", open)
	}
	return wins
}

// heal brings a killed node back.
func (r *race) heal(t *testing.T, nodes []*node) {
	t.Helper()
	for _, n := range nodes {
		select {
		case <-n.proc.Ended():
			n.run()
		default:
		}
	}
	r.v.nodes.Store(&nodes)
	r.v.w.awaitVoters(nodes[0], len(nodes))
	r.v.w.equalChecksums(nodes...)
}

// look introspects what the winner has, at every node.
func (r *race) look(t *testing.T, value, access string) {
	t.Helper()
	for i, n := range *r.v.nodes.Load() {
		r.one(tries+i, shown{value, true}, func() gave {
			if must(n.Active(r.v.w.bound(), r.v.client, access))(t) {
				return gave{how: active}
			}
			return gave{how: inactive}
		})
	}
}

// again shows the value once more at every node.
func (r *race) again(value string, try func(at *node) gave) (all []gave) {
	for i, n := range *r.v.nodes.Load() {
		all = append(all, r.one(tries+i, shown{value: value}, func() gave { return try(n) }))
	}
	return all
}

// check has porcupine look for an order that explains what everybody was told (I3).
func (r *race) check(t *testing.T, m porcupine.Model) {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(m, r.ops, 30*time.Second)
	if result == porcupine.Ok {
		return
	}
	path := filepath.Join(os.TempDir(), "keyraft-"+strings.ReplaceAll(t.Name(), "/", "_")+".html")
	t.Errorf("I3: the history of %d tries is %s (see %s: %v)", len(r.ops), result, path, porcupine.VisualizePath(m, info, path))
}

// attempt asks the token endpoint of a node that may die meanwhile.
func (v *visitor) attempt(t *testing.T, at *node, pairs ...string) gave {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.Base+"/oauth2/token", strings.NewReader(f.Encode()))
	if err != nil {
		t.Error(err)
		return gave{how: unknown}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(v.client.ID, v.client.Secret)
	resp, err := v.w.http.Do(req)
	if err != nil {
		return gave{how: unknown}
	}
	defer func() { _ = resp.Body.Close() }() // only read
	var out got
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode == http.StatusServiceUnavailable {
		return gave{how: unknown}
	}
	switch {
	case resp.StatusCode == http.StatusOK && out.Access != "":
		return gave{won, out.Refresh, out.Access}
	case out.Error != "invalid_grant":
		t.Errorf("%s: %d %s: %s", at.name, resp.StatusCode, out.Error, out.Description)
	}
	return gave{how: refused}
}

// follow shows a request_uri at a node that may die meanwhile, as a browser that is signed
// in. What it wins is a code.
func (v *visitor) follow(t *testing.T, at *node, uri string) gave {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.Base+"/oauth2/authorize?"+url.Values{"client_id": {v.client.ID}, "request_uri": {uri}}.Encode(), nil)
	if err != nil {
		t.Error(err)
		return gave{how: unknown}
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	for name, value := range v.Cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	resp, err := v.w.http.Do(req)
	if err != nil {
		return gave{how: unknown}
	}
	defer func() { _ = resp.Body.Close() }() // not read
	to, err := url.Parse(resp.Header.Get("Location"))
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable:
		return gave{how: unknown}
	case err != nil || resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to.String(), redirect+"?"):
		t.Errorf("%s: %d, sent to %q", at.name, resp.StatusCode, to)
	case to.Query().Get("code") != "":
		return gave{how: won, next: to.Query().Get("code")}
	case to.Query().Get("error") != "invalid_request_uri":
		t.Errorf("%s: sent to %s", at.name, to)
	}
	return gave{how: refused}
}

func (v *visitor) push(t *testing.T) string {
	t.Helper()
	q, err := url.Parse(v.request())
	if err != nil {
		t.Fatal(err)
	}
	return v.begin(t, "/oauth2/par", q.Query()).URI
}

// another makes one more client, and lets the visitor come from it.
func (v *visitor) another(t *testing.T, id string, grace int) {
	t.Helper()
	v.client = must(v.next().CreateClient(v.w.bound(), map[string]any{
		"client_id": id, "grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"redirect_uris": []string{redirect}, "scope": "openid offline_access", "id_token_signed_response_alg": "ES256", "refresh_grace": grace,
	}))(t)
}

// TestTOK15OnceWhileTheLeaderDies: of two hundred who show one code, request_uri, device
// code or auth_req_id at once, over all nodes, while the leader is killed, one wins (I3,
// TOK-15, AUT-19, TOK-40); and a code that was shown again gives nothing any more (TOK-14).
func TestTOK15OnceWhileTheLeaderDies(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	v := newVisitor(t, w, nodes, "urn:ietf:params:oauth:grant-type:device_code", "urn:openid:params:grant-type:ciba")
	for _, kind := range []struct {
		name      string
		killAfter int
		ends      bool // a second use takes back what the first one gave
		begin     func(t *testing.T) (value string, try func(*node) gave)
	}{
		{"a code, the leader dies at once", 1, true, v.aCode},
		{"a code, the leader dies among the answers", 60, true, v.aCode},
		{"a request_uri", 5, false, v.aRequest},
		{"a device code", 5, false, func(t *testing.T) (string, func(*node) gave) {
			b := v.device(t)
			v.allow(t, b)
			return b.Device, func(at *node) gave {
				return v.attempt(t, at, "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", b.Device)
			}
		}},
		{"an auth_req_id", 5, false, func(t *testing.T) (string, func(*node) gave) {
			b := v.backchannel(t)
			v.allow(t, b)
			return b.AuthReqID, func(at *node) gave {
				return v.attempt(t, at, "grant_type", "urn:openid:params:grant-type:ciba", "auth_req_id", b.AuthReqID)
			}
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			defer w.during(t)()
			value, try := kind.begin(t)
			r := newRace(v)
			wins := r.storm(t, value, kind.killAfter, try)
			if len(wins) > 1 {
				t.Errorf("I3: %d of %d won", len(wins), tries)
			}
			w.leader(*v.nodes.Load()...)
			for _, a := range r.again(value, try) {
				if a.how == won && len(wins) == 0 { // the one that counted has died with its answer, or none did
					wins = append(wins, a)
				} else if a.how != refused {
					t.Errorf("afterwards a try ends with %d", a.how)
				}
			}
			if len(wins) == 1 && wins[0].access != "" {
				r.look(t, value, wins[0].access)
			}
			r.heal(t, nodes)
			for _, a := range r.again(value, try) { // the one that was dead has not forgotten it
				if a.how != refused {
					t.Errorf("after all a try ends with %d", a.how)
				}
			}
			r.check(t, once(kind.ends, len(wins) > 0))
		})
	}
}

func (v *visitor) aCode(t *testing.T) (string, func(*node) gave) {
	code := v.signIn(t)
	return code, func(at *node) gave {
		return v.attempt(t, at, "grant_type", "authorization_code", "code", code, "redirect_uri", redirect, "code_verifier", verifier)
	}
}

func (v *visitor) aRequest(t *testing.T) (string, func(*node) gave) {
	v.signIn(t) // there is a session, and consent
	uri := v.push(t)
	return uri, func(at *node) gave { return v.follow(t, at, uri) }
}

// TestTOK28OneSuccessorWhileTheLeaderDies: two hundred who show one refresh token at once,
// over all nodes, while the leader is killed, get the same successor; a token of two
// rotations ago ends the family (TOK-25, TOK-27, TOK-28).
func TestTOK28OneSuccessorWhileTheLeaderDies(t *testing.T) {
	t.Parallel()
	w, nodes := cluster(t)
	v := newVisitor(t, w, nodes)
	show := func(t *testing.T, token string) func(at *node) gave {
		return func(at *node) gave {
			return v.attempt(t, at, "grant_type", "refresh_token", "refresh_token", token)
		}
	}
	t.Run("within the window there is one branch", func(t *testing.T) {
		defer w.during(t)()
		v.another(t, "patient", 600)
		first := v.redeem(t, v.next(), v.signIn(t)).Refresh
		r := newRace(v)
		token := first
		for _, killAfter := range []int{1, 40} {
			next := ""
			for _, a := range append(r.storm(t, token, killAfter, show(t, token)), r.again(token, show(t, token))...) {
				if a.how != won || next != "" && a.next != next {
					t.Fatalf("TOK-28: a try ends with %d, or has another successor", a.how)
				}
				next = a.next
			}
			token = next
			r.heal(t, nodes)
		}
		last := r.again(token, show(t, token))[0]
		r.look(t, token, last.access)
		if a := r.again(first, show(t, first))[0]; a.how != refused { // TOK-27
			t.Errorf("a token of three rotations ago ends with %d", a.how)
		}
		for _, a := range r.again(last.next, show(t, last.next)) {
			if a.how != refused {
				t.Errorf("after the reuse the newest token ends with %d", a.how)
			}
		}
		r.look(t, token, last.access)
		r.check(t, branches(first, true))
	})
	t.Run("without a window one gets the next, and the family ends", func(t *testing.T) {
		defer w.during(t)()
		v.another(t, "strict", 0)
		begun := v.redeem(t, v.next(), v.signIn(t))
		r := newRace(v)
		wins := r.storm(t, begun.Refresh, 0, show(t, begun.Refresh))
		if len(wins) != 1 {
			t.Fatalf("TOK-25: %d of %d won", len(wins), tries)
		}
		for _, a := range r.again(wins[0].next, show(t, wins[0].next)) {
			if a.how != refused {
				t.Errorf("TOK-25: after the reuse the newest token ends with %d", a.how)
			}
		}
		r.look(t, begun.Refresh, begun.Access)
		r.look(t, begun.Refresh, wins[0].access)
		r.check(t, branches(begun.Refresh, false))
	})
}

// TestModelsRefuseWhatMustNotBe: the two models are of use only if they find something.
func TestModelsRefuseWhatMustNotBe(t *testing.T) {
	t.Parallel()
	type step struct {
		value string
		look  bool
		how   int
		next  string
	}
	show := func(value string, how int, next ...string) step {
		return step{value: value, how: how, next: strings.Join(next, "")}
	}
	look := func(how int) step { return step{look: true, how: how} }
	for _, tt := range []struct {
		name  string
		model porcupine.Model
		steps []step
		good  bool
	}{
		{"a win, then a refusal that ends it", once(true, true), []step{show("c", won), look(active), show("c", refused), look(inactive)}, true},
		{"a try without an answer that counted", once(true, false), []step{show("c", unknown), show("c", refused)}, true},
		{"two wins", once(true, true), []step{show("c", won), show("c", won)}, false},
		{"a refusal of what was never used", once(true, true), []step{show("c", refused), show("c", won)}, false},
		{"what was shown again lives on", once(true, true), []step{show("c", won), show("c", refused), look(active)}, false},
		{"what was shown again may live on", once(false, true), []step{show("c", won), show("c", refused), look(active)}, true},
		{"the same successor", branches("1", true), []step{show("1", won, "2"), show("1", won, "2"), show("2", won, "3")}, true},
		{"a second branch", branches("1", true), []step{show("1", won, "2"), show("1", won, "x")}, false},
		{"no window", branches("1", false), []step{show("1", won, "2"), show("1", won, "2")}, false},
		{"a refusal within the window", branches("1", true), []step{show("1", won, "2"), show("1", refused)}, false},
		{"a token of two rotations ago", branches("1", true), []step{show("1", won, "2"), show("2", won, "3"), show("1", won, "2")}, false},
		{"a reuse that ends nothing", branches("1", false), []step{show("1", won, "2"), show("1", refused), show("2", won, "3")}, false},
		{"a reuse that ends all", branches("1", false), []step{show("1", won, "2"), show("1", refused), show("2", refused), look(inactive)}, true},
	} {
		var ops []porcupine.Operation
		for i, s := range tt.steps {
			end := int64(2*i + 1)
			if s.how == unknown {
				end = 1000
			}
			ops = append(ops, porcupine.Operation{Input: shown{s.value, s.look}, Output: gave{how: s.how, next: s.next}, Call: int64(2 * i), Return: end})
		}
		if got := porcupine.CheckOperations(tt.model, ops); got != tt.good {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
