// Package peers starts the other token servers that make bench measures in the
// same run as Keyraft: node oidc-provider, the example server of zitadel/oidc and
// Keycloak. docs/peers.md says how each is set up and what cannot be compared.
//
// A Peer is prepared once (its packages are installed into a cache folder) and
// started as often as one likes, pinned to one core. A Running peer gives the
// process to measure and, for each workload that it serves, the request to send.
// Nothing here measures.
//
// Each Start makes a new client secret; a peer learns it by its environment, and
// nothing prints it. Peers listen on loopback only.
package peers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// Workload is one kind of request. Each is one client_credentials request
// (RFC 6749 §4.4) or one introspection (RFC 7662) of a live token.
type Workload string

// The workloads, named as in build/bench.json.
const (
	JWTES256   Workload = "jwt_es256"
	JWTRS256   Workload = "jwt_rs256" // RSA with 2048 bits
	Opaque     Workload = "opaque_issue"
	Introspect Workload = "introspect"
)

// Folders is where peers come from and where they go.
type Folders struct {
	// Source is the folder of this package in a clone of the repository: it holds
	// each peer's own files.
	Source string
	// Cache takes what is installed; each peer has a folder below it. Logs go there.
	Cache string
}

// Peer is one server that can be measured. Its fields are not to be changed.
type Peer struct {
	Name      string
	Version   string // of the measured library or server
	Workloads []Workload
	// Warmup is how long it has to serve a workload before its figures settle: the
	// time of a just-in-time compiler on one core.
	Warmup time.Duration

	programs   []string // that must be in PATH
	startLimit time.Duration
	prepare    func(ctx context.Context, f Folders) error
	command    func(f Folders, pinned bool) (proc.Spec, error)
	// ready waits until the peer serves and says its base URL.
	ready func(ctx context.Context, p *proc.Process, log string) (string, error)
	// issue and introspect are the requests of this peer.
	issue      map[Workload]issue
	introspect introspect
}

// issue is a client credentials request to this path.
type issue struct {
	path, client, resource string
}

// introspect is an introspection at this path of a token of that workload, by
// the client that got it.
type introspect struct {
	path  string
	token Workload
	basic bool // the client authenticates by RFC 6749 §2.3.1's header, not in the form
}

// All is every peer, in the order of the tables.
func All() []*Peer {
	return []*Peer{oidcProvider(), zitadel(), keycloak()}
}

