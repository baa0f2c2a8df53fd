package httpapi

import (
	"html"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// PageHeaders are what every page is sent with: nothing of another origin is loaded, no
// script but ours runs, nobody frames it, nothing of it is kept. formAction are the
// sources that its forms may lead to ('self' when empty).
func PageHeaders(h *fasthttp.ResponseHeader, formAction string) {
	if formAction == "" {
		formAction = "'self'"
	}
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action "+formAction+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	// With no-referrer a browser sends its own forms with "Origin: null", which is what a
	// form of a sandboxed page sends; this tells other origins as little.
	h.Set(fasthttp.HeaderReferrerPolicy, "same-origin")
}

// AllowFrames lets a page that has PageHeaders frame what is of these origins.
func AllowFrames(h *fasthttp.ResponseHeader, origins []string) {
	policy := string(h.Peek("Content-Security-Policy"))
	h.Set("Content-Security-Policy", policy+"; frame-src "+strings.Join(origins, " "))
}

// writePage tells a person at a browser what the server itself refuses. What a page's own
// rule refuses is told by that page.
func writePage(c *fasthttp.RequestCtx, r *request, status int, detail string) {
	PageHeaders(&c.Response.Header, "")
	c.SetStatusCode(status)
	c.SetContentType("text/html; charset=utf-8")
	title := strconv.Itoa(status) + " " + fasthttp.StatusMessage(status)
	c.SetBodyString(`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>` +
		title + `</title></head><body><main><h1>` + title + `</h1><p>` + html.EscapeString(detail) + `</p><p>Request ` + html.EscapeString(string(r.id[:r.idLen])) + `</p></main></body></html>`)
}
