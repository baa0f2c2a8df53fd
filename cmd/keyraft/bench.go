package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/config"
)

// workloads are the arguments of "keyraft bench".
func workloads() []string { return []string{"jwt", "opaque", "introspect", "revoke", "mixed"} }

const (
	mostConnections = 20_000
	mostRate        = 1_000_000
	mostTokens      = 1_000_000 // issued before the run
	usualTokens     = 1_000     // for introspections to go round
	usualRevocable  = 10_000    // for revocations as fast as they go
)

// benchFlags are the flags of "keyraft bench" as they were written.
type benchFlags struct {
	auth                                 clientAuth
	rate                                 float64
	duration, warmup, timeout            string
	connections, tokens                  int
	mix, report, scope, audience, giveUp string
	resources                            []string
}

// newBench builds "keyraft bench".
func newBench(c console) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench WORKLOAD",
		Short: "Put load on a cluster, and measure rates and latencies",
		Long: `Put load on a cluster, and measure rates and latencies. It is real load: tokens are
issued and revoked. Run it against a cluster that may be slow for a while.

Workloads
  jwt         issue JWT access tokens (client credentials): a signature, no write
  opaque      issue opaque ones: a write that is committed; the client must have
              been registered with --token-format opaque
  introspect  ask about tokens that were issued before: a linearizable read
  revoke      revoke tokens, each once: a write. When there is none left, a token is
              issued in its place, which shows in the table
  mixed       shares of these, as --mix says

With --rate, operations begin at that rate whether the server keeps up or not, and a
latency counts from the moment at which the operation was to begin. A server that
stalls for a second then shows up as what it is: a second for everyone who came
meanwhile. Without --rate each connection asks as fast as it gets answers: that finds
the highest rate, and its latencies say little.

First find the highest rate, then measure latencies at a half or two thirds of it. Run
the generator on another machine than the server, or its CPU time is missing there.

Several addresses, separated by commas, share the connections. A connection whose node
does not answer goes on to the next address, so that you can kill a node meanwhile.
Endpoints are taken from the server's discovery document, so other OAuth servers can be
measured too.

Ctrl-C, or a server that is gone, ends the run early; what was measured until then is
shown and written, marked as partial. Exit code 1 then, and when nothing succeeded. Exit
code 2: the server can't be reached, or refuses the client, before anything is measured.`,
		Example: "  export KEYRAFT_CLIENT_ID=bench KEYRAFT_CLIENT_SECRET=…\n" +
			"  keyraft bench jwt\n" +
			"  keyraft bench jwt --rate 2000 --duration 1m --report jwt.html\n" +
			"  keyraft bench introspect --addr https://node1:9443,https://node2:9443 --cacert ca.pem --rate 500\n" +
			"  keyraft bench mixed --mix issue=10,introspect=85,revoke=5 --rate 1000 --output json",
		Args:              named("WORKLOAD"),
		ValidArgsFunction: cobra.FixedCompletions(workloads(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := f.check(cmd, c, args[0])
			if err != nil {
				return err
			}
			return run.run(cmd.Context())
		},
	}
	fl := cmd.Flags()
	fl.String("addr", "", "URL of the server, or several separated by commas (KEYRAFT_ADDR; default "+defaultAddr+")")
	fl.String("cacert", "", "PEM file with the authorities of its certificate (KEYRAFT_CACERT)")
	fl.String("tenant", "", "tenant, when it is not the default one (KEYRAFT_TENANT)")
	f.auth.addSecret(cmd)
	fl.Float64Var(&f.rate, "rate", 0, "operations a second, over all connections; 0: as fast as it goes")
	fl.StringVar(&f.duration, "duration", "30s", "how long is measured")
	fl.StringVar(&f.warmup, "warmup", "2s", "the same load before, not measured")
	fl.IntVar(&f.connections, "connections", 64, "connections that are kept open; a node takes 1024 from one address unless told otherwise")
	fl.StringVar(&f.timeout, "timeout", "10s", "when an answer is given up")
	fl.StringVar(&f.giveUp, "give-up", "5s", "end the run when the server answers nothing for so long")
	fl.IntVar(&f.tokens, "tokens", -1, "tokens that are issued before, to introspect and revoke (default: as many as make sense)")
	fl.StringVar(&f.mix, "mix", "", "shares for mixed (default issue=20,introspect=75,revoke=5)")
	fl.StringVar(&f.scope, "scope", "", "scopes of the tokens, separated by spaces (default: all of the client)")
	fl.StringVar(&f.audience, "audience", "", "API that the tokens are for, by name")
	fl.StringArrayVar(&f.resources, "resource", nil, "API that the tokens are for, by URI (RFC 8707); may be repeated")
	fl.StringVar(&f.report, "report", "", "file for a page with figures and plots, such as bench.html")
	addOutput(cmd)
	return cmd
}

