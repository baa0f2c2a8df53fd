package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keyraft/keyraft/gateway/wire"
)

const (
	dialLimit     = time.Second
	helloLimit    = 2 * time.Second // keys of a node
	pollWait      = 30 * time.Second
	pollMargin    = 5 * time.Second // beyond its wait, until a long poll is given up
	idleLimit     = 5 * time.Second // a snapshot that sends nothing for so long is given up
	snapshotLimit = 10 * time.Minute
)

// errCredential says that a node refused the credential.
var errCredential = errors.New("the node refuses this gateway's credential; make a new one with POST /admin/v1/gateways and put it in place")

// client speaks to nodes: no redirects, no compression, bounded bodies, each call
// with its own time limit.
type client struct {
	http       *http.Client
	credential *credential
	instance   string
	probeLimit time.Duration
	failMode   string
	bound      string // Config.MaxStaleness in milliseconds
}

func newClient(cfg *Config) (*client, error) {
	cred, err := newCredential(cfg)
	if err != nil {
		return nil, err
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		tlsConfig = cfg.TLS.Clone()
	}
	return &client{
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:            (&net.Dialer{Timeout: dialLimit}).DialContext,
				TLSClientConfig:        tlsConfig,
				TLSHandshakeTimeout:    2 * dialLimit,
				DisableCompression:     true,
				MaxIdleConnsPerHost:    8,
				IdleConnTimeout:        90 * time.Second,
				MaxResponseHeaderBytes: 16 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		credential: cred, instance: cfg.Instance, probeLimit: cfg.pace.limit,
		failMode: string(cfg.FailMode), bound: strconv.FormatInt(cfg.MaxStaleness.Milliseconds(), 10),
	}, nil
}

// answer is one whole answer. sent is when its request began.
type answer struct {
	status  int
	media   string
	body    []byte
	sent    instant
	refused *wire.Refusal // of a 409 or 410
}

// do sends a request with the credential. When that is refused and another one
// can be had, it tries once more with that.
func (c *client) do(ctx context.Context, make func() (*http.Request, error)) (*http.Response, error) {
	for again := true; ; again = false {
		req, err := make()
		if err != nil {
			return nil, err
		}
		value, err := c.credential.get(ctx)
		if err != nil {
			return nil, err
		}
		if value != "" {
			req.Header.Set("Authorization", "Bearer "+value)
		}
		req.Header.Set(wire.HeaderFailMode, c.failMode)
		req.Header.Set(wire.HeaderBound, c.bound)
		resp, err := c.http.Do(req.WithContext(ctx))
		if err != nil {
			return nil, withoutURL(err)
		}
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
			return resp, nil
		}
		_ = resp.Body.Close()
		changed, err := c.credential.renew(ctx, value)
		if err != nil {
			return nil, err
		}
		if !changed || !again {
			return nil, errCredential
		}
	}
}

