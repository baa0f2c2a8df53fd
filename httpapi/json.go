package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"

	"github.com/valyala/fasthttp"
)

// DecodeJSON decodes the body into into, strictly (RFC 8259, RFC 7493): one value and
// nothing after it, valid UTF-8 without a byte order mark, no member twice (letter
// case aside) or unknown to the type (letter case counts), no lone surrogate, no
// integer beyond ±(2^53-1), no number beyond float64, nesting and members bounded, and
// not null as a whole, which would pass for an empty object.
// The error is a Problem 400 that names the field, or 415 for another content type.
// into is a pointer; on an error its content is undefined.
func DecodeJSON(c *fasthttp.RequestCtx, into any) error {
	media, params, found := bytes.Cut(c.Request.Header.ContentType(), []byte(";"))
	media = trim(media)
	known := is(media, "application/json") || is(media, "application/merge-patch+json")
	if !known || found && !isUTF8(params) {
		return Problem(fasthttp.StatusUnsupportedMediaType, "unsupported_media_type", "", "send the body as application/json in UTF-8")
	}
	return decodeJSON(c.PostBody(), into)
}

func decodeJSON(body []byte, into any) error {
	if len(bytes.TrimLeft(body, " \t\r\n")) == 0 {
		return badJSON("", "the body is empty; send a JSON document")
	}
	w := &walker{in: body}
	if err := w.document(reflect.TypeOf(into)); err != nil {
		return err
	}
	if string(bytes.Trim(body, " \t\r\n")) == "null" {
		return badJSON("", "a null can't stand here; "+wanted(reflect.TypeOf(into).Elem()))
	}
	err := json.Unmarshal(body, into)
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind):
		given, _, _ := strings.Cut(kind.Value, " ") // "number 1e400" quotes what was sent
		if given == "array" || given == "object" {
			given = "n " + given
		} else {
			given = " " + given
		}
		return badJSON(kind.Field, "a"+given+" can't stand here; "+wanted(kind.Type))
	default: // an UnmarshalJSON of the type: its text may quote the value
		var p *problem
		if errors.As(err, &p) {
			return p
		}
		return badJSON("", "a value is not of the form that its member needs")
	}
}

func badJSON(field, detail string) error {
	return Problem(fasthttp.StatusBadRequest, "invalid_request", field, detail)
}

// wanted says in JSON's words what a Go type takes.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string is expected"
	case reflect.Bool:
		return "true or false is expected"
	case reflect.Slice, reflect.Array:
		return "an array is expected"
	case reflect.Map, reflect.Struct:
		return "an object is expected"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number that is not negative is expected"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number is expected"
	default:
		return "another type is expected"
	}
}

// fieldsOf maps the exact member names of a struct type to the types of their
// values, as encoding/json sees them. nil when any member may come: not a struct, or
// a type that decodes itself.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if t = concrete(t); t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	fields := make(map[string]reflect.Type, t.NumField())
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || f.Anonymous && name == "" || !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields[name] = f.Type
	}
	return fields
}

// concrete follows pointers; nil for a type that decodes itself.
func concrete(t reflect.Type) reflect.Type {
	unmarshaler := reflect.TypeFor[json.Unmarshaler]()
	for t != nil {
		if t.Implements(unmarshaler) || reflect.PointerTo(t).Implements(unmarshaler) {
			return nil
		}
		if t.Kind() != reflect.Pointer {
			return t
		}
		t = t.Elem()
	}
	return nil
}

// elementOf is the type of an array's items or of a map's values; nil when anything
// may come.
func elementOf(t reflect.Type, kinds ...reflect.Kind) reflect.Type {
	if t = concrete(t); t == nil {
		return nil
	}
	for _, k := range kinds {
		if t.Kind() == k {
			return t.Elem()
		}
	}
	return nil
}