// benchRun is a run whose flags make sense. Nothing was sent yet.
type benchRun struct {
	io       console
	workload string
	nodes    []*api // one an address, without an admin token
	out      printer
	auth     func(*request) error // puts the client's proof into a request
	target   bench.Target
	load     bench.Load
	mix      bench.Mix
	tokens   int
	report   string
	issues   string // what the client's tokens are: jwt or opaque; known after prepare
}

// check turns the flags into a run, and refuses what makes none.
func (f *benchFlags) check(cmd *cobra.Command, c console, workload string) (*benchRun, error) {
	if !slices.Contains(workloads(), workload) {
		return nil, usagef("there is no workload %q; use %s", workload, strings.Join(workloads(), ", "))
	}
	r := &benchRun{io: c, workload: workload, report: f.report}
	var err error
	if r.mix, err = f.shares(workload); err != nil {
		return nil, err
	}
	if err := f.times(&r.load, &r.target); err != nil {
		return nil, err
	}
	if f.connections < 1 || f.connections > mostConnections {
		return nil, usagef("--connections %d is out of range; use 1 to %d", f.connections, mostConnections)
	}
	if math.IsNaN(f.rate) || f.rate < 0 || f.rate > mostRate {
		return nil, usagef("--rate %v is out of range; use 0 (as fast as it goes) to %d", f.rate, mostRate)
	}
	r.load.Rate = f.rate
	if r.tokens, err = f.stock(r); err != nil {
		return nil, err
	}
	for _, addr := range strings.Split(fromFlag(cmd, c, "addr", "KEYRAFT_ADDR", defaultAddr), ",") {
		node, err := newAPI(cmd, c, strings.TrimSpace(addr))
		if err != nil {
			return nil, err
		}
		r.nodes, r.out = append(r.nodes, node), node.out
	}
	if t, ok := r.nodes[0].http.Transport.(*http.Transport); ok {
		r.target.TLS = t.TLSClientConfig
	}
	r.load.Workers = make([]bench.Worker, f.connections)
	return r, f.client(cmd, c, r)
}

// client is who asks for the tokens, and for what.
func (f *benchFlags) client(cmd *cobra.Command, c console, r *benchRun) error {
	secret, err := f.auth.secretText(cmd, c)
	if err != nil {
		return err
	}
	id := fromFlag(cmd, c, "client-id", "KEYRAFT_CLIENT_ID", "")
	switch {
	case id == "":
		return usagef("--client-id is missing; name the client that asks, or set KEYRAFT_CLIENT_ID")
	case secret == "":
		return usagef("the secret of client %s is missing; set KEYRAFT_CLIENT_SECRET, or give --client-secret-file", id)
	}
	if f.auth.method != "basic" && f.auth.method != "post" {
		return usagef("--auth-method %q is not known; use basic or post", f.auth.method)
	}
	r.auth = func(q *request) error { return f.auth.apply(cmd, c, nil, q) }
	r.target.Client = bench.Credentials{ID: id, Secret: secret, Form: f.auth.method == "post"}
	r.target.Form = url.Values{}
	for name, value := range map[string]string{"scope": f.scope, "audience": f.audience} {
		if value != "" {
			r.target.Form.Set(name, value)
		}
	}
	if len(f.resources) > 0 {
		r.target.Form["resource"] = f.resources
	}
	return nil
}

