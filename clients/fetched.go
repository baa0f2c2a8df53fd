package clients

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
)

const (
	// maxRequestURI is what OpenID Connect Core §6.2 allows, in bytes.
	maxRequestURI = 512
	// maxSector bounds the list at a sector_identifier_uri, in bytes.
	maxSector = 64 << 10
)

// Fetch gets the JSON document at a URL, of at most so many bytes.
type Fetch func(ctx context.Context, url string, limit int64) ([]byte, error)

// checkFetched holds the form of the URLs that this server fetches from for a client.
func (r *Registration) checkFetched() error {
	switch {
	case r.JWKSURI != "" && r.hasJWKS():
		return bad("jwks_uri", "jwks and jwks_uri exclude each other (OpenID Connect Registration §2); send one of them")
	case len(r.RequestURIs) > maxItems:
		return bad("request_uris", "at most %d", maxItems)
	}
	for _, s := range r.RequestURIs {
		if len(s) > maxRequestURI {
			return bad("request_uris", "at most %d bytes each (OpenID Connect Core §6.2)", maxRequestURI)
		}
	}
	return nil
}

// signs tells whether the client's own signatures can be checked.
func (r *Registration) signs() bool { return r.hasJWKS() || r.JWKSURI != "" }

// callable holds the URLs of a client that are new in c against what this server may
// call (SSR-01).
func (r *Registry) callable(c, old *state.Client) error {
	judge := func(field, uri string) error {
		if r.cfg.OutboundURL == nil {
			return bad(field, "nothing is fetched here")
		}
		if err := r.cfg.OutboundURL(uri); err != nil {
			return bad(field, "%v", err)
		}
		return nil
	}
	if uri := c.GetJwksUri(); uri != "" && uri != old.GetJwksUri() {
		if err := judge("jwks_uri", uri); err != nil {
			return err
		}
	}
	for _, uri := range c.GetRequestUris() {
		u, err := url.Parse(uri)
		if err != nil {
			return bad("request_uris", "an https URL is needed")
		}
		u.Fragment, u.RawFragment = "", "" // of a digest of what is there
		if slices.Contains(old.GetRequestUris(), uri) {
			continue
		}
		if err := judge("request_uris", u.String()); err != nil {
			return err
		}
	}
	return nil
}

// provesSector fetches the list at a sector_identifier_uri: each redirect URI must be in
// it, or a client could choose the sector of others and know users by the names that
// those do (OpenID Connect Registration §5, REG-11). The list is looked at again when
// either has changed.
func (r *Registry) provesSector(ctx context.Context, c, old *state.Client) error {
	const field = "sector_identifier_uri"
	uri := c.GetSectorIdentifierUri()
	if uri == "" || uri == old.GetSectorIdentifierUri() && slices.Equal(c.GetRedirectUris(), old.GetRedirectUris()) {
		return nil
	}
	if r.cfg.Fetch == nil {
		return bad(field, "nothing is fetched here, so it can't be proved; ask the operator")
	}
	list, err := r.cfg.Fetch(ctx, uri, maxSector)
	if err != nil {
		return bad(field, "it can't be read: %v", err)
	}
	var uris []string
	if json.Unmarshal(list, &uris) != nil {
		return bad(field, "what is there is no JSON list of redirect URIs (OpenID Connect Registration §5)")
	}
	for _, s := range c.GetRedirectUris() {
		if !slices.Contains(uris, s) {
			return bad(field, "its list does not hold each of the redirect_uris (OpenID Connect Registration §5)")
		}
	}
	return nil
}
