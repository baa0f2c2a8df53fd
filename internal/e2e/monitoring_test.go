package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// docs is the folder of the documentation.
func docs(elem ...string) string {
	return filepath.Join(append([]string{"..", "..", "docs"}, elem...)...)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// rule is one alert or one recorded series.
type rule struct {
	Alert, Record, Expr string
	For                 string
	Labels, Annotations map[string]string
}

func (r rule) name() string { return r.Alert + r.Record }

func rules(t *testing.T, file string) (all []rule) {
	t.Helper()
	var doc struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Load([]byte(read(t, docs("prometheus", file))), &doc); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, g := range doc.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatalf("%s holds no rule", file)
	}
	return all
}

func alerts(t *testing.T) []rule     { return rules(t, "alerts.yaml") }
func recordings(t *testing.T) []rule { return rules(t, "recording.yaml") }

// dashboard is what the tests read of Grafana's form.
type dashboard struct {
	Panels     []panel
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Annotations struct {
		List []struct {
			Expr       string
			Datasource source
		}
	}
}

type source struct{ Type, UID string }

type panel struct {
	ID          int
	Type, Title string
	Description string
	Datasource  source
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct {
		RefID, Expr string
		Datasource  source
	}
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, docs("grafana", "keyraft.json"))), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

var labelValues = regexp.MustCompile(`^label_values\(([a-z_]+)[{,]`)

// expressions are what the dashboard asks Prometheus, with where it does.
func (d dashboard) expressions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			out[p.Title+" "+target.RefID] = target.Expr
		}
	}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := labelValues.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Fatalf("variable %s: %q is no label_values", v.Name, v.Definition)
		}
		out["variable "+v.Name] = m[1]
	}
	for _, a := range d.Annotations.List {
		out["annotation "+a.Expr] = a.Expr
	}
	return out
}

// metrics is what a /metrics shows.
type metrics struct {
	kinds  map[string]string   // of series, by name
	values map[string][]string // of labels, by name
}

var (
	family    = regexp.MustCompile(`(?m)^# TYPE ([a-zA-Z0-9_:]+) ([a-z]+)$`)
	labelPair = regexp.MustCompile(`[{,]([a-z_]+)="([^"]*)"`)
)

func (w *world) scrape(url string) metrics {
	w.t.Helper()
	resp := must(w.http.Get(url))(w.t)
	text := readAll(w.t, resp.Body)
	_ = resp.Body.Close() // only read
	m := metrics{map[string]string{}, map[string][]string{}}
	for _, f := range family.FindAllStringSubmatch(text, -1) {
		m.kinds[f[1]] = f[2]
	}
	for _, l := range labelPair.FindAllStringSubmatch(text, -1) {
		m.values[l[1]] = append(m.values[l[1]], l[2])
	}
	if len(m.kinds) == 0 {
		w.t.Fatalf("%s shows no series: %.200q", url, text)
	}
	return m
}

// exists tells whether a name is one of these series, or a part of a histogram.
func exists(kinds map[string]string, name string) bool {
	if name == "up" || kinds[name] != "" { // up is Prometheus's own
		return kinds[name] != "histogram" // only its parts are series
	}
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, part); ok && kinds[base] == "histogram" {
			return true
		}
	}
	return false
}

// observed starts a node and a gateway that have seen one token request, one
// refusal and one poll, and gives the series of each.
func observed(t *testing.T) (ofNode, ofGateway metrics) {
	t.Helper()
	w, n := single(t, "--ops-addr", "127.0.0.1:0")
	token := must(n.Issue(w.bound(), w.client, ""))(t)
	if _, err := n.Issue(w.bound(), proc.Client{ID: w.client.ID, Secret: "wrong"}, ""); err == nil {
		t.Fatal("a wrong secret gets a token")
	}
	e := w.edge("edge", []*node{n})
	e.says(t, token, 204, "")
	e.says(t, "nonsense", 401, "malformed")
	at := "http://" + n.ready.OpsAddr + "/metrics"
	w.await("the gateway's poll to be counted", func(context.Context) error {
		if ofNode = w.scrape(at); ofNode.kinds["keyraft_poller_instances"] == "" {
			return errors.New("no poll yet")
		}
		return nil
	})
	return ofNode, w.scrape(e.Base + "/metrics")
}

