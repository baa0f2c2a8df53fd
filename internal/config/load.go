package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// Origin says which source a value came from.
type Origin string

// The sources, the strongest first.
const (
	FromFlag    Origin = "flag"
	FromEnv     Origin = "env"
	FromFile    Origin = "file"
	FromDefault Origin = "default"
)

// Sources is where settings are looked for. The zero value gives the defaults.
type Sources struct {
	File  string                           // path of the YAML file; "" for none
	Env   func(name string) (string, bool) // os.LookupEnv; nil for none. An empty variable counts as unset
	Flags map[string]string                // by Field.Flag, only those that were given; lists joined by commas
}

// Setting is one setting as it was decided, for `config show`.
type Setting struct {
	Field
	Value  string // as in a variable; a secret is hidden
	Origin Origin
	Where  string // "keyraft.yaml:12", "environment KEYRAFT_ISSUER", "flag --issuer" or "default"
}

// Settings are all settings of one load, in the order of the reference page.
type Settings []Setting

// Locate adds to err, if it is an *Error without a place, where its key was set.
func (s Settings) Locate(err error) error {
	var one *Error
	if !errors.As(err, &one) || one.Where != "" {
		return err
	}
	for _, key := range append([]string{one.Key}, one.beside...) {
		if i := slices.IndexFunc(s, func(st Setting) bool { return st.Key == key && st.Origin != FromDefault }); i >= 0 {
			located := *one
			located.Where = s[i].Where
			return &located
		}
	}
	return err
}

// Given reports whether anybody set key, so that it is not its default.
func (s Settings) Given(key string) bool {
	return slices.ContainsFunc(s, func(st Setting) bool { return st.Key == key && st.Origin != FromDefault })
}

// Load reads the configuration of a node and checks it. The error is an Errors.
// Settings are returned as far as they were read, even with an error.
func Load(s Sources) (Config, Settings, error) {
	var c Config
	settings, errs := load(reflect.ValueOf(&c).Elem(), serverSchema(), s)
	c.fill(settings)
	return c, settings, check(errs, settings, c.Validate)
}

// LoadGateway reads the configuration of the reference gateway, as Load does.
func LoadGateway(s Sources) (Gateway, Settings, error) {
	var g Gateway
	settings, errs := load(reflect.ValueOf(&g).Elem(), gatewaySchema(), s)
	return g, settings, check(errs, settings, g.Validate)
}

// check adds what validate finds to the mistakes of reading. A setting that
// could not be read is not judged a second time.
func check(errs Errors, settings Settings, validate func() error) error {
	var more Errors
	if errors.As(validate(), &more) {
		for _, e := range more {
			if slices.ContainsFunc(errs, func(old *Error) bool { return old.Key == e.Key }) {
				continue
			}
			var located *Error
			if errors.As(settings.Locate(e), &located) {
				errs = append(errs, located)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

// load fills dst, a struct of the schema, from the sources.
func load(dst reflect.Value, s schema, src Sources) (Settings, Errors) {
	var errs Errors
	inFile := map[string]found{}
	if src.File != "" {
		inFile, errs = readFile(src.File, s)
	}
	settings := make(Settings, 0, len(s.settings))
	for _, st := range s.settings {
		field := dst.FieldByIndex(st.index)
		out := Setting{Field: st.Field, Origin: FromDefault, Where: string(FromDefault)}
		take := func(text string, origin Origin, where string) {
			v, err := st.parse(text)
			if err != nil {
				problem, fix := quoteProblem(st, text, err)
				errs = append(errs, &Error{Where: where, Key: st.Key, Problem: problem, Fix: fix})
				return
			}
			field.Set(v)
			out.Origin, out.Where = origin, where
		}
		if st.Default != "" {
			take(st.Default, FromDefault, string(FromDefault))
		}
		if v, ok := inFile[st.Key]; ok {
			field.Set(v.value)
			out.Origin, out.Where = FromFile, v.where
		}
		if src.Env != nil {
			if text, ok := src.Env(st.Env); ok && text != "" {
				take(text, FromEnv, "environment "+st.Env)
			}
		}
		if text, ok := src.Flags[st.Flag]; ok {
			take(text, FromFlag, "flag --"+st.Flag)
		}
		out.Value = format(field)
		settings = append(settings, out)
	}
	return settings, errs
}

func readFile(path string, s schema) (map[string]found, Errors) {
	text, err := readBounded(path)
	if err != nil {
		fix := "make it readable for this user"
		if errors.Is(err, fs.ErrNotExist) {
			fix = "name a file that is there; 'keyraft config example' prints one"
		}
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the path is said already
		}
		return nil, Errors{{Where: path, Problem: "can't be read: " + err.Error(), Fix: fix}}
	}
	return parseYAML(path, text, s)
}

// readBounded reads one byte more than a configuration may have, so that a
// device or a huge file costs nothing and is still noticed.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// UnknownEnv lists, one sentence each, the variables of environ ("NAME=value")
// that look like settings and are none. They are no error: Kubernetes, for one,
// sets KEYRAFT_PORT and the like for a service of that name.
func UnknownEnv(environ []string) []string {
	known := []string{"KEYRAFT_ADDR", "KEYRAFT_TOKEN", "KEYRAFT_CACERT", "KEYRAFT_TENANT", "KEYRAFT_CLIENT_ID", "KEYRAFT_CLIENT_SECRET", "KEYRAFT_CONFIG", "KEYRAFT_GATEWAY_CONFIG",
		"KEYRAFT_REQUIRE", "KEYRAFT_BIN", "KEYRAFT_SEEDS", "KEYRAFT_TEST_LOG", "KEYRAFT_E2E_RACE", "KEYRAFT_E2E_KEEP"} // the last line is our own tests'
	for _, f := range append(ServerFields(), GatewayFields()...) {
		known = append(known, f.Env)
	}
	var out []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "KEYRAFT_") || slices.Contains(known, name) {
			continue
		}
		line := fmt.Sprintf("environment %s is not a setting", show(name))
		if best := nearest(name, known); best != "" {
			line += "; did you mean " + best + "?"
		}
		out = append(out, line)
	}
	sort.Strings(out)
	return out
}
