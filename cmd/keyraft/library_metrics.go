package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// libraryMetrics lets the series of raft, raft-boltdb and memberlist into our
// registry. Those libraries know only one sink a process, which is set here once,
// before any of them starts.
func libraryMetrics(reg prometheus.Registerer) error {
	sink := &librarySink{series: map[string]*librarySeries{}}
	if err := reg.Register(sink); err != nil {
		return fmt.Errorf("register the series of raft: %w", err)
	}
	c := metrics.DefaultConfig("")
	c.EnableHostname, c.EnableRuntimeMetrics = false, false // the process collector has the latter
	if _, err := metrics.NewGlobal(c, sink); err != nil {
		return fmt.Errorf("set up the series of raft: %w", err)
	}
	return nil
}

// librarySink keeps the libraries' series. The sink that go-metrics has for Prometheus
// keeps quantiles of each sample, which took a tenth of the time of a write that is
// alone; ours keeps sums and counts. What matters has a histogram of its own. Safe for
// concurrent use.
type librarySink struct {
	mu     sync.RWMutex // guards series, not what they hold
	series map[string]*librarySeries
}

// librarySeries is one series.
type librarySeries struct {
	desc    *prometheus.Desc
	kind    prometheus.ValueType // Untyped: a sample
	labels  []string
	mu      sync.Mutex // guards the rest
	value   float64
	count   uint64
	touched time.Time
}

// libraryKept is how long a series is shown that nothing comes for, such as those of a
// node that has gone. Counters stay.
const libraryKept = time.Minute

var (
	_ metrics.MetricSink   = (*librarySink)(nil)
	_ prometheus.Collector = (*librarySink)(nil)
)

// SetGauge implements metrics.MetricSink.
func (s *librarySink) SetGauge(key []string, v float32) { s.SetGaugeWithLabels(key, v, nil) }

// SetGaugeWithLabels implements metrics.MetricSink.
func (s *librarySink) SetGaugeWithLabels(key []string, v float32, labels []metrics.Label) {
	s.of(prometheus.GaugeValue, key, labels).set(float64(v), false)
}

// EmitKey implements metrics.MetricSink. It is for events, which are no metrics.
func (s *librarySink) EmitKey([]string, float32) {}

// IncrCounter implements metrics.MetricSink.
func (s *librarySink) IncrCounter(key []string, v float32) { s.IncrCounterWithLabels(key, v, nil) }

// IncrCounterWithLabels implements metrics.MetricSink.
func (s *librarySink) IncrCounterWithLabels(key []string, v float32, labels []metrics.Label) {
	s.of(prometheus.CounterValue, key, labels).set(float64(v), true)
}

// AddSample implements metrics.MetricSink.
func (s *librarySink) AddSample(key []string, v float32) { s.AddSampleWithLabels(key, v, nil) }

// AddSampleWithLabels implements metrics.MetricSink.
func (s *librarySink) AddSampleWithLabels(key []string, v float32, labels []metrics.Label) {
	s.of(prometheus.UntypedValue, key, labels).set(float64(v), true)
}

// of finds a series, or begins it.
func (s *librarySink) of(kind prometheus.ValueType, key []string, labels []metrics.Label) *librarySeries {
	var room [256]byte
	name := append(room[:0], byte(kind))
	for i, part := range key {
		if i > 0 {
			name = append(name, '_')
		}
		for j := range len(part) {
			name = append(name, metricByte(part[j]))
		}
	}
	id := name
	for _, l := range labels {
		id = append(append(append(append(id, 0), l.Name...), 0), l.Value...)
	}
	s.mu.RLock()
	found := s.series[string(id)]
	s.mu.RUnlock()
	if found != nil {
		return found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.series[string(id)]; found != nil {
		return found
	}
	made := &librarySeries{kind: kind}
	var names []string
	for _, l := range labels {
		names, made.labels = append(names, l.Name), append(made.labels, strings.ToValidUTF8(l.Value, "?"))
	}
	made.desc = prometheus.NewDesc(string(name[1:]), "Of a library that this node is built on.", names, nil)
	s.series[string(id)] = made
	return made
}

// metricByte is a byte of a metric's name: what is not allowed becomes an underscore.
func metricByte(c byte) byte {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':':
		return c
	default:
		return '_'
	}
}

func (s *librarySeries) set(v float64, add bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if add {
		v += s.value
	}
	s.value, s.touched = v, now
	s.count++
}

// Describe implements prometheus.Collector: nobody knows before which series come.
func (s *librarySink) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *librarySink) Collect(to chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, one := range s.series {
		one.mu.Lock()
		value, count, touched := one.value, one.count, one.touched
		one.mu.Unlock()
		if one.kind != prometheus.CounterValue && count > 0 && time.Since(touched) > libraryKept {
			delete(s.series, id)
			continue
		}
		if one.kind == prometheus.UntypedValue {
			to <- prometheus.MustNewConstSummary(one.desc, count, value, nil, one.labels...)
			continue
		}
		to <- prometheus.MustNewConstMetric(one.desc, one.kind, value, one.labels...)
	}
}
