package verify

import (
	"fmt"
	"slices"
	"strings"
)

// defaultSkew is how far clocks may differ, in seconds.
const defaultSkew = 60

// Expect is what the place where a token is used demands of it.
type Expect struct {
	Type     string   // typ without "application/", in any case (RFC 7515 §4.1.9); "": not checked
	Issuer   string   // byte-equal; "": not checked
	Own      bool     // Issuer, which must be given, is this cluster: ev must be there and is believed
	Audience []string // one of them must be in aud, byte-equal; empty: not checked
	Now      int64    // seconds
	Skew     int64    // seconds; 0 means 60, negative none
	MaxLife  int64    // seconds from iat, and from Now, to exp; 0: not bounded
}

// Check tells whether a verified token is meant for this use and this moment, and
// sets Claims.Own. exp is required everywhere.
func (t *Token) Check(e Expect) error {
	c := &t.Claims
	c.Own = false
	if e.Type != "" && !sameType(c.Type, e.Type) {
		return fmt.Errorf("%w: typ must be %q", ErrType, e.Type)
	}
	if e.Issuer != "" && c.Issuer != e.Issuer {
		return fmt.Errorf("%w: iss must be %q", ErrIssuer, e.Issuer)
	}
	if len(e.Audience) > 0 && !slices.ContainsFunc(e.Audience, func(a string) bool { return slices.Contains(c.Audience, a) }) {
		return fmt.Errorf("%w: ask for a token with aud %q", ErrAudience, e.Audience)
	}
	if err := c.checkTimes(e); err != nil {
		return err
	}
	if e.Own && !c.hasEvent {
		return fmt.Errorf("%w: a token of this issuer needs ev", ErrMalformed)
	}
	c.Own = e.Own && e.Issuer != "" // nobody's token becomes ours for want of a comparison
	return nil
}

func (c *Claims) checkTimes(e Expect) error {
	skew := e.Skew
	if skew == 0 {
		skew = defaultSkew
	}
	skew = max(skew, 0)
	switch {
	case c.Expires == 0:
		return fmt.Errorf("%w: exp is missing", ErrMalformed)
	case e.Now >= c.Expires+skew:
		return fmt.Errorf("%w; get a new one", ErrExpired)
	case c.NotBefore > e.Now+skew:
		return fmt.Errorf("%w: nbf lies ahead; compare the clocks", ErrNotYet)
	case c.IssuedAt > e.Now+skew:
		return fmt.Errorf("%w: iat lies ahead; compare the clocks", ErrNotYet)
	}
	if e.MaxLife > 0 && (c.Expires-e.Now > e.MaxLife+skew || c.IssuedAt != 0 && c.Expires-c.IssuedAt > e.MaxLife) {
		return fmt.Errorf("%w: exp may lie at most %d seconds ahead", ErrLifetime, e.MaxLife)
	}
	return nil
}

// sameType compares media types: in any case, "application/" left out or not.
func sameType(got, want string) bool {
	const prefix = "application/"
	if len(got) > len(prefix) && strings.EqualFold(got[:len(prefix)], prefix) {
		got = got[len(prefix):]
	}
	return len(got) == len(want) && strings.EqualFold(got, want)
}
