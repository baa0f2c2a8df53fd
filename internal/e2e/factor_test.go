package e2e

import (
	"maps"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/internal/testbrowser"
	"github.com/keyraft/keyraft/internal/testfactor"
)

const issuer = "https://keyraft.test" // a name, for passkeys

// window is a browser whose requests go to these nodes in turn.
func (w *world) window(nodes ...*node) *testbrowser.Browser {
	turn := 0
	return testbrowser.New(w.http, issuer, func() string {
		turn++
		return nodes[turn%len(nodes)].Base
	})
}

// login signs alice in with her password at the account page.
func login(t *testing.T, b *testbrowser.Browser) *testbrowser.Page {
	t.Helper()
	return b.Submit(t, b.Open(t, "/account"), "username", "alice", "password", phrase)
}

// signedIn tells whether a browser has a session.
func signedIn(b *testbrowser.Browser) bool { return b.Cookies["__Host-keyraft-session"] != "" }

// atOnce lets each browser do the same at one time, and counts who is signed in by it.
func atOnce(browsers []*testbrowser.Browser, try func(i int, b *testbrowser.Browser)) int {
	var wg sync.WaitGroup
	for i, b := range browsers {
		wg.Go(func() { try(i, b) })
	}
	wg.Wait()
	n := 0
	for _, b := range browsers {
		if signedIn(b) {
			n++
		}
	}
	return n
}

// TestSecondFactorsOnThreeNodes is WEB-07, WEB-08 and WEB-05 with real nodes: whichever
// nodes a login goes over, a code and an answer of a passkey count once in the cluster, and
// a session that was ended at one node is ended at all.
func TestSecondFactorsOnThreeNodes(t *testing.T) {
	t.Parallel()
	w, nodes := newWorld(t).cluster(func(name string) []string {
		if name == "n1" {
			return []string{"--issuer", issuer}
		}
		return nil
	})
	v := newVisitor(t, w, nodes)
	mine := v.Browser
	login(t, mine)
	p := mine.Open(t, "/account/authenticator")
	found := regexp.MustCompile(`<code>([A-Z2-7]{32})</code>`).FindStringSubmatch(p.Text)
	if found == nil {
		t.Fatalf("%d at %s shows no secret", p.Status, p.URL)
	}
	secret := found[1]
	mine.SubmitTo(t, p, "/account/authenticator", "code", testfactor.Code(t, secret, time.Now()))
	key := &testfactor.Authenticator{Origin: issuer}
	p = mine.Open(t, "/account/passkey")
	mine.SubmitTo(t, p, "/account/passkey", "answer", key.Create(t, p.FormTo(t, "/account/passkey").Data["options"]))

	var browsers []*testbrowser.Browser
	var pages []*testbrowser.Page
	for _, n := range nodes {
		b := w.window(n)
		p := login(t, b)
		if p.FormTo(t, "/factor"); signedIn(b) {
			t.Fatalf("a password alone signs in at %s", n.name)
		}
		browsers, pages = append(browsers, b), append(pages, p)
	}
	code := testfactor.Code(t, secret, time.Now().Add(30*time.Second))
	if won := atOnce(browsers, func(i int, b *testbrowser.Browser) { b.SubmitTo(t, pages[i], "/factor", "code", code) }); won != 1 {
		t.Errorf("one code signs in %d browsers at three nodes (WEB-07)", won)
	}

	cost := v.costs(t)
	one := w.window(nodes...)
	p = login(t, one)
	cost("the first of two proofs", nil)
	p = one.SubmitTo(t, p, "/factor", "code", code)
	cost("a wrong code", map[string]int{"RecordAttempt": 1})
	asked := *p.FormTo(t, "/factor")
	for _, f := range p.Forms {
		if f.Data["options"] != "" {
			asked = f
		}
	}
	one.SubmitTo(t, &testbrowser.Page{URL: p.URL, Forms: []testbrowser.Form{asked}}, "/factor", "answer", key.Get(t, asked.Data["options"]))
	if cost("the second proof", map[string]int{"UseCredential": 1, "PutSession": 1}); !signedIn(one) {
		t.Error("two proofs sign nobody in")
	}

	one = w.window(nodes...)
	p = one.Open(t, "/account")
	answer := key.Get(t, p.FormTo(t, "/passkey").Data["options"])
	copies := make([]*testbrowser.Browser, len(nodes))
	for i, n := range nodes {
		copies[i] = w.window(n)
		copies[i].Cookies = maps.Clone(one.Cookies)
	}
	if won := atOnce(copies, func(_ int, b *testbrowser.Browser) { b.SubmitTo(t, p, "/passkey", "answer", answer) }); won != 1 {
		t.Errorf("one answer of a passkey signs in %d times at three nodes (WEB-08)", won)
	}

	mine.SubmitTo(t, mine.Open(t, "/account"), "/account/sessions", "others", "yes")
	for _, b := range append(browsers, copies...) {
		b.Open(t, "/account").FormTo(t, "/login") // or the test ends: it is signed in yet (WEB-05)
	}
	w.equalChecksums(nodes...)
}
