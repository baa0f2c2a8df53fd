package main

import (
	"fmt"

	"github.com/hashicorp/go-metrics"
	promsink "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
)

// libraryMetrics lets the series of raft, raft-boltdb and memberlist into our
// registry. Those libraries know only one sink a process, which is set here once,
// before any of them starts.
func libraryMetrics(reg prometheus.Registerer) error {
	sink, err := promsink.NewPrometheusSinkFrom(promsink.PrometheusOpts{Registerer: reg})
	if err != nil {
		return fmt.Errorf("register the series of raft: %w", err)
	}
	c := metrics.DefaultConfig("")
	c.EnableHostname, c.EnableRuntimeMetrics = false, false // the process collector has the latter
	if _, err := metrics.NewGlobal(c, sink); err != nil {
		return fmt.Errorf("set up the series of raft: %w", err)
	}
	return nil
}
