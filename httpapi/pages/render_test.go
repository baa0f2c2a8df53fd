package pages

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// models are every page with hostile and with plain contents.
func models() map[string]any {
	const hostile = `"><script>alert(1)</script>`
	form := &passkeyForm{Action: "/passkey", Flow: hostile, Options: hostile, Value: hostile, Token: hostile}
	image, err := qrCode("otpauth://totp/x?secret=y", hostile)
	if err != nil {
		panic(err)
	}
	line := factorLine{ID: hostile, Name: hostile, Added: hostile, Used: hostile}
	return map[string]any{
		"factor":        &factorPage{Action: "/factor", Flow: hostile, Client: hostile, User: hostile, Wrong: "factor.wrong", Code: true, Recovery: true, Passkey: form},
		"setup":         &setupPage{Action: "/factor/setup", Flow: hostile, Client: hostile, Wrong: "totp.wrong", Value: hostile, Secret: hostile, QR: image, Passkey: form},
		"authenticator": &authenticatorPage{Action: "/a", Back: "/account", Token: hostile, Wrong: "totp.wrong", Value: hostile, Secret: hostile, QR: image, Replaces: true},
		"add_passkey":   &addPasskeyPage{Back: "/account", Wrong: "passkey.wrong", Passkey: form},
		"recovery":      &recoveryPage{Action: "/a", Back: "/account", Token: hostile, Codes: []string{hostile}},
		"remove":        &removePage{Action: "/a", Back: "/account", Token: hostile, ID: hostile, Name: hostile, Last: true},
		"password":      &passwordPage{Action: "/a", Back: "/account", Token: hostile, Wrong: "password.short", User: hostile, HasPassword: true, Rules: hostile},
		"new_password":  &newPasswordPage{Action: "/a", Name: "flow", Value: hostile, Why: "new_password.must", Client: hostile, User: hostile, Rules: hostile, Wrong: "password.same", Cancel: true},
		"password_set":  &passwordSetPage{Account: "/account"},
		"account": &accountPage{
			Base: "/account", Token: hostile, User: hostile, Done: true, HasPassword: true, CanPasskey: true, Factors: true, Codes: 3, Authenticator: &line, Passkeys: []factorLine{line},
			Sessions:     []sessionLine{{ID: hostile, Agent: hostile, Address: hostile, Since: hostile, Here: true}},
			Consents:     []consentLine{{ID: hostile, Name: hostile, Since: hostile, Scopes: []scope{{hostile, hostile}}, Claims: []scope{{hostile, ""}, {hostile, hostile}}, Resources: []string{hostile}}},
			SessionsNext: hostile, ConsentsNext: hostile, Later: true,
		},
		"login":      &loginPage{Action: "/login", Flow: "f", About: about{"https://app.example/?" + hostile, "https://app.example/tos"}, Client: hostile, Hint: hostile, Wrong: "login.wrong", Passkey: form},
		"consent":    &consentPage{Action: "/consent", Flow: "f", About: about{"https://app.example/?" + hostile, ""}, Client: hostile, User: hostile, Where: "https://app.example", Unapproved: true, Claims: []scope{{hostile, ""}, {hostile, hostile}}, Details: []string{hostile}, Scopes: []scope{{"openid", "x"}, {hostile, ""}}, Resources: []string{hostile}},
		"logout":     &logoutPage{Action: "/oauth2/logout", Browser: "b", Back: hostile, Hint: hostile, ClientID: hostile, State: hostile},
		"logged_out": &loggedOutPage{Back: "https://app.example/?" + hostile, Frames: []string{"https://app.example/?" + hostile}},
		"error":      &errorPage{Detail: hostile, Code: "invalid_request", Where: hostile, Link: "https://app.example/cb?state=x", Action: "https://app.example/cb", Params: [][2]string{{"state", hostile}}},
		"device":     &devicePage{Action: "/device", Code: hostile, Wrong: "unknown"},
		"ask":        ask(hostile),
		"requests":   &requestsPage{User: hostile, Reload: "/requests", Items: []*askPage{ask(hostile), ask(hostile)}},
		"told":       &toldPage{Allowed: true},
		"form_post":  &formPost{Action: "https://app.example/cb", Params: [][2]string{{"state", hostile}, {"code", "c"}}},
	}
}