// times reads the durations.
func (f *benchFlags) times(l *bench.Load, t *bench.Target) error {
	for _, d := range []struct {
		flag, text  string
		at          *time.Duration
		least, most time.Duration
	}{
		{"duration", f.duration, &l.Duration, 100 * time.Millisecond, 7 * 24 * time.Hour},
		{"warmup", f.warmup, &l.Warmup, 0, time.Hour},
		{"timeout", f.timeout, &t.Timeout, time.Millisecond, 10 * time.Minute},
		{"give-up", f.giveUp, &l.GiveUp, 100 * time.Millisecond, time.Hour},
	} {
		v, err := config.ParseDuration(d.text)
		if err != nil {
			return usagef("--%s %q %v", d.flag, d.text, err)
		}
		if v < d.least || v > d.most {
			return usagef("--%s %s is out of range; use %s to %s", d.flag, v, d.least, d.most)
		}
		*d.at = v
	}
	return nil
}

// shares are those of the workload.
func (f *benchFlags) shares(workload string) (m bench.Mix, err error) {
	if workload != "mixed" && f.mix != "" {
		return m, usagef("--mix goes with the workload mixed, not with %s", workload)
	}
	switch workload {
	case "introspect":
		return bench.Mix{Introspect: 1}, nil
	case "revoke":
		return bench.Mix{Revoke: 1}, nil
	case "mixed":
		if f.mix == "" {
			return bench.Mix{Issue: 20, Introspect: 75, Revoke: 5}, nil
		}
		return parseMix(f.mix)
	}
	return bench.Mix{Issue: 1}, nil
}

// parseMix reads "issue=20,introspect=75,revoke=5".
func parseMix(text string) (m bench.Mix, err error) {
	const fix = "write it as issue=20,introspect=75,revoke=5, with whole numbers of 0 to 1000 together"
	at := map[string]*int{"issue": &m.Issue, "introspect": &m.Introspect, "revoke": &m.Revoke}
	sum := 0
	for _, part := range strings.Split(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		share, known := at[strings.TrimSpace(name)]
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 10)
		if !known || err != nil {
			return bench.Mix{}, usagef("--mix: %q is no share; %s", part, fix)
		}
		if *share != 0 {
			return bench.Mix{}, usagef("--mix names %s twice; %s", strings.TrimSpace(name), fix)
		}
		*share = int(n)
		sum += int(n)
	}
	if sum < 1 || sum > 1000 {
		return bench.Mix{}, usagef("--mix %q: the shares are %d together; %s", text, sum, fix)
	}
	return m, nil
}

// stock is how many tokens are issued before the run.
func (f *benchFlags) stock(r *benchRun) (int, error) {
	if f.tokens < -1 || f.tokens > mostTokens {
		return 0, usagef("--tokens %d is out of range; use 0 to %d", f.tokens, mostTokens)
	}
	m := r.mix
	switch {
	case m.Introspect+m.Revoke == 0:
		return 0, nil
	case f.tokens >= 0:
		return f.tokens, nil
	case m.Revoke == 0:
		return usualTokens, nil
	case f.rate == 0:
		return usualRevocable, nil
	}
	// Those that are to be revoked, less those that are issued meanwhile.
	share := float64(max(m.Revoke-m.Issue, 0)) / float64(m.Issue+m.Introspect+m.Revoke)
	need := f.rate * share * (r.load.Warmup + r.load.Duration).Seconds()
	return int(min(math.Ceil(need)+usualTokens, mostTokens/10)), nil
}

// prepare finds the endpoints, and asks each address once for what will be asked for:
// what is refused now makes no run.
func (r *benchRun) prepare(ctx context.Context) error {
	paths, err := r.discover(ctx)
	if err != nil {
		return err
	}
	r.target.Token, r.target.Introspect, r.target.Revoke = paths[0], paths[1], paths[2]
	var token string
	for _, node := range r.nodes {
		r.target.Servers = append(r.target.Servers, node.base)
		if token, err = r.tryIssue(ctx, node); err != nil {
			return err
		}
	}
	if r.mix.Introspect > 0 {
		if err := r.tryIntrospect(ctx, r.nodes[0], token); err != nil {
			return err
		}
	}
	if r.mix.Revoke > 0 {
		if _, err := r.try(ctx, r.nodes[0], r.target.Revoke, url.Values{"token": {token}}); err != nil {
			return err
		}
	}
	return nil
}

