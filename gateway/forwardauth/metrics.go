package forwardauth

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/keyraft/keyraft/gateway"
)

// metrics has a registry of its own. Numbers of the gateway are read from its
// status when they are asked for; only durations are kept here.
type metrics struct {
	handler  fasthttp.RequestHandler
	duration *prometheus.HistogramVec
	series   []series
	refused  *prometheus.Desc
	status   func() gateway.Status
}

type series struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*gateway.Status) float64
}

func newMetrics(status func() gateway.Status, more []prometheus.Collector) (*metrics, error) {
	m := &metrics{
		status: status,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyraft_gateway_validate_seconds", Help: "Time to decide about a token, by result.",
			Buckets: []float64{1e-6, 5e-6, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 5e-3, 2.5e-2, .1, .5, 2.5},
		}, []string{"result"}),
		refused: prometheus.NewDesc("keyraft_gateway_refused_total", "Tokens refused, by reason.", []string{"reason"}, nil),
		series:  allSeries(),
	}
	registry := prometheus.NewRegistry()
	own := []prometheus.Collector{m, m.duration, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})}
	for _, c := range append(own, more...) {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("forwardauth: register metrics: %w", err)
		}
	}
	m.handler = fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return m, nil
}

func (m *metrics) serve(c *fasthttp.RequestCtx) { m.handler(c) }

// observe counts one decision; result is a reason or "accepted", a closed list.
func (m *metrics) observe(result string, took time.Duration) {
	m.duration.WithLabelValues(result).Observe(took.Seconds())
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, s := range m.series {
		to <- s.desc
	}
	to <- m.refused
}

// Collect is part of prometheus.Collector: one status, every number of it.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	st := m.status()
	for _, s := range m.series {
		to <- prometheus.MustNewConstMetric(s.desc, s.kind, s.value(&st))
	}
	for reason, n := range st.Counts.Refused {
		to <- prometheus.MustNewConstMetric(m.refused, prometheus.CounterValue, float64(n), string(reason))
	}
}

func allSeries() []series {
	one := func(name, help string, kind prometheus.ValueType, value func(*gateway.Status) float64) series {
		return series{prometheus.NewDesc("keyraft_gateway_"+name, help, nil, nil), kind, value}
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	return []series{
		one("head", "Head of the event log up to which this gateway refuses.", gauge, func(s *gateway.Status) float64 { return float64(s.Head) }),
		one("epoch", "Epoch of the head.", gauge, func(s *gateway.Status) float64 { return float64(s.Epoch) }),
		one("head_age_seconds", "Time since the head was last proved, -1 for never.", gauge, func(s *gateway.Status) float64 {
			if s.HeadAgeMS < 0 {
				return -1
			}
			return float64(s.HeadAgeMS) / 1000
		}),
		one("max_staleness_seconds", "Age of the head at which the fail mode takes effect.", gauge, func(s *gateway.Status) float64 { return float64(s.MaxStalenessMS) / 1000 }),
		one("nodes", "Nodes that this gateway knows.", gauge, func(s *gateway.Status) float64 { return float64(len(s.Nodes)) }),
		one("nodes_failing", "Nodes of them whose last answer was a failure.", gauge, failing),
		one("refusing", "1 while every token is refused (failing closed).", gauge, func(s *gateway.Status) float64 { return truth(s.Refusing) }),
		one("synced", "1 while the head is within its bound.", gauge, func(s *gateway.Status) float64 { return truth(s.State == gateway.Synced) }),
		one("revocations", "Live revocations.", gauge, func(s *gateway.Status) float64 { return float64(s.Counts.Revocations) }),
		one("keys", "Verification keys.", gauge, func(s *gateway.Status) float64 { return float64(s.Counts.Keys) }),
		one("cached_tokens", "Tokens in the decision cache.", gauge, func(s *gateway.Status) float64 { return float64(s.Counts.CachedTokens) }),
		one("cache_bytes", "Bytes of the decision cache.", gauge, func(s *gateway.Status) float64 { return float64(s.Counts.CacheBytes) }),
		one("accepted_total", "Tokens accepted.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.Accepted) }),
		one("stale_decisions_total", "Tokens looked at without a fresh head (failing open).", counter, func(s *gateway.Status) float64 { return float64(s.Counts.AcceptedStale) }),
		one("cache_misses_total", "Tokens that were not in the decision cache.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.CacheMisses) }),
		one("polls_total", "Polls of nodes.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.Polls) }),
		one("deltas_total", "Deltas taken in.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.Deltas) }),
		one("snapshots_total", "Snapshots taken in.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.Snapshots) }),
		one("bad_answers_total", "Answers of nodes that were dropped whole.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.BadAnswers) }),
		one("node_switches_total", "Moves to another node.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.NodeSwitches) }),
		one("gossip_polls_total", "Polls that gossip asked for.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.GossipPolls) }),
		one("key_refreshes_total", "Refreshes that unknown keys asked for.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.KeyRefreshes) }),
		one("introspections_total", "Calls of nodes about opaque tokens.", counter, func(s *gateway.Status) float64 { return float64(s.Counts.Introspections) }),
	}
}

func failing(s *gateway.Status) (count float64) {
	for i := range s.Nodes {
		if s.Nodes[i].Failures > 0 {
			count++
		}
	}
	return count
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
