package main

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/httpapi"
)

// seen are the series of a collector: by name, then by label values in order of
// label names.
func seen(t *testing.T, c prometheus.Collector) map[string]map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]float64{}
	for _, f := range families {
		out[f.GetName()] = map[string]float64{}
		for _, m := range f.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += l.GetValue() + " "
			}
			out[f.GetName()][labels] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func TestFiguresCountPanics(t *testing.T) {
	t.Parallel()
	f := newFigures(nil)
	f.request(httpapi.Observation{Route: "/a", Method: "GET", Status: 200})
	f.request(httpapi.Observation{Route: "/a", Method: "GET", Status: 500})
	f.request(httpapi.Observation{Route: "/a", Method: "GET", Status: 500, Panicked: true})
	got := seen(t, f)
	if n := got["keyraft_http_panics_total"][""]; n != 1 {
		t.Errorf("%v panics, want 1", n)
	}
	if n := got["keyraft_http_requests_total"]["GET /a 500 "]; n != 2 {
		t.Errorf("%v answers of 500, want 2: %v", n, got)
	}
}

// TestCertificatesShowTheirEnd: what a listener shows now, and nothing where
// there is none.
func TestCertificatesShowTheirEnd(t *testing.T) {
	t.Parallel()
	cert, err := devCertificate("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bare := &tls.Certificate{Certificate: cert.Certificate} // unparsed
	end := time.Unix(2_000_000_000, 0)
	got := seen(t, certificates{
		"node":   func() time.Time { return end },
		"kept":   listenerExpires(&tls.Config{Certificates: []tls.Certificate{*bare}}),
		"files":  listenerExpires(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return bare, nil }}),
		"plain":  listenerExpires(nil),
		"broken": listenerExpires(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, tls.AlertError(0) }}),
	})["keyraft_certificate_expiry_timestamp_seconds"]
	if got["node "] != 2e9 {
		t.Errorf("node: %v", got["node "])
	}
	year := float64(time.Now().AddDate(1, 0, 0).Unix())
	for _, name := range []string{"kept ", "files "} {
		if at := got[name]; at < year-3600 || at > year+60 {
			t.Errorf("%s ends at %v, want in a year", name, at)
		}
	}
	if len(got) != 3 {
		t.Errorf("series of certificates that are not there: %v", got)
	}
}