func ask(hostile string) *askPage {
	return &askPage{
		Action: "/device", Flow: "f", Client: hostile, User: hostile, Code: hostile, Address: hostile, Message: hostile, Unapproved: true,
		Scopes: []scope{{"openid", "x"}, {hostile, ""}}, Details: []string{hostile}, Resources: []string{hostile},
	}
}

func render(t *testing.T, lang, name string, model any) (string, *fasthttp.RequestCtx) {
	t.Helper()
	r, err := newRenderer()
	if err != nil {
		t.Fatal(err)
	}
	x := &visit{RequestCtx: &fasthttp.RequestCtx{}, p: &pages{render: r}, lang: lang}
	if err := x.page(200, name, "https://app.example", model); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(x.Response.Body()), x.RequestCtx
}

// TestPagesEscape is WEB-02, WEB-03 and AUT-10: nothing that is shown becomes markup, no
// page can be framed, none runs or loads what is not ours.
func TestPagesEscape(t *testing.T) {
	t.Parallel()
	for name, model := range models() {
		body, c := render(t, "en", name, model)
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "ZgotmplZ") || strings.Contains(body, " style=") || regexp.MustCompile(` on[a-z]+=`).MatchString(body) {
			t.Errorf("%s: %s", name, body)
		}
		policy := string(c.Response.Header.Peek("Content-Security-Policy"))
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self' https: https://app.example;"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy %q lacks %q", name, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || string(c.Response.Header.Peek("X-Frame-Options")) != "DENY" || string(c.Response.Header.Peek("Cache-Control")) != "no-store" {
			t.Errorf("%s: headers %s", name, c.Response.Header.String())
		}
	}
}

