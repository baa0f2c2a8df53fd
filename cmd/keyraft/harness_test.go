package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// adminSecret is the token that the tests' node expects.
const adminSecret = "kra_admin_secret"

// asked is one request as the node saw it.
type asked struct {
	Method, Target, Body string
	Header               http.Header
}

// node is a fake node: it answers from a table and keeps what it was asked.
type node struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []asked
	answers map[string][]answer // by "METHOD target"; the last one of a list repeats
}

type answer struct {
	status int
	body   string
	header map[string]string
}

func newNode(t *testing.T, answers map[string][]answer) *node {
	t.Helper()
	n := &node{answers: answers}
	n.Server = httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.Close)
	return n
}

func (n *node) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	n.mu.Lock()
	n.asked = append(n.asked, asked{r.Method, r.RequestURI, string(body), r.Header.Clone()})
	key := r.Method + " " + r.RequestURI
	list := n.answers[key]
	if len(list) > 1 {
		n.answers[key] = list[1:]
	}
	n.mu.Unlock()
	if len(list) == 0 {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"title":"Not Found","status":404,"code":"not_found","detail":"there is no such path: `+key+`"}`)
		return
	}
	a := list[0]
	w.Header().Set("Content-Type", "application/json")
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func (n *node) requests() []asked {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]asked(nil), n.asked...)
}

// call is one run of the program.
type call struct {
	args     []string
	env      map[string]string
	stdin    string
	terminal bool
	deps     deps
	patience time.Duration
}

// result is what came of it.
type result struct {
	code     int
	out, err string
}

func (c call) run(t *testing.T) result {
	t.Helper()
	var out, errs syncBuffer
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	code := run(ctx, c.args, console{
		In: strings.NewReader(c.stdin), Out: &out, Err: &errs,
		Env: func(name string) (string, bool) { v, ok := c.env[name]; return v, ok },
		Ask: c.terminal, Patience: c.patience,
	}, c.deps)
	return result{code, out.String(), errs.String()}
}

// at runs the program against a node, with the admin token.
func (n *node) at(t *testing.T, c call) result {
	t.Helper()
	env := map[string]string{"KEYRAFT_ADDR": n.URL, "KEYRAFT_TOKEN": adminSecret}
	for k, v := range c.env {
		env[k] = v
	}
	c.env = env
	return c.run(t)
}

// syncBuffer is a buffer that a progress line may write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// sameJSON compares two JSON texts by value; two empty ones are equal.
func sameJSON(a, b string) bool {
	if strings.TrimSpace(a) == "" || strings.TrimSpace(b) == "" {
		return strings.TrimSpace(a) == strings.TrimSpace(b)
	}
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	p, errX := json.Marshal(x)
	q, errY := json.Marshal(y)
	return errX == nil && errY == nil && bytes.Equal(p, q)
}
