package adminapi

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// endpoint is one line of this room's own table, from which the server's is made.
type endpoint struct {
	method, path string
	tenanted     bool // of a tenant; else of the whole cluster
	own          bool // of the tenant that {id} names, whose administrator may ask too
	stale        bool // needs no leader: answered from what is applied here
	offersStale  bool // takes ?consistency=stale
	stream       bool
	timeout      time.Duration // of the whole request; 0: the write timeout
	query        []string      // parameters that it knows
	keyed        bool          // what it proposes goes under the Idempotency-Key
	serve        func(r *request) error
}

// request is one call, with who made it and the view that it is decided on.
type request struct {
	*fasthttp.RequestCtx
	ctx    context.Context
	view   *state.View
	who    *principal
	tenant string
	query  httpapi.Values
}

// viewTime bounds the wait for a view, so that the refusal comes while the client
// still waits.
const viewTime = 3 * time.Second

const appliedIndex = "X-Keyraft-Applied-Index"

func (a *api) route(e endpoint) httpapi.Route {
	timeout := e.timeout
	if timeout == 0 {
		timeout = a.WriteTimeout
	}
	return httpapi.Route{
		Method: e.method, Path: e.path, Tenanted: e.tenanted, Class: httpapi.Admin, Timeout: timeout,
		NoView: true, // it is asked for here, with its own bound
		Stream: e.stream,
		Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			return answerOf(a.serve(&e, &request{RequestCtx: c, ctx: httpapi.Context(c), tenant: httpapi.Tenant(c)}))
		},
	}
}

func (a *api) serve(e *endpoint, r *request) error {
	scheme, token, err := httpapi.AccessToken(r.RequestCtx)
	if err != nil {
		return err
	}
	shown := &tokens.Presented{Scheme: scheme, Token: token, Proof: httpapi.DPoP(r.RequestCtx)}
	if err := r.parseQuery(e); err != nil {
		return err
	}
	freshness := state.Linearizable
	if e.stale || e.offersStale && r.query.Get("consistency") == "stale" {
		freshness = state.Stale
	}
	if r.view, err = a.viewOf(r.ctx, freshness); err != nil {
		return err
	}
	if r.who, err = a.authenticate(r, shown, freshness.IsLinearizable()); err != nil {
		return err
	}
	if err := r.permit(e); err != nil {
		return err
	}
	if err := r.useKey(e); err != nil {
		return err
	}
	if e.method == "GET" {
		r.Response.Header.Set(appliedIndex, strconv.FormatUint(r.view.Index(), 10))
	}
	return e.serve(r)
}

func (a *api) viewOf(ctx context.Context, f state.Freshness) (*state.View, error) {
	ctx, cancel := context.WithTimeout(ctx, viewTime)
	defer cancel()
	v, err := a.View(ctx, f)
	if err != nil && problemOf(err) == nil { // why is for this node's log and metrics
		return nil, oauth.TemporarilyUnavailable.With("this node can't prove that its state is fresh: no leader is in reach; try again shortly, or another node").WithRetryAfter(1)
	}
	return v, err
}

// parseQuery refuses what the endpoint doesn't know: a mistyped parameter would be
// passed over in silence, and a token has no place in a query (ADM-09).
func (r *request) parseQuery(e *endpoint) error {
	var err error
	if r.query, err = httpapi.Query(r.RequestCtx); err != nil {
		return err
	}
	for name := range r.QueryArgs().All() {
		known := e.query
		if e.offersStale {
			known = append([]string{"consistency"}, known...)
		}
		if !slices.Contains(known, string(name)) {
			detail := "this call takes no such query parameter"
			if len(known) > 0 {
				detail = "this call knows the query parameters " + strings.Join(known, ", ")
			}
			return invalid(printable(string(name)), detail)
		}
	}
	switch r.query.Get("consistency") {
	case "", "stale", "linearizable":
		return nil
	}
	return invalid("consistency", "stale, or leave it out for a linearizable answer")
}

// printable bounds a name that a caller made up before it is told back.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 40)])
}

// permit holds the path against who asks. Another tenant is not found, whatever is
// asked of it (ADM-01).
func (r *request) permit(e *endpoint) error {
	if e.own {
		return r.ownTenant()
	}
	if !e.tenanted {
		if r.who.tenant != "" {
			return oauth.InsufficientScope.With("this call is for the whole cluster; use the cluster's admin token")
		}
		return nil
	}
	_, there := r.view.Tenant(r.tenant)
	if !there || r.who.tenant != "" && r.who.tenant != r.tenant {
		return notFound("there is no such tenant")
	}
	return nil
}

// fresh looks at the state once more, for a decision that was overtaken.
func (a *api) fresh(r *request) error {
	v, err := a.viewOf(r.ctx, state.Linearizable)
	if err == nil {
		r.view = v
	}
	return err
}

func (r *request) json(status int, v any) error { return httpapi.JSON(r.RequestCtx, status, v) }

// flag reads a query parameter that is true or false.
func (r *request) flag(name string) (bool, error) {
	switch r.query.Get(name) {
	case "":
		return false, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, invalid(name, "true or false")
}

// hasBody tells whether anything was sent; the calls whose body may be left out ask.
func (r *request) hasBody() bool { return len(strings.TrimSpace(string(r.PostBody()))) > 0 }
