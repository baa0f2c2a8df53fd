package clients

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keyraft/keyraft/internal/oauth"
)

const (
	applicationWeb    = "web"
	applicationNative = "native"
)

// checkRedirects holds the rules of redirect URIs at registration (RFC 8252 §7, RFC
// 9700 §2.1, OpenID Connect Registration §2).
func (r *Registration) checkRedirects() error {
	const field = "redirect_uris"
	if len(r.RedirectURIs) > maxItems {
		return bad(field, "at most %d", maxItems)
	}
	switch r.ApplicationType {
	case "", applicationWeb, applicationNative:
	default:
		return bad("application_type", "web or native")
	}
	for i, s := range r.RedirectURIs {
		if err := redirectable(field, s); err != nil {
			return err
		}
		if slices.Contains(r.RedirectURIs[:i], s) {
			return bad(field, "%.128q is there twice", s)
		}
		if r.ApplicationType == applicationWeb && PrivateScheme(s) != "" {
			return bad(field, "%.128q is of a private-use scheme, which is for the application_type native", s)
		}
		if r.ApplicationType != applicationNative && r.grants(oauth.GrantImplicit) && !strings.HasPrefix(s, "https:") {
			return bad(field, "%.128q must be an https URL, for the grant type implicit sends tokens there", s)
		}
	}
	if len(r.RedirectURIs) == 0 && (r.grants(oauth.GrantAuthorizationCode) || r.grants(oauth.GrantImplicit)) {
		return bad(field, "one at least is needed for the grant types authorization_code and implicit")
	}
	return nil
}

func (r *Registration) grants(g oauth.GrantType) bool {
	return slices.Contains(r.GrantTypes, string(g))
}

// redirectable refuses what no browser may be sent to: the answer of an authorization
// or a logout goes there.
func redirectable(field, s string) error {
	u, ok := absolute(s)
	if !ok {
		return bad(field, "%.128q must be an absolute URI of printable ASCII, at most %d bytes, without fragment, user information and backslash; write an international host name in its xn-- form", s, maxURI)
	}
	if !strings.HasPrefix(s, u.Scheme+":") {
		return bad(field, "%.128q needs its scheme in lower case", s)
	}
	switch u.Scheme {
	case "https":
		if !plainAuthority(u) {
			return bad(field, "%.128q needs one exact host, without wildcard and percent-encoding, and a port of 1 to 65535 if any", s)
		}
	case "http":
		if !plainAuthority(u) || u.Hostname() != "localhost" && !loopback(u.Hostname()) {
			return bad(field, "%.128q must be https; http is for 127.0.0.1, [::1] and localhost only (RFC 8252 §7.3)", s)
		}
	default:
		if !strings.Contains(u.Scheme, ".") {
			return bad(field, "%.128q must be an https URL, http on loopback, or of a private-use scheme that is a domain name of yours in reverse, so with a dot (RFC 8252 §7.1)", s)
		}
	}
	return nil
}

// plainAuthority tells whether the host is a name or a literal address that reads the
// same everywhere, and the port a port.
func plainAuthority(u *url.URL) bool {
	host, literal := u.Hostname(), strings.HasPrefix(u.Host, "[")
	if literal {
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() || a.Zone() != "" {
			return false
		}
	}
	for _, label := range strings.Split(host, ".") {
		if !literal && (label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "") {
			return false
		}
	}
	_, port, given := strings.Cut(u.Host[len(host):], ":")
	return host != "" && u.Opaque == "" && (!given || validPort(port)) && !strings.Contains(u.Host, "%")
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n != 0 && s[0] != '0'
}

// loopback takes the literal addresses only, in their own family: neither names nor
// mapped, short or zoned forms, which other parsers read otherwise.
func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() && !a.Is4In6() && a.Zone() == "" && a.String() == host
}

// PrivateScheme is the private-use scheme of a redirect URI (RFC 8252 §7.1); "" for
// http and https.
func PrivateScheme(uri string) string {
	scheme, _, _ := strings.Cut(uri, ":")
	if scheme == "https" || scheme == "http" {
		return ""
	}
	return scheme
}

// RedirectMatches tells whether asked is one of the registered redirect URIs, byte for
// byte (RFC 9700 §2.1). The one exception is the port of an http URI at a loopback
// address, which a native application learns only when it listens (RFC 8252 §7.3).
func RedirectMatches(registered []string, asked string) bool {
	for _, r := range registered {
		if r == asked && r != "" || loopbackMatches(r, asked) {
			return true
		}
	}
	return false
}

func loopbackMatches(registered, asked string) bool {
	host, rest, ok := cutLoopback(registered)
	if !ok {
		return false
	}
	askedHost, askedRest, ok := cutLoopback(asked)
	return ok && askedHost == host && askedRest == rest
}

// cutLoopback takes http://127.0.0.1[:port]/rest apart, without a URL parser: what
// another one reads as its host is no matter then.
func cutLoopback(uri string) (host, rest string, ok bool) {
	after, ok := strings.CutPrefix(uri, "http://")
	if !ok || len(uri) > maxURI {
		return "", "", false
	}
	end := strings.IndexAny(after, "/?")
	if end < 0 {
		end = len(after)
	}
	host, rest = after[:end], after[end:]
	if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.HasSuffix(host, "]") {
		if !validPort(host[at+1:]) {
			return "", "", false
		}
		host = host[:at]
	}
	address := host
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		address = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return "", "", false
	}
	return host, rest, loopback(address)
}
