package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/keyraft/keyraft/internal/bench"
)

// column is a figure of a curve's points.
type column struct {
	figure, says string
	format       func(float64) string
	plot         bool
	unit         float64 // what the plot's values are divided by; 0: nothing
}

// grown is a curve on the page.
type grown struct {
	Title, Text, Table, Skipped, Images string
	plots                               []curvePlot
}

type curvePlot struct {
	bench.Plot
	file string
}

func usual() []column {
	return []column{
		{"rate", "a second", grouped, true, 0},
		{"cpu_us", "µs CPU", short, false, 0},
		{"p50_us", "p50", bench.FormatMicroseconds, false, 0},
		{"p99_us", "p99", bench.FormatMicroseconds, true, 0},
		{"rss_bytes", "memory MiB", mebi, true, 1 << 20},
	}
}

// describe says what a curve shows, and of which figures it is made.
func describe(name string) (title, text string, columns []column) {
	switch name {
	case "connections":
		return "Connections", "Each asks for one ES256 token after another. Past some tens of connections the core is busy and each further one waits its turn: the rate stays, latency grows with their number (Little's law), and so does memory, by some buffers each.", usual()
	case "gateways":
		return "Gateways", "Simulated in the generator: each holds a long poll as a gateway does. Revocations come at up to 20 a second. *Told* is the time from the call to the moment at which one gateway has the answer, over all gateways and revocations; the generator shares one core among all of them, so it is an upper bound. CPU is the node's for one revocation, with all gateways told.", []column{
			{"told_p50_us", "told, p50", bench.FormatMicroseconds, false, 0},
			{"told_p99_us", "told, p99", bench.FormatMicroseconds, true, 0},
			{"cpu_us", "µs CPU a revocation", grouped, false, 0},
			{"cpu_us_each", "µs CPU a gateway", short, true, 0},
			{"rss_bytes", "memory MiB", mebi, true, 1 << 20},
		}
	case "clients":
		return "Clients", fmt.Sprintf("The load is spread over up to %s of them. Memory is that of a node started on them.", grouped(askers)), usual()
	case "opaque_tokens":
		return "Live opaque tokens", fmt.Sprintf("Issued over the API by %d connections, each one committed; then all that were new at this size are asked about in turn by as many connections, the worst that can be done to a cache.", crowd), append(usual(), column{"issued_per_second", "issued a second", grouped, false, 0})
	case "revocations":
		return "Live revocations", "Of single tokens, the smallest kind. The node is asked about live opaque tokens, so each answer looks among all of them. The gateway is the Go package in the generator's process: the time until it has loaded all, its heap, and what it decides a second about a token it has seen.", append(usual(),
			column{"gateway_sync_ms", "gateway loads in", func(v float64) string { return bench.FormatMicroseconds(v * 1000) }, false, 0},
			column{"gateway_bytes_each", "bytes each", short, false, 0},
			column{"gateway_validate_rate", "gateway decides a second", grouped, false, 0},
			column{"gateway_validate_p99_us", "gateway p99", func(v float64) string { return short(v) + " µs" }, false, 0})
	}
	return name, "", usual()
}