// TestCatalogues: the languages have the same keys, each is used, and each that a page
// uses is there.
func TestCatalogues(t *testing.T) {
	t.Parallel()
	r, err := newRenderer()
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	err = fs.WalkDir(files, "templates", func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(at)
		for _, m := range regexp.MustCompile(`\.T "([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			used = append(used, m[1])
		}
		return err
	})
	if err != nil || len(used) < 10 {
		t.Fatalf("%d keys in the templates, %v", len(used), err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources { // what the code chooses: x.word("..."), and what went wrong
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"((?:login|factor|totp|passkey|add_passkey|password|new_password|account)\.[a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
			used = append(used, m[1])
		}
	}
	for _, lang := range languages() {
		for _, key := range used {
			if r.catalogues[lang][key] == "" {
				t.Errorf("%s has no text for %q", lang, key)
			}
		}
		for key := range r.catalogues[lang] {
			if r.catalogues["en"][key] == "" || !slices.Contains(used, key) && !strings.HasPrefix(key, "scope.") && !strings.HasPrefix(key, "claim.") {
				t.Errorf("%s: no page uses %q, or English lacks it", lang, key)
			}
		}
		if len(r.catalogues[lang]) != len(r.catalogues["en"]) {
			t.Errorf("%s has %d texts, English %d", lang, len(r.catalogues[lang]), len(r.catalogues["en"]))
		}
		for name, model := range models() {
			if body, _ := render(t, lang, name, model); !strings.Contains(body, `lang="`+lang+`"`) {
				t.Errorf("%s in %s does not say so", name, lang)
			}
		}
	}
}

// TestLanguage is WEB-11: one of a fixed list, whatever is asked for.
func TestLanguage(t *testing.T) {
	t.Parallel()
	tests := []struct{ locales, accept, want string }{
		{"", "", "en"}, {"de-AT", "", "de"}, {"fr de", "en", "de"}, {"", "fr, de;q=0.8, en;q=0.5", "de"},
		{"../../etc/passwd", "*", "en"}, {strings.Repeat("fr ", 5000), strings.Repeat("fr,", 5000) + "de", "en"}, {"\xff\xfe", "\x00", "en"},
	}
	for _, tt := range tests {
		if got := language(tt.locales, tt.accept); got != tt.want {
			t.Errorf("%.20q, %.20q: %s, want %s", tt.locales, tt.accept, got, tt.want)
		}
	}
}

// TestOrigin: what form-action may name. It knows no IPv6 addresses, so a loopback of
// that kind is named by its scheme.
func TestOrigin(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"https://app.example/cb?x=1": "https://app.example", "http://127.0.0.1:51004/cb": "http://127.0.0.1:51004",
		"http://[::1]:8080/cb": "http:", "com.example.app:/cb": "com.example.app:", "": "",
	} {
		if got := origin(uri); got != want {
			t.Errorf("%s: %q, want %q", uri, got, want)
		}
	}
}

// TestFormAction: a client may send its users on to an origin of its own, and nothing
// that was registered can widen the policy by its characters.
func TestFormAction(t *testing.T) {
	t.Parallel()
	for to, want := range map[string]string{
		"": "'self'", "https://app.example": "'self' https: https://app.example", "com.example.app:": "'self' https: com.example.app:",
		"http://127.0.0.1:51004": "'self' https: http://localhost:* http://127.0.0.1:* http://127.0.0.1:51004", "http:": "'self' https: http:",
		"https://a;script-src *": "'self'", "https://a 'unsafe-inline'": "'self'",
	} {
		if got := formAction(to); got != want {
			t.Errorf("%q: %q, want %q", to, got, want)
		}
	}
}

// TestAssets: each has a media type that browsers take under nosniff, and the pages name
// those that are there.
func TestAssets(t *testing.T) {
	t.Parallel()
	r, err := newRenderer()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{"style.css": "text/css; charset=utf-8", "submit.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}
	for file, kind := range kinds {
		if got := r.assets[r.names[file]].kind; got != kind {
			t.Errorf("%s is %q, want %q", file, got, kind)
		}
	}
	for name, model := range models() {
		body, _ := render(t, "en", name, model)
		for _, m := range regexp.MustCompile(`"/assets/([^"]*)"`).FindAllStringSubmatch(body, -1) {
			if _, ok := r.assets[m[1]]; !ok {
				t.Errorf("%s names the asset %q, which is not there", name, m[1])
			}
		}
		if !strings.Contains(body, r.names["icon.svg"]) {
			t.Errorf("%s has no icon, so browsers ask for one that is not there", name)
		}
	}
}

// TestSameOrigin is WEB-01: what a browser says of where a form comes from.
func TestSameOrigin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, path, site, origin string
		refused                  bool
	}{
		{name: "a form of ours", path: "/login", site: "same-origin", origin: "https://sts.example"},
		{name: "an old browser", path: "/login", origin: "https://sts.example"},
		{name: "another site", path: "/login", site: "cross-site", origin: "https://evil.example", refused: true},
		{name: "a sibling", path: "/consent", site: "same-site", origin: "https://app.sts.example", refused: true},
		{name: "a sandboxed page", path: "/login", site: "cross-site", origin: "null", refused: true},
		{name: "Origin: null alone", path: "/login", origin: "null", refused: true},
		{name: "another scheme", path: "/login", origin: "http://sts.example", refused: true},
	}
	for _, tt := range tests {
		c := &fasthttp.RequestCtx{}
		c.Request.SetRequestURI(tt.path)
		if tt.site != "" {
			c.Request.Header.Set("Sec-Fetch-Site", tt.site)
		}
		if tt.origin != "" {
			c.Request.Header.Set("Origin", tt.origin)
		}
		if same := sameOrigin(&visit{RequestCtx: c}, "https://sts.example/t/acme"); same == tt.refused {
			t.Errorf("%s: %v", tt.name, same)
		}
	}
}
