package grants

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Bounds of a trusted issuer's record. Times are seconds.
const (
	maxIssuer      = 512 // bytes
	maxIssuerItems = 100
	maxMappings    = 30
	maxIssuerPEM   = 10 // keys

	defaultAssertionLife = 3600
	maxAssertionLife     = 86_400
)

// KindJWT is the kind of issuers whose assertions are JWTs (RFC 7523).
const KindJWT = "jwt"

func badIssuer(field, format string, args ...any) error {
	return &clients.FieldError{Field: field, Detail: fmt.Sprintf(format, args...)}
}

// CheckIssuer holds a trusted issuer's record against the rules; own is our issuer of
// the tenant, and url judges where a key set may be fetched from. The error is a
// *clients.FieldError.
func CheckIssuer(i *state.TrustedIssuer, own string, url func(string) error) error {
	iss := i.GetIssuer()
	switch {
	case iss == "" || len(iss) > maxIssuer || strings.ContainsFunc(iss, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return badIssuer("issuer", "1 to %d bytes of printable ASCII without spaces: the iss of its tokens, byte by byte", maxIssuer)
	case iss == own || strings.HasPrefix(own, iss+"/t/"):
		return badIssuer("issuer", "it is this server; its own tokens need no trust")
	case i.GetKind() != KindJWT:
		return badIssuer("kind", "%s is the one kind so far", KindJWT)
	case i.GetMaxLife() < 0 || i.GetMaxLife() > maxAssertionLife:
		return badIssuer("max_lifetime", "0 to %d seconds; 0 is %d", maxAssertionLife, defaultAssertionLife)
	case i.GetSubjectClaim() != "" && !clients.ClaimName(i.GetSubjectClaim()):
		return badIssuer("subject_claim", "the name of a claim, of at most 100 bytes")
	}
	if err := checkIssuerKeys(i, url); err != nil {
		return err
	}
	for _, m := range [...]struct {
		field string
		list  []string
	}{{"audiences", i.GetAudiences()}, {"clients", i.GetClients()}, {"scopes", i.GetScopes()}} {
		if err := checkNames(m.field, m.list); err != nil {
			return err
		}
	}
	for _, s := range i.GetScopes() {
		if !oauth.ValidScope(s) {
			return badIssuer("scopes", "%.64q is no scope", s)
		}
	}
	return checkMapping(i.GetClaimMapping())
}

func checkNames(field string, list []string) error {
	if len(list) > maxIssuerItems {
		return badIssuer(field, "at most %d", maxIssuerItems)
	}
	for n, s := range list {
		if s == "" || len(s) > maxIssuer || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f }) || slices.Contains(list[:n], s) {
			return badIssuer(field, "each has 1 to %d bytes without spaces, and is there once", maxIssuer)
		}
	}
	return nil
}

// checkIssuerKeys asks for exactly one way to the keys, and looks at them as far as they
// are here (JWT-13, JWT-27).
func checkIssuerKeys(i *state.TrustedIssuer, url func(string) error) error {
	ways := 0
	for _, given := range []bool{i.GetJwksUri() != "", len(i.GetJwks()) > 0, len(i.GetCertificates()) > 0} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return badIssuer("jwks_uri", "give the issuer's keys in exactly one of jwks, jwks_uri and pem")
	case i.GetJwksUri() != "":
		if err := url(i.GetJwksUri()); err != nil {
			return badIssuer("jwks_uri", "%v", err)
		}
	case len(i.GetJwks()) > 0:
		if _, err := verify.ParseJWKS(i.GetJwks()); err != nil {
			return badIssuer("jwks", "%v", err)
		}
	default:
		return checkPEM(i.GetCertificates())
	}
	return nil
}

func checkPEM(keys [][]byte) error {
	if len(keys) > maxIssuerPEM {
		return badIssuer("pem", "at most %d keys", maxIssuerPEM)
	}
	for _, der := range keys {
		public, _, err := publicKey(der)
		if err != nil {
			return badIssuer("pem", "a block is %v", err)
		}
		alg, ok := algOf(public)
		if !ok {
			return badIssuer("pem", "a key is of no kind that verifies tokens: P-256, P-384, Ed25519 or RSA")
		}
		if err := (verify.Key{Alg: alg, Public: public}).Check(); err != nil {
			return badIssuer("pem", "%v", err)
		}
	}
	return nil
}

// ParsePEM reads certificates and public keys; the error is a *clients.FieldError. A
// private key is refused, and should be thought of as known to others now.
func ParsePEM(text string) ([][]byte, error) {
	var out [][]byte
	rest := []byte(text)
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && strings.TrimSpace(string(rest)) != "" || block == nil && len(out) == 0:
			return nil, badIssuer("pem", "blocks of CERTIFICATE or PUBLIC KEY are needed, and nothing else")
		case block == nil:
			return out, nil
		case strings.Contains(block.Type, "PRIVATE"):
			return nil, badIssuer("pem", "it holds a private key; send certificates or public keys, and replace that key, for it has been seen here")
		case block.Type != "CERTIFICATE" && block.Type != "PUBLIC KEY":
			return nil, badIssuer("pem", "blocks of CERTIFICATE or PUBLIC KEY are needed, and nothing else")
		}
		out = append(out, block.Bytes)
	}
}

// FormatPEM writes what ParsePEM read.
func FormatPEM(keys [][]byte) string {
	var b strings.Builder
	for _, der := range keys {
		kind := "CERTIFICATE"
		if _, err := x509.ParseCertificate(der); err != nil {
			kind = "PUBLIC KEY"
		}
		b.Write(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return b.String()
}

// checkMapping refuses claims that say what a token is (REG-05).
func checkMapping(all []*state.ClaimMapping) error {
	const field = "claim_mapping"
	if len(all) > maxMappings {
		return badIssuer(field, "at most %d claims", maxMappings)
	}
	for n, m := range all {
		switch {
		case !clients.ClaimName(m.GetRemote()) || !clients.ClaimName(m.GetLocal()):
			return badIssuer(field, "each names a remote and a local claim, of at most 100 bytes")
		case oauth.ReservedClaim(strings.ToLower(m.GetLocal())):
			return badIssuer(field, "%.64q says what a token is, so no mapping may set it", m.GetLocal())
		case slices.ContainsFunc(all[:n], func(o *state.ClaimMapping) bool { return o.GetLocal() == m.GetLocal() }):
			return badIssuer(field, "%.64q is set twice", m.GetLocal())
		}
	}
	return nil
}
