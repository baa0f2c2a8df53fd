package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Figures are what one run of a row gave, by name. Those of Result.Figures are
// "rate", "cpu_us", "p50_us", "p99_us", "rss_bytes", "peak_bytes" and "failed"; "own_us" is
// the CPU time of the process alone where others count with it.
type Figures map[string]float64

// Figures gives the figures of a run for a table. Those of the server's process are
// there when it was read.
func (r *Result) Figures() Figures {
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	f := Figures{"rate": r.Rate, "p50_us": us(r.All.At(50)), "p99_us": us(r.All.At(99)), "failed": float64(r.Failed())}
	if r.Usage != nil {
		f["cpu_us"], f["rss_bytes"], f["peak_bytes"] = us(r.Usage.PerOp()), float64(r.Usage.RSS), float64(r.Usage.Peak)
		if r.Usage.Ops > 0 && r.Usage.Own != r.Usage.CPU {
			f["own_us"] = us(r.Usage.Own) / float64(r.Usage.Ops)
		}
	}
	return f
}

// Row is one line of a table: something that is measured once a round.
type Row struct {
	Name string
	Run  func(ctx context.Context) (Figures, error)
}

// Table holds what each row gave in each round.
type Table struct {
	Rows   []string
	Rounds []map[string]Figures // by the name of the row
}

// Rounds runs all rows in turn, so many times: A, B, A, B. What disturbs the machine
// for a while then meets all of them. With an error the rounds so far are returned.
func Rounds(ctx context.Context, rounds int, rows []Row) (*Table, error) {
	t := new(Table)
	for _, r := range rows {
		t.Rows = append(t.Rows, r.Name)
	}
	for i := range rounds {
		t.Rounds = append(t.Rounds, map[string]Figures{})
		for _, r := range rows {
			f, err := r.Run(ctx)
			if err != nil {
				return t, fmt.Errorf("%s, round %d: %w", r.Name, i+1, err)
			}
			t.Rounds[i][r.Name] = f
		}
	}
	return t, nil
}

// Stats are the middle and the ends of what several rounds gave.
type Stats struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"rounds"` // that had the figure
}

// Of gives one figure of one row.
func (t *Table) Of(row, figure string) Stats {
	return t.Each(func(round map[string]Figures) (float64, bool) {
		v, ok := round[row][figure]
		return v, ok
	})
}

// Ratio gives one figure over another, divided round by round.
func (t *Table) Ratio(row, figure, limit, limitFigure string) Stats {
	return t.Each(func(round map[string]Figures) (float64, bool) {
		v, ok := round[row][figure]
		by, okBy := round[limit][limitFigure]
		return v / by, ok && okBy && by != 0
	})
}

// Each gives what of computes from each round; of says false where it can't.
func (t *Table) Each(of func(round map[string]Figures) (float64, bool)) Stats {
	var values []float64
	for _, round := range t.Rounds {
		if v, ok := of(round); ok {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return Stats{}
	}
	slices.Sort(values)
	middle := values[len(values)/2]
	if len(values)%2 == 0 {
		middle = (middle + values[len(values)/2-1]) / 2
	}
	return Stats{Median: middle, Min: values[0], Max: values[len(values)-1], N: len(values)}
}
