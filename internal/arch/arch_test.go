// Package arch holds the test of the architecture: which room may import which,
// and the few rules of form that keep the tree readable (docs/architecture.md).
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/keyraft/keyraft/"

// rooms says which rooms each may import. A room named with a trailing "/..."
// covers what lies below it; the longest name wins. Tests may import more.
var rooms = map[string][]string{
	"cmd/...":              {"*"},
	"cluster":              {"fsm", "fsm/state", "fsm/command", "storage", "internal/seal", "cluster/transport", "cluster/logstore", "cluster/gossip", "cluster/member", "cluster/ca", "cluster/peer"},
	"cluster/transport":    {"cluster/ca"},
	"cluster/logstore":     {"storage"},
	"cluster/gossip":       {"cluster/member"},
	"cluster/member":       {},
	"cluster/ca":           {},
	"cluster/peer":         {},
	"fsm":                  {"fsm/state", "fsm/command", "storage"},
	"fsm/command":          {"fsm/state"},
	"fsm/state":            {"storage"},
	"storage":              {},
	"tokens":               {"tokens/verify", "fsm/state", "fsm/command", "internal/oauth", "internal/seal"},
	"tokens/verify":        {"internal/oauth"},
	"clients":              {"tokens/verify", "fsm/state", "fsm/command", "internal/clientcert", "internal/oauth", "internal/seal", "internal/window"},
	"identity":             {"fsm/state", "fsm/command", "internal/oauth", "internal/seal"},
	"grants/pending":       {"tokens", "fsm/state", "fsm/command", "internal/oauth", "internal/seal", "internal/window"},
	"grants":               {"grants/pending", "clients", "identity", "tokens", "tokens/verify", "fsm/state", "fsm/command", "internal/oauth", "internal/seal"},
	"grants/logout":        {"tokens", "fsm/state"},
	"grants/authorize":     {"grants", "clients", "identity", "tokens", "tokens/verify", "fsm/state", "fsm/command", "internal/oauth", "internal/seal"},
	"httpapi":              {"internal/clientcert", "internal/oauth", "fsm/state"},
	"httpapi/...":          {"httpapi", "grants", "grants/authorize", "grants/pending", "clients", "identity", "keymanagers/match", "tokens", "tokens/verify", "fsm/state", "fsm/command", "gateway/wire", "cluster/member", "internal/oauth", "internal/seal"},
	"gateway":              {"internal/clientcert", "gateway/wire", "tokens/verify", "keymanagers/match", "cluster/gossip", "cluster/member"},
	"gateway/wire":         {},
	"gateway/forwardauth":  {"internal/clientcert", "gateway", "gateway/wire", "tokens/verify", "keymanagers/match"},
	"keymanagers/match":    {},
	"internal/clientcert":  {},
	"internal/oauth":       {},
	"internal/seal":        {},
	"internal/outbound":    {},
	"internal/window":      {},
	"internal/config":      {},
	"internal/arch":        {},
	"internal/testcluster": {"*"},
	"internal/testnode":    {"*"}, // links Pebble and fasthttp: no test of gateway may import it
	"internal/testproof":   {},
	"internal/testbrowser": {},
	"internal/testfactor":  {},
	"internal/e2e":         {"*"},
	"internal/e2e/proc":    {},
	"internal/bench":       {"*"},
	"internal/bench/peers": {"internal/e2e/proc"},
	// A module of its own; what it is made of is not ours.
	"internal/bench/peers/zitadel": {},
	"internal/bench/gobench":       {}, // for test files only
	"test":                         {}, // for test files only, as is the module below it
	"test/clients/gorp":            {},
	// A process of its own, held against ours: it shares how a secret is hashed, no more.
	"internal/bench/ceiling": {"internal/seal"},
}

// owners are the libraries that only the rooms named here may import.
var owners = map[string][]string{
	"github.com/hashicorp/raft":        {"cluster", "cluster/transport", "cluster/logstore", "internal/testcluster"},
	"github.com/hashicorp/raft-boltdb": {"cluster/logstore"},
	"go.etcd.io/bbolt":                 {"cluster/logstore"},
	"github.com/cockroachdb/pebble":    {"storage"},
	"github.com/cockroachdb/errors":    {"storage"},
	"github.com/hashicorp/memberlist":  {"cluster/gossip"},
	"github.com/valyala/fasthttp":      {"httpapi", "httpapi/oauthapi", "httpapi/adminapi", "httpapi/gatewayapi", "httpapi/opsapi", "httpapi/pages", "gateway/forwardauth", "internal/bench", "internal/bench/ceiling"},
	"github.com/spf13/cobra":           {"cmd/keyraft"},
	"github.com/HdrHistogram":          {"internal/bench"},
	"google.golang.org/grpc":           {"cluster", "cluster/transport", "cluster/peer"},
	"github.com/go-webauthn/webauthn":  {"identity"},
	"github.com/boombuler/barcode":     {"httpapi/pages"},
}

type file struct {
	path string // from the module's root, with slashes
	room string
	test bool
	made bool // generated
	ast  *ast.File
	text []byte
}

