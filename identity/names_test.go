package identity

import (
	"errors"
	"strings"
	"testing"
)

func TestFoldName(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"TOK-34: case makes no second account", "BOB", "bob"},
		{"TOK-34: full width makes no second account", "ｂｏｂ", "bob"},
		{"TOK-34: half-width katakana folds to the wide form", "ｶﾅ", "カナ"},
		{"WEB-14: a composed letter and its parts are one name", "re\u0301my", "rémy"},
		{"WEB-14: full width admin is admin", "ａdmin", "admin"},
		{"TOK-34: a mail address is a name", "Bob@Example.com", "bob@example.com"},
		{"TOK-34: a domain prefix is another name, not the same one", `DOM\bob`, `dom\bob`},
		{"a name of one other script is good", "Алиса", "алиса"},
		{"Japanese mixes its own scripts", "山田さんa", "山田さんa"},
		{"digits go with any script", "алиса7", "алиса7"},
		{"a name from right to left is good", "דניאל", "דניאל"},
		{"TOK-34: a space at the end is refused", "bob ", ""},
		{"TOK-34: a space at the front is refused", " bob", ""},
		{"a space inside is refused", "bob b", ""},
		{"WEB-14: a no-break space is refused", "bob\u00a0b", ""},
		{"WEB-14: a ligature is refused", "\ufb01ne", ""},
		{"WEB-14: a Cyrillic letter among Latin ones is refused", "\u0430dmin", ""},
		{"WEB-14: a Greek letter among Latin ones is refused", "b\u03bfb", ""},
		{"WEB-14: a zero-width space is refused", "ad\u200bmin", ""},
		{"WEB-14: a zero-width joiner is refused", "ad\u200dmin", ""},
		{"WEB-14: a soft hyphen is refused", "ad\u00admin", ""},
		{"WEB-14: a right-to-left override is refused", "bob\u202enimda", ""},
		{"WEB-14: both directions in one name are refused", "דניאלbob", ""},
		{"WEB-14: a dot at the end is refused", "admin.", ""},
		{"WEB-14: a dot at the front is refused", ".admin", ""},
		{"WEB-14: a full-width dot at the end is refused", "admin\uff0e", ""},
		{"a NUL is refused", "bob\x00", ""},
		{"a newline is refused", "bob\n", ""},
		{"what is no UTF-8 is refused", "bob\xff", ""},
		{"WEB-14: a very long name is refused", strings.Repeat("a", 257), ""},
		{"no name is refused", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := FoldName(tt.in)
			var field *FieldError
			if tt.want == "" && (!errors.As(err, &field) || field.Field != "username") {
				t.Fatalf("folded to %q with error %v, want a refusal that names username", got, err)
			}
			if got != tt.want {
				t.Errorf("folded to %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}

// FuzzFoldName holds that a folded name is its own fold: two accounts could meet later
// if it were not.
func FuzzFoldName(f *testing.F) {
	for _, s := range []string{"bob", "ＢＯＢ", "re\u0301my", "İstanbul", "ΣΑΣ", "ß", "ẞ", "דניאל", "ｶﾞ", "a\u0345", "ǅ", "한글", "\u1100\u1161", "\u212a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		folded, err := FoldName(name)
		if err != nil {
			return
		}
		if again, err := FoldName(folded); err != nil || again != folded {
			t.Errorf("%q folds to %q, and that to %q (%v)", name, folded, again, err)
		}
	})
}

func TestFoldPassword(t *testing.T) {
	t.Parallel()
	composed, err1 := foldPassword("pässword of mine")
	parts, err2 := foldPassword("pa\u0308ssword of\u00a0mine")
	if err1 != nil || err2 != nil || composed != parts {
		t.Errorf("WEB-14: composed and decomposed passwords differ: %v, %v", err1, err2)
	}
	if a, _ := foldPassword("Secret of mine"); a != "Secret of mine" {
		t.Error("a password lost its case")
	}
	for name, in := range map[string]string{
		"WEB-14: more than 1024 bytes": strings.Repeat("x", 1025), "nothing": "", "LDP-02: a NUL": "abcdefghijk\x00", "no UTF-8": "abcdefghijk\xff",
	} {
		var field *FieldError
		if _, err := foldPassword(in); !errors.As(err, &field) || field.Field != "password" {
			t.Errorf("%s is taken: %v", name, err)
		}
	}
}
