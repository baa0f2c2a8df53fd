package bench

import (
	"encoding/json"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a histogram can tell apart: three digits of anything between 128 ns and an
// hour. Beyond an hour is an hour.
const (
	shortest = 128
	longest  = time.Hour
	digits   = 3
)

// Histogram counts durations with three digits. Not safe for concurrent use.
type Histogram struct{ hdr *hdrhistogram.Histogram }

// NewHistogram makes an empty histogram of about 200 KiB.
func NewHistogram() *Histogram {
	return &Histogram{hdrhistogram.New(shortest, int64(longest), digits)}
}

// Record counts one duration.
func (h *Histogram) Record(d time.Duration) { h.RecordN(d, 1) }

// RecordN counts one duration n times.
func (h *Histogram) RecordN(d time.Duration, n int64) {
	_ = h.hdr.RecordValues(int64(min(max(d, 0), longest)), n) // fails only outside the bounds
}

// Merge adds all that other has counted.
func (h *Histogram) Merge(other *Histogram) { h.hdr.Merge(other.hdr) }

// Reset forgets everything.
func (h *Histogram) Reset() { h.hdr.Reset() }

// Count is how many durations were counted.
func (h *Histogram) Count() int64 { return h.hdr.TotalCount() }

// At is the duration that percent of the counted ones do not exceed; 0 when there
// are none.
func (h *Histogram) At(percent float64) time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.hdr.ValueAtPercentile(percent))
}

// Max is the longest duration, to the precision of the histogram.
func (h *Histogram) Max() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.hdr.Max())
}

// Mean is the mean duration.
func (h *Histogram) Mean() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.hdr.Mean())
}

// MarshalJSON writes the usual percentiles, in microseconds.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return json.Marshal(struct {
		Count int64   `json:"count"`
		Mean  float64 `json:"mean"`
		P50   float64 `json:"p50"`
		P90   float64 `json:"p90"`
		P99   float64 `json:"p99"`
		P999  float64 `json:"p99_9"`
		Max   float64 `json:"max"`
	}{h.Count(), us(h.Mean()), us(h.At(50)), us(h.At(90)), us(h.At(99)), us(h.At(99.9)), us(h.Max())})
}
