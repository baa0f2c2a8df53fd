package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds the file: a configuration is a few kilobytes.
const maxFile = 1 << 20

// found is one value of the file.
type found struct {
	value reflect.Value
	where string
}

// file reads one YAML document against a schema.
type file struct {
	name   string
	schema schema
	byKey  map[string]setting
	lines  map[string]int // line of each key that was seen, for duplicates
	values map[string]found
	errs   Errors
}

// parseYAML reads the text of a configuration file. Every key is checked, known
// or not, so that one run shows all mistakes.
func parseYAML(name string, text []byte, s schema) (map[string]found, Errors) {
	f := &file{name: name, schema: s, byKey: map[string]setting{}, lines: map[string]int{}, values: map[string]found{}}
	for _, st := range s.settings {
		f.byKey[st.Key] = st
	}
	if len(text) > maxFile {
		return nil, Errors{{Where: name, Problem: "is larger than 1 MiB", Fix: "name a configuration file"}}
	}
	if onlyComments(text) {
		return f.values, nil
	}
	var document yaml.Node
	if err := yaml.Load(text, &document); err != nil {
		return nil, Errors{syntaxError(name, err)}
	}
	root := &document
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	switch {
	case root.Kind == 0 || root.Kind == yaml.DocumentNode, root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null":
		return f.values, nil // "---" and nothing else
	case root.Kind != yaml.MappingNode:
		f.fail(root, "", "is not a list of settings", "write 'key: value' lines; 'keyraft config example' shows them")
		return nil, f.errs
	}
	f.mapping(root, "")
	return f.values, f.errs
}

// onlyComments reports whether a file sets nothing: the library takes it for an
// error that there is no document.
func onlyComments(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// syntaxError names the line, in the library's words for what is wrong there.
func syntaxError(name string, err error) *Error {
	e := &Error{Where: name, Problem: "is not valid YAML", Fix: "compare it with 'keyraft config example'"}
	var load *yaml.LoadError
	if errors.As(err, &load) {
		if load.Mark.Line > 0 {
			e.Where = fmt.Sprintf("%s:%d", name, load.Mark.Line)
		}
		if load.Message != "" && !strings.Contains(load.Message, "'") { // quotes hold parts of the file
			e.Problem += ": " + oneLine(load.Message)
		}
	}
	return e
}

func (f *file) where(n *yaml.Node) string { return fmt.Sprintf("%s:%d", f.name, n.Line) }

func (f *file) fail(n *yaml.Node, key, problem, fix string) {
	f.errs = append(f.errs, &Error{Where: f.where(n), Key: key, Problem: problem, Fix: fix})
}

// mapping reads the pairs of one level; prefix is "" or "raft.".
func (f *file) mapping(n *yaml.Node, prefix string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Style&yaml.TaggedStyle != 0 || name.ShortTag() == "!!merge" {
			f.fail(name, strings.TrimSuffix(prefix, "."), "has a key that is not plain text", "write 'key: value' lines without tags, anchors and merges")
			continue
		}
		key := prefix + name.Value
		if line, again := f.lines[key]; again {
			f.fail(name, show(key), fmt.Sprintf("is set twice, first in line %d", line), "keep one of the two")
			continue
		}
		f.lines[key] = name.Line
		if st, ok := f.byKey[key]; ok {
			f.setting(st, value)
			continue
		}
		if _, ok := f.schema.sections[key]; ok {
			f.section(key, value)
			continue
		}
		f.unknown(name, key)
	}
}

func (f *file) section(key string, value *yaml.Node) {
	switch {
	case value.Kind == yaml.MappingNode:
		f.mapping(value, key+".")
	case value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null":
		// a section whose settings are all commented out
	default:
		f.fail(value, key, "is a section, not a value", "write its settings on indented lines below it")
	}
}

// setting reads the value of a known key.
func (f *file) setting(st setting, n *yaml.Node) {
	var v reflect.Value
	switch {
	case n.Kind == yaml.SequenceNode && st.Type == "list":
		items := make([]string, 0, len(n.Content))
		for _, item := range n.Content {
			text, ok := f.scalar(st.Key, item)
			if !ok {
				return
			}
			items = append(items, text)
		}
		v = reflect.ValueOf(items)
	case n.Kind == yaml.SequenceNode || n.Kind == yaml.MappingNode:
		f.fail(n, st.Key, "takes one "+st.Type+", not several", "write 'key: value' on one line")
		return
	default:
		text, ok := f.scalar(st.Key, n)
		if !ok {
			return
		}
		var err error
		if v, err = st.parse(text); err != nil {
			problem, fix := quoteProblem(st, text, err)
			f.fail(n, st.Key, problem, fix)
			return
		}
	}
	f.values[st.Key] = found{value: v, where: f.where(n)}
}

// scalar returns the text of a plain value.
func (f *file) scalar(key string, n *yaml.Node) (string, bool) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		f.fail(n, key, "uses an anchor or alias", "write the value out")
	case n.Kind != yaml.ScalarNode:
		f.fail(n, key, "has a value inside a value", "write plain text")
	case n.Style&yaml.TaggedStyle != 0:
		f.fail(n, key, "has a YAML tag", "write plain text, without '!'")
	case n.ShortTag() == "!!null":
		f.fail(n, key, "has no value", `give one, write "" for the empty text, or delete the line`)
	default:
		return n.Value, true
	}
	return "", false
}

// unknown reports a key that is no setting, with the nearest that is one.
func (f *file) unknown(n *yaml.Node, key string) {
	known := slices.Sorted(maps.Keys(f.byKey))
	known = append(known, slices.Sorted(maps.Keys(f.schema.sections))...)
	best := nearest(key, known)
	if best == "" { // right name, wrong section
		leaf := key[strings.LastIndexByte(key, '.')+1:]
		for _, k := range known {
			if strings.HasSuffix(k, "."+leaf) || k == leaf {
				best = k
				break
			}
		}
	}
	fix := "'keyraft config example' lists the settings"
	if best != "" {
		fix = "did you mean " + best + "?"
	}
	f.fail(n, show(key), "is not a setting", fix)
}

// quoteProblem makes `"abc" is not a size` and its fix of a parse error; the
// value of a secret is left out.
func quoteProblem(st setting, text string, err error) (problem, fix string) {
	problem, fix, _ = strings.Cut(err.Error(), "; ")
	if st.Type == "secret" {
		return problem, fix
	}
	return fmt.Sprintf("%q %s", show(text), problem), fix
}

// show cuts foreign text to what fits in one line.
func show(text string) string {
	const most = 80
	text = oneLine(text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// oneLine replaces line breaks and other control characters.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