// TestMonitoringNamesExist: what rules, dashboard, runbooks and the documentation
// name is shown by a running node or gateway, and what these show of their own is
// documented. One name means one thing: only what both kinds of process have is
// shown by both.
func TestMonitoringNamesExist(t *testing.T) {
	t.Parallel()
	node, gateway := observed(t)
	all := maps.Clone(node.kinds)
	maps.Copy(all, gateway.kinds)
	recorded, read := map[string]bool{}, map[string]bool{}
	for _, r := range recordings(t) {
		recorded[r.Record] = true
	}
	check := func(where, expr string) {
		names := metricNames(expr)
		if len(names) == 0 {
			t.Errorf("%s reads no series: %s", where, expr)
		}
		for _, name := range names {
			read[name] = true
			if !recorded[name] && !exists(all, name) {
				t.Errorf("%s reads %s, which no node, gateway or recording rule has", where, name)
			}
		}
		checkLabels(t, where, expr, node, gateway)
	}
	for _, r := range slices.Concat(alerts(t), recordings(t)) {
		check(r.name(), r.Expr)
	}
	for where, expr := range readDashboard(t).expressions(t) {
		if expr != "" {
			check("dashboard, "+where, expr)
		}
	}
	for name, page := range runbooks(t) {
		for _, expr := range page.queries {
			check("runbook "+name, expr)
		}
	}
	for name := range recorded {
		if !read[name] {
			t.Errorf("nothing reads the recorded series %s", name)
		}
	}
	checkDocumented(t, all)
	for name := range node.kinds {
		shared := name == "keyraft_build_info" || name == "keyraft_certificate_expiry_timestamp_seconds"
		if strings.HasPrefix(name, "keyraft_") && gateway.kinds[name] != "" && !shared {
			t.Errorf("%s is shown by nodes and by gateways", name)
		}
	}
}

var matcher = regexp.MustCompile(`\b(route|op|task|outcome|grant|certificate|method)(=~?)"([^"$]*)"`)

// checkLabels makes sure that what is asked for by name can be found: a value that
// is misspelt finds nothing, and an alarm on it never rings.
func checkLabels(t *testing.T, where, expr string, shown ...metrics) {
	t.Helper()
	for _, m := range matcher.FindAllStringSubmatch(expr, -1) {
		pattern := regexp.QuoteMeta(m[3])
		if m[2] == "=~" {
			pattern = m[3]
		}
		want, err := regexp.Compile("^(?:" + pattern + ")$")
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		if !slices.ContainsFunc(shown, func(s metrics) bool { return slices.ContainsFunc(s.values[m[1]], want.MatchString) }) {
			t.Errorf("%s asks for %s, which no series has", where, m[0])
		}
	}
}

var seriesName = regexp.MustCompile("`(keyraft_[a-z0-9_]*[a-z0-9])`")

// checkDocumented compares the tables of monitoring.md with what is shown.
func checkDocumented(t *testing.T, all map[string]string) {
	t.Helper()
	named := map[string]bool{}
	for _, m := range seriesName.FindAllStringSubmatch(read(t, docs("monitoring.md")), -1) {
		named[m[1]] = true
		if all[m[1]] == "" {
			t.Errorf("monitoring.md names %s, which neither node nor gateway shows", m[1])
		}
	}
	for name, kind := range all {
		if !strings.HasPrefix(name, "keyraft_") {
			continue
		}
		if !named[name] {
			t.Errorf("%s is not in monitoring.md", name)
		}
		if total := strings.HasSuffix(name, "_total"); total != (kind == "counter") {
			t.Errorf("%s is a %s: counters are named _total, and nothing else is", name, kind)
		}
	}
}

// TestDashboard: each panel has its unit and asks the source that the user chose.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	variables := map[string]bool{}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	for _, name := range []string{"datasource", "job", "instance"} {
		if !variables[name] {
			t.Errorf("there is no variable %s", name)
		}
	}
	ids, rows, shown := map[int]bool{}, map[string]bool{}, 0
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: panel %d is there twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.H == 0 {
			t.Errorf("%s lies outside the grid: %+v", p.Title, p.GridPos)
		}
		if p.Type == "row" {
			rows[p.Title] = true
			continue
		}
		shown++
		p.check(t, variables)
	}
	for _, row := range []string{"Overview", "Writes and Raft", "Reads", "Gateways", "Storage", "Process"} {
		if !rows[row] {
			t.Errorf("there is no row %s", row)
		}
	}
	if shown < 40 {
		t.Errorf("only %d panels: is this the whole file?", shown)
	}
}

