package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Further kinds of errors: answers that say too little.
const (
	KindBad      = "answer is no HTTP"
	KindNoToken  = "answer without a token"
	KindInactive = "token not active"
)

// Credentials are those of an OAuth client. They show its id only.
type Credentials struct {
	ID, Secret string
	Form       bool // in the form (client_secret_post) in place of a header (client_secret_basic)
}

// String hides the secret, as do GoString, LogValue and MarshalJSON.
func (c Credentials) String() string { return c.ID }

// GoString hides the secret.
func (c Credentials) GoString() string { return c.ID }

// LogValue hides the secret.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.ID) }

// MarshalJSON hides the secret.
func (c Credentials) MarshalJSON() ([]byte, error) { return json.Marshal(c.ID) }

// Target is an OAuth server: Keyraft's nodes, or another one's.
type Target struct {
	Servers []string    // their URLs, without a slash at the end; connections take turns
	TLS     *tls.Config // of those with https
	// Paths of the endpoints below the URLs; empty ones are Keyraft's.
	Token, Introspect, Revoke string
	Client                    Credentials
	Form                      url.Values    // added to each token request: scope, audience, resource
	Timeout                   time.Duration // of one request; 0 is ten seconds
}

// Mix is how often each operation comes, as shares of their sum.
type Mix struct{ Issue, Introspect, Revoke int }

func (m Mix) total() int { return m.Issue + m.Introspect + m.Revoke }

// The operations of Target.Workers.
const (
	opIssue = iota
	opIntrospect
	opRevoke
)

// Ops names the operations of Target.Workers, for Load.Ops; issue is what issuing is
// called, "jwt" or "opaque".
func Ops(issue string) []string { return []string{issue, "introspect", "revoke"} }

// Workers opens so many connections, and has so many tokens issued over them for the
// operations that need one, before anything is measured. A token is revoked once;
// introspections go round. When there is no token left to revoke, or one is about to
// expire, a worker issues one in place of what was due: it counts as issuing.
func (t Target) Workers(ctx context.Context, connections int, m Mix, tokens int) ([]Worker, error) {
	o, err := t.compile(m)
	if err != nil {
		return nil, err
	}
	if connections < 1 {
		return nil, errors.New("bench: at least one connection is needed")
	}
	workers := make([]Worker, connections)
	errs := make(chan error, connections)
	for i := range workers {
		w := &oauthWorker{oauthLoad: o, conn: newConn(o.servers, i, o.timeout)}
		workers[i] = w
		share := tokens / connections
		if i < tokens%connections {
			share++
		}
		go func() { errs <- w.prepare(ctx, share) }()
	}
	for range workers {
		if e := <-errs; e != nil && err == nil {
			err = e
			closeAll(workers) // the others need not go on
		}
	}
	if err != nil {
		return nil, err
	}
	return workers, nil
}

// oauthLoad is what the workers of one target share.
type oauthLoad struct {
	servers                   []server
	timeout                   time.Duration
	pattern                   []int // which operation is the nth, over and over
	token, introspect, revoke endpoint
	form                      []byte // of a token request
	prefix                    []byte // of the forms that name a token, up to and with "token="
	stock                     stock
	keep                      bool // tokens are needed again
}

func (t Target) compile(m Mix) (*oauthLoad, error) {
	if m.Issue < 0 || m.Introspect < 0 || m.Revoke < 0 || m.total() == 0 || m.total() > 1000 {
		return nil, fmt.Errorf("bench: the shares %+v can't be mixed; they are 0 to 1000 together", m)
	}
	o := &oauthLoad{timeout: t.Timeout, pattern: pattern(m.Issue, m.Introspect, m.Revoke), keep: m.Introspect+m.Revoke > 0}
	if o.timeout <= 0 {
		o.timeout = 10 * time.Second
	}
	for _, text := range t.Servers {
		s, err := parseServer(text, t.TLS)
		if err != nil {
			return nil, err
		}
		o.servers = append(o.servers, s)
	}
	if len(o.servers) == 0 {
		return nil, errors.New("bench: a target needs a server")
	}
	form, authorization := url.Values{}, ""
	switch {
	case t.Client.Form:
		form.Set("client_id", t.Client.ID)
		form.Set("client_secret", t.Client.Secret)
	default: // RFC 6749 §2.3.1: both parts are form-encoded first
		authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(t.Client.ID)+":"+url.QueryEscape(t.Client.Secret)))
	}
	if o.prefix = []byte(form.Encode()); len(o.prefix) > 0 {
		o.prefix = append(o.prefix, '&')
	}
	o.prefix = append(o.prefix, "token="...)
	form.Set("grant_type", "client_credentials")
	for name, values := range t.Form {
		form[name] = values
	}
	o.form = []byte(form.Encode())
	at := func(path, usual string) endpoint {
		if path == "" {
			path = usual
		}
		return newEndpoint(o.servers, path, authorization)
	}
	o.token, o.introspect, o.revoke = at(t.Token, "/oauth2/token"), at(t.Introspect, "/oauth2/introspect"), at(t.Revoke, "/oauth2/revoke")
	return o, nil
}

