package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// runbook is what the tests read of a page.
type runbook struct {
	text     string
	headings []string
	commands []string // lines of shell blocks that begin with keyraft
	queries  []string // lines of promql blocks
	links    []string
}

var (
	inlineCommand = regexp.MustCompile("`(keyraft [^`]+)`")
	markdownLink  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// runbooks are the pages by name.
func runbooks(t *testing.T) map[string]runbook {
	t.Helper()
	files, err := filepath.Glob(docs("runbooks", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no runbooks: %v", err)
	}
	out := map[string]runbook{}
	for _, file := range files {
		name, is := strings.CutSuffix(filepath.Base(file), ".md")
		if !is {
			t.Errorf("%s is no page", file)
			continue
		}
		out[name] = parseRunbook(read(t, file))
	}
	return out
}

func parseRunbook(text string) runbook {
	r := runbook{text: text}
	block := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			block, _ = strings.CutPrefix(line, "```")
		case block == "promql":
			r.queries = append(r.queries, line)
		case block == "sh":
			if strings.HasPrefix(line, "keyraft ") {
				r.commands = append(r.commands, line)
			}
		case strings.HasPrefix(line, "#"):
			r.headings = append(r.headings, line)
		default:
			for _, m := range inlineCommand.FindAllStringSubmatch(line, -1) {
				r.commands = append(r.commands, m[1])
			}
			for _, m := range markdownLink.FindAllStringSubmatch(line, -1) {
				r.links = append(r.links, m[1])
			}
		}
	}
	return r
}

// TestRunbooksAreComplete: who is woken finds the same six answers on each page,
// short enough to be read then, and links that lead somewhere.
func TestRunbooksAreComplete(t *testing.T) {
	t.Parallel()
	for name, page := range runbooks(t) {
		want := []string{"# " + name, "## What it means", "## Who is hurt", "## Look first", "## Usual causes", "## What to do", "## It is over when"}
		if !slices.Equal(page.headings, want) {
			t.Errorf("%s has the headings %q, want %q", name, page.headings, want)
		}
		for i, part := range regexp.MustCompile(`(?m)^#+ .*$`).Split(page.text, -1) {
			if i > 1 && len(strings.TrimSpace(part)) < 10 {
				t.Errorf("%s: nothing stands below %q", name, want[i-1])
			}
		}
		if lines := strings.Count(page.text, "\n"); lines < 20 || lines > 40 {
			t.Errorf("%s has %d lines, want 20 to 40", name, lines)
		}
		if len(page.queries)+len(page.commands) == 0 {
			t.Errorf("%s names nothing to look at", name)
		}
		for _, link := range page.links {
			file, anchor, _ := strings.Cut(link, "#")
			text, err := os.ReadFile(docs("runbooks", file))
			if err != nil {
				t.Errorf("%s links to %s: %v", name, link, err)
			} else if anchor != "" && !slices.Contains(anchors(string(text)), anchor) {
				t.Errorf("%s links to %s, and there is no such heading", name, link)
			}
		}
	}
}

// anchors are the names that GitHub gives to the headings of a page.
func anchors(text string) (all []string) {
	for line := range strings.Lines(text) {
		if heading := strings.TrimLeft(line, "#"); heading != line {
			name := strings.ToLower(strings.TrimSpace(heading))
			all = append(all, strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(name, ""), " ", "-"))
		}
	}
	return all
}

// TestRunbookCommandsExist: each command of a page is one of the program, with
// flags that it knows.
func TestRunbookCommandsExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen := map[string]bool{}
	for name, page := range runbooks(t) {
		for _, command := range page.commands {
			command, _, _ = strings.Cut(command, " #")
			if seen[command] {
				continue
			}
			seen[command] = true
			args := strings.Fields(command)[1:]
			got := w.cli(nil, "", append(args, "--help")...)
			if got.code != 0 {
				t.Errorf("%s: %q: exit code %d: %s", name, command, got.code, got.err)
				continue
			}
			path, group := usage(got.out)
			if !slices.Equal(args[:min(len(path), len(args))], path) {
				t.Errorf("%s: %q is none of the commands; the nearest is %q", name, command, path)
			} else if rest := args[len(path):]; group && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
				t.Errorf("%s: %q: there is no command %q", name, command, rest[0])
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d commands in all pages: are they found?", len(seen))
	}
}

// usage reads the words of a command from its help, and whether it has commands
// below it.
func usage(help string) (path []string, group bool) {
	_, rest, _ := strings.Cut(help, "Usage:\n  keyraft ")
	line, _, _ := strings.Cut(rest, "\n")
	for _, word := range strings.Fields(line) {
		if strings.HasPrefix(word, "[") || strings.ToLower(word) != word {
			break
		}
		path = append(path, word)
	}
	return path, strings.Contains(help, "Available Commands:")
}