var variable = regexp.MustCompile(`\$\{?([a-z_]+)`)

func (p panel) check(t *testing.T, variables map[string]bool) {
	t.Helper()
	chosen := source{"prometheus", "${datasource}"}
	if p.FieldConfig.Defaults.Unit == "" || p.Description == "" || p.Datasource != chosen || len(p.Targets) == 0 {
		t.Errorf("panel %q: unit %q, description %q, source %+v, %d queries; all must be there", p.Title, p.FieldConfig.Defaults.Unit, p.Description, p.Datasource, len(p.Targets))
	}
	for _, target := range p.Targets {
		if target.Datasource != chosen {
			t.Errorf("panel %q, query %s asks %+v", p.Title, target.RefID, target.Datasource)
		}
		for _, m := range variable.FindAllStringSubmatch(target.Expr, -1) {
			if !variables[m[1]] && m[1] != "__rate_interval" {
				t.Errorf("panel %q, query %s uses $%s, which there is not", p.Title, target.RefID, m[1])
			}
		}
	}
}

// promtool finds Prometheus's own checker, or skips the test.
func promtool(t *testing.T) string {
	t.Helper()
	bin, err := exec.LookPath("promtool")
	if err == nil {
		return bin
	}
	if os.Getenv("KEYRAFT_REQUIRE") == "all" {
		t.Fatal("promtool is not installed, and KEYRAFT_REQUIRE=all: it is in Debian's package prometheus; .ci/run takes it out of there without starting a server")
	}
	t.Skip("promtool is not installed (Debian: it is in the package prometheus)")
	return ""
}

// TestRules: promtool takes the rules, and its unit tests show which fire when.
func TestRules(t *testing.T) {
	t.Parallel()
	bin := promtool(t)
	for _, args := range [][]string{
		{"check", "rules", "recording.yaml", "alerts.yaml"},
		{"test", "rules", "alerts_test.yaml", "backup_test.yaml"},
	} {
		cmd := exec.CommandContext(t.Context(), bin, args...)
		cmd.Dir = docs("prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestMetricsAreWellFormed: promtool's linter has nothing against a series of our
// own at a node or a gateway.
func TestMetricsAreWellFormed(t *testing.T) {
	t.Parallel()
	bin := promtool(t)
	w, n := single(t, "--ops-addr", "127.0.0.1:0")
	e := w.edge("edge", []*node{n})
	for _, url := range []string{"http://" + n.ready.OpsAddr, e.Base} {
		resp := must(w.http.Get(url + "/metrics"))(t)
		text := readAll(t, resp.Body)
		_ = resp.Body.Close() // only read
		cmd := exec.CommandContext(t.Context(), bin, "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState.ExitCode() != 3 { // 3: it has something against some
			t.Fatalf("promtool check metrics: %v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "keyraft_") {
				t.Error(strings.TrimSpace(line))
			}
		}
	}
}

// TestAlertsSayWhatToDo: each alert has a severity, says what and how much, and
// leads to its page; each page has an alert.
func TestAlertsSayWhatToDo(t *testing.T) {
	t.Parallel()
	pages := runbooks(t)
	named := map[string]bool{}
	overview := read(t, docs("monitoring.md"))
	for _, r := range alerts(t) {
		named[r.Alert] = true
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		summary, description := r.Annotations["summary"], r.Annotations["description"]
		if !strings.Contains(summary, "{{ $labels.") || description == "" {
			t.Errorf("%s: the summary %q must say where, the description %q what", r.Alert, summary, description)
		}
		if want := "https://github.com/keyraft/keyraft/blob/main/docs/runbooks/" + r.Alert + ".md"; r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
		if _, ok := pages[r.Alert]; !ok {
			t.Errorf("%s has no runbook", r.Alert)
		}
		if !strings.Contains(overview, fmt.Sprintf("[%s](runbooks/%s.md)", r.Alert, r.Alert)) {
			t.Errorf("%s is not in the table of monitoring.md", r.Alert)
		}
	}
	for name := range pages {
		if !named[name] {
			t.Errorf("the runbook %s has no alert", name)
		}
	}
}
