package proc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// callTime bounds one request; long polls and receipts are shorter.
const callTime = 30 * time.Second

// API is a client of one node's or gateway's HTTP API.
type API struct {
	Base  string // such as http://127.0.0.1:9763
	Token string // admin token or gateway credential; empty: none is sent
	HTTP  *http.Client
}

// String names the API without its token.
func (a API) String() string { return a.Base }

// NewHTTP makes an HTTP client for many parallel requests to a few nodes. It
// follows no redirect.
func NewHTTP() *http.Client {
	return &http.Client{
		Timeout:       callTime,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Refused is an answer that is not 2xx.
type Refused struct {
	Status     int
	Body       string
	RetryAfter string
}

// Error shows the status and the answer, which holds no secret.
func (r *Refused) Error() string { return fmt.Sprintf("status %d: %s", r.Status, r.Body) }

// StatusOf is the status of a refusal, 0 for any other error and for none.
func StatusOf(err error) int {
	var r *Refused
	if errors.As(err, &r) {
		return r.Status
	}
	return 0
}

// Call sends one request: body as JSON, or as a form when it is url.Values. A 2xx
// answer is decoded into into, unless that is nil.
func (a API) Call(ctx context.Context, method, path string, body, into any) error {
	return a.call(ctx, method, path, "", body, into)
}

// Write is Call for a change: it goes on while the cluster answers 503 or does
// not answer, always with the same idempotency key, until ctx ends.
func (a API) Write(ctx context.Context, method, path string, body, into any) error {
	key := "e2e-" + rand.Text()
	for {
		err := a.call(ctx, method, path, key, body, into)
		if status := StatusOf(err); err == nil || status != 0 && status != http.StatusServiceUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (a API) call(ctx context.Context, method, path, key string, body, into any) error {
	req, err := a.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	return a.do(req, into)
}

func (a API) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var reader io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case url.Values:
		reader, kind = strings.NewReader(b.Encode()), "application/x-www-form-urlencoded"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		reader, kind = bytes.NewReader(text), "application/json"
		if method == http.MethodPatch {
			kind = "application/merge-patch+json"
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, a.Base+path, reader)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if a.Token != "" {
		req.Header.Set("Authorization", "Bearer "+a.Token)
	}
	return req, nil
}

func (a API) do(req *http.Request, into any) error {
	resp, err := a.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return &Refused{Status: resp.StatusCode, Body: string(answer), RetryAfter: resp.Header.Get("Retry-After")}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("the answer of %s is no JSON of this kind: %w", req.URL.Path, err)
	}
	return nil
}

// Client is an OAuth client with its secret.
type Client struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

// String hides the secret.
func (c Client) String() string { return c.ID }

func (a API) form(ctx context.Context, path string, c Client, form url.Values, into any) error {
	req, err := a.request(ctx, http.MethodPost, path, form)
	if err != nil {
		return err
	}
	req.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	return a.do(req, into)
}

// Issue gets an access token by the client credentials grant (RFC 6749 §4.4).
func (a API) Issue(ctx context.Context, c Client, scope string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if scope != "" {
		form.Set("scope", scope)
	}
	return a.Grant(ctx, c, form)
}

// Grant gets an access token by whatever grant the form names.
func (a API) Grant(ctx context.Context, c Client, form url.Values) (string, error) {
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	err := a.form(ctx, "/oauth2/token", c, form, &answer)
	if err == nil && answer.AccessToken == "" {
		err = errors.New("the answer holds no access token")
	}
	return answer.AccessToken, err
}

// Active introspects a token (RFC 7662).
func (a API) Active(ctx context.Context, c Client, token string) (bool, error) {
	var answer struct {
		Active bool `json:"active"`
	}
	err := a.form(ctx, "/oauth2/introspect", c, url.Values{"token": {token}}, &answer)
	return answer.Active, err
}

// RevokeOwn revokes a token of the client's own (RFC 7009).
func (a API) RevokeOwn(ctx context.Context, c Client, token string) error {
	return a.form(ctx, "/oauth2/revoke", c, url.Values{"token": {token}}, nil)
}

// Receipt is the answer to a revocation.
type Receipt struct {
	Seq      uint64 `json:"seq"`
	Head     uint64 `json:"head"`
	Complete bool   `json:"complete"`
	Receipt  []struct {
		Gateway string  `json:"gateway"`
		Head    uint64  `json:"head"`
		MS      float64 `json:"ms"`
		OK      bool    `json:"ok"`
	} `json:"receipt"`
}

// Revoke revokes by one target, such as {"token": …}; wait above 0 waits so long
// for the gateways' receipt.
func (a API) Revoke(ctx context.Context, target map[string]any, wait time.Duration) (Receipt, error) {
	path := "/admin/v1/revocations"
	if wait > 0 {
		path += "?wait=gateways&timeout=" + strconv.Itoa(int(wait.Seconds())) + "s"
	}
	var r Receipt
	return r, a.Write(ctx, http.MethodPost, path, target, &r)
}

// Status is a node's own state.
type Status struct {
	NodeID       string `json:"node_id"`
	State        string `json:"state"`
	LeaderID     string `json:"leader_id"`
	Term         uint64 `json:"term"`
	AppliedIndex uint64 `json:"applied_index"`
	Head         uint64 `json:"revocation_head"`
	Healthy      bool   `json:"healthy"`
}

// Status asks a node for its state.
func (a API) Status(ctx context.Context) (s Status, err error) {
	return s, a.Call(ctx, http.MethodGet, "/admin/v1/cluster/status", nil, &s)
}

// Member is one node as the cluster sees it.
type Member struct {
	ID           string `json:"id"`
	Role         string `json:"role"`
	Suffrage     string `json:"suffrage"`
	State        string `json:"state"`
	APIAddr      string `json:"api_addr"`
	ClusterAddr  string `json:"cluster_addr"`
	AppliedIndex uint64 `json:"applied_index"`
}

// Members lists the nodes of the cluster.
func (a API) Members(ctx context.Context) ([]Member, error) {
	return list[Member](ctx, a, "/admin/v1/cluster/members")
}

// Gateways lists the gateways that the cluster knows.
func (a API) Gateways(ctx context.Context) ([]GatewayState, error) {
	return list[GatewayState](ctx, a, "/admin/v1/gateways")
}

// GatewayState is how far a gateway has got.
type GatewayState struct {
	ID       string `json:"id"`
	Head     uint64 `json:"head"`
	Epoch    uint64 `json:"epoch"`
	LastSeen int64  `json:"last_seen_ms"`
}

// list reads a list whole: a bare array, or pages of {items, next_cursor}.
func list[T any](ctx context.Context, a API, path string) ([]T, error) {
	var all []T
	for cursor := ""; ; {
		at := path
		if cursor != "" {
			at += "?cursor=" + url.QueryEscape(cursor)
		}
		var raw json.RawMessage
		if err := a.Call(ctx, http.MethodGet, at, nil, &raw); err != nil {
			return nil, err
		}
		if len(raw) > 0 && raw[0] == '[' {
			return all, json.Unmarshal(raw, &all)
		}
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next_cursor"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		cursor = page.Next
	}
}

// ClientIDs lists the ids of all clients.
func (a API) ClientIDs(ctx context.Context) (map[string]bool, error) {
	all, err := list[Client](ctx, a, "/admin/v1/clients")
	ids := map[string]bool{}
	for _, c := range all {
		ids[c.ID] = true
	}
	return ids, err
}

// CreateClient registers a client; members are added to a name and the client
// credentials grant.
func (a API) CreateClient(ctx context.Context, members map[string]any) (c Client, err error) {
	body := map[string]any{"client_name": "e2e", "grant_types": []string{"client_credentials"}, "scope": "read write"}
	for name, value := range members {
		body[name] = value
	}
	return c, a.Write(ctx, http.MethodPost, "/admin/v1/clients", body, &c)
}

// JoinToken makes a token for one joining node; suffrage is voter or nonvoter.
func (a API) JoinToken(ctx context.Context, suffrage, ttl string) (string, error) {
	var answer struct {
		Token string `json:"token"`
	}
	err := a.Write(ctx, http.MethodPost, "/admin/v1/cluster/join-tokens", map[string]any{"ttl": ttl, "suffrage": suffrage}, &answer)
	return answer.Token, err
}

// Checksum is the checksum of all tables at an index.
type Checksum struct {
	AppliedIndex uint64 `json:"applied_index"`
	Checksum     string `json:"checksum"`
}

// Checksum asks a node for its checksum.
func (a API) Checksum(ctx context.Context) (c Checksum, err error) {
	return c, a.Call(ctx, http.MethodGet, "/admin/v1/cluster/checksum", nil, &c)
}

// GatewayCredential is what registering a gateway gives, once.
type GatewayCredential struct {
	ID         string `json:"id"`
	Credential string `json:"credential"`
	GossipKey  string `json:"gossip_key"`
}

// String hides the credential.
func (g GatewayCredential) String() string { return g.ID }

// RegisterGateway registers a gateway.
func (a API) RegisterGateway(ctx context.Context, name string) (g GatewayCredential, err error) {
	return g, a.Write(ctx, http.MethodPost, "/admin/v1/gateways", map[string]any{"name": name}, &g)
}

// Verdict is what a gateway says of a token.
type Verdict struct {
	Status  int // 204, 401 or 403
	Reason  string
	Header  http.Header
	Elapsed time.Duration
}

// Validate asks a gateway about a token, as a proxy would.
func (a API) Validate(ctx context.Context, token string) (Verdict, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Base+"/validate", nil)
	if err != nil {
		return Verdict{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	begun := time.Now()
	resp, err := a.HTTP.Do(req)
	if err != nil {
		return Verdict{}, err
	}
	v := Verdict{Status: resp.StatusCode, Reason: resp.Header.Get("X-Keyraft-Reason"), Header: resp.Header, Elapsed: time.Since(begun)}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return v, errors.Join(err, resp.Body.Close())
}

// OnSent makes a request call sent once its bytes are on their way: to a process
// that stands still they wait in its socket from then on.
func OnSent(ctx context.Context, sent func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent() }})
}
