package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestClientsPage runs every command of docs/clients.md, in order, as a reader would
// paste them into one shell: with nothing but the address changed, and the first that
// fails ends it.
func TestClientsPage(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bash", "curl", "jq", "openssl"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("KEYRAFT_REQUIRE") == "all" {
				t.Fatalf("%v, and KEYRAFT_REQUIRE=all: apt-get install %s", err, name)
			}
			t.Skipf("%v: apt-get install %s", err, name)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	w, n := single(t)
	const address = "http://127.0.0.1:9763"
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		script.WriteString(strings.ReplaceAll(block[1], address, n.Base))
	}
	if !strings.Contains(script.String(), "STS="+n.Base) || strings.Count(script.String(), "keyraft ") < 10 {
		t.Fatalf("the page has other commands than this test knows:\n%s", script.String())
	}
	bin := t.TempDir()
	if err := os.Symlink(w.bin, filepath.Join(bin, "keyraft")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(w.bound(), "bash", "-euo", "pipefail", "-c", "trap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n"+script.String())
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "KEYRAFT_ADDR="+n.Base, "KEYRAFT_TOKEN="+w.admin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, word := range []string{`"scope": "openid orders"`, `"Shop"`, "true"} {
		if !strings.Contains(string(out), word) {
			t.Errorf("%q is missing in what it printed:\n%s", word, out)
		}
	}
}
