package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	defaultAddr = "http://127.0.0.1:9763"
	// callTimeout bounds one request, waiting for gateways included.
	callTimeout = 90 * time.Second
	// idleTimeout ends a stream (a snapshot) on which nothing moves.
	idleTimeout = time.Minute
	// maxAnswer bounds the JSON that is read of one answer.
	maxAnswer = 32 << 20
)

// dialer makes a client of the cluster's API from a command's flags and the
// environment. Nothing is sent yet.
type dialer func(cmd *cobra.Command) (*api, error)

// api is a client of one node. Safe for one command at a time.
type api struct {
	base   string // "https://node1:9443" or with "/t/acme", no slash at its end
	node   string // base without the tenant
	token  secret
	http   *http.Client
	out    printer
	io     console
	pace   pace
	random io.Reader
}

// secret is a credential. Its text is behind a pointer, so that printing a
// struct that holds one shows an address, and printing the secret itself nothing.
type secret struct{ text *string }

func newSecret(text string) secret { return secret{&text} }

func (s secret) empty() bool { return s.text == nil || *s.text == "" }

// reveal is for the one place that sends it.
func (s secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

func (s secret) String() string { return "(hidden)" }

// GoString hides the credential from %#v.
func (s secret) GoString() string { return "(hidden)" }

// addClientFlags gives a command, and those below it, the flags of a client.
func addClientFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.String("addr", "", "URL of any node (KEYRAFT_ADDR; default "+defaultAddr+")")
	f.String("token", "", "admin token (KEYRAFT_TOKEN is safer: flags show in the process list)")
	f.String("token-file", "", "file with the admin token on one line")
	f.String("cacert", "", "PEM file with the authorities of the node's certificate (KEYRAFT_CACERT)")
	f.String("tenant", "", "tenant, when it is not the default one (KEYRAFT_TENANT)")
	addOutput(cmd)
}

// newDialer returns the dialer of the real program.
func newDialer(io console) dialer {
	return func(cmd *cobra.Command) (*api, error) {
		a, err := newAPI(cmd, io, fromFlag(cmd, io, "addr", "KEYRAFT_ADDR", defaultAddr))
		if err != nil {
			return nil, err
		}
		a.token, err = adminToken(cmd, io)
		return a, err
	}
}

// newAPI makes a client of the node at addr that has no admin token.
func newAPI(cmd *cobra.Command, io console, addr string) (*api, error) {
	out, err := newPrinter(cmd, io.Out)
	if err != nil {
		return nil, err
	}
	a := &api{out: out, io: io, pace: usualPace(), random: rand.Reader}
	if a.node, err = nodeURL(addr); err != nil {
		return nil, err
	}
	a.base = a.node
	if tenant := fromFlag(cmd, io, "tenant", "KEYRAFT_TENANT", ""); tenant != "" && tenant != "default" {
		a.base += "/t/" + url.PathEscape(tenant)
	}
	transport, err := newTransport(fromFlag(cmd, io, "cacert", "KEYRAFT_CACERT", ""))
	if err != nil {
		return nil, err
	}
	a.http = &http.Client{
		Transport: transport,
		// Another place would get the token; the answer says where it is.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a, nil
}

// fromFlag reads a flag, else its variable, else the default.
func fromFlag(cmd *cobra.Command, io console, flag, env, fallback string) string {
	if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
		return f.Value.String()
	}
	if io.Env != nil {
		if value, ok := io.Env(env); ok && value != "" {
			return value
		}
	}
	return fallback
}

func adminToken(cmd *cobra.Command, io console) (secret, error) {
	path, err := cmd.Flags().GetString("token-file")
	if err != nil {
		return secret{}, fmt.Errorf("read --token-file: %w", err)
	}
	if path == "" {
		return newSecret(strings.TrimSpace(fromFlag(cmd, io, "token", "KEYRAFT_TOKEN", ""))), nil
	}
	if cmd.Flags().Changed("token") {
		return secret{}, usagef("--token and --token-file are both given; keep one")
	}
	text, err := readSecretFile(path)
	return newSecret(text), err
}

// readSecretFile reads a file that holds one line.
func readSecretFile(path string) (string, error) {
	text, err := readLimited(path, 64<<10)
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(text))
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", usagef("%s must hold the secret on one line and nothing else", path)
	}
	return line, nil
}

func readLimited(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("%v; name a readable file", err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(text)) > most {
		return nil, usagef("%s is larger than %s; name another file", path, humanBytes(most))
	}
	return text, nil
}

// nodeURL checks --addr. Without a scheme, this machine means http and any other
// https.
func nodeURL(text string) (string, error) {
	const fix = "give the URL of a node with --addr or KEYRAFT_ADDR, such as http://127.0.0.1:9763 or https://node1:9443"
	full := text
	if !strings.Contains(text, "://") {
		host, _, err := net.SplitHostPort(text)
		if err != nil {
			return "", usagef("%q is neither a URL nor host:port; %s", text, fix)
		}
		scheme := "https://"
		if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
			scheme = "http://"
		}
		full = scheme + text
	}
	u, err := url.Parse(full)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return "", usagef("%q is not a URL with http or https; %s", text, fix)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", usagef("the address of the node has a user, a query or a fragment; %s", fix)
	}
	return strings.TrimRight(full, "/"), nil
}

