package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/httpapi/gatewayapi"
)

// gatewayFigures show how far the gateways that poll this node have got. The
// label is the id of a registered gateway, of which operators make few; several
// instances of one count by the worst of them. One that has gone, or asks another
// node now, counts until it is no longer waited for.
type gatewayFigures struct {
	pollers *gatewayapi.Pollers
	head    func() uint64
}

var (
	descPollers   = prometheus.NewDesc("keyraft_poller_instances", "Gateway instances that poll this node, by gateway.", []string{"gateway"}, nil)
	descPollerAge = prometheus.NewDesc("keyraft_poller_head_age_seconds", "Time since the gateway last asked this node for news: how old its head may be.", []string{"gateway"}, nil)
	descPollerLag = prometheus.NewDesc("keyraft_poller_head_lag", "Events that the gateway has not acknowledged yet.", []string{"gateway"}, nil)
)

// Describe implements prometheus.Collector.
func (g *gatewayFigures) Describe(to chan<- *prometheus.Desc) {
	to <- descPollers
	to <- descPollerAge
	to <- descPollerLag
}

// Collect implements prometheus.Collector.
func (g *gatewayFigures) Collect(to chan<- prometheus.Metric) {
	type worst struct {
		count    int
		age, lag float64
	}
	by := map[string]worst{}
	head := g.head()
	for _, i := range g.pollers.Here() {
		if !i.Live {
			continue
		}
		w := by[i.Gateway]
		w.count++
		w.age = max(w.age, float64(i.SeenMS)/1000)
		w.lag = max(w.lag, float64(head)-float64(min(i.Head, head)))
		by[i.Gateway] = w
	}
	for id, w := range by {
		if id == "" {
			id = "operator"
		}
		to <- prometheus.MustNewConstMetric(descPollers, prometheus.GaugeValue, float64(w.count), id)
		to <- prometheus.MustNewConstMetric(descPollerAge, prometheus.GaugeValue, w.age, id)
		to <- prometheus.MustNewConstMetric(descPollerLag, prometheus.GaugeValue, w.lag, id)
	}
}
