package arch

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/keyraft/keyraft/cluster/peer"
	_ "github.com/keyraft/keyraft/fsm/command"
	_ "github.com/keyraft/keyraft/fsm/state"
)

// updateSchema appends fields and methods that are new; it never removes a line.
var updateSchema = flag.Bool("update", false, "append new protobuf fields to testdata/schema_v1.txt")

// TestProtobufSchema guards the bytes that released nodes have written and say to
// each other: every field of the records, the commands and the node protocol that
// was ever released is there with its number, type and label. A log replays for
// ever, and members of two versions run side by side (I8), so a line is added to
// testdata/schema_v1.txt, by -update, and never edited.
func TestProtobufSchema(t *testing.T) {
	path := filepath.Join("testdata", "schema_v1.txt")
	raw, err := os.ReadFile(path)
	if err != nil && !(*updateSchema && os.IsNotExist(err)) {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	now := schema(t)
	if len(now) < 150 {
		t.Fatalf("found only %d lines of schema: are all files looked at?", len(now))
	}
	for _, line := range kept {
		if !slices.Contains(now, line) {
			t.Errorf("%q is gone or was changed: nodes and logs of released versions still have it; add a field or a message instead", line)
		}
	}
	var fresh []string
	for _, line := range now {
		if !slices.Contains(kept, line) {
			fresh = append(fresh, line)
		}
	}
	if len(fresh) == 0 {
		return
	}
	if !*updateSchema {
		t.Errorf("%d lines of schema are new, the first is %q: give the field its feature level, then run this test with -update", len(fresh), fresh[0])
		return
	}
	if len(raw) == 0 {
		raw = []byte("# Every released protobuf field: message.field = number type label. Lines are only added.\n")
	}
	raw = append(raw, strings.Join(fresh, "\n")+"\n"...)
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestProtobufNumbersAreUnique refuses a number that was given to two names over
// time: the second one would read the bytes of the first.
func TestProtobufNumbersAreUnique(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "schema_v1.txt"))
	if err != nil {
		t.Fatal(err)
	}
	owner := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		number, _, _ := strings.Cut(rest, " ")
		key := name[:strings.LastIndexByte(name, '.')] + " " + number
		if other, taken := owner[key]; taken && other != name {
			t.Errorf("%s and %s share number %s", other, name, number)
		}
		owner[key] = name
	}
}

// TestRecordsAndCommandsAreDeterministic: a map has no order and a float no exact
// sum, so equal states could have unequal bytes (I4).
func TestRecordsAndCommandsAreDeterministic(t *testing.T) {
	for _, file := range protoFiles(t) {
		if file.Package() == "keyraft.peer.v1" {
			continue // what nodes say to each other is no state
		}
		eachField(file.Messages(), func(f protoreflect.FieldDescriptor) {
			if f.IsMap() || f.Kind() == protoreflect.FloatKind || f.Kind() == protoreflect.DoubleKind {
				t.Errorf("%s is a map or a float; use a repeated message in one order, or a whole number", f.FullName())
			}
		})
	}
}

// byHand is the one file that no code is generated of (docs/adr/0006).
const byHand = "gateway/wire/delta.proto"

// protoFiles are all .proto files of the tree but byHand, in the order of their paths;
// each must be linked into this test, or its fields would be guarded by nobody.
func protoFiles(t *testing.T) (out []protoreflect.FileDescriptor) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "build" || strings.HasPrefix(d.Name(), ".") && path != root) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(d.Name(), ".proto") {
			return nil
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if name = filepath.ToSlash(name); name == byHand {
			return nil
		}
		file, err := protoregistry.GlobalFiles.FindFileByPath(name)
		if err != nil {
			return fmt.Errorf("%s: import its package in this test: %w", name, err)
		}
		out = append(out, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// schema lists every field and every method, one a line.
func schema(t *testing.T) (out []string) {
	for _, file := range protoFiles(t) {
		eachField(file.Messages(), func(f protoreflect.FieldDescriptor) {
			kind := f.Kind().String()
			if f.Message() != nil {
				kind = string(f.Message().FullName())
			}
			label := f.Cardinality().String()
			if oneof := f.ContainingOneof(); oneof != nil {
				label += " oneof:" + string(oneof.Name())
			}
			out = append(out, fmt.Sprintf("%s = %d %s %s", f.FullName(), f.Number(), kind, label))
		})
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				out = append(out, fmt.Sprintf("rpc %s(%s stream=%t) %s stream=%t", m.FullName(),
					m.Input().FullName(), m.IsStreamingClient(), m.Output().FullName(), m.IsStreamingServer()))
			}
		}
	}
	return append(out, handSchema(t)...)
}

var (
	handMessage = regexp.MustCompile(`^message (\w+) \{$`)
	handField   = regexp.MustCompile(`^(repeated )?(\w+) (\w+) = (\d+);`)
)

// handSchema reads the lines of byHand, which has nothing but messages of plain fields.
func handSchema(t *testing.T) (out []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(byHand)))
	if err != nil {
		t.Fatal(err)
	}
	const pkg = "keyraft.gateway.v1."
	message, read := "", 0
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if m := handMessage.FindStringSubmatch(line); m != nil {
			message = m[1]
		} else if f := handField.FindStringSubmatch(line); f != nil && message != "" {
			kind, label := f[2], "optional"
			if kind[0] >= 'A' && kind[0] <= 'Z' {
				kind = pkg + kind
			}
			if f[1] != "" {
				label = "repeated"
			}
			out, read = append(out, fmt.Sprintf("%s%s.%s = %s %s %s", pkg, message, f[3], f[4], kind, label)), read+1
		}
	}
	if text, _, _ := strings.Cut(string(raw), "\nmessage "); read != strings.Count(string(raw), " = ")-strings.Count(text, " = ") {
		t.Fatalf("%s: read %d fields, and there are others: teach this test their form", byHand, read)
	}
	return out
}

func eachField(messages protoreflect.MessageDescriptors, fn func(protoreflect.FieldDescriptor)) {
	for i := range messages.Len() {
		m := messages.Get(i)
		for j := range m.Fields().Len() {
			fn(m.Fields().Get(j))
		}
		eachField(m.Messages(), fn)
	}
}