// sized writes the sizes of an axis: 100, 10k, 1M.
func sized(v float64) string {
	for _, unit := range []struct {
		name string
		of   float64
	}{{"M", 1e6}, {"k", 1e3}} {
		if v >= unit.of {
			return strconv.FormatFloat(v/unit.of, 'f', -1, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// sweeps are the curves as the page shows them.
func (p page) sweeps() (out []grown) {
	if p.Curves == nil {
		return nil
	}
	for _, c := range p.Curves.Curves {
		title, text, columns := describe(c.Name)
		g := grown{Title: title, Text: text, Skipped: c.Skipped}
		names := []string{strings.ToLower(title) + ":"}
		for _, col := range columns {
			names = append(names, col.says+":")
		}
		var b strings.Builder
		b.WriteString(head(names...))
		for _, at := range c.Points {
			line := []string{grouped(float64(at.N))}
			for _, col := range columns {
				text := ""
				if v, ok := at.Figures[col.figure]; ok {
					text = col.format(v)
				}
				line = append(line, text)
			}
			b.WriteString(cells(line...))
		}
		g.Table = strings.TrimRight(b.String(), "\n")
		var images []string
		for _, col := range columns {
			if !col.plot {
				continue
			}
			plot := curvePlot{Plot: bench.Plot{Title: title + ": " + col.says, X: strings.ToLower(title), Y: col.says, LogX: true, FormatX: sized, FormatY: col.format}, file: "scale_" + c.Name + "_" + strings.ReplaceAll(col.figure, "_us", "") + ".svg"}
			line := bench.Line{Name: col.says}
			for _, at := range c.Points {
				if v, ok := at.Figures[col.figure]; ok {
					line.X, line.Y = append(line.X, float64(at.N)), append(line.Y, v/max(1, col.unit))
				}
			}
			if col.unit > 0 {
				plot.FormatY = nil
			}
			plot.Lines = []bench.Line{line}
			g.plots = append(g.plots, plot)
			images = append(images, fmt.Sprintf("![%s](%s/%s)", plot.Title, p.dir, plot.file))
		}
		g.Images = strings.Join(images, "\n")
		out = append(out, g)
	}
	return out
}

// last are the two largest points of a curve that have a figure.
func (p page) last(name, figure string) (before, last point, ok bool) {
	if p.Curves == nil {
		return before, last, false
	}
	for _, c := range p.Curves.Curves {
		if c.Name != name {
			continue
		}
		var have []point
		for _, at := range c.Points {
			if _, ok := at.Figures[figure]; ok {
				have = append(have, at)
			}
		}
		if len(have) < 2 {
			return before, last, false
		}
		return have[len(have)-2], have[len(have)-1], true
	}
	return before, last, false
}

// slope is how much of a figure one more takes, between the two largest sizes.
func (p page) slope(name, figure string) (each float64, at int, ok bool) {
	before, last, ok := p.last(name, figure)
	if !ok || last.N == before.N {
		return 0, 0, false
	}
	each = (last.Figures[figure] - before.Figures[figure]) / float64(last.N-before.N)
	return each, last.N, each > 0
}

const (
	million   = 1e6
	busy      = 0.6  // share of a core that may be used on average: the rest is for peaks and a lost node
	wireBytes = 1200 // request and answer of a JWT with their heads, TCP and Ethernet around them
	gibi      = 1 << 30
)

// model says, by arithmetic on the figures, what comes next.
func (p page) model() string {
	var b strings.Builder
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format, args...) } // into memory
	p.modelCPU(say)
	p.modelGrowth(say)
	return strings.TrimRight(b.String(), "\n")
}

// modelCPU is what a million a second takes.
func (p page) modelCPU(say func(string, ...any)) {
	say("**One million a second.** Cores = 1,000,000 × µs CPU of a request ÷ 1,000,000 µs, so the number of busy cores is the µs column itself; ÷ %g, since a core that is to answer quickly can't be busy all the time. It assumes cores like those of the machine above, a load that is spread evenly over nodes, nodes with a number of cores each that serve like that many single ones (requests share no lock on the way of a JWT; not measured here beyond one core), and TLS ended before the node or paid for on top.\n\n", busy)
	say("%s", head("a million a second of", "µs CPU each:", "busy cores:", "cores to have:", "as nodes of 32 cores:"))
	for _, row := range []string{"jwt_client_credentials_es256", "jwt_client_credentials_eddsa", "jwt_client_credentials_rs256", "introspect_linearizable", "opaque_issue_1voter"} {
		cpu, ok := p.of(row, "cpu_us")
		if !ok {
			continue
		}
		have := math.Ceil(cpu / busy)
		nodes := grouped(math.Ceil(have / 32))
		if row == "opaque_issue_1voter" {
			nodes = "see below"
		}
		say("%s", cells(meaning(row), short(cpu), grouped(math.Ceil(cpu)), grouped(have), nodes))
	}
	say("\nJWTs need no write, so nodes add up: three voters and as many non-voting issuer nodes as the table says. The network carries about %.0f Gbit/s for a million a second, at %d bytes for request and answer with their heads.\n\n", million*wireBytes*8/1e9, wireBytes)
	if cpu, ok := p.of("opaque_issue_1voter", "cpu_us"); ok {
		rate, _ := p.of("opaque_issue_1voter", "rate")
		say("Opaque tokens are different: each is committed, and one cluster has one log, written by one leader and applied in order by every node. On one core, with HTTP, log and state on it, %s a second were reached here. Other cores and nodes can take the HTTP part over; the order of the log stays. A million a second is no goal for one log: at the rate measured it is %s clusters side by side, by client or by region. The better answer is a JWT, which is taken back by revocation, and needs no row.\n\n", grouped(math.Round(rate)), grouped(math.Ceil(million/max(1, rate))))
		if syncs, ok := p.of("sync", "rate"); ok {
			say("A commit's wait is the disk: %s syncs a second here, and %s tokens shared each. A disk with a quicker sync moves the latency, not the CPU time (%s µs).\n\n", grouped(math.Round(syncs)), short(rate/max(1, syncs)), short(cpu))
		}
	}
}

// modelGrowth is what grows with how much there is.
func (p page) modelGrowth(say func(string, ...any)) {
	if p.Curves == nil {
		say("Where the limits of memory and of gateways are is computed from the scale curves, which this page lacks: `make scale`.\n")
		return
	}
	say("**The next limit of each curve**, from its two largest sizes:\n\n")
	for _, grows := range []struct{ name, figure, says string }{
		{"clients", "rss_bytes", "A client takes %s bytes of a node's memory, so %s fit into 8 GiB for them"},
		{"opaque_tokens", "rss_bytes", "A live opaque token takes at most %s bytes of a node's memory, caches that are still filling included, so at least %s fit into 8 GiB; the rows themselves are on disk"},
		{"revocations", "rss_bytes", "A live revocation takes %s bytes of a node's memory, so %s fit into 8 GiB"},
		{"revocations", "gateway_bytes", "and %s bytes of a gateway's, so %s fit into 2 GiB there; a gateway refuses more than `MaxRevocations`, 20 million by default"},
		{"connections", "rss_bytes", "A connection takes %s bytes, so %s fit into 8 GiB; `limits.concurrency` bounds them before that"},
	} {
		each, at, ok := p.slope(grows.name, grows.figure)
		if !ok {
			continue
		}
		room := 8.0 * gibi
		if grows.figure == "gateway_bytes" {
			room = 2 * gibi
		}
		say("- "+grows.says+" (measured up to %s).\n", grouped(math.Round(each)), about(room/each), grouped(float64(at)))
	}
	if _, last, ok := p.last("gateways", "cpu_us_each"); ok {
		each := last.Figures["cpu_us_each"]
		say("- Telling one gateway of one revocation takes %s µs of a node's CPU time with %s gateways. A core spends itself on gateways × revocations a second = %s: that is %s gateways at 10 revocations a second; several nodes share the gateways, and revocations that come together are told together.\n", short(each), grouped(float64(last.N)), about(million/each), about(million/each/10))
	}
	if before, last, ok := p.last("connections", "cpu_us"); ok {
		say("- From %s to %s connections the CPU time of a request went from %s to %s µs. The core is the limit, not their number.\n", grouped(float64(before.N)), grouped(float64(last.N)), short(before.Figures["cpu_us"]), short(last.Figures["cpu_us"]))
	}
}

// about is a large number in two digits.
func about(v float64) string {
	if v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return "?"
	}
	if v < 10 {
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	step := math.Pow(10, math.Floor(math.Log10(v))-1)
	return grouped(math.Round(math.Round(v/step) * step))
}
