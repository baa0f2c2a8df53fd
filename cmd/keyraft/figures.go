package main

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

// figures count requests and token results. Counting is an atomic addition and
// allocates nothing; the series are made when they are asked for. Labels are
// closed sets: route patterns, statuses, grants, error codes.
type figures struct {
	mu     sync.Mutex // of those who add a series
	panics atomic.Uint64
	routes atomic.Pointer[map[routeKey]*routeFigures]
	tokens atomic.Pointer[map[tokenKey]*atomic.Uint64]
}

type routeKey struct{ route, method string }

type tokenKey struct{ grant, result string }

// maxSeries bounds the series, whatever a caller thinks up.
const maxSeries = 1024

// routeBounds are the upper bounds of the latency buckets, seconds.
var routeBounds = [...]float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

type routeFigures struct {
	statuses [600]atomic.Uint64
	buckets  [len(routeBounds) + 1]atomic.Uint64
	nanos    atomic.Uint64
}

func newFigures(grants []oauth.GrantType) *figures {
	f := &figures{}
	f.routes.Store(&map[routeKey]*routeFigures{})
	f.tokens.Store(&map[tokenKey]*atomic.Uint64{})
	for _, g := range grants {
		f.token(g, "ok")
		f.counter(tokenKey{string(g), "ok"}).Store(0) // the series is there from the start
	}
	return f
}

// token is grants.Config.Observe.
func (f *figures) token(grant oauth.GrantType, result string) {
	if c := f.counter(tokenKey{string(grant), result}); c != nil {
		c.Add(1)
	}
}

func (f *figures) counter(k tokenKey) *atomic.Uint64 {
	if c := (*f.tokens.Load())[k]; c != nil {
		return c
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return grow(&f.tokens, k)
}

// grow adds an entry to a map that readers see without a lock.
func grow[K comparable, V any](at *atomic.Pointer[map[K]*V], k K) *V {
	old := *at.Load()
	if v := old[k]; v != nil || len(old) >= maxSeries {
		return v
	}
	next := make(map[K]*V, len(old)+1)
	for key, v := range old {
		next[key] = v
	}
	made := new(V)
	next[k] = made
	at.Store(&next)
	return made
}

// request is httpapi.Config.Observe.
func (f *figures) request(o httpapi.Observation) {
	if o.Panicked {
		f.panics.Add(1)
	}
	k := routeKey{o.Route, o.Method}
	r := (*f.routes.Load())[k]
	if r == nil {
		f.mu.Lock()
		r = grow(&f.routes, k)
		f.mu.Unlock()
		if r == nil {
			return
		}
	}
	if o.Status > 0 && o.Status < len(r.statuses) {
		r.statuses[o.Status].Add(1)
	}
	seconds := o.Duration.Seconds()
	i := 0
	for i < len(routeBounds) && seconds > routeBounds[i] {
		i++
	}
	r.buckets[i].Add(1)
	r.nanos.Add(uint64(max(o.Duration, 0)))
}

var (
	descRequests = prometheus.NewDesc("keyraft_http_requests_total", "Answers by route, method and status.", []string{"route", "method", "status"}, nil)
	descSeconds  = prometheus.NewDesc("keyraft_http_request_seconds", "Time from the whole request to the answer.", []string{"route", "method"}, nil)
	descPanics   = prometheus.NewDesc("keyraft_http_panics_total", "Requests that were answered with 500 because their handler panicked.", nil, nil)
	descTokens   = prometheus.NewDesc("keyraft_token_requests_total", "Requests at the token endpoint by grant and result.", []string{"grant", "result"}, nil)
)

// Describe implements prometheus.Collector.
func (f *figures) Describe(to chan<- *prometheus.Desc) {
	to <- descRequests
	to <- descSeconds
	to <- descPanics
	to <- descTokens
}

// Collect implements prometheus.Collector.
func (f *figures) Collect(to chan<- prometheus.Metric) {
	for k, r := range *f.routes.Load() {
		for status := range r.statuses {
			if n := r.statuses[status].Load(); n > 0 {
				to <- prometheus.MustNewConstMetric(descRequests, prometheus.CounterValue, float64(n), k.route, k.method, strconv.Itoa(status))
			}
		}
		buckets := make(map[float64]uint64, len(routeBounds))
		var sum uint64
		for i, bound := range routeBounds {
			sum += r.buckets[i].Load()
			buckets[bound] = sum
		}
		sum += r.buckets[len(routeBounds)].Load()
		to <- prometheus.MustNewConstHistogram(descSeconds, sum, time.Duration(r.nanos.Load()).Seconds(), buckets, k.route, k.method)
	}
	to <- prometheus.MustNewConstMetric(descPanics, prometheus.CounterValue, float64(f.panics.Load()))
	for k, n := range *f.tokens.Load() {
		to <- prometheus.MustNewConstMetric(descTokens, prometheus.CounterValue, float64(n.Load()), k.grant, k.result)
	}
}

// accessLevel is that of the access log: what failed here always, the rest at debug.
func accessLevel(status int) slog.Level {
	if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		return slog.LevelError
	}
	return slog.LevelDebug
}

// logs is httpapi.Config.Logs.
func (s *server) logs(status int) bool {
	return s.log.Enabled(context.Background(), accessLevel(status))
}

// access writes the access log.
func (s *server) access(a httpapi.Access) {
	s.log.LogAttrs(context.Background(), accessLevel(a.Status), "request",
		slog.String("request_id", a.RequestID), slog.String("route", a.Route), slog.String("method", a.Method), slog.Int("status", a.Status),
		slog.Duration("took", a.Duration), slog.String("tenant", a.Tenant), slog.String("remote", a.Remote))
}
