package pages

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// places are the {names} of a text, in order.
func places(text string) []string {
	names := regexp.MustCompile(`\{[^}]*\}?`).FindAllString(text, -1)
	slices.Sort(names)
	return names
}

// TestCataloguesHaveTheSamePlaces: a text of each language has the same {names}, and the
// code fills each of them in.
func TestCataloguesHaveTheSamePlaces(t *testing.T) {
	t.Parallel()
	r, err := newRenderer()
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	filled := map[string]string{} // key → the arguments of fill
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.fill\("([^"]+)", (.*)\)`).FindAllStringSubmatch(string(text), -1) {
			filled[m[1]] = m[2]
		}
	}
	for lang, words := range r.catalogues {
		for key, text := range words {
			want := places(r.catalogues["en"][key])
			if got := places(text); !slices.Equal(got, want) {
				t.Errorf("%s in %s has the places %v, English %v", key, lang, got, want)
			}
			if _, ok := filled[key]; ok != (len(want) > 0) {
				t.Errorf("%s has the places %v, and the code fills it in: %v", key, want, ok)
			}
			for _, place := range want {
				if !strings.Contains(filled[key], `"`+strings.Trim(place, "{}")+`"`) {
					t.Errorf("nothing fills %s of %s in", place, key)
				}
			}
		}
	}
	if len(filled) == 0 {
		t.Error("no text has a place: this test tests nothing")
	}
}

// TestCataloguesSayNothingTwice: a key that stands twice in a file hides its first text.
func TestCataloguesSayNothingTwice(t *testing.T) {
	t.Parallel()
	for _, lang := range languages() {
		text, err := files.ReadFile("catalogue/" + lang + ".json")
		if err != nil {
			t.Fatal(err)
		}
		words := map[string]string{}
		if err := json.Unmarshal(text, &words); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), `": "`); n != len(words) {
			t.Errorf("%s has %d lines and %d keys", lang, n, len(words))
		}
		for key, text := range words {
			if strings.TrimSpace(text) == "" || strings.TrimSpace(text) != text {
				t.Errorf("%s of %s is empty or has space around it", key, lang)
			}
		}
	}
}

// TestStandardClaimsHaveTexts: each claim of OpenID Connect Core §5.1 is shown by words in
// each language, and no other claim is.
func TestStandardClaimsHaveTexts(t *testing.T) {
	t.Parallel()
	standard := strings.Fields(`sub name given_name family_name middle_name nickname preferred_username profile picture website email
		email_verified gender birthdate zoneinfo locale phone_number phone_number_verified address updated_at`)
	r, err := newRenderer()
	if err != nil {
		t.Fatal(err)
	}
	for lang, words := range r.catalogues {
		x := &visit{p: &pages{render: r}, lang: lang}
		for _, c := range x.claims(standard) {
			if c.Text == "" || c.Text == c.Name {
				t.Errorf("%s has no words for the claim %s", lang, c.Name)
			}
		}
		n := 0
		for key := range words {
			if strings.HasPrefix(key, "claim.") {
				n++
			}
		}
		if n != len(standard) {
			t.Errorf("%s has words for %d claims, the specification %d", lang, n, len(standard))
		}
		if got := x.claims([]string{"department"}); len(got) != 1 || got[0].Text != "" || got[0].Name != "department" {
			t.Errorf("an own claim is shown as %v", got)
		}
	}
}
