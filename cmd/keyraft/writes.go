package main

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/fsm/command"
)

// maxKind bounds the kinds of commands that are counted apart; there are some seventy.
const maxKind = 256

// writes counts the commands that the rooms of this node propose, by kind: what a login
// or a token costs the cluster. The zero value is ready.
type writes [maxKind]atomic.Uint64

func (w *writes) count(c command.Command) {
	if k := c.Kind(); k < maxKind {
		w[k].Add(1)
	}
}

var descWrites = prometheus.NewDesc("keyraft_writes_total", "Commands that this node proposed for requests, by kind, whatever came of them.", []string{"kind"}, nil)

// Describe implements prometheus.Collector.
func (w *writes) Describe(to chan<- *prometheus.Desc) { to <- descWrites }

// Collect implements prometheus.Collector.
func (w *writes) Collect(to chan<- prometheus.Metric) {
	for k := range w {
		empty, err := command.New(command.Kind(k), command.Version)
		if err != nil {
			continue // there is no such kind
		}
		name := string(empty.ProtoReflect().Descriptor().Name())
		to <- prometheus.MustNewConstMetric(descWrites, prometheus.CounterValue, float64(w[k].Load()), name)
	}
}
