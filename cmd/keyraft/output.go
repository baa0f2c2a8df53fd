package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// addOutput gives a command, and those below it, the flag --output.
func addOutput(cmd *cobra.Command) {
	cmd.PersistentFlags().StringP("output", "o", "table", "form of the result: table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
}

// printer writes results in the form that --output asks for.
type printer struct {
	w    io.Writer
	json bool
}

func newPrinter(cmd *cobra.Command, w io.Writer) (printer, error) {
	form, err := cmd.Flags().GetString("output")
	if err != nil {
		return printer{}, fmt.Errorf("read --output: %w", err)
	}
	if form != "table" && form != "json" {
		return printer{}, usagef("--output %q is not known; use table or json", form)
	}
	return printer{w: w, json: form == "json"}, nil
}

// raw prints JSON as it came, indented.
func (p printer) raw(answer json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, answer, "", "  "); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	b.WriteByte('\n')
	return p.write(b.String())
}

// value prints v as indented JSON.
func (p printer) value(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	return p.raw(text)
}

func (p printer) write(text string) error {
	if _, err := io.WriteString(p.w, text); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// object prints one JSON object: as it came, or as one line a member in the
// server's order.
func (p printer) object(answer json.RawMessage) error {
	if p.json {
		return p.raw(answer)
	}
	members, err := membersOf(answer)
	if err != nil {
		return err
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, m := range members {
		show := cell
		if (strings.HasSuffix(m.name, "_at") || m.name == "signs_from") && !strings.HasPrefix(string(m.value), `"`) {
			show = seconds // an instant, for people
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\n", oneLine(m.name), show(m.value)) // into memory
	}
	_ = t.Flush()
	return p.write(b.String())
}

// column is one column of a table.
type column struct {
	title  string
	member string                       // of the JSON object
	show   func(json.RawMessage) string // nil: cell
}

// table prints a list: as it came, or one row an item.
func (p printer) table(items []json.RawMessage, columns []column, none string) error {
	if p.json {
		if items == nil {
			items = []json.RawMessage{}
		}
		return p.value(map[string]any{"items": items})
	}
	if len(items) == 0 {
		return p.write(none + "\n")
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i, c := range columns {
		writeCell(t, c.title, i == len(columns)-1)
	}
	for _, item := range items {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(item, &members); err != nil {
			return fmt.Errorf("the answer holds an item that is no object: %w", err)
		}
		for i, c := range columns {
			show := c.show
			if show == nil {
				show = cell
			}
			writeCell(t, show(members[c.member]), i == len(columns)-1)
		}
	}
	_ = t.Flush()
	return p.write(b.String())
}

func writeCell(t *tabwriter.Writer, text string, last bool) {
	end := "\t"
	if last {
		end = "\n"
	}
	_, _ = io.WriteString(t, text+end) // into memory
}

type member struct {
	name  string
	value json.RawMessage
}

// membersOf reads an object's members in the order in which they stand.
func membersOf(object json.RawMessage) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("the answer is not a JSON object; see it with --output json")
	}
	var out []member
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("the answer is not JSON: %w", err)
		}
		var m member
		m.name, _ = name.(string) // the decoder lets nothing else through
		if err := d.Decode(&m.value); err != nil {
			return nil, fmt.Errorf("the answer is not JSON: %w", err)
		}
		out = append(out, m)
	}
	return out, nil
}

// cell is a JSON value as it stands in a table. Control characters are replaced:
// names come from other people, and the table goes to a terminal.
func cell(value json.RawMessage) string {
	var v any
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if err := d.Decode(&v); err != nil || v == nil {
		return "-"
	}
	switch x := v.(type) {
	case string:
		if x == "" {
			return "-"
		}
		return oneLine(x)
	case []any:
		if len(x) == 0 {
			return "-"
		}
		words := make([]string, len(x))
		for i, item := range x {
			one, _ := json.Marshal(item) // was decoded from JSON
			words[i] = cell(one)
		}
		return strings.Join(words, " ")
	case map[string]any:
		return oneLine(string(value))
	default:
		return fmt.Sprint(x)
	}
}

// milliseconds shows a number of milliseconds as a duration.
func milliseconds(value json.RawMessage) string {
	var ms float64
	if err := json.Unmarshal(value, &ms); err != nil || ms < 0 || string(value) == "null" || ms > 1e14 {
		return "-"
	}
	d := time.Duration(ms * float64(time.Millisecond))
	if d >= time.Second {
		d = d.Round(100 * time.Millisecond)
	}
	return d.String()
}

// oneLine replaces line breaks and other control characters.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || (r >= 0x7f && r < 0xa0) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// writeSecretFile writes a secret on one line, readable for this user alone,
// whole or not at all.
func writeSecretFile(path, secret string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".keyraft-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, err = f.WriteString(secret + "\n")
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
