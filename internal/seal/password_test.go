package seal

import (
	"context"
	"encoding/base64"
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
)

func pool(t *testing.T, slots, queue int) *Passwords {
	t.Helper()
	p, err := NewPasswords(slots, queue)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPasswordsHashAndVerify(t *testing.T) {
	t.Parallel()
	p := pool(t, 1, 0)
	stored, err := p.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("stored %q, want 19 MiB, t=2, p=1", stored)
	}
	for password, want := range map[string]bool{
		"correct horse": true, "Correct horse": false, "": false, strings.Repeat("x", maxPassword+1): false,
	} {
		if ok, err := p.Verify(t.Context(), stored, password); err != nil || ok != want {
			t.Errorf("verify a password of %d bytes: %v, %v, want %v", len(password), ok, err, want)
		}
	}
	if again, _ := p.Hash(t.Context(), "correct horse"); again == stored {
		t.Error("two hashes of one password are equal: the salt is not random")
	}
	for _, bad := range []string{"", strings.Repeat("x", maxPassword+1)} {
		if _, err := p.Hash(t.Context(), bad); !errors.Is(err, ErrPassword) {
			t.Errorf("hash of %d bytes: error %v, want ErrPassword", len(bad), err)
		}
	}
}

// TestPasswordsVerifiesForeignHash: parameters are the stored hash's own.
func TestPasswordsVerifiesForeignHash(t *testing.T) {
	t.Parallel()
	salt := []byte("0123456789abcdef")
	raw := base64.RawStdEncoding
	stored := "$argon2id$v=19$m=64,t=3,p=2$" + raw.EncodeToString(salt) + "$" +
		raw.EncodeToString(argon2.IDKey([]byte("pw"), salt, 3, 64, 2, 24))
	if ok, err := pool(t, 1, 0).Verify(t.Context(), stored, "pw"); err != nil || !ok {
		t.Errorf("verify: %v, %v", ok, err)
	}
}

func TestPasswordsRefuseUnusableHashes(t *testing.T) {
	t.Parallel()
	p := pool(t, 1, 0)
	const good = "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg"
	if _, err := p.Verify(t.Context(), good, "x"); err != nil {
		t.Fatalf("the good form is refused: %v", err)
	}
	for name, change := range map[string][2]string{
		"argon2i":              {"argon2id", "argon2i"},
		"an older version":     {"v=19", "v=16"},
		"4 GiB of memory":      {"m=64", "m=4194304"},
		"memory below a lane":  {"m=64", "m=7"},
		"a leading zero":       {"m=64", "m=064"},
		"a sign":               {"t=1", "t=+1"},
		"no pass":              {"t=1", "t=0"},
		"a thousand passes":    {"t=1", "t=1000"},
		"no lane":              {"p=1", "p=0"},
		"256 lanes":            {"p=1", "p=256"},
		"parameters reordered": {"m=64,t=1", "t=1,m=64"},
		"one parameter more":   {"p=1", "p=1,x=1"},
		"a short salt":         {"$MDEyMzQ1Njc4OWFiY2RlZg$", "$MDEy$"},
		"padding":              {"RlZg$", "RlZg==$"},
		"tail bits":            {"RlZg$", "RlZh$"},
		"a line break":         {"MDEy", "MD\nEy"},
		"a part more":          {"$argon2id", "$$argon2id"},
		"far too long":         {"MDEy", strings.Repeat("MDEy", 100)},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s: nothing changed", name)
		}
		if _, err := p.Verify(t.Context(), bad, "x"); !errors.Is(err, ErrPasswordHash) {
			t.Errorf("%s: error %v, want ErrPasswordHash", name, err)
		}
	}
}

func TestPasswordsAreBounded(t *testing.T) {
	t.Parallel()
	p := pool(t, 1, 1)
	leave, err := p.enter(t.Context()) // the slot works
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() {
		done, err := p.enter(ctx)
		if err == nil {
			done()
		}
		waiting <- err
	}()
	for len(p.line) < 2 { // until the other stands in the queue
		select {
		case err := <-waiting:
			t.Fatalf("the waiting caller came back: %v", err)
		default:
			runtime.Gosched()
		}
	}
	if _, err := p.Hash(t.Context(), "x"); !errors.Is(err, ErrBusy) {
		t.Errorf("a third caller: error %v, want ErrBusy", err)
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("the waiting caller: error %v, want canceled", err)
	}
	leave()
	if len(p.line) != 0 || len(p.slots) != 0 {
		t.Error("places are not given back")
	}
	if _, err := p.Hash(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled caller: error %v, want canceled", err)
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg")
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := parsePHC(s); err == nil && h.String() != s {
			t.Fatalf("%q has two spellings: %q", h, s)
		}
	})
}

func BenchmarkPasswordVerify(b *testing.B) {
	p, err := NewPasswords(1, 0)
	if err != nil {
		b.Fatal(err)
	}
	stored, err := p.Hash(b.Context(), "pw")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := p.Verify(b.Context(), stored, "pw"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
