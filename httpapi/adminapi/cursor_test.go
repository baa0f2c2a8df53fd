package adminapi

import (
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/keyraft/keyraft/internal/seal"
)

// FuzzCursor is ADM-05: whatever text comes, only a cursor that this cluster made for
// this list, and not long ago, is read.
func FuzzCursor(f *testing.F) {
	const label, now = "admin cursor/clients/default", int64(1_800_000_000)
	key := seal.Generate()
	keys, err := ring(&key)
	if err != nil {
		f.Fatal(err)
	}
	made := func(label string, at int64) string {
		sealed, err := keys.Seal(label, append(binary.BigEndian.AppendUint64(nil, uint64(at)), "orders"...))
		if err != nil {
			f.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(sealed)
	}
	good := made(label, now-10)
	if id, ok := openCursor(&key, label, good, now); !ok || id != "orders" {
		f.Fatalf("our own cursor gives %q, %v", id, ok)
	}
	for _, bad := range []string{made("admin cursor/clients/acme", now), made(label, now-cursorLife-1), good + "A", good[1:], "", "=", "a\nb"} {
		if _, ok := openCursor(&key, label, bad, now); ok {
			f.Fatalf("%q is read", bad)
		}
		f.Add(bad)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, text string) {
		if id, ok := openCursor(&key, label, text, now); ok && text != good {
			t.Errorf("a cursor that nobody made is read as %q", id)
		}
	})
}
