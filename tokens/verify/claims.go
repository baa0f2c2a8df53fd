package verify

import (
	"strconv"
	"strings"
)

const (
	// maxInstant is in the year 2242: a later date is a mistake or an attack.
	maxInstant = 1 << 33
	// maxAudiences bounds aud; more is junk (RFC 8725 §3.9 wants one's own in it).
	maxAudiences = 64
)

// Claims are what is read of a payload. Strings share the payload's memory, so a
// kept Claims keeps the payload too. The tenant is not among them: the issuer
// tells it.
type Claims struct {
	Type, Alg, KeyID string // of the header: typ, alg, kid

	Issuer   string   // iss
	Subject  string   // sub
	ClientID string   // client_id
	JTI      string   // jti
	Audience []string // aud, one or many
	Scope    string   // scope, space-separated; an array of names is joined

	IssuedAt  int64 // iat, seconds; 0 when missing
	NotBefore int64 // nbf, seconds; 0 when missing
	Expires   int64 // exp, seconds; 0 when missing: Check refuses it

	// KeyManager is the name of the key manager that vouches for the issuer, set by
	// the caller; empty means the built-in one, "resident".
	KeyManager string

	// Bound says that the token has a cnf claim, so it is no bearer token. JKT
	// (RFC 9449) and X5T (RFC 8705) tell to what. When both are empty the binding
	// is of a kind that we cannot check: the token must be refused.
	Bound    bool
	JKT, X5T string

	// Ours alone. Own is set by Check, for an issuer that the caller knows to be
	// this cluster and a token that has ev; never by what a token says of itself,
	// or any issuer could write itself a head above every revocation.
	Own         bool
	Epoch, Head uint64 // ev: epoch and head of the view on which it was decided
	Grant       string // gid: the grant (family)
	Root        string // root: the delegation tree
	RootClient  string // root_client: to which the first token of the tree was issued
	Application string // app

	Raw string // the payload, JSON, for claims that are not listed here
	// More says that there are such.
	More bool

	hasEvent bool
}

// claims reads the payload.
func (s *scanner) claims(c *Claims) bool {
	o, ok := s.beginObject()
	for ok {
		var name string
		var more bool
		if name, more, ok = s.member(&o); !ok || !more {
			return ok
		}
		switch name {
		case "iss":
			ok = s.nonEmpty(&c.Issuer)
		case "sub":
			ok = s.nonEmpty(&c.Subject)
		case "jti":
			ok = s.nonEmpty(&c.JTI)
		case "client_id":
			ok = s.nonEmpty(&c.ClientID)
		case "aud":
			ok = s.audience(c)
		case "scope":
			ok = s.scope(c)
		case "exp":
			ok = s.instant(&c.Expires)
		case "nbf":
			ok = s.instant(&c.NotBefore)
		case "iat":
			ok = s.instant(&c.IssuedAt)
		case "cnf":
			ok = s.confirmation(c)
		case "ev":
			ok = s.event(c)
		case "gid":
			ok = s.own(&c.Grant)
		case "root":
			ok = s.own(&c.Root)
		case "root_client":
			ok = s.own(&c.RootClient)
		case "app":
			ok = s.own(&c.Application)
		default:
			c.More = true
			ok = s.properCase(name, claimNames) && s.skip()
		}
	}
	return false
}

// instant reads a NumericDate (RFC 7519 §2): whole seconds from 1970 to 2242.
func (s *scanner) instant(to *int64) bool {
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		return s.fail("a date is not a number")
	}
	text, ok := s.number()
	if !ok {
		return false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > maxInstant {
		return s.fail("a date is not a whole number of seconds within reason")
	}
	*to = int64(n)
	return true
}

// audience reads one string or an array of strings, none empty.
func (s *scanner) audience(c *Claims) bool {
	if s.peek() == '"' {
		c.Audience = make([]string, 1)
		return s.nonEmpty(&c.Audience[0])
	}
	l, ok := s.beginArray()
	for ok {
		var more bool
		if more, ok = s.element(&l); !ok {
			return false
		}
		if !more {
			return len(c.Audience) > 0 || s.fail("aud is empty")
		}
		if l.n > maxAudiences {
			return s.fail("aud has too many members")
		}
		var one string
		ok = s.nonEmpty(&one)
		c.Audience = append(c.Audience, one)
	}
	return false
}

// scope reads the string of RFC 8693 §4.2 or, as some issuers write it, an array
// of names. A space within a name would make two of it.
func (s *scanner) scope(c *Claims) bool {
	if s.peek() == '"' {
		return s.plain(&c.Scope)
	}
	var names []string
	l, ok := s.beginArray()
	for ok {
		var more bool
		if more, ok = s.element(&l); !ok || !more {
			break
		}
		var one string
		if ok = s.nonEmpty(&one); ok && strings.Contains(one, " ") {
			return s.fail("a scope name holds a space")
		}
		names = append(names, one)
	}
	c.Scope = strings.Join(names, " ")
	return ok
}

// confirmation reads cnf (RFC 7800). Members that we do not know leave the token
// bound.
func (s *scanner) confirmation(c *Claims) bool {
	c.Bound = true
	o, ok := s.beginObject()
	for ok {
		var name string
		var more bool
		if name, more, ok = s.member(&o); !ok || !more {
			return ok
		}
		switch name {
		case "jkt":
			ok = s.nonEmpty(&c.JKT)
		case "x5t#S256":
			ok = s.nonEmpty(&c.X5T)
		default:
			ok = s.properCase(name, []string{"jkt", "x5t#S256"}) && s.skip()
		}
	}
	return false
}

// event reads ev, "epoch.head". What has another form is another issuer's claim.
func (s *scanner) event(c *Claims) bool {
	var text string
	if !s.own(&text) {
		return false
	}
	epoch, head, found := strings.Cut(text, ".")
	e, okE := decimal(epoch)
	h, okH := decimal(head)
	if found && okE && okH {
		c.Epoch, c.Head, c.hasEvent = e, h, true
	}
	return true
}

// decimal reads digits without a sign or leading zeros.
func decimal(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && (s[0] != '0' && s[0] != '+' || s == "0")
}
