package identity

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
)

const (
	maxUsername = 256  // bytes
	maxPassword = 1024 // bytes, before any hash is taken
)

// FoldName is the one form of a user name: RFC 8265's UsernameCaseMapped, so that width,
// case and composed letters make no second account (WEB-14, TOK-34). The error is
// *FieldError.
func FoldName(name string) (string, error) {
	if name == "" || len(name) > maxUsername || !utf8.ValidString(name) {
		return "", bad("username", "1 to %d bytes of UTF-8 are needed", maxUsername)
	}
	folded, err := precis.UsernameCaseMapped.String(name)
	if err == nil {
		// Folding twice must change nothing, or two names could meet later.
		var again string
		if again, err = precis.UsernameCaseMapped.String(folded); err == nil && again != folded {
			folded, err = precis.UsernameCaseMapped.String(again)
		}
	}
	if err != nil || folded == "" || len(folded) > maxUsername || strings.ContainsFunc(folded, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
	}) {
		return "", bad("username", "letters, digits and signs without spaces, control and invisible characters (RFC 8265)")
	}
	if strings.HasPrefix(folded, ".") || strings.HasSuffix(folded, ".") {
		return "", bad("username", "a name neither begins nor ends with a dot: people overlook it")
	}
	if !oneScript(folded) {
		return "", bad("username", "the letters of a name are of one script: others look like them (Unicode UTS 39)")
	}
	return folded, nil
}

// oneScript tells whether the letters of a name are of one script, or of the scripts
// that Japanese, Chinese and Korean are written in, with Latin ones at most: the highly
// restrictive level of UTS 39 §5.2, by each letter's own script.
func oneScript(name string) bool {
	var latin, east, kana, hangul, bopomofo bool
	var other *unicode.RangeTable
	for _, r := range name {
		switch {
		case unicode.In(r, unicode.Common, unicode.Inherited):
		case unicode.Is(unicode.Latin, r):
			latin = true
		case unicode.Is(unicode.Han, r):
			east = true
		case unicode.In(r, unicode.Hiragana, unicode.Katakana):
			kana = true
		case unicode.Is(unicode.Hangul, r):
			hangul = true
		case unicode.Is(unicode.Bopomofo, r):
			bopomofo = true
		case other != nil:
			if !unicode.Is(other, r) {
				return false
			}
		default:
			if other = scriptOf(r); other == nil {
				return false
			}
		}
	}
	if other != nil {
		return !latin && !east && !kana && !hangul && !bopomofo
	}
	return !(kana && hangul || kana && bopomofo || hangul && bopomofo)
}

func scriptOf(r rune) *unicode.RangeTable {
	for _, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			return table
		}
	}
	return nil
}

// foldPassword is RFC 8265's OpaqueString: one text for all ways to type it.
func foldPassword(password string) (string, error) {
	if password == "" || len(password) > maxPassword || !utf8.ValidString(password) {
		return "", weak(RuleLong, "1 to %d bytes of UTF-8 are needed", maxPassword)
	}
	folded, err := precis.OpaqueString.String(password)
	if err != nil || folded == "" || len(folded) > maxPassword {
		return "", weak(RuleTyped, "it holds characters that can't be typed alike everywhere (RFC 8265); choose others")
	}
	return folded, nil
}
