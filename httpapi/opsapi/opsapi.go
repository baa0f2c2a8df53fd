// Package opsapi serves what operators and their machines ask of one node:
// /livez, /readyz and /metrics on the API address, and the same with pprof on
// the operators' own listener. Nothing here needs a leader or a quorum.
//
// Routes and Handler are safe for concurrent use.
package opsapi

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
)

// Check is one thing that must hold before a node may serve: Err is nil, or says
// what it waits for. One that is not Needed is only shown by ?verbose.
type Check struct {
	Name   string
	Err    func() error
	Needed bool
}

// Deps are what this room asks.
type Deps struct {
	Checks []Check
	// Leader tells whether writes would find a leader (?require=leader).
	Leader func() error
	// Removed is the error, wrapped in a check's, of a node that was taken out.
	Removed error
	Metrics prometheus.Gatherer
	// Knows tells whether a fingerprint is of this cluster's authority, ClusterAddr
	// where the node's cluster port is.
	Knows       func(fingerprint [32]byte) bool
	ClusterID   string
	ClusterAddr func() string
}

type report struct {
	Status string         `json:"status"` // live, ready, not_ready, removed
	Reason string         `json:"reason,omitempty"`
	Checks []checkOutcome `json:"checks,omitempty"`
}

type checkOutcome struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

func (d *Deps) readiness(requireLeader, verbose bool) (int, report) {
	r := report{Status: "ready"}
	for _, c := range append(d.Checks, Check{Name: "leader", Err: d.Leader, Needed: requireLeader}) {
		err := c.Err()
		out := checkOutcome{Name: c.Name, OK: err == nil}
		if err != nil {
			out.Reason = err.Error()
		}
		if verbose {
			r.Checks = append(r.Checks, out)
		}
		if err == nil || !c.Needed || r.Status != "ready" {
			continue
		}
		r.Status, r.Reason = "not_ready", out.Reason
		if errors.Is(err, d.Removed) {
			r.Status = "removed"
		}
	}
	if r.Status != "ready" {
		return http.StatusServiceUnavailable, r
	}
	return http.StatusOK, r
}

// Routes are the endpoints on the API address, /metrics among them if metrics says so.
func Routes(d Deps, metrics bool) []httpapi.Route {
	out := []httpapi.Route{
		{Method: "GET", Path: "/livez", Class: httpapi.Ops, NoView: true, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			return httpapi.JSON(c, http.StatusOK, report{Status: "live"})
		}},
		{Method: "GET", Path: "/readyz", Class: httpapi.Ops, NoView: true, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			q := c.QueryArgs()
			status, r := d.readiness(string(q.Peek("require")) == "leader", q.Has("verbose"))
			if status != http.StatusOK {
				c.Response.Header.Set("Retry-After", "1")
			}
			return httpapi.JSON(c, status, r)
		}},
	}
	out = append(out, httpapi.Route{Method: "GET", Path: "/cluster/v1/port", Class: httpapi.Ops, NoView: true, Serve: d.port})
	if metrics {
		serve := fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(d.Metrics, promhttp.HandlerOpts{}))
		out = append(out, httpapi.Route{Method: "GET", Path: "/metrics", Class: httpapi.Ops, NoView: true, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
			serve(c)
			return nil
		}})
	}
	return out
}

// port tells a node that is about to join where this one's cluster port is, if it
// names the cluster's authority as its join token does. An address is no secret
// to who has a join token; nobody else is told.
func (d *Deps) port(c *fasthttp.RequestCtx, _ *state.View) error {
	raw, err := hex.DecodeString(string(c.QueryArgs().Peek("ca")))
	if err != nil || len(raw) != 32 || !d.Knows([32]byte(raw)) {
		return httpapi.Problem(http.StatusNotFound, "other_cluster", "ca", "this node is of cluster "+d.ClusterID+", which has another authority")
	}
	return httpapi.JSON(c, http.StatusOK, struct {
		ClusterAddr string `json:"cluster_addr"`
	}{d.ClusterAddr()})
}

// Handler serves the operators' listener: health, metrics and pprof.
func Handler(d Deps) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body report) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the caller has gone
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, report{Status: "live"}) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		status, body := d.readiness(q.Get("require") == "leader", q.Has("verbose"))
		answer(w, status, body)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
