package adminapi

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":{"c":2}}`), []byte(`{"a":null,"b":{"c":3,"d":[1]},"e":"x"}`))
	f.Add([]byte(`{"jwks":{"keys":[]}}`), []byte(`{"jwks":{"keys":[{"kty":"EC"}]}}`))
	f.Add([]byte(`[]`), []byte(`{"a":{"b":null}}`))
	f.Fuzz(func(t *testing.T, target, patch []byte) {
		members := map[string]json.RawMessage{}
		if !json.Valid(target) || json.Unmarshal(patch, &members) != nil {
			return
		}
		once, err := merge(bytes.TrimSpace(target), members)
		if err != nil {
			t.Fatalf("%q with %q: %v", target, patch, err)
		}
		again, err := merge(once, members)
		if err != nil || !bytes.Equal(once, again) {
			t.Errorf("%q with %q gives %q, and then %q (%v)", target, patch, once, again, err)
		}
	})
}

func TestMerge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, target, patch, want string }{ // RFC 7396, appendix A
		{"a member is replaced", `{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{"a member is added", `{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{"null removes", `{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{"an array is replaced whole", `{"a":["b"]}`, `{"a":["c","d"]}`, `{"a":["c","d"]}`},
		{"objects are merged", `{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{"an object takes the place of an array", `{"a":["b"]}`, `{"a":{"c":1}}`, `{"a":{"c":1}}`},
		{"null in a new object is dropped", `{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		patch := map[string]json.RawMessage{}
		if err := json.Unmarshal([]byte(tt.patch), &patch); err != nil {
			t.Fatal(err)
		}
		if got, err := merge([]byte(tt.target), patch); err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v", tt.name, got, err)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{`"10m"`, `600`, `"600"`, `-1`, `1.5`, `1e99`, `null`, `"-5s"`, `""`, `{}`, `"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := duration("ttl", raw, time.Minute)
		if err == nil && d < 0 {
			t.Errorf("%q is taken for %v", raw, d)
		}
	})
}

func FuzzTags(f *testing.F) {
	for _, s := range []string{`"1"`, `W/"1"`, `"1", "2"`, `1`, `"`, `""`, `"a"b"`, `,`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		tags, ok := parseTags(header)
		if ok && len(tags) == 0 {
			t.Errorf("%q gives no tag and no error", header)
		}
	})
}
