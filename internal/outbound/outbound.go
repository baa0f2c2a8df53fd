// Package outbound calls servers of others: it fetches documents, such as key sets, and
// sends forms. It is the one way out of a node that an administrator's URL may take, so it holds each
// address against what a node may call, after the name was resolved and just before
// the connection is made (SSR-01 to SSR-03): a name that resolves to another address a
// moment later gains nothing.
//
// Public addresses alone are called, and what the operator's outbound_allow names.
// Link-local ones, where clouds keep their metadata, never are. No proxy of the
// environment is used, no redirect followed (SSR-04), no compression taken; a fetch has
// one deadline and one size (SSR-05). An error says which kind of failure it was and
// nothing of what was received (SSR-06).
//
// Client is safe for concurrent use. Sizes are bytes.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Why a call failed. Every error of Get, Post and Check is one of them.
var (
	ErrURL         = errors.New("the URL must be https, with a host, without user, fragment or spaces, of at most 2048 bytes")
	ErrAddress     = errors.New("the URL leads to an address that this server may not call; an operator can allow its network by outbound_allow")
	ErrUnreachable = errors.New("the server could not be reached, or not over TLS with a certificate of a known authority")
	ErrAnswer      = errors.New("the server's answer is not 200 with a document of the kind that is fetched; redirects are not followed")
	ErrNotTaken    = errors.New("the server's answer is neither 200 nor 204; redirects are not followed")
	ErrTooLarge    = errors.New("the document is too large")
)

const (
	maxURL     = 2048
	maxHeaders = 16 << 10
	// timeout bounds one fetch from the look-up of the name to the last byte.
	timeout = 5 * time.Second
)

// Config has no needed fields.
type Config struct {
	Allow    []netip.Prefix // networks besides the public ones
	Loopback bool           // loopback may be called, by plain http too: for --dev
	RootCAs  *x509.CertPool // nil: the system's
}

// Client calls servers of others.
type Client struct {
	cfg  Config
	http http.Client
}

// ParseNetworks reads the operator's list.
func ParseNetworks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("outbound_allow: %q is no network such as 10.0.0.0/8", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// New makes a client.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg}
	dialer := &net.Dialer{Timeout: timeout, Control: c.control, KeepAlive: -1}
	c.http = http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
			// A connection that is kept would be used for a name that was resolved anew.
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeaders,
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1: less to send us
		},
	}
	return c
}

// control judges the address that is about to be connected to.
func (c *Client) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !c.permits(to.Addr()) {
		return ErrAddress
	}
	return nil
}

// Check tells what of a URL can be told without calling it: its form, and an address
// that stands in it.
func (c *Client) Check(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxURL || u.Host == "" || u.User != nil || u.Fragment != "" || strings.ContainsAny(raw, "#\\ \t\r\n") || u.Opaque != "" {
		return ErrURL
	}
	address, addressErr := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !c.cfg.Loopback || addressErr != nil || !address.IsLoopback()) {
		return ErrURL
	}
	if name := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."); !c.cfg.Loopback && (name == "localhost" || strings.HasSuffix(name, ".localhost")) {
		return ErrAddress
	}
	if addressErr == nil && !c.permits(address) {
		return ErrAddress
	}
	return nil
}

// Get fetches the JSON document at a URL, of at most so many bytes.
func (c *Client) Get(ctx context.Context, raw string, limit int64) ([]byte, error) {
	return c.get(ctx, raw, limit, "application/jwk-set+json, application/json", isJSON)
}

// GetJWT fetches the JWT at a URL, of at most so many bytes: a request object (RFC 9101
// §5.2.3, OpenID Connect Core §6.2).
func (c *Client) GetJWT(ctx context.Context, raw string, limit int64) ([]byte, error) {
	return c.get(ctx, raw, limit, "application/oauth-authz-req+jwt, application/jwt, application/jose", isJWT)
}

func (c *Client) get(ctx context.Context, raw string, limit int64, accept string, takes func(contentType string) bool) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, raw, nil, accept)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "" || !takes(resp.Header.Get("Content-Type")) {
		return nil, ErrAnswer
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, ErrUnreachable
	case int64(len(body)) > limit:
		return nil, ErrTooLarge
	}
	return body, nil
}

// Post sends a form. It was taken when the answer is 200 or 204; nothing more of the
// answer is read.
func (c *Client) Post(ctx context.Context, raw string, form url.Values) error {
	resp, err := c.do(ctx, http.MethodPost, raw, form, "*/*")
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // its status has told all
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return ErrNotTaken
	}
	return nil
}

// do sends one request and gives the head of the answer, whatever its status.
func (c *Client) do(ctx context.Context, method, raw string, form url.Values, accept string) (*http.Response, error) {
	if err := c.Check(raw); err != nil {
		return nil, err
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, raw, body)
	if err != nil {
		return nil, ErrURL
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "keyraft")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, ErrAddress):
		return nil, ErrAddress
	case err != nil:
		return nil, ErrUnreachable
	}
	return resp, nil
}

// isJSON takes what servers send with a key set; text/html of a login page is none.
func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	switch strings.TrimSpace(media) {
	case "application/json", "application/jwk-set+json", "text/plain", "":
		return true
	}
	return false
}

// isJWT takes what servers send with a JWT.
func isJWT(contentType string) bool {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	switch strings.TrimSpace(media) {
	case "application/oauth-authz-req+jwt", "application/jwt", "application/jose", "text/plain", "":
		return true
	}
	return false
}
