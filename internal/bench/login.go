package bench

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Further kinds of errors: a code or a refresh token did not come.
const (
	KindNoCode    = "no code came back"
	KindNoRefresh = "answer without a refresh token"
)

// Login is a user who has signed in at Keyraft, and a confidential client that asks for
// codes for them by PKCE (RFC 7636), without consent.
type Login struct {
	Server             string // URL, without a slash at the end
	Client             Credentials
	Redirect, Scope    string
	Username, Password string
	Timeout            time.Duration // of one request; 0 is ten seconds
	// Refresh has each connection rotate a refresh token of its own (RFC 6749 §6). Else
	// each operation is a request for a code, and its redemption.
	Refresh bool
}

// benchVerifier is the PKCE verifier: it need not be a secret here.
const benchVerifier = "a-verifier-that-everybody-knows-0123456789-0123456789"

// Workers signs the user in once, and opens so many connections, which share the
// session. Ops for Load.Ops is one name.
func (l Login) Workers(ctx context.Context, connections int) ([]Worker, error) {
	if connections < 1 {
		return nil, errors.New("bench: at least one connection is needed")
	}
	s, err := parseServer(l.Server, nil)
	if err != nil {
		return nil, err
	}
	if l.Timeout <= 0 {
		l.Timeout = 10 * time.Second
	}
	cookies, err := l.signIn(ctx)
	if err != nil {
		return nil, fmt.Errorf("sign %s in: %w", l.Username, err)
	}
	servers := []server{s}
	basic := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(l.Client.ID) + ":" + url.QueryEscape(l.Client.Secret)))
	shared := &loginLoad{
		authorize: newPage(servers, l.path(), cookies), exchange: newEndpoint(servers, "/oauth2/token", "Basic "+basic), redirect: l.Redirect + "?", refresh: l.Refresh,
		redeem: []byte(url.Values{"grant_type": {"authorization_code"}, "redirect_uri": {l.Redirect}, "code_verifier": {benchVerifier}}.Encode() + "&code="),
	}
	workers := make([]Worker, connections)
	for i := range workers {
		w := &loginWorker{loginLoad: shared, conn: newConn(servers, i, l.Timeout)}
		workers[i] = w
		if err := w.prepare(ctx); err != nil {
			closeAll(workers[:i+1])
			return nil, err
		}
	}
	return workers, nil
}

func (l Login) path() string {
	sum := sha256.Sum256([]byte(benchVerifier))
	return "/oauth2/authorize?" + url.Values{
		"client_id": {l.Client.ID}, "redirect_uri": {l.Redirect}, "response_type": {"code"}, "scope": {l.Scope}, "state": {"bench"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode()
}

var flowField = regexp.MustCompile(`name="flow" value="([^"]+)"`)

// signIn goes through the login page, and gives the cookies that it left.
func (l Login) signIn(ctx context.Context) (cookies string, err error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	browser := &http.Client{Jar: jar, Timeout: l.Timeout, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), l.Redirect) {
			return http.ErrUseLastResponse // the client's own
		}
		return nil
	}}
	defer browser.CloseIdleConnections()
	page, _, err := visit(ctx, browser, http.MethodGet, l.Server+l.path(), nil)
	if err != nil {
		return "", err
	}
	flow := flowField.FindSubmatch(page)
	if flow == nil {
		return "", errors.New("no login page came")
	}
	form := url.Values{"flow": {html.UnescapeString(string(flow[1]))}, "username": {l.Username}, "password": {l.Password}}
	_, to, err := visit(ctx, browser, http.MethodPost, l.Server+"/login", form)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(to, l.Redirect+"?") {
		return "", errors.New("the password did not lead back to the client; look whether it asks for consent")
	}
	at, err := url.Parse(l.Server)
	if err != nil {
		return "", err
	}
	var pairs []string
	for _, c := range jar.Cookies(at) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; "), nil
}

// visit gives the page, and where it leads.
func visit(ctx context.Context, browser *http.Client, method, at string, form url.Values) (page []byte, to string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := browser.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	page, err = io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	return page, resp.Header.Get("Location"), err
}

// loginLoad is what the workers share.
type loginLoad struct {
	authorize, exchange endpoint
	redirect            string // what a way back begins with
	redeem              []byte // the form, up to and with "code="
	refresh             bool
}

// loginWorker is one connection.
type loginWorker struct {
	*loginLoad
	conn *conn
	body []byte
	last string // refresh token
}

// Close ends the connection.
func (w *loginWorker) Close() { w.conn.Close() }

func (w *loginWorker) prepare(ctx context.Context) error {
	if err := w.conn.dial(ctx); err != nil {
		return fmt.Errorf("connect to %s: %w", w.conn.servers[w.conn.at].addr, err)
	}
	if !w.refresh {
		return nil
	}
	if kind := w.code(); kind != "" {
		return fmt.Errorf("get a refresh token before the run: %s", kind)
	}
	return nil
}

// Do does one operation.
func (w *loginWorker) Do(uint64) Outcome {
	if !w.refresh {
		return Outcome{0, w.code()}
	}
	w.body = append(append(w.body[:0], "grant_type=refresh_token&refresh_token="...), url.QueryEscape(w.last)...)
	return Outcome{0, w.tokens()}
}

// code asks for a code, and redeems it.
func (w *loginWorker) code() (kind string) {
	status, answer, kind := w.conn.post(w.authorize, nil)
	if kind != "" {
		return kind
	}
	if status != http.StatusSeeOther && status != http.StatusFound {
		return refusal(status, answer, "")
	}
	rest, found := strings.CutPrefix(string(w.conn.resp.Header.Peek("Location")), w.redirect)
	query, err := url.ParseQuery(rest)
	if !found || err != nil || query.Get("code") == "" {
		return KindNoCode
	}
	w.body = append(append(w.body[:0], w.redeem...), url.QueryEscape(query.Get("code"))...)
	return w.tokens()
}

// tokens posts the form, and keeps the refresh token if one is rotated.
func (w *loginWorker) tokens() (kind string) {
	status, answer, kind := w.conn.post(w.exchange, w.body)
	if kind = refusal(status, answer, kind); kind != "" || !w.refresh {
		return kind
	}
	var a struct {
		Refresh string `json:"refresh_token"`
	}
	if json.Unmarshal(answer, &a) != nil || a.Refresh == "" || a.Refresh == w.last {
		return KindNoRefresh
	}
	w.last = a.Refresh
	return ""
}
