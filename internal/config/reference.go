package config

import (
	"fmt"
	"strings"
)

// Example is a commented YAML file with every setting of a node: those that a
// cluster's first node needs are set, all others stand as comments with their
// defaults.
func Example() string {
	return example(serverSchema(), "# Configuration of a Keyraft node: keyraft server --config THIS_FILE\n", map[string]string{
		"data_dir":  "/var/lib/keyraft",
		"node_id":   "node1",
		"issuer":    "https://login.example.com",
		"bootstrap": "true",
	})
}

// GatewayExample is the same for the reference gateway.
func GatewayExample() string {
	return example(gatewaySchema(), "# Configuration of the reference gateway: keyraft gateway --config THIS_FILE\n", map[string]string{
		"nodes":           `["https://node1.example.com:9443", "https://node2.example.com:9443"]`,
		"credential_file": "/etc/keyraft/gateway.credential",
		"cache_file":      "/var/lib/keyraft-gateway/revocations",
	})
}

func example(s schema, head string, set map[string]string) string {
	var b strings.Builder
	b.WriteString(head)
	b.WriteString("# Precedence: flag, environment variable, this file, default.\n")
	section := ""
	for _, st := range s.settings {
		if st.Section() != section {
			section = st.Section()
			fmt.Fprintf(&b, "\n# %s\n%s:\n", s.sections[section], section)
		} else if section == "" {
			b.WriteByte('\n')
		}
		indent := ""
		if section != "" {
			indent = "  "
		}
		name := st.Key[strings.LastIndexByte(st.Key, '.')+1:]
		fmt.Fprintf(&b, "%s# %s\n", indent, st.Help+st.limits())
		if value, ok := set[st.Key]; ok {
			fmt.Fprintf(&b, "%s%s: %s\n", indent, name, value)
			continue
		}
		fmt.Fprintf(&b, "%s# %s: %s\n", indent, name, st.yamlDefault())
	}
	return b.String()
}

// yamlDefault is the default as a YAML value.
func (f Field) yamlDefault() string {
	switch {
	case f.Type == "list":
		return "[]"
	case f.Type == "bool" && f.Default == "":
		return "false"
	case f.Default == "":
		return `""`
	}
	return f.Default
}

// limits says in words what a value may be.
func (f Field) limits() string {
	switch {
	case len(f.OneOf) > 0:
		return " One of " + orList(f.OneOf) + "."
	case f.Min != "":
		return " From " + f.Min + " to " + f.Max + "."
	}
	return ""
}

// Reference is the page docs/configuration.md, in Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration

This page is made from the code: ` + "`keyraft config reference`" + ` prints it.

A setting is looked for in four places, and the first that has it wins: the flag, the environment variable, the YAML file (` + "`--config`" + ` or ` + "`KEYRAFT_CONFIG`" + `; for a gateway ` + "`KEYRAFT_GATEWAY_CONFIG`" + `), the default. ` + "`keyraft config show --origin`" + ` says which one won, ` + "`keyraft config check`" + ` reports every mistake with file, line, key and what to write instead, ` + "`keyraft config example`" + ` prints a file to start from.

- A *duration* is written ` + "`10m`, `1h30m`" + ` or as a number of seconds.
- A *size* is written ` + "`64KiB`, `16MiB`" + ` or as a number of bytes.
- A *list* is a YAML sequence; in a variable or a flag its items are separated by commas.
- A *secret* is never shown by ` + "`config show`" + `.
- An empty variable counts as unset. Unknown and repeated keys in the file are errors.

`)
	table(&b, "Node (`keyraft server`)", serverSchema())
	table(&b, "Gateway (`keyraft gateway`)", gatewaySchema())
	return b.String()
}

func table(b *strings.Builder, title string, s schema) {
	fmt.Fprintf(b, "## %s\n", title)
	section := "(none yet)"
	for _, st := range s.settings {
		if st.Section() != section {
			section = st.Section()
			if section != "" {
				fmt.Fprintf(b, "\n### `%s`\n\n%s\n", section, s.sections[section])
			}
			b.WriteString("\n| key | flag, variable | type | default | what it is |\n|---|---|---|---|---|\n")
		}
		value := "–"
		if st.Default != "" {
			value = "`" + st.Default + "`"
		}
		fmt.Fprintf(b, "| `%s` | `--%s`<br>`%s` | %s | %s | %s |\n", st.Key, st.Flag, st.Env, st.Type, value,
			strings.ReplaceAll(st.Help+st.limits(), "|", `\|`))
	}
	b.WriteByte('\n')
}