// try posts one form as the client. What goes wrong before a run is a mistake of the
// call: exit code 2.
func (r *benchRun) try(ctx context.Context, node *api, path string, form url.Values) (json.RawMessage, error) {
	q := request{method: "POST", path: path, form: form}
	if err := r.auth(&q); err != nil {
		return nil, err
	}
	answer, err := node.call(ctx, q)
	if err != nil {
		return nil, misuse(ctx, err)
	}
	return answer, nil
}

// misuse makes an error of the preparation one with exit code 2.
func misuse(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return usagef("%v", err)
}

func (r *benchRun) tryIssue(ctx context.Context, node *api) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	for name, values := range r.target.Form {
		form[name] = values
	}
	answer, err := r.try(ctx, node, r.target.Token, form)
	if err != nil {
		return "", err
	}
	var a struct {
		Token string `json:"access_token"`
	}
	if json.Unmarshal(answer, &a) != nil || a.Token == "" {
		return "", usagef("%s answers without an access token; is it an OAuth server? Set --addr or KEYRAFT_ADDR", node.node)
	}
	r.issues = "opaque"
	if strings.Count(a.Token, ".") == 2 {
		r.issues = "jwt"
	}
	if (r.workload == "jwt" || r.workload == "opaque") && r.workload != r.issues {
		return "", usagef("client %s gets tokens that are %s; use the workload %s, or a client that was registered with --token-format %s",
			r.target.Client.ID, r.issues, r.issues, r.workload)
	}
	return a.Token, nil
}

func (r *benchRun) tryIntrospect(ctx context.Context, node *api, token string) error {
	answer, err := r.try(ctx, node, r.target.Introspect, url.Values{"token": {token}})
	if err != nil {
		return err
	}
	var a struct {
		Active bool `json:"active"`
	}
	if json.Unmarshal(answer, &a) != nil || !a.Active {
		return usagef("%s does not call a token active that it has just issued to client %s; use a client that may introspect its own tokens", node.node, r.target.Client.ID)
	}
	return nil
}

// discover takes the paths of token, introspection and revocation endpoint from the
// first address (RFC 8414, OpenID Connect Discovery). A server without such a document
// is taken for one with Keyraft's paths.
func (r *benchRun) discover(ctx context.Context) ([3]string, error) {
	paths := [3]string{"/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"}
	node := r.nodes[0]
	base, err := url.Parse(node.base)
	if err != nil {
		return paths, usagef("%s is no URL", node.base)
	}
	for _, document := range []string{"oauth-authorization-server", "openid-configuration"} {
		answer, err := node.call(ctx, request{method: "GET", path: "/.well-known/" + document, basic: true})
		var refused *apiError
		if errors.As(err, &refused) && refused.status/100 == 4 {
			continue
		}
		if err != nil {
			return paths, misuse(ctx, err)
		}
		var doc struct {
			Token      string `json:"token_endpoint"`
			Introspect string `json:"introspection_endpoint"`
			Revoke     string `json:"revocation_endpoint"`
		}
		if json.Unmarshal(answer, &doc) != nil {
			continue
		}
		for i, endpoint := range []string{doc.Token, doc.Introspect, doc.Revoke} {
			u, err := url.Parse(endpoint)
			if err != nil || endpoint == "" {
				continue
			}
			// The document names the server as its clients see it; only the path counts.
			if path, below := strings.CutPrefix(u.EscapedPath(), base.EscapedPath()); below && strings.HasPrefix(path, "/") {
				paths[i] = path
			}
		}
		break
	}
	return paths, nil
}

// addresses are those under load, in words.
func (r *benchRun) addresses() string {
	var out []string
	for _, n := range r.nodes {
		out = append(out, n.base)
	}
	return strings.Join(out, ", ")
}

// said is the load in words.
func (r *benchRun) said() string {
	rate := "as fast as it goes"
	if r.load.Rate > 0 {
		rate = strconv.FormatFloat(r.load.Rate, 'f', -1, 64) + " a second"
	}
	return fmt.Sprintf("%s, %d connections, %s after %s of warm-up", rate, len(r.load.Workers), r.load.Duration, r.load.Warmup)
}
