package pending

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// TestCanonical is TOK-41: case and punctuation are forgiven, letters are not.
func TestCanonical(t *testing.T) {
	t.Parallel()
	tests := []struct {
		typed, want string
		ok          bool
	}{
		{"BCDFG-HJKLM", "BCDFGHJKLM", true},
		{"bcdfghjklm", "BCDFGHJKLM", true},
		{" bc-df. gh_jk–lm ", "BCDFGHJKLM", true},
		{"BCDFG-HJKL", "BCDFGHJKL", false},
		{"BCDFG-HJKLMN", "BCDFGHJKLMN", false},
		{"BCDFG-HJKL0", "", false}, // no letter stands for another
		{"BCDFG-HJKLA", "", false},
		{"BCDFG-HJKLY", "", false},
		{"BСDFG-HJKLM", "", false}, // the second is Cyrillic
		{"BCDFG-HJKL\x00", "", false},
		{"ＢCDFG-HJKLM", "", false}, // full width
		{"ſCDFG-HJKLM", "", false}, // whose upper case is S
		{"", "", false},
		{strings.Repeat("-", 100) + "BCDFGHJKLM", "", false},
	}
	for _, tt := range tests {
		got, ok := Canonical(tt.typed)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q: %q %v, want %q %v", tt.typed, got, ok, tt.want, tt.ok)
		}
	}
	if got := Display("BCDFGHJKLM"); got != "BCDFG-HJKLM" {
		t.Error(got)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"BCDFG-HJKLM", "bcdfghjklm", "ſ-K", "\xff", strings.Repeat("B", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := Canonical(typed)
		if !ok {
			return
		}
		if len(code) != userCodeLength || strings.Trim(code, alphabet) != "" {
			t.Fatalf("%q became %q", typed, code)
		}
		if again, ok := Canonical(Display(code)); !ok || again != code {
			t.Fatalf("%q is not itself when it is shown", code)
		}
	})
}

// TestUserCodes: all letters come, none much more often than another, and what can be
// guessed while a request waits is less than one in 2^32 (TOK-41; RFC 8628 §5.1).
func TestUserCodes(t *testing.T) {
	t.Parallel()
	const codes = 4000
	counts := map[rune]int{}
	for range codes {
		code := newUserCode()
		if _, ok := Canonical(code); !ok {
			t.Fatalf("%q is no code", code)
		}
		for _, c := range code {
			counts[c]++
		}
	}
	want := float64(codes*userCodeLength) / float64(len(alphabet))
	for _, c := range alphabet { // five standard deviations, about
		if n := float64(counts[c]); math.Abs(n-want) > 5*math.Sqrt(want) {
			t.Errorf("%c came %v times, want some %v", c, n, want)
		}
	}
	if DeviceLifetime > int(attemptWindow/time.Second) {
		t.Error("a request waits through more than two windows")
	}
	if guesses := 2 * maxWrongOfTenant; float64(guesses) > math.Pow(20, userCodeLength)/math.Pow(2, 32) {
		t.Errorf("%d guesses are too many for %d letters", guesses, userCodeLength)
	}
}

// TestPollsAreBounded: what a node remembers of polls does not grow without end, and what
// it forgot is told apart by the state.
func TestPollsAreBounded(t *testing.T) {
	t.Parallel()
	var p polls
	now := time.Unix(1_700_000_000, 0)
	for i := range maxRemembered {
		p.came(fmt.Sprint(i), now, now.Add(time.Duration(i%2)*time.Minute))
	}
	p.came("one more", now.Add(time.Second), now.Add(time.Minute))
	if n := len(p.last); n != maxRemembered/2+1 {
		t.Errorf("%d are remembered after those that were over had to go", n)
	}
	if _, known := p.came("1", now, now); !known {
		t.Error("one that still waits was forgotten")
	}
	for i := range maxRemembered {
		p.came(fmt.Sprint("more", i), now, now.Add(time.Hour))
	}
	if n := len(p.last); n > maxRemembered {
		t.Errorf("%d are remembered", n)
	}
}
