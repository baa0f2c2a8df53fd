// Package testbrowser is a browser without script, for tests: it keeps cookies, follows
// redirects within the server, fills in forms, and says where they come from as browsers
// do.
//
// A Browser is for one goroutine.
package testbrowser

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// Browser is a window with its cookies.
type Browser struct {
	HTTP   *http.Client
	Issuer string // scheme and host that pages believe to be at
	// Base is where the next request really goes: the nodes in turn, for example.
	Base    func() string
	Cookies map[string]string
}

// Page is what a request came to.
type Page struct {
	Status int
	URL    *url.URL // where the browser is
	// Away is where it was sent outside of the server; nil while it is there.
	Away   *url.URL
	Header http.Header
	Text   string // the whole document
	Forms  []Form
}

// Form is a form of a page.
type Form struct {
	Action, Method string
	Values         url.Values
	Data           map[string]string // of its attributes data-...
	Buttons        []string          // name=value
}

// New is a browser with no cookies.
func New(client *http.Client, issuer string, base func() string) *Browser {
	quiet := *client
	quiet.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	quiet.Jar = nil
	return &Browser{HTTP: &quiet, Issuer: issuer, Base: base, Cookies: map[string]string{}}
}

// maxHops bounds the redirects of one visit.
const maxHops = 10

// Open goes to a path of the server, as a link of another site leads there.
func (b *Browser) Open(t testing.TB, path string) *Page {
	t.Helper()
	return b.visit(t, http.MethodGet, path, nil, "cross-site")
}

// Post sends a form of another site's page, with cookies of the kind that come along.
func (b *Browser) Post(t testing.TB, path string, form url.Values) *Page {
	t.Helper()
	return b.visit(t, http.MethodPost, path, form, "cross-site")
}

// Submit sends the first form of a page with these pairs of names and values set.
func (b *Browser) Submit(t testing.TB, p *Page, pairs ...string) *Page {
	t.Helper()
	if len(p.Forms) == 0 {
		t.Fatalf("the page %s has no form:\n%s", p.URL, p.Text)
	}
	return b.send(t, p.Forms[0], pairs)
}

// SubmitTo sends the form of a page that leads to a path, as Submit does.
func (b *Browser) SubmitTo(t testing.TB, p *Page, path string, pairs ...string) *Page {
	t.Helper()
	return b.send(t, *p.FormTo(t, path), pairs)
}

// FormTo is the form of a page that leads to a path.
func (p *Page) FormTo(t testing.TB, path string) *Form {
	t.Helper()
	at := slices.IndexFunc(p.Forms, func(f Form) bool { return f.Action == path })
	if at < 0 {
		t.Fatalf("the page %s (%d) has no form that leads to %s:\n%s", p.URL, p.Status, path, p.Text)
	}
	return &p.Forms[at]
}

func (b *Browser) send(t testing.TB, form Form, pairs []string) *Page {
	t.Helper()
	values := maps.Clone(form.Values)
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return b.visit(t, strings.ToUpper(form.Method), form.Action, values, "same-origin")
}

func (b *Browser) visit(t testing.TB, method, path string, form url.Values, site string) *Page {
	t.Helper()
	issuer, err := url.Parse(b.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	for range maxHops {
		p := b.ask(t, method, path, form, site)
		to := p.Header.Get("Location")
		if p.Status/100 != 3 || to == "" {
			return p
		}
		next, err := p.URL.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		if p.Status != http.StatusSeeOther {
			t.Fatalf("%s %s is redirected by %d, which may send the form on (AUT-18)", method, path, p.Status)
		}
		if next.Host != issuer.Host {
			p.Away = next
			return p
		}
		method, path, form = http.MethodGet, next.RequestURI(), nil
	}
	t.Fatalf("more than %d redirects from %s", maxHops, path)
	return nil
}

func (b *Browser) ask(t testing.TB, method, path string, form url.Values, site string) *Page {
	t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	at, err := url.Parse(b.Issuer + path)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, b.Base()+at.RequestURI(), body)
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", b.Issuer)
		if site == "cross-site" {
			req.Header.Set("Origin", "https://other.example")
		}
	}
	req.Header.Set("Sec-Fetch-Site", site)
	if site != "cross-site" || method == http.MethodGet { // SameSite=Lax
		for _, name := range slices.Sorted(maps.Keys(b.Cookies)) {
			req.AddCookie(&http.Cookie{Name: name, Value: b.Cookies[name]})
		}
	}
	resp, err := b.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	for _, c := range resp.Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("the cookie %s is not HttpOnly, SameSite=Lax and of this host alone (WEB-04)", c.Name)
		}
		if c.Value == "" {
			delete(b.Cookies, c.Name)
		} else {
			b.Cookies[c.Name] = c.Value
		}
	}
	return read(t, resp, at)
}

func read(t testing.TB, resp *http.Response, at *url.URL) *Page {
	t.Helper()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	p := &Page{Status: resp.StatusCode, URL: at, Header: resp.Header, Text: string(text)}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return p
	}
	doc, err := html.Parse(strings.NewReader(p.Text))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" {
			p.Forms = append(p.Forms, formOf(n))
		}
	}
	return p
}

func formOf(n *html.Node) Form {
	f := Form{Action: attr(n, "action"), Method: attr(n, "method"), Values: url.Values{}, Data: map[string]string{}}
	for _, a := range n.Attr {
		if name, ok := strings.CutPrefix(a.Key, "data-"); ok {
			f.Data[name] = a.Val
		}
	}
	for c := range n.Descendants() {
		switch {
		case c.Type != html.ElementNode:
		case c.Data == "input" && attr(c, "type") != "submit" && attr(c, "name") != "":
			f.Values.Add(attr(c, "name"), attr(c, "value"))
		case c.Data == "button" && attr(c, "name") != "":
			f.Buttons = append(f.Buttons, attr(c, "name")+"="+attr(c, "value"))
		}
	}
	return f
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
