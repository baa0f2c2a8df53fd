package gateway

import (
	"log/slog"
	"strings"

	"github.com/keyraft/keyraft/tokens/verify"
)

// Request is one use of a token. Token is enough; the rest narrows the answer.
type Request struct {
	Scheme     string // of the Authorization header, Bearer or DPoP; empty: Bearer
	Token      string
	API        string // name of the API that it is used at
	Method     string // of the request that it came with, for DPoP
	URL        string // absolute, as the client sees it; for DPoP
	DPoP       string // the header of this name: a proof (RFC 9449)
	ClientCert []byte // DER, of a client that has proved to hold its key (RFC 8705)
}

// Identity is whom a token stands for. It is shared: read it only.
type Identity struct {
	Tenant      string   `json:"tenant"`
	KeyManager  string   `json:"key_manager"`
	Issuer      string   `json:"issuer"`
	Subject     string   `json:"subject"`
	ClientID    string   `json:"client_id"`
	Application string   `json:"application,omitempty"`
	TokenID     string   `json:"token_id"`
	Grant       string   `json:"grant,omitempty"`
	Scope       string   `json:"scope"`
	Audience    []string `json:"audience,omitempty"`
	IssuedAt    int64    `json:"issued_at"`
	Expires     int64    `json:"expires"`
	Opaque      bool     `json:"opaque,omitempty"`

	payload string // JSON of a JWT's claims
}

// Claims is the JSON of all claims of a JWT, empty for an opaque token.
func (i *Identity) Claims() string { return i.payload }

// String names the identity without any part of the token.
func (i *Identity) String() string {
	return i.Tenant + "/" + i.ClientID + "/" + i.Subject
}

// LogValue is String.
func (i *Identity) LogValue() slog.Value { return slog.StringValue(i.String()) }

// HasScope says whether the token has this scope (RFC 6749 §3.3).
func (i *Identity) HasScope(scope string) bool {
	for rest := i.Scope; rest != ""; {
		var one string
		if one, rest, _ = strings.Cut(rest, " "); one == scope {
			return true
		}
	}
	return false
}

// claims is what deciding again needs.
type claims struct {
	verify.Claims
	issuer  *issuer    // as it was when the signature was checked; nil for an opaque one
	key     verify.Key // that it was checked with
	targets []target
	space   [maxTargets]target // theirs
}

// target is one pair by which a token can be revoked, with its digest under the
// issuer and, since a node may leave the issuer out, without.
type target struct {
	kind, value string
	named, bare digest
}

func intersects(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}
