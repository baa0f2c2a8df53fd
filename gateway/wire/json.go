package wire

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends the delta as the JSON of the outside contract:
// {epoch, head, truncated, items}. The delta must pass Check.
func (d *Delta) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"epoch":`...)
	dst = strconv.AppendUint(dst, d.Epoch, 10)
	dst = append(dst, `,"head":`...)
	dst = strconv.AppendUint(dst, d.Head, 10)
	dst = append(dst, `,"truncated":`...)
	dst = strconv.AppendBool(dst, d.Truncated)
	if d.Cluster != "" {
		dst = appendMember(dst, "cluster", d.Cluster)
	}
	dst = append(dst, `,"items":[`...)
	for i := range d.Items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = d.Items[i].appendJSON(dst)
	}
	return append(dst, `]}`...)
}

func (e *Event) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, e.Seq, 10)
	dst = appendMember(dst, "tenant", e.Tenant)
	dst = appendMember(dst, "issuer", e.Issuer)
	dst = appendMember(dst, "kind", e.Kind)
	dst = appendMember(dst, "target", e.Target)
	dst = append(dst, `,"issued_before":`...)
	dst = strconv.AppendInt(dst, e.IssuedBefore, 10)
	dst = append(dst, `,"expires_at":`...)
	dst = strconv.AppendInt(dst, e.ExpiresAt, 10)
	if e.DecidedAfter != 0 {
		dst = append(dst, `,"decided_after":`...)
		dst = strconv.AppendUint(dst, e.DecidedAfter, 10)
	}
	if e.IssuedAfter != 0 {
		dst = append(dst, `,"issued_after":`...)
		dst = strconv.AppendInt(dst, e.IssuedAfter, 10)
	}
	if len(e.Data) > 0 {
		dst = append(dst, `,"data":`...)
		dst = append(dst, e.Data...)
	}
	return append(dst, '}')
}

func appendMember(dst []byte, name, value string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return appendString(dst, value)
}

// appendString writes a JSON string; plain ASCII without an encoder's detour.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil { // a string always marshals
				panic("wire: " + err.Error())
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// ParseJSON reads a whole delta in its JSON form.
func ParseJSON(data []byte) (*Delta, error) {
	if len(data) > MaxDeltaBytes {
		return nil, invalid("%d bytes, at most %d are allowed", len(data), MaxDeltaBytes)
	}
	r, err := newReader(data)
	if err != nil {
		return nil, err
	}
	d, need := &Delta{}, required{"epoch", "head", "items"}
	err = r.object(func(name string) error {
		need.met(name)
		switch name {
		case "epoch":
			return r.uint(&d.Epoch)
		case "head":
			return r.uint(&d.Head)
		case "truncated":
			return r.bool(&d.Truncated)
		case "cluster":
			return r.string(&d.Cluster, MaxName)
		case "items":
			return r.array(MaxItems, func() error {
				e, err := r.event()
				d.Items = append(d.Items, e)
				return err
			})
		}
		return r.skip()
	})
	if err == nil {
		err = r.end()
	}
	if err == nil {
		err = need.missing()
	}
	if err == nil {
		err = d.Check()
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (r *reader) event() (e Event, err error) {
	need := required{"seq", "kind", "target"}
	err = r.object(func(name string) error {
		need.met(name)
		switch name {
		case "seq":
			return r.uint(&e.Seq)
		case "tenant":
			return r.string(&e.Tenant, MaxName)
		case "issuer":
			return r.string(&e.Issuer, MaxText)
		case "kind":
			return r.string(&e.Kind, MaxName)
		case "target":
			return r.string(&e.Target, MaxText)
		case "issued_before":
			return r.int(&e.IssuedBefore)
		case "expires_at":
			return r.int(&e.ExpiresAt)
		case "decided_after":
			return r.uint(&e.DecidedAfter)
		case "issued_after":
			return r.int(&e.IssuedAfter)
		case "data":
			return r.raw(&e.Data, MaxData)
		}
		return r.skip()
	})
	if err == nil {
		err = need.missing()
	}
	return e, err
}

// required holds the members that have not come yet.
type required []string

func (q *required) met(name string) {
	for i, n := range *q {
		if n == name {
			*q = append((*q)[:i:i], (*q)[i+1:]...)
			return
		}
	}
}

func (q required) missing() error {
	if len(q) > 0 {
		return invalid("member %s is missing", q[0])
	}
	return nil
}

// reader is a strict JSON reader: exact member names, no duplicates, no
// fraction or sign where a count is due, nothing after the document.
type reader struct{ dec *json.Decoder }

func newReader(data []byte) (*reader, error) {
	if !utf8.Valid(data) {
		return nil, invalid("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return &reader{dec}, nil
}

func (r *reader) token() (json.Token, error) {
	t, err := r.dec.Token()
	if err != nil {
		return nil, invalid("not a whole JSON document")
	}
	return t, nil
}

func (r *reader) delim(want json.Delim) error {
	t, err := r.token()
	if err != nil {
		return err
	}
	if t != want {
		return invalid("a JSON %q is missing", want.String())
	}
	return nil
}

func (r *reader) object(member func(name string) error) error {
	if err := r.delim('{'); err != nil {
		return err
	}
	seen := make(map[string]struct{}, 8)
	for r.dec.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		name, _ := t.(string) // the decoder gives nothing else before a colon
		if _, twice := seen[name]; twice {
			return invalid("a member comes twice")
		}
		if len(seen) >= 64 {
			return invalid("more than 64 members in one object")
		}
		seen[name] = struct{}{}
		if err := member(name); err != nil {
			return err
		}
	}
	return r.delim('}')
}

func (r *reader) array(limit int, item func() error) error {
	if err := r.delim('['); err != nil {
		return err
	}
	for n := 0; r.dec.More(); n++ {
		if n == limit {
			return invalid("more than %d items", limit)
		}
		if err := item(); err != nil {
			return err
		}
	}
	return r.delim(']')
}

func (r *reader) uint(into *uint64) error {
	t, err := r.token()
	if err != nil {
		return err
	}
	n, ok := t.(json.Number)
	if !ok {
		return invalid("a number is due")
	}
	if *into, err = strconv.ParseUint(n.String(), 10, 64); err != nil {
		return invalid("a number is negative, a fraction or too large")
	}
	return nil
}

func (r *reader) int(into *int64) error {
	var v uint64
	if err := r.uint(&v); err != nil {
		return err
	}
	if int64(v) < 0 {
		return invalid("a number is too large")
	}
	*into = int64(v)
	return nil
}

func (r *reader) bool(into *bool) error {
	t, err := r.token()
	if err != nil {
		return err
	}
	v, ok := t.(bool)
	if !ok {
		return invalid("true or false is due")
	}
	*into = v
	return nil
}

func (r *reader) string(into *string, limit int) error {
	t, err := r.token()
	if err != nil {
		return err
	}
	v, ok := t.(string)
	if !ok {
		return invalid("a string is due")
	}
	if len(v) > limit {
		return invalid("a string of %d bytes, at most %d are allowed", len(v), limit)
	}
	*into = v
	return nil
}

func (r *reader) raw(into *[]byte, limit int) error {
	var m json.RawMessage
	if err := r.dec.Decode(&m); err != nil {
		return invalid("not a whole JSON document")
	}
	if len(m) > limit {
		return invalid("a member of %d bytes, at most %d are allowed", len(m), limit)
	}
	*into = m
	return nil
}

func (r *reader) skip() error {
	var m []byte
	return r.raw(&m, MaxDeltaBytes)
}

func (r *reader) end() error {
	if _, err := r.dec.Token(); err != io.EOF {
		return invalid("something follows the document")
	}
	return nil
}