// pattern spreads operations evenly by their shares (smooth weighted round robin).
func pattern(shares ...int) (out []int) {
	total, owed := 0, make([]int, len(shares))
	for _, s := range shares {
		total += s
	}
	for range total {
		best := 0
		for i, s := range shares {
			owed[i] += s
			if owed[i] > owed[best] {
				best = i
			}
		}
		owed[best] -= total
		out = append(out, best)
	}
	return out
}

// stock are the tokens that may be asked about and revoked.
type stock struct {
	mu     sync.Mutex
	tokens []stocked
	oldest int // which one to replace when it is full
}

type stocked struct {
	token string
	until time.Time // when it is better replaced
}

// mostStock bounds the stock: beyond, a new token takes the place of an old one.
const mostStock = 1_000_000

func (s *stock) add(t stocked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) < mostStock {
		s.tokens = append(s.tokens, t)
		return
	}
	s.tokens[s.oldest] = t
	s.oldest = (s.oldest + 1) % mostStock
}

// pick gives the nth token, going round; one that is about to expire is taken out and
// not given. take takes the token out.
func (s *stock) pick(n uint64, take bool, now time.Time) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) == 0 {
		return "", false
	}
	i := int(n % uint64(len(s.tokens)))
	t := s.tokens[i]
	fresh := now.Before(t.until)
	if take || !fresh {
		last := len(s.tokens) - 1
		s.tokens[i] = s.tokens[last]
		s.tokens[last] = stocked{}
		s.tokens = s.tokens[:last]
	}
	return t.token, fresh
}

// oauthWorker is one connection.
type oauthWorker struct {
	*oauthLoad
	conn *conn
	body []byte
}

// Close ends the connection.
func (w *oauthWorker) Close() { w.conn.Close() }

// prepare connects, and has n tokens issued.
func (w *oauthWorker) prepare(ctx context.Context, n int) error {
	if err := w.conn.dial(ctx); err != nil {
		return fmt.Errorf("connect to %s: %w", w.servers[w.conn.at].addr, err)
	}
	for range n {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if kind := w.issue(true); kind != "" {
			return fmt.Errorf("issue a token before the run: %s", kind)
		}
	}
	return nil
}

// Do does operation n.
func (w *oauthWorker) Do(n uint64) Outcome {
	op := w.pattern[n%uint64(len(w.pattern))]
	if op == opIssue {
		return Outcome{op, w.issue(w.keep)}
	}
	token, ok := w.stock.pick(n, op == opRevoke, time.Now())
	if !ok {
		return Outcome{opIssue, w.issue(true)}
	}
	w.body = append(append(w.body[:0], w.prefix...), token...)
	if op == opRevoke {
		status, answer, kind := w.conn.post(w.revoke, w.body)
		return Outcome{op, refusal(status, answer, kind)}
	}
	status, answer, kind := w.conn.post(w.introspect, w.body)
	if kind = refusal(status, answer, kind); kind == "" && !active(answer) {
		kind = KindInactive
	}
	return Outcome{op, kind}
}

// issue gets one token, and keeps it if it will be needed.
func (w *oauthWorker) issue(keep bool) (kind string) {
	status, answer, kind := w.conn.post(w.token, w.form)
	if kind = refusal(status, answer, kind); kind != "" {
		return kind
	}
	if !keep {
		if !bytes.Contains(answer, []byte(`"access_token"`)) {
			return KindNoToken
		}
		return ""
	}
	var a struct {
		Token     string  `json:"access_token"`
		ExpiresIn float64 `json:"expires_in"`
	}
	if json.Unmarshal(answer, &a) != nil || a.Token == "" {
		return KindNoToken
	}
	if a.ExpiresIn <= 0 || a.ExpiresIn > 1e6 {
		a.ExpiresIn = 3600
	}
	w.stock.add(stocked{url.QueryEscape(a.Token), time.Now().Add(time.Duration(a.ExpiresIn * 0.8 * float64(time.Second)))})
	return ""
}

// refusal is the kind of an answer that is not 2xx: its status, and its error code
// if it has one (RFC 6749 §5.2, RFC 9457).
func refusal(status int, answer []byte, kind string) string {
	if kind != "" || status/100 == 2 {
		return kind
	}
	var doc struct {
		Error json.RawMessage `json:"error"`
		Code  json.RawMessage `json:"code"`
	}
	_ = json.Unmarshal(answer, &doc) // then there is no code
	code := ""
	for _, raw := range []json.RawMessage{doc.Error, doc.Code} {
		if code == "" {
			_ = json.Unmarshal(raw, &code) // likewise
		}
	}
	return strings.TrimRight(strconv.Itoa(status)+" "+plain(code), " ")
}

// plain keeps what an error code is made of: a server's answer may hold anything.
func plain(code string) string {
	code = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-. ", r) {
			return r
		}
		return -1
	}, code)
	return code[:min(len(code), 40)]
}

// active reads "active":true without decoding the whole answer.
func active(answer []byte) bool {
	_, rest, found := bytes.Cut(answer, []byte(`"active"`))
	rest = bytes.TrimLeft(rest, " \t\r\n")
	return found && len(rest) > 0 && rest[0] == ':' && bytes.HasPrefix(bytes.TrimLeft(rest[1:], " \t\r\n"), []byte("true"))
}
