package main

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/fsm/state"
)

const (
	// rowsEvery is the pause between two counts of the tables.
	rowsEvery = 30 * time.Second
	// rowsChunk is counted at once, some milliseconds of work; then the counter rests
	// rowsRest times as long, so that it takes a twentieth of a core at most, however
	// large the tables are.
	rowsChunk = 20_000
	rowsRest  = 19
)

var descTableRows = prometheus.NewDesc("keyraft_table_rows",
	"Rows of the tables whose rows end by themselves, as of the last count, NaN before the first; one that only grows means that nothing is expired any more.", []string{"table"}, nil)

// tableRows counts the rows of tables that end: on the side, since a count that every
// write kept would cost every write a look.
type tableRows struct {
	view   func() *state.View
	counts []atomic.Int64 // by state.Ending; -1: not counted yet
}

func newTableRows(view func() *state.View) *tableRows {
	r := &tableRows{view: view, counts: make([]atomic.Int64, len(state.Ending()))}
	for i := range r.counts {
		r.counts[i].Store(-1)
	}
	return r
}

// Run counts until ctx ends.
func (r *tableRows) Run(ctx context.Context) {
	rest := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		r.count(ctx, rowsChunk, func(worked time.Duration) { rest(rowsRest * worked) })
		rest(rowsEvery)
	}
}

// count counts every table once, some rows at a time. A store that can't be read shows elsewhere, and ends the
// count here.
func (r *tableRows) count(ctx context.Context, chunk int, rest func(worked time.Duration)) {
	for i, table := range state.Ending() {
		rows := 0
		for after, first := []byte(nil), true; first || after != nil; first = false {
			began := time.Now()
			n, last, err := r.view().Count(table, after, chunk)
			if err != nil || ctx.Err() != nil {
				return
			}
			rows, after = rows+n, last
			rest(time.Since(began))
		}
		r.counts[i].Store(int64(rows))
	}
}

// Describe implements prometheus.Collector.
func (r *tableRows) Describe(to chan<- *prometheus.Desc) { to <- descTableRows }

// Collect implements prometheus.Collector.
func (r *tableRows) Collect(to chan<- prometheus.Metric) {
	for i, table := range state.Ending() {
		n := float64(r.counts[i].Load())
		if n < 0 {
			n = math.NaN() // not counted yet
		}
		to <- prometheus.MustNewConstMetric(descTableRows, prometheus.GaugeValue, n, table.Name)
	}
}
