package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/grants/logout"
)

// logouts shows what became of the telling of logouts.
type logouts struct{ counts func() [3]uint64 }

var descLogouts = prometheus.NewDesc("keyraft_logouts_told_total", "Clients that were told of a logout by back channel, by result.", []string{"result"}, nil)

// Describe implements prometheus.Collector.
func (logouts) Describe(to chan<- *prometheus.Desc) { to <- descLogouts }

// Collect implements prometheus.Collector.
func (l logouts) Collect(to chan<- prometheus.Metric) {
	for i, n := range l.counts() {
		to <- prometheus.MustNewConstMetric(descLogouts, prometheus.CounterValue, float64(n), logout.Results()[i])
	}
}
