package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/keyraft/keyraft/internal/bench"
)

// document is bench.json.
type document struct {
	Machine string `json:"machine"`
	Commit  string `json:"commit"`
	Rounds  int    `json:"rounds"`
	Partial string `json:"partial,omitempty"` // why not all rounds were made
	// How it was measured. A run with -only, or -small, is not for publishing.
	Connections int    `json:"connections"`
	Long        string `json:"for"`
	Only        string `json:"only,omitempty"`
	Small       bool   `json:"small,omitempty"`

	Results []result `json:"results"`
	Rows    []row    `json:"rows"` // what the results are made of
	// LeftOut are rows that this machine can't run, and why.
	LeftOut map[string]string `json:"left_out,omitempty"`
}

// result is one figure.
type result struct {
	Name       string  `json:"name"`
	Value      float64 `json:"value"`
	Min        float64 `json:"min"`
	Max        float64 `json:"max"`
	Unit       string  `json:"unit"`
	Limit      string  `json:"limit"`
	LimitValue float64 `json:"limit_value"`
	Ratio      float64 `json:"ratio"`
	Floor      float64 `json:"floor"` // 0: there is none
	OK         bool    `json:"ok"`
}

// row is what one row gave, medians over the rounds.
type row struct {
	Name    string                 `json:"name"`
	Figures map[string]bench.Stats `json:"figures"`
}

func (s *stage) document(t *bench.Table, partial string) document {
	d := document{
		Machine: bench.Machine(), Commit: commit(), Rounds: len(t.Rounds), Partial: partial, Results: []result{}, Rows: []row{}, LeftOut: s.leftOut,
		Connections: s.o.connections, Long: s.o.long.String(), Only: s.o.only.String(), Small: s.o.small,
	}
	for _, f := range s.o.wanted() {
		whole := func(of func(round) float64) bench.Stats {
			return t.Each(func(r round) (float64, bool) {
				for _, need := range f.needs {
					if r[need] == nil {
						return 0, false
					}
				}
				v := of(r)
				return v, !math.IsNaN(v) && !math.IsInf(v, 0)
			})
		}
		value, bound := whole(f.value), whole(f.bound)
		ratio := whole(f.ratio)
		if ratio.N == 0 {
			continue
		}
		shown, held := value.Median, ratio.Median
		if f.worst {
			held = ratio.Min
			if shown = value.Min; f.less {
				shown = value.Max
			}
		}
		d.Results = append(d.Results, result{
			Name: f.name, Value: shown, Min: value.Min, Max: value.Max, Unit: f.unit,
			Limit: f.limit, LimitValue: bound.Median, Ratio: held, Floor: f.floor, OK: held >= f.floor,
		})
	}
	for _, name := range t.Rows {
		r := row{Name: name, Figures: map[string]bench.Stats{}}
		for _, one := range t.Rounds {
			for figure := range one[name] {
				r.Figures[figure] = t.Of(name, figure)
			}
		}
		d.Rows = append(d.Rows, r)
	}
	return d
}

// commit is the one that the program was built from, as far as it knows.
func commit() string {
	if c := os.Getenv("KEYRAFT_COMMIT"); c != "" {
		return c
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// below counts what does not hold.
func (d document) below() (n int) {
	for _, r := range d.Results {
		if !r.OK {
			n++
		}
	}
	return n
}

func (d document) print(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "\n%s, commit %s, median of %d rounds\n\n", d.Machine, d.Commit, d.Rounds); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "FIGURE\tVALUE\tMIN–MAX\tUNIT\tLIMIT\tIS\tRATIO\tFLOOR\tHOLDS") // Flush reports what fails
	for _, r := range d.Results {
		floor, holds := "-", "-"
		if r.Floor > 0 {
			floor, holds = short(r.Floor), map[bool]string{true: "yes", false: "NO"}[r.OK]
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s–%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, short(r.Value), short(r.Min), short(r.Max), r.Unit, r.Limit, short(r.LimitValue), short(r.Ratio), floor, holds)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(d.LeftOut)) {
		if _, err := fmt.Fprintf(w, "\n%s: %s\n", name, d.LeftOut[name]); err != nil {
			return err
		}
	}
	if d.Partial != "" {
		_, err := fmt.Fprintf(w, "\nPARTIAL: %s\n", d.Partial)
		return err
	}
	return nil
}

// short writes three digits.
func short(v float64) string {
	if v >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func (d document) save(path string) error { return save(path, d) }
