package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Field describes one setting to those who make flags and pages of it.
type Field struct {
	Key     string // YAML path, "raft.heartbeat_timeout"
	Env     string // "KEYRAFT_RAFT_HEARTBEAT_TIMEOUT"
	Flag    string // "raft-heartbeat-timeout", without the dashes
	Type    string // "string", "secret", "bool", "number", "duration", "size" or "list"
	Default string // as it is written in YAML; empty when there is none
	Help    string // one or more sentences
	OneOf   []string
	Min     string
	Max     string
}

// Section reports the part of the key before the last dot.
func (f Field) Section() string {
	if i := strings.LastIndexByte(f.Key, '.'); i >= 0 {
		return f.Key[:i]
	}
	return ""
}

// ServerFields lists the settings of `keyraft server` in the order of the
// reference page.
func ServerFields() []Field { return fieldsOf(serverSchema()) }

// GatewayFields lists the settings of `keyraft gateway`.
func GatewayFields() []Field { return fieldsOf(gatewaySchema()) }

func fieldsOf(s schema) []Field {
	fields := make([]Field, len(s.settings))
	for i, st := range s.settings {
		fields[i] = st.Field
	}
	return fields
}

// setting is a Field and its place in the struct.
type setting struct {
	Field
	index []int
}

// schema is what the tags of one configuration struct say.
type schema struct {
	settings []setting
	sections map[string]string // key of a section to its help
}

func serverSchema() schema  { return newSchema(reflect.TypeFor[Config](), "KEYRAFT_") }
func gatewaySchema() schema { return newSchema(reflect.TypeFor[Gateway](), "KEYRAFT_GATEWAY_") }

func newSchema(t reflect.Type, envPrefix string) schema {
	s := schema{sections: map[string]string{}}
	s.walk(t, "", nil, envPrefix)
	return s
}

// walk lists the settings of one level first and then its sections, so that a
// file or a page made from the list never returns to a level.
func (s *schema) walk(t reflect.Type, prefix string, index []int, envPrefix string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type.Kind() == reflect.Struct {
			continue
		}
		key := prefix + f.Tag.Get("key")
		flat := strings.ReplaceAll(key, ".", "_")
		s.settings = append(s.settings, setting{index: append(slices.Clone(index), i), Field: Field{
			Key:     key,
			Env:     envPrefix + strings.ToUpper(flat),
			Flag:    strings.ReplaceAll(flat, "_", "-"),
			Type:    typeName(f.Type),
			Default: f.Tag.Get("default"),
			Help:    f.Tag.Get("help"),
			OneOf:   strings.Fields(f.Tag.Get("oneof")),
			Min:     f.Tag.Get("min"),
			Max:     f.Tag.Get("max"),
		}})
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Type.Kind() == reflect.Struct {
			key := prefix + f.Tag.Get("key")
			s.sections[key] = f.Tag.Get("help")
			s.walk(f.Type, key+".", append(slices.Clone(index), i), envPrefix)
		}
	}
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[string]():
		return "string"
	case reflect.TypeFor[Secret]():
		return "secret"
	case reflect.TypeFor[bool]():
		return "bool"
	case reflect.TypeFor[int]():
		return "number"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[Bytes]():
		return "size"
	case reflect.TypeFor[[]string]():
		return "list"
	}
	panic("config: a setting of type " + t.String() + " needs a parser in setting.parse")
}

// parse reads one scalar. Its error goes on where the quoted value stops:
// `is not a size; write …`.
func (st setting) parse(text string) (reflect.Value, error) {
	var value any
	var err error
	switch st.Type {
	case "string":
		value, err = text, oneOf(text, st.OneOf)
	case "secret":
		value = Secret(text)
	case "bool":
		if value, err = strconv.ParseBool(text); err != nil {
			err = errors.New("is not a truth value; write true or false")
		}
	case "number":
		if value, err = strconv.Atoi(text); err != nil {
			err = errors.New("is not a whole number; write digits only")
		}
	case "duration":
		value, err = ParseDuration(text)
	case "size":
		value, err = ParseBytes(text)
	case "list":
		value, err = splitList(text)
	}
	if err != nil {
		return reflect.Value{}, err
	}
	v := reflect.ValueOf(value)
	if st.Min != "" || st.Max != "" {
		low, high := st.bound(st.Min), st.bound(st.Max)
		if n := v.Int(); n < low || n > high {
			return reflect.Value{}, fmt.Errorf("is out of range; use %s to %s", st.Min, st.Max)
		}
	}
	return v, nil
}

// bound reads a min or max tag, which the schema test has parsed once before.
func (st setting) bound(text string) int64 {
	plain := setting{Field: Field{Type: st.Type}}
	v, err := plain.parse(text)
	if err != nil {
		panic(fmt.Sprintf("config: bound %q of %s %v", text, st.Key, err))
	}
	return v.Int()
}

func oneOf(text string, allowed []string) error {
	if len(allowed) == 0 || slices.Contains(allowed, text) {
		return nil
	}
	return errors.New("is not known; use " + orList(allowed))
}

// orList writes "a, b or c".
func orList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// format writes a value as it would stand in a variable; a secret is hidden.
func format(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return formatDuration(value)
	case []string:
		return strings.Join(value, ",")
	default:
		return fmt.Sprint(value)
	}
}