// withoutURL is the cause alone: the URL is known, and long.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func (c *client) get(ctx context.Context, clock Clock, address, accept string, limit int64) (*answer, error) {
	a := &answer{sent: clock.instant()}
	resp, err := c.do(ctx, func() (*http.Request, error) {
		req, err := http.NewRequest(http.MethodGet, address, nil)
		if err == nil {
			req.Header.Set("Accept", accept)
		}
		return req, err
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if a.body, err = readBounded(resp.Body, limit); err != nil {
		return nil, err
	}
	a.status = resp.StatusCode
	a.media, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if a.status == http.StatusConflict || a.status == http.StatusGone {
		if a.refused, err = wire.ParseRefusal(a.body); err != nil {
			return nil, fmt.Errorf("answer %d: %w", a.status, err)
		}
		return a, nil
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("the node answered %d", a.status)
	}
	return a, nil
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	return b, nil
}

// keys asks for all issuers and their keys, and with them for the cluster's id.
func (c *client) keys(ctx context.Context, clock Clock, node string) (*wire.Keys, error) {
	ctx, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	a, err := c.get(ctx, clock, node+"/gateway/v1/jwks", wire.TypeJSON, wire.MaxKeysBytes)
	if err != nil {
		return nil, err
	}
	if a.refused != nil {
		return nil, refusalError(a.refused)
	}
	if a.media != wire.TypeJSON {
		return nil, errors.New("the key document is not JSON")
	}
	return wire.ParseKeys(a.body)
}

// poll asks for what came after since. With wait 0 it comes back at once. epoch
// is left out while none is known.
func (c *client) poll(ctx context.Context, clock Clock, node string, epoch, since uint64, known bool, wait time.Duration) (*answer, error) {
	limit := c.probeLimit
	if wait > 0 {
		limit = wait + pollMargin
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	q := "?since=" + strconv.FormatUint(since, 10) + "&wait=" + strconv.Itoa(int(wait.Seconds())) + "s&instance=" + url.QueryEscape(c.instance)
	if known {
		q += "&epoch=" + strconv.FormatUint(epoch, 10)
	}
	return c.get(ctx, clock, node+"/gateway/v1/revocations"+q, wire.TypeProto, wire.MaxDeltaBytes)
}

// parseDelta reads a delta by its media type.
func parseDelta(a *answer) (*wire.Delta, error) {
	switch a.media {
	case wire.TypeProto:
		return wire.ParseProto(a.body)
	case wire.TypeJSON:
		return wire.ParseJSON(a.body)
	}
	return nil, errors.New("the delta is neither protobuf nor JSON")
}

// snapshot streams all live revocations into put. What put was given counts only
// when there is no error. made is the cluster's clock then, in seconds; this machine's
// when the node doesn't say.
func (c *client) snapshot(ctx context.Context, clock Clock, node string, put func(*wire.Event) error) (at wire.Snapshot, made int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotLimit)
	defer cancel()
	idle := time.AfterFunc(idleLimit, cancel)
	defer idle.Stop()
	resp, err := c.do(ctx, func() (*http.Request, error) {
		req, err := http.NewRequest(http.MethodGet, node+"/gateway/v1/revocations/snapshot?instance="+url.QueryEscape(c.instance), nil)
		if err == nil {
			req.Header.Set("Accept", wire.TypeSnapshot)
		}
		return req, err
	})
	if err != nil {
		return at, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return at, 0, fmt.Errorf("the node answered %d", resp.StatusCode)
	}
	made = clock.Now().Unix()
	if told, err := strconv.ParseInt(resp.Header.Get(wire.HeaderClock), 10, 64); err == nil && told > 0 {
		made = told
	}
	at, err = wire.DecodeSnapshot(&busyReader{resp.Body, idle}, put)
	return at, made, err
}

// busyReader puts the idle limit off with each read that brings something.
type busyReader struct {
	r    io.Reader
	idle *time.Timer
}

func (b *busyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if n > 0 {
		b.idle.Reset(idleLimit)
	}
	return n, err
}

func (c *client) introspect(ctx context.Context, node, path, token string) (*introspection, error) {
	ctx, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}.Encode()
	resp, err := c.do(ctx, func() (*http.Request, error) {
		req, err := http.NewRequest(http.MethodPost, node+path, strings.NewReader(form))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Accept", wire.TypeJSON)
		}
		return req, err
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := readBounded(resp.Body, wire.MaxRefusal)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the node answered %d", resp.StatusCode)
	}
	return parseIntrospection(body)
}

func refusalError(f *wire.Refusal) error {
	switch f.Code {
	case wire.Ahead, wire.Behind, wire.Epoch, wire.Compacted:
		return fmt.Errorf("the node refuses the poll: %s (its epoch %d, head %d)", f.Code, f.Epoch, f.Head)
	}
	return errors.New("the node refuses the poll for a reason that is not known here")
}
