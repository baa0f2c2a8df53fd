package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"unicode/utf8"
)

// Bounds of the parameter claims (AUT-27).
const (
	MaxClaimsRequest = 8 << 10 // bytes
	maxClaimsDepth   = 6
	maxAsked         = 100 // claims of one answer
)

// Asked is one claim that a client asks for by name (OpenID Connect Core §5.5.1).
type Asked struct {
	Name      string
	Essential bool
	Values    []json.RawMessage // of which it has to have one; none: any
}

// ClaimsRequest is the parameter claims (OpenID Connect Core §5.5): what userinfo and the
// ID token shall say beside what the scopes bring. Each list is in the order of names.
type ClaimsRequest struct{ Userinfo, IDToken []Asked }

var errClaims = errors.New("claims must be a JSON object of at most 8192 bytes, 6 levels and 100 claims, in which no name comes twice (OpenID Connect Core §5.5)")

// ParseClaimsRequest reads the parameter; an empty text asks for nothing. What it knows
// not is ignored, what is malformed is refused: the error says the rule.
func ParseClaimsRequest(text []byte) (*ClaimsRequest, error) {
	r := &ClaimsRequest{}
	if len(text) == 0 {
		return r, nil
	}
	if len(text) > MaxClaimsRequest || !utf8.Valid(text) || !strictJSON(text) {
		return nil, errClaims
	}
	var answers map[string]json.RawMessage // a map, since a struct takes names of another case
	if json.Unmarshal(text, &answers) != nil || answers == nil {
		return nil, errClaims
	}
	for name, into := range map[string]*[]Asked{"userinfo": &r.Userinfo, "id_token": &r.IDToken} {
		if answers[name] == nil || isNull(answers[name]) {
			continue
		}
		list, err := askedOf(answers[name])
		if err != nil {
			return nil, err
		}
		*into = list
	}
	return r, nil
}

func askedOf(text []byte) ([]Asked, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil || len(members) > maxAsked {
		return nil, errClaims
	}
	list := make([]Asked, 0, len(members))
	for name, value := range members {
		one := Asked{Name: name}
		if name == "" || len(name) > maxText {
			return nil, errClaims
		}
		if !isNull(value) {
			var how map[string]json.RawMessage
			if json.Unmarshal(value, &how) != nil {
				return nil, errClaims
			}
			if v := how["essential"]; v != nil && json.Unmarshal(v, &one.Essential) != nil {
				return nil, errClaims
			}
			if v := how["values"]; v != nil && json.Unmarshal(v, &one.Values) != nil {
				return nil, errClaims
			}
			if v := how["value"]; v != nil {
				one.Values = append(one.Values, v)
			}
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Asked) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return list, nil
}

func isNull(text []byte) bool { return string(bytes.TrimSpace(text)) == "null" }

// Texts are the values that are asked for a claim which is a text, in either answer.
func (r *ClaimsRequest) Texts(name string) []string {
	var out []string
	for _, a := range append(slices.Clone(r.IDToken), r.Userinfo...) {
		if a.Name != name {
			continue
		}
		for _, v := range a.Values {
			var text string
			if json.Unmarshal(v, &text) == nil && !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	return out
}

// takes tells whether a value is one of those that are asked for.
func (a *Asked) takes(value []byte) bool {
	return len(a.Values) == 0 || slices.ContainsFunc(a.Values, func(v json.RawMessage) bool { return sameJSON(v, value) })
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// strictJSON tells whether text is one JSON value of limited depth in which no object
// has a name twice.
func strictJSON(text []byte) bool { return StrictJSON(text, maxClaimsDepth) }

// StrictJSON tells one JSON value of at most so many levels, in which no object has a
// name twice or more than a hundred.
func StrictJSON(text []byte, depth int) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if !utf8.Valid(text) || !strictValue(d, depth) {
		return false
	}
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}

func strictValue(d *json.Decoder, depth int) bool {
	token, err := d.Token()
	if err != nil {
		return false
	}
	open, nested := token.(json.Delim)
	if !nested {
		return true
	}
	if depth == 0 {
		return false
	}
	var names []string
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			text, ok := name.(string)
			if err != nil || !ok || slices.Contains(names, text) || len(names) > maxAsked {
				return false
			}
			names = append(names, text)
		}
		if !strictValue(d, depth-1) {
			return false
		}
	}
	_, err = d.Token() // the closing bracket
	return err == nil
}