func newTransport(cacert string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: callTimeout,
		DisableCompression:    true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cacert == "" {
		return t, nil
	}
	pem, err := readLimited(cacert, 4<<20)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usagef("%s holds no PEM certificate; name the file of the cluster's authority with --cacert or KEYRAFT_CACERT", cacert)
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// request is one call. Body is encoded as JSON unless form is set; both nil mean
// no body.
type request struct {
	method, path string // path below the tenant's root, with its query
	body         any
	form         url.Values
	authorize    func(*http.Request) // nil: the admin token as bearer
	basic        bool                // the Authorization header holds a client's credentials, not the admin token
}

func (a *api) get(ctx context.Context, path string) (json.RawMessage, error) {
	return a.call(ctx, request{method: http.MethodGet, path: path})
}

func (a *api) post(ctx context.Context, path string, body any) (json.RawMessage, error) {
	return a.call(ctx, request{method: http.MethodPost, path: path, body: body})
}

// call sends one request and returns the JSON of a 2xx, nil when it has none. A
// 503 that names a time to wait is tried again for a while: an election takes a
// second. The retry carries the same Idempotency-Key, so nothing is done twice.
func (a *api) call(ctx context.Context, r request) (json.RawMessage, error) {
	pr := startProgress(a.io.Err, a.io.Redraw, "waiting for "+a.node, 0, a.pace)
	defer pr.end()
	key, err := a.idempotencyKey()
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(a.io.Patience)
	for {
		answer, err := a.once(ctx, r, key)
		var refused *apiError
		if !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable || refused.retryAfter < 0 {
			return answer, err
		}
		wait := max(refused.retryAfter, 100*time.Millisecond)
		if time.Now().Add(wait).After(deadline) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (a *api) once(ctx context.Context, r request, key string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var body io.Reader
	kind := ""
	switch {
	case r.form != nil:
		body, kind = strings.NewReader(r.form.Encode()), "application/x-www-form-urlencoded"
	case r.body != nil:
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body, kind = bytes.NewReader(text), "application/json"
		if r.method == http.MethodPatch {
			kind = "application/merge-patch+json"
		}
	}
	req, err := a.newRequest(ctx, r, body)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if r.method == http.MethodPost && r.form == nil {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", a.node, err)
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("the answer of %s is larger than %s; is it a Keyraft node?", a.node, humanBytes(maxAnswer))
	}
	if resp.StatusCode/100 != 2 {
		return nil, a.refusal(r, resp, answer)
	}
	answer = bytes.TrimSpace(answer)
	if len(answer) == 0 {
		return nil, nil
	}
	if !json.Valid(answer) {
		return nil, fmt.Errorf("%s answered with something that is not JSON; is it a Keyraft node? Set --addr or KEYRAFT_ADDR", a.node)
	}
	return answer, nil
}

func (a *api) newRequest(ctx context.Context, r request, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, a.base+r.path, body)
	if err != nil {
		return nil, usagef("the address %s makes no request: %v", a.base, err)
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("User-Agent", "keyraft/"+readVersion().Version)
	switch {
	case r.authorize != nil:
		r.authorize(req)
	case !a.token.empty() && !r.basic:
		req.Header.Set("Authorization", "Bearer "+a.token.reveal())
	}
	return req, nil
}

func (a *api) idempotencyKey() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(a.random, b[:]); err != nil {
		return "", fmt.Errorf("read random bytes: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// list reads all pages of a list. An answer that is a bare array is one page.
func (a *api) list(ctx context.Context, path string, limit int) ([]json.RawMessage, error) {
	var items []json.RawMessage
	cursor, seen := "", map[string]bool{}
	for {
		query := url.Values{}
		if limit > 0 {
			query.Set("limit", strconv.Itoa(min(limit-len(items), 1000)))
		}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		at := path
		if len(query) > 0 {
			at += "?" + query.Encode()
		}
		answer, err := a.get(ctx, at)
		if err != nil {
			return nil, err
		}
		page, next, err := readPage(answer)
		if err != nil {
			return nil, err
		}
		items = append(items, page...)
		if limit > 0 && len(items) >= limit {
			return items[:limit], nil
		}
		if next == "" {
			return items, nil
		}
		if seen[next] {
			return nil, fmt.Errorf("%s gave the same page twice; try again", a.node)
		}
		cursor, seen[next] = next, true
	}
}

func readPage(answer json.RawMessage) (items []json.RawMessage, next string, err error) {
	if len(answer) > 0 && answer[0] == '[' {
		err = json.Unmarshal(answer, &items)
		return items, "", err
	}
	var page struct {
		Items []json.RawMessage `json:"items"`
		Next  string            `json:"next_cursor"`
	}
	if err := json.Unmarshal(answer, &page); err != nil {
		return nil, "", fmt.Errorf("the answer is no list: %w", err)
	}
	return page.Items, page.Next, nil
}
