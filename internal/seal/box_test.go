package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/keyraft/keyraft/internal/seal"
)

// TestBox: a value opens under its key and label alone, whole and unchanged (TOK-20,
// TOK-21, TOK-22).
func TestBox(t *testing.T) {
	t.Parallel()
	key, other := seal.Generate(), seal.Generate()
	box, err1 := seal.NewBox(&key)
	foreign, err2 := seal.NewBox(&other)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	sealed, err := box.Append([]byte("p"), "code/default", []byte("who may what"))
	if err != nil || sealed[0] != 'p' {
		t.Fatalf("%q, %v", sealed, err)
	}
	sealed = sealed[1:]
	if plain, err := box.Open("code/default", sealed); err != nil || string(plain) != "who may what" {
		t.Fatalf("%q, %v", plain, err)
	}
	refused := map[string]func() ([]byte, error){
		"another label":   func() ([]byte, error) { return box.Open("code/acme", sealed) },
		"another key":     func() ([]byte, error) { return foreign.Open("code/default", sealed) },
		"a byte less":     func() ([]byte, error) { return box.Open("code/default", sealed[:len(sealed)-1]) },
		"a byte more":     func() ([]byte, error) { return box.Open("code/default", append(bytes.Clone(sealed), 0)) },
		"nothing":         func() ([]byte, error) { return box.Open("code/default", nil) },
		"a changed nonce": func() ([]byte, error) { b := bytes.Clone(sealed); b[0] ^= 1; return box.Open("code/default", b) },
	}
	for name, open := range refused {
		if plain, err := open(); !errors.Is(err, seal.ErrSealed) || plain != nil {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
	}
}