func TestArchitecture(t *testing.T) {
	files := parse(t)
	if len(files) < 100 {
		t.Fatalf("found only %d files: is the root right?", len(files))
	}
	commented := map[string]bool{}
	for _, f := range files {
		if f.ast.Doc != nil && !f.test {
			commented[f.room] = true
		}
		if f.made {
			continue
		}
		checkImports(t, f)
		if !f.test {
			checkForm(t, f)
			checkDeterminism(t, f)
		}
	}
	for _, f := range files {
		if !f.test && !commented[f.room] {
			t.Errorf("%s: package %s has no package comment", f.path, f.room)
			commented[f.room] = true
		}
	}
}

func parse(t *testing.T) (out []file) {
	t.Helper()
	root := filepath.Join("..", "..")
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || slices.Contains([]string{"testdata", "build", "bin", "node_modules", "tools"}, d.Name())) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(set, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		out = append(out, file{
			path: rel, room: strings.TrimSuffix(filepath.ToSlash(filepath.Dir(rel)), "/"), test: strings.HasSuffix(rel, "_test.go"),
			made: ast.IsGenerated(parsed), ast: parsed, text: text,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rule finds what a room may import.
func rule(room string) ([]string, bool) {
	if allowed, ok := rooms[room]; ok {
		return allowed, true
	}
	for parent := room; parent != "."; parent = filepath.ToSlash(filepath.Dir(parent)) {
		if allowed, ok := rooms[parent+"/..."]; ok {
			return allowed, true
		}
	}
	return nil, false
}

func checkImports(t *testing.T, f file) {
	t.Helper()
	allowed, ok := rule(f.room)
	if !ok {
		t.Errorf("%s: room %q is not in the plan of the house; add it to docs/architecture.md and here", f.path, f.room)
		return
	}
	for _, spec := range f.ast.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if room, ours := strings.CutPrefix(path, module); ours {
			if err := mayImport(f, room, allowed); err != nil {
				t.Error(err)
			}
			continue
		}
		for library, rooms := range owners {
			if (path == library || strings.HasPrefix(path, library+"/")) && !f.test && !slices.Contains(rooms, f.room) {
				t.Errorf("%s imports %s, which only %v may", f.path, path, rooms)
			}
		}
	}
}

func mayImport(f file, room string, allowed []string) error {
	if room == f.room || slices.Contains(allowed, "*") || slices.Contains(allowed, room) {
		return nil
	}
	if !f.test {
		return fmt.Errorf("%s: %s must not import %s", f.path, f.room, room)
	}
	// Tests may go wider, but the SDK's users must be able to tidy: no cluster there.
	if strings.HasPrefix(f.room, "gateway") && (room == "cluster" || room == "internal/testcluster" || room == "internal/testnode" || room == "cluster/logstore") {
		return fmt.Errorf("%s: a test of the gateway SDK must not import %s; put it into internal/testcluster", f.path, room)
	}
	return nil
}

// checkForm: no init, no file that holds more than one idea.
func checkForm(t *testing.T, f file) {
	t.Helper()
	if lines := strings.Count(string(f.text), "\n"); lines > 600 {
		t.Errorf("%s has %d lines; at most 600", f.path, lines)
	}
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil {
			t.Errorf("%s has an init function", f.path)
		}
	}
}

// forbidden in what Apply runs: the clock, randomness, the network, goroutines
// of other libraries. The memory views (fsm/state) have no map type either.
var forbidden = []string{"time", "math/rand", "math/rand/v2", "crypto/rand", "net", "net/http", "os/exec"}

func checkDeterminism(t *testing.T, f file) {
	t.Helper()
	if !strings.HasPrefix(f.room, "fsm") {
		return
	}
	for _, spec := range f.ast.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		if slices.Contains(forbidden, path) && !durationOnly(f) {
			t.Errorf("%s imports %s: Apply knows no clock, no randomness and no network", f.path, path)
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.MapType:
			t.Errorf("%s has a map type: its order would be another on each node", f.path)
		case *ast.Ident:
			if n.Name == "float64" || n.Name == "float32" {
				t.Errorf("%s has a float", f.path)
			}
		case *ast.GoStmt:
			t.Errorf("%s starts a goroutine", f.path)
		}
		return true
	})
}

// durationOnly lets a file name durations: constants, never a clock.
func durationOnly(f file) bool {
	only := true
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
				switch s.Sel.Name {
				case "Duration", "Millisecond", "Second", "Minute", "Hour":
				default:
					only = false
				}
			}
		}
		return true
	})
	return only
}

// TestGatewayLinksLittle: whoever embeds the SDK gets neither the storage engine
// nor the consensus library nor the server.
func TestGatewayLinksLittle(t *testing.T) {
	for _, pkg := range []string{"gateway", "gateway/wire", "tokens/verify", "keymanagers/match"} {
		out, err := exec.Command("go", "list", "-deps", module+pkg).Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", pkg, err)
		}
		for _, dep := range strings.Fields(string(out)) {
			for _, heavy := range []string{"github.com/cockroachdb/pebble", "github.com/hashicorp/raft", "go.etcd.io/bbolt", "github.com/valyala/fasthttp"} {
				if strings.HasPrefix(dep, heavy) {
					t.Errorf("%s links %s", pkg, dep)
				}
			}
		}
	}
}
