package pages

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
)

// Names of the cookies, without their prefix.
const (
	flowCookie    = "keyraft-flow"    // which browser a login in flight belongs to
	sessionCookie = "keyraft-session" // who is signed in
	knownCookie   = "keyraft-known"   // who has signed in here before
	maxCookie     = 4096              // bytes
	knownFor      = 400 * 86_400      // seconds; browsers keep nothing for longer
)

// name is a cookie's name at this visit: __Host- keeps it to this host and to TLS
// (WEB-04); a plain listener is for development alone. Tenants of one host share its
// cookies, so a login at one must not take the place of that at another.
func (x *visit) name(cookie string) string {
	if cookie != flowCookie && x.tenant != "default" {
		cookie += "-" + x.tenant
	}
	if x.secure {
		return "__Host-" + cookie
	}
	return cookie
}

func (x *visit) cookie(name string) string {
	value := x.Request.Header.Cookie(x.name(name))
	if len(value) > maxCookie {
		return ""
	}
	return string(value)
}

// setCookie sends a cookie; an empty value forgets it. It comes along when another site
// sends the browser here, and with no form of another site.
func (x *visit) setCookie(name, value string) {
	c := fasthttp.AcquireCookie()
	defer fasthttp.ReleaseCookie(c)
	c.SetKey(x.name(name))
	c.SetValue(value)
	c.SetPath("/")
	c.SetHTTPOnly(true)
	c.SetSecure(x.secure)
	c.SetSameSite(fasthttp.CookieSameSiteLaxMode)
	switch {
	case value == "":
		c.SetExpire(fasthttp.CookieExpireDelete)
	case name == knownCookie:
		c.SetMaxAge(knownFor)
	}
	x.Response.Header.SetCookie(c)
}

// browser is the hash of this browser's flow cookie; a browser without one gets it.
func (x *visit) browser() string {
	value := x.cookie(flowCookie)
	if len(value) != 43 {
		var raw [32]byte
		rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
		value = base64.RawURLEncoding.EncodeToString(raw[:])
		x.setCookie(flowCookie, value)
		x.Request.Header.SetCookie(x.name(flowCookie), value) // whoever asks again in this visit
	}
	return browserOf(value)
}

func browserOf(cookie string) string {
	sum := sha256.Sum256([]byte("flow\x00" + cookie))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// present is who is signed in at this browser.
func (x *visit) present() (*state.Session, *state.User, error) {
	cookie := x.cookie(sessionCookie)
	if cookie == "" {
		return nil, nil, nil
	}
	s, user, renewed, err := x.p.Sessions.Current(x.view, x.tenant, cookie)
	if err == nil && renewed != "" {
		x.setCookie(sessionCookie, renewed)
	}
	return s, user, err
}

// sameOrigin tells that a form comes from a page of this server (WEB-01). A browser says
// where a request comes from; what says nothing is no browser, and has no cookie of one.
func sameOrigin(x *visit, issuer string) bool {
	if site := string(x.Request.Header.Peek("Sec-Fetch-Site")); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	from := string(x.Request.Header.Peek(fasthttp.HeaderOrigin))
	if from == "" {
		return true
	}
	u, err := url.Parse(issuer)
	return err == nil && from == u.Scheme+"://"+u.Host
}

// origin is where a URI leads, for form-action: a scheme alone for an application's own.
func origin(uri string) string {
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Scheme == "":
		return ""
	case strings.Contains(u.Host, "["): // a policy can name no IPv6 address
		return u.Scheme + ":"
	case u.Scheme == "http" || u.Scheme == "https":
		return u.Scheme + "://" + u.Host
	}
	return u.Scheme + ":"
}
