package ca_test

import (
	"strings"
	"testing"

	"github.com/keyraft/keyraft/cluster/ca"
)

func TestJoinToken(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("a", 250) + ":8444"
	for _, addr := range []string{"10.0.0.1:8444", "[::1]:1", "node-1.example:65535", longest} {
		token, err := ca.NewJoinToken([32]byte{1, 2, 3}, addr)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		back, err := ca.ParseJoinToken(token.Encode())
		if err != nil || back != token {
			t.Errorf("%s: read back %v, %v", addr, back, err)
		}
		if !strings.HasPrefix(token.Encode(), "krj1_") {
			t.Errorf("no prefix: scanners for leaked tokens look for it")
		}
	}
	for _, addr := range []string{"", "host", ":1", "host:0", "host:65536", "host:http", "a b:1", "a" + longest} {
		if _, err := ca.NewJoinToken([32]byte{}, addr); err == nil {
			t.Errorf("address %q is accepted", addr)
		}
	}
}

func TestParseJoinTokenRefuses(t *testing.T) {
	t.Parallel()
	token, err := ca.NewJoinToken([32]byte{9}, "10.0.0.1:8444")
	if err != nil {
		t.Fatal(err)
	}
	good := token.Encode()
	swapped := []byte(good)
	i := 20
	for swapped[i] == swapped[i+1] {
		i++
	}
	swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
	for name, text := range map[string]string{
		"nothing":                   "",
		"another prefix":            "krj2_" + good[5:],
		"a cut token":               good[:len(good)-4],
		"two characters swapped":    string(swapped),
		"a line end inside":         good[:30] + "\n" + good[30:],
		"padding":                   good + "=",
		"a space after it":          good + " ",
		"a token of a megabyte":     "krj1_" + strings.Repeat("A", 1<<20),
		"the alphabet with + and /": "krj1_" + strings.Repeat("+/", 60),
	} {
		if _, err := ca.ParseJoinToken(text); err == nil {
			t.Errorf("%s is accepted", name)
		} else if len(text) > 20 && strings.Contains(err.Error(), text[10:20]) {
			t.Errorf("%s: the error quotes the token", name)
		}
	}
}

func FuzzParseJoinToken(f *testing.F) {
	token, err := ca.NewJoinToken([32]byte{9}, "10.0.0.1:8444")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token.Encode())
	f.Add("krj1_")
	f.Add("krj1_AAAA")
	f.Add(token.Encode()[:40])
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ca.ParseJoinToken(text)
		if err == nil && token.Encode() != text {
			t.Error("one token has two spellings")
		}
	})
}