// Missing names the first program that this peer needs and this machine lacks;
// empty when it can be measured here.
func (p *Peer) Missing() string {
	for _, program := range p.programs {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	return ""
}

// Prepare installs the peer into its folder below f.Cache, from the package
// registry of its language. What is there already is not fetched again.
func (p *Peer) Prepare(ctx context.Context, f Folders) error {
	if missing := p.Missing(); missing != "" {
		return fmt.Errorf("prepare %s: no %s in PATH; install it or leave this peer out", p.Name, missing)
	}
	if err := p.prepare(ctx, f); err != nil {
		return fmt.Errorf("prepare %s %s: %w", p.Name, p.Version, err)
	}
	return nil
}

// Running is a peer that serves. It is safe for concurrent use.
type Running struct {
	Peer *Peer
	URL  string // such as http://127.0.0.1:40123

	process *proc.Process
	api     proc.API
	secret  string
}

// Start starts a prepared peer, pinned to one core and told that it has no more;
// core < 0 leaves it all of them. It returns when the peer serves. Whoever starts
// one stops it.
func (p *Peer) Start(ctx context.Context, f Folders, core int) (*Running, error) {
	ctx, cancel := context.WithTimeout(ctx, p.startLimit)
	defer cancel()
	spec, err := p.command(f, core >= 0)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	secret := rand.Text()
	spec.Env = append(spec.Env, "PEER_CLIENT_SECRET="+secret)
	spec.Log = filepath.Join(f.Cache, p.Name, "log-"+rand.Text()[:8])
	if core >= 0 {
		// taskset becomes the server itself: same process, nothing in between.
		spec.Args = append([]string{"-c", strconv.Itoa(core), spec.Bin}, spec.Args...)
		spec.Bin = "taskset"
	}
	process, err := proc.Start(spec)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	at, err := p.ready(ctx, process, spec.Log)
	if err != nil {
		process.Kill()
		return nil, fmt.Errorf("start %s: %w; see %s and %s.out", p.Name, err, spec.Log, spec.Log)
	}
	return &Running{Peer: p, URL: at, process: process, secret: secret, api: proc.API{Base: at, HTTP: proc.NewHTTP()}}, nil
}

// PID is the process to measure: the server itself, with all of its threads.
func (r *Running) PID() int { return r.process.PID() }

// Stop ends the peer and waits until it is gone.
func (r *Running) Stop() {
	r.api.HTTP.CloseIdleConnections()
	_ = r.process.Terminate(10 * time.Second) // killed when it does not obey
}

// Request is what to send, again and again, for one workload. It holds the
// client's secret: it is for a load generator, not for a log.
type Request struct {
	Method, URL string
	Header      http.Header
	Body        []byte
}

// String names the request without what it holds.
func (r Request) String() string { return r.Method + " " + r.URL }

// Request makes the request of a workload. For an introspection it gets a token
// first. That lives for five minutes, and in oidc-provider's memory only until
// some thousand others were issued: ask again right before each round, and look
// for "active":true in the answers.
func (r *Running) Request(ctx context.Context, w Workload) (Request, error) {
	if !slices.Contains(r.Peer.Workloads, w) {
		return Request{}, fmt.Errorf("%s does not serve %s", r.Peer.Name, w)
	}
	if w != Introspect {
		return r.request(r.Peer.issue[w].path, r.form(r.Peer.issue[w])), nil
	}
	token, err := r.Token(ctx, r.Peer.introspect.token)
	if err != nil {
		return Request{}, err
	}
	client := r.Peer.issue[r.Peer.introspect.token].client
	form := url.Values{"token": {token}}
	if !r.Peer.introspect.basic {
		form.Set("client_id", client)
		form.Set("client_secret", r.secret)
	}
	request := r.request(r.Peer.introspect.path, form)
	if r.Peer.introspect.basic {
		header := http.Request{Header: request.Header}
		header.SetBasicAuth(url.QueryEscape(client), url.QueryEscape(r.secret))
	}
	return request, nil
}

func (r *Running) request(path string, form url.Values) Request {
	return Request{
		Method: http.MethodPost,
		URL:    r.URL + path,
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		Body:   []byte(form.Encode()),
	}
}

func (r *Running) form(i issue) url.Values {
	form := url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {i.client},
		"client_secret": {r.secret},
		"scope":         {"read"},
	}
	if i.resource != "" {
		form.Set("resource", i.resource)
	}
	return form
}

// Token gets one token by the request of a workload.
func (r *Running) Token(ctx context.Context, w Workload) (string, error) {
	i, ok := r.Peer.issue[w]
	if !ok {
		return "", fmt.Errorf("%s issues no token for %s", r.Peer.Name, w)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := r.api.Call(ctx, http.MethodPost, i.path, r.form(i), &answer); err != nil {
		return "", fmt.Errorf("get a token of %s for %s: %w", r.Peer.Name, w, err)
	}
	if answer.AccessToken == "" {
		return "", fmt.Errorf("get a token of %s for %s: the answer holds none", r.Peer.Name, w)
	}
	return answer.AccessToken, nil
}

// readyLine waits for the line {"msg":"ready","url":…} on standard output, which
// our own servers print.
func readyLine(ctx context.Context, p *proc.Process, _ string) (string, error) {
	ready, err := p.Ready(ctx)
	if err != nil {
		return "", err
	}
	if ready.URL == "" {
		return "", errors.New("its ready line names no url")
	}
	return ready.URL, nil
}
