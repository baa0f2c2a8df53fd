package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

//go:embed templates/*.html assets/* catalogue/*.json
var files embed.FS

// View models: what each page shows.
type (
	loginPage struct {
		Action, Flow, Client, Hint, Wrong string
		About                             about
		Own                               bool // a page of ours asks, no client
		Passkey                           *passkeyForm
	}
	scope       struct{ Name, Text string }
	consentPage struct {
		Action, Flow, Client, User, Where string
		About                             about
		Unapproved                        bool
		Scopes                            []scope
		Claims                            []scope
		Resources                         []string
		Details                           []string // of authorization_details, each as JSON with a line a member
	}
	logoutPage struct{ Action, Browser, Back, Hint, ClientID, State string }
	formPost   struct {
		Action string
		Params [][2]string
	}
	errorPage struct {
		Detail, Code string
		// Where a refusal would have led to, for the person to decide: by a link, or by a form.
		Where, Action string
		Link          template.URL
		Params        [][2]string
	}
	loggedOutPage struct {
		Back   string
		Frames []string
	}
)

// renderer holds the templates, the catalogues and the assets, all of them embedded.
type renderer struct {
	pages      *template.Template
	catalogues map[string]map[string]string // language → key → text
	assets     map[string]asset             // by the name that pages use
	names      map[string]string            // file → that name
}

type asset struct {
	kind string
	data []byte
}

func newRenderer() (*renderer, error) {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	r := &renderer{catalogues: map[string]map[string]string{}, assets: map[string]asset{}, names: map[string]string{}}
	for _, lang := range languages() {
		text, err := files.ReadFile("catalogue/" + lang + ".json")
		if err != nil {
			return nil, err
		}
		words := map[string]string{}
		if err := json.Unmarshal(text, &words); err != nil {
			return nil, fmt.Errorf("catalogue %s: %w", lang, err)
		}
		r.catalogues[lang] = words
	}
	err := fs.WalkDir(files, "assets", func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(at)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		ext := path.Ext(at)
		name := strings.TrimSuffix(path.Base(at), ext) + "-" + hex.EncodeToString(sum[:8]) + ext
		kind, ok := kinds[ext]
		if !ok {
			return fmt.Errorf("asset %s: no media type is known for it", at)
		}
		r.assets[name], r.names[path.Base(at)] = asset{kind, data}, name
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.pages, err = template.New("").Funcs(template.FuncMap{
		"asset": func(file string) string { return "/assets/" + r.names[file] },
	}).ParseFS(files, "templates/*.html")
	return r, err
}

// frame is what the frame of every page needs.
type frame struct {
	Lang  string
	Words map[string]string
	Page  any
}

// T is a text of the catalogue. A key that is missing shows itself, and fails the test of
// the catalogues.
func (f *frame) T(key string) string {
	if text, ok := f.Words[key]; ok {
		return text
	}
	return key
}

// word is a text of the catalogue in the visit's language.
func (x *visit) word(key string) string {
	return (&frame{Words: x.p.render.catalogues[x.lang]}).T(key)
}

// With is the frame of a part of a page.
func (f *frame) With(part any) *frame { return &frame{f.Lang, f.Words, part} }

// page renders a page. to is where its form may lead to besides this server.
func (x *visit) page(status int, name, to string, model any) error {
	var b bytes.Buffer
	f := &frame{Lang: x.lang, Words: x.p.render.catalogues[x.lang], Page: model}
	if err := x.p.render.pages.ExecuteTemplate(&b, name+".html", f); err != nil {
		return fmt.Errorf("render the page %s: %w", name, err)
	}
	httpapi.PageHeaders(&x.Response.Header, formAction(to))
	x.SetStatusCode(status)
	x.SetContentType("text/html; charset=utf-8")
	x.SetBody(b.Bytes())
	return nil
}

// formAction is the policy's form-action for a form that may lead to an origin: browsers
// hold it against every redirect that follows, and a client may send its users on to any
// https origin of its own, on a developer's machine to any port.
func formAction(to string) string {
	switch {
	case to == "" || strings.ContainsAny(to, " ;,'\""):
		return "'self'"
	case strings.HasPrefix(to, "http://"): // of loopback, or it could not be registered
		return "'self' https: http://localhost:* http://127.0.0.1:* " + to
	}
	return "'self' https: " + to
}

// scopes are the items of a scope with what people read of them: the tenant's own words
// are the registry's; the standard ones stand in the catalogue.
func (x *visit) scopes(list string) []scope {
	var out []scope
	for _, name := range strings.Fields(list) {
		text := x.p.render.catalogues[x.lang]["scope."+name]
		if own, ok := x.view.Scope(x.tenant, name); ok && own.GetDisplayName()+own.GetDescription() != "" {
			text = own.GetDisplayName()
			if text == "" {
				text = own.GetDescription()
			}
		}
		out = append(out, scope{name, text})
	}
	return out
}

// claims are claims by their names with what people read of them; of one that no
// specification knows the name alone.
func (x *visit) claims(names []string) []scope {
	var out []scope
	for _, name := range names {
		out = append(out, scope{name, x.p.render.catalogues[x.lang]["claim."+name]})
	}
	return out
}

// asset answers GET /assets/{name}. A name holds the hash of what it is, so it never
// changes.
func (p *pages) asset(c *fasthttp.RequestCtx, _ *state.View) error {
	a, ok := p.render.assets[httpapi.Param(c, "name")]
	if !ok {
		return oauth.InvalidRequest.With("there is no such file").WithStatus(fasthttp.StatusNotFound)
	}
	c.Response.Header.Set(fasthttp.HeaderCacheControl, "public, max-age=31536000, immutable")
	c.Response.Header.Set("X-Content-Type-Options", "nosniff")
	c.SetContentType(a.kind)
	c.SetBody(a.data)
	return nil
}

// Languages are those of the pages, the default first.
func Languages() []string { return languages() }

// languages are those that the catalogues have, the default first.
func languages() []string { return []string{"en", "de"} }

// maxTags bounds the language tags that are looked at (WEB-11).
const maxTags = 16

// language chooses one of ours: of ui_locales first, of Accept-Language then.
func language(locales, accept string) string {
	tags := strings.Fields(cut(locales, 512))
	for item := range strings.SplitSeq(cut(accept, 512), ",") {
		tag, _, _ := strings.Cut(item, ";")
		tags = append(tags, strings.TrimSpace(tag))
	}
	for _, tag := range tags[:min(len(tags), maxTags)] {
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if slices.Contains(languages(), primary) {
			return primary
		}
	}
	return languages()[0]
}
