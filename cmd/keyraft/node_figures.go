package main

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens"
)

// newBuildInfo is the version of this binary, as a series that is always 1.
func newBuildInfo() prometheus.Collector {
	v := readVersion()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "keyraft_build_info", Help: "1; the labels say which build this is.", ConstLabels: prometheus.Labels{"version": v.Version, "go_version": v.Go},
	})
	g.Set(1)
	return g
}

// certificates show when each certificate of this process ends; one that there is
// none of gives the zero time.
type certificates map[string]func() time.Time

var descExpiry = prometheus.NewDesc("keyraft_certificate_expiry_timestamp_seconds",
	"When the certificate ends: node, by which nodes know each other; api, of the HTTP listener.", []string{"certificate"}, nil)

// Describe implements prometheus.Collector.
func (c certificates) Describe(to chan<- *prometheus.Desc) { to <- descExpiry }

// Collect implements prometheus.Collector.
func (c certificates) Collect(to chan<- prometheus.Metric) {
	for name, expires := range c {
		if at := expires(); !at.IsZero() {
			to <- prometheus.MustNewConstMetric(descExpiry, prometheus.GaugeValue, float64(at.Unix()), name)
		}
	}
}

// listenerExpires tells when the certificate ends that a listener shows now.
func listenerExpires(conf *tls.Config) func() time.Time {
	return func() time.Time {
		if conf == nil {
			return time.Time{}
		}
		var shown *tls.Certificate
		if conf.GetCertificate != nil {
			shown, _ = conf.GetCertificate(nil) // nil then
		} else if len(conf.Certificates) > 0 {
			shown = &conf.Certificates[0]
		}
		if shown == nil || len(shown.Certificate) == 0 {
			return time.Time{}
		}
		leaf := shown.Leaf
		if leaf == nil {
			var err error
			if leaf, err = x509.ParseCertificate(shown.Certificate[0]); err != nil {
				return time.Time{}
			}
		}
		return leaf.NotAfter
	}
}

// nodeFigures are read off the rooms of a node when they are asked for.
type nodeFigures struct {
	dir         string
	connections func() (open int, rejected uint64)
	lane        func() (queued int, refused uint64)
	view        func() *state.View
	keys        *tokens.KeyJob
	proofs      *tokens.Proofs
}

var (
	descDiskSize    = prometheus.NewDesc("keyraft_disk_size_bytes", "Size of the file system that holds the data folder.", nil, nil)
	descDiskFree    = prometheus.NewDesc("keyraft_disk_free_bytes", "What is left of it for this node.", nil, nil)
	descConnections = prometheus.NewDesc("keyraft_http_connections", "Open connections of the API.", nil, nil)
	descRejected    = prometheus.NewDesc("keyraft_http_connections_rejected_total", "Connections that were turned away because the limit was reached.", nil, nil)
	descLane        = prometheus.NewDesc("keyraft_rsa_signatures_queued", "RSA signatures that are being made or waited for.", nil, nil)
	descLaneRefused = prometheus.NewDesc("keyraft_rsa_signatures_refused_total", "RSA signatures that were refused because too many were wanted.", nil, nil)
	descProofs      = prometheus.NewDesc("keyraft_dpop_proofs_remembered", "Used DPoP proofs that this node remembers; at 1048576 it refuses further ones.", nil, nil)
	descKeys        = prometheus.NewDesc("keyraft_signing_keys", "Signing keys of all tenants by algorithm and status.", []string{"alg", "status"}, nil)
	descKeyAge      = prometheus.NewDesc("keyraft_signing_key_age_seconds", "Age of the oldest signing key that is active.", []string{"alg"}, nil)
	descKeyOverdue  = prometheus.NewDesc("keyraft_signing_key_overdue_seconds", "For how long a signing key ought to have been made, or to have taken over; 0: all goes to plan.", []string{"alg"}, nil)
)

// Describe implements prometheus.Collector.
func (n *nodeFigures) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descDiskSize, descDiskFree, descConnections, descRejected, descLane, descLaneRefused, descProofs, descKeys, descKeyAge, descKeyOverdue,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (n *nodeFigures) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	if size, free, err := diskSpace(n.dir); err == nil { // else the series are not there
		gauge(descDiskSize, float64(size))
		gauge(descDiskFree, float64(free))
	}
	gauge(descProofs, float64(n.proofs.Remembered()))
	open, rejected := n.connections()
	gauge(descConnections, float64(open))
	counter(descRejected, rejected)
	queued, refused := n.lane()
	gauge(descLane, float64(queued))
	counter(descLaneRefused, refused)
	for alg, f := range n.keys.Figures(n.view()) {
		gauge(descKeys, float64(f.Next), alg, "next")
		gauge(descKeys, float64(f.Active), alg, "active")
		gauge(descKeys, float64(f.Retired), alg, "retired")
		gauge(descKeys, float64(f.Revoked), alg, "revoked")
		gauge(descKeyAge, f.Age.Seconds(), alg)
		gauge(descKeyOverdue, f.Overdue.Seconds(), alg)
	}
}
