package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/config"
	"github.com/keyraft/keyraft/internal/testproof"
)

// TestOpenAPI holds docs/openapi.yaml against a running server: the routing table and
// the document name the same operations, every operation is asked at least one good
// and one bad thing, and every answer is of a status, header set and schema that the
// document has. A member that it does not name fails as well.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	for _, media := range []string{"text/html", "text/css"} {
		openapi3filter.RegisterBodyDecoder(media, openapi3filter.PlainBodyDecoder)
	}
	doc := loadDocument(t)
	node := startLive(t, map[string]string{"dev": "true"})
	sameRoutes(t, doc, node.routes)
	h := &holder{t: t, doc: doc, node: node, good: map[string]bool{}, bad: map[string]bool{}}
	var err error
	if h.router, err = gorillamux.NewRouter(doc); err != nil {
		t.Fatal(err)
	}
	h.withoutCredentials()
	h.oauth()
	h.clients()
	h.users()
	h.openid()
	h.login()
	h.account()
	h.waiting()
	h.registrations()
	h.revocations()
	h.gateways()
	h.keysAndTenants()
	h.registry()
	h.issuers()
	h.operations()
	h.cluster()
	h.snapshots()
	h.unasked()
}

// loadDocument reads and validates the document, and makes its schemas closed: what an
// answer has besides is a mistake of the document.
func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range doc.Components.Schemas {
		closeSchema(s.Value)
	}
	return doc
}

func closeSchema(s *openapi3.Schema) {
	if s == nil {
		return
	}
	if s.Properties != nil && s.AdditionalProperties.Has == nil {
		closed := false
		s.AdditionalProperties.Has = &closed
	}
	for _, p := range s.Properties {
		if p.Ref == "" {
			closeSchema(p.Value)
		}
	}
	if s.Items != nil && s.Items.Ref == "" {
		closeSchema(s.Items.Value)
	}
}

// sameRoutes compares the routing table with the document, both ways.
func sameRoutes(t *testing.T, doc *openapi3.T, routes []httpapi.Route) {
	t.Helper()
	served := map[string]bool{}
	for _, r := range routes {
		for i, path := range append([]string{r.Path}, r.Also...) {
			served[r.Method+" "+path] = true
			item := doc.Paths.Value(path)
			if item == nil || item.GetOperation(r.Method) == nil {
				t.Errorf("the server has %s %s, the document has not", r.Method, path)
				continue
			}
			documented, _ := item.GetOperation(r.Method).Extensions["x-keyraft-tenanted"].(bool)
			if i == 0 && documented != r.Tenanted {
				t.Errorf("%s %s: x-keyraft-tenanted is %v, in the routing table it is %v", r.Method, path, documented, r.Tenanted)
			}
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !served[method+" "+path] {
				t.Errorf("the document has %s %s, the server has not", method, path)
			}
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// live is a node that runs in this process.
type live struct {
	url    string
	ready  map[string]string // the ready line
	routes []httpapi.Route
	rooms  *rooms
	done   chan error // what serve returned
}

func (l *live) admin() string { return l.ready["admin_token"] }

// startLive runs a node with these flags as runServer does, and waits for its ready
// line.
func startLive(t *testing.T, flags map[string]string) *live {
	t.Helper()
	if flags["data-dir"] == "" {
		flags["data-dir"] = t.TempDir()
	}
	flags["api-addr"] = "127.0.0.1:0"
	cfg, _, err := config.Load(config.Sources{Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	out, in := io.Pipe()
	s := &server{
		cfg: cfg, io: console{Out: in, Err: io.Discard}, log: newLogger("text", "error", io.Discard), reg: prometheus.NewRegistry(),
		fatal: make(chan error, 1), gone: make(chan struct{}), up: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.prepare(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.startNode(ctx); err != nil {
		t.Fatal(err)
	}
	rooms, err := s.rooms()
	if err != nil {
		t.Fatal(err)
	}
	l := &live{routes: rooms.routes, rooms: rooms, done: make(chan error, 1)}
	go func() {
		l.done <- s.serve(ctx, rooms)
		_ = s.api.Close()
		_ = in.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-l.done; err != nil && !errors.Is(err, cluster.ErrRemoved) {
			t.Errorf("the node ended with %v", err)
		}
		l.done <- nil
	})
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		t.Fatalf("no ready line: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	if err := json.Unmarshal(line, &l.ready); err != nil {
		t.Fatal(err)
	}
	l.url = l.ready["url"]
	return l
}

// holder asks a node and holds its answers against the document.
type holder struct {
	t         *testing.T
	doc       *openapi3.T
	router    routers.Router
	node      *live
	good, bad map[string]bool // by operation id
}

// ask is one request. Header holds pairs; a JSON or form body names itself.
type ask struct {
	method, path string
	body         any // string: a form; []byte: octets; else JSON
	header       []string
	auth         string
	status       int
	code         string // of a refusal
}

type reply struct {
	header http.Header
	body   []byte
	json   map[string]any
}

func (r *reply) text(name string) string { s, _ := r.json[name].(string); return s }

func (h *holder) request(a ask) *http.Request {
	h.t.Helper()
	var body []byte
	media := ""
	switch b := a.body.(type) {
	case nil:
	case string:
		body, media = []byte(b), "application/x-www-form-urlencoded"
	case []byte:
		body, media = b, "application/octet-stream"
	default:
		var err error
		if body, err = json.Marshal(b); err != nil {
			h.t.Fatal(err)
		}
		media = "application/json"
	}
	req, err := http.NewRequestWithContext(h.t.Context(), a.method, h.node.url+a.path, bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	if a.auth != "" {
		req.Header.Set("Authorization", a.auth)
	}
	for i := 0; i+1 < len(a.header); i += 2 {
		req.Header[a.header[i]] = []string{a.header[i+1]}
	}
	return req
}

// do asks, checks status and answer, and with a good status the request too.
func (h *holder) do(a ask) *reply {
	h.t.Helper()
	req := h.request(a)
	route, params, err := h.router.FindRoute(req)
	if err != nil {
		h.t.Fatalf("%s %s is not in the document: %v", a.method, a.path, err)
	}
	input := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: authenticated, MultiError: true, IncludeResponseStatus: true},
	}
	if a.status < 400 {
		if err := openapi3filter.ValidateRequest(h.t.Context(), input); err != nil {
			h.t.Errorf("%s %s: the document refuses a good request: %s", a.method, a.path, brief(err))
		}
	}
	client := still()
	resp, err := client.Do(req)
	// Leadership was handed over a moment ago: what then asks to come again is asked
	// again, as its Retry-After says.
	for deadline := time.Now().Add(20 * time.Second); err == nil && resp.StatusCode == http.StatusServiceUnavailable && a.status != http.StatusServiceUnavailable && time.Now().Before(deadline); {
		wait, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		_ = resp.Body.Close()
		<-time.After(time.Duration(max(wait, 1)) * time.Second)
		resp, err = client.Do(h.request(a))
	}
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	r := &reply{header: resp.Header}
	if r.body, err = io.ReadAll(resp.Body); err != nil {
		h.t.Fatal(err)
	}
	_ = json.Unmarshal(r.body, &r.json) // what is no JSON has no members
	code := r.text("code") + r.text("error")
	if resp.StatusCode != a.status || a.code != "" && code != a.code {
		h.t.Fatalf("%s %s: %d %s, want %d %s", a.method, a.path, resp.StatusCode, r.body, a.status, a.code)
	}
	err = openapi3filter.ValidateResponse(h.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header,
		Body: io.NopCloser(bytes.NewReader(r.body)), Options: input.Options,
	})
	if err != nil {
		h.t.Errorf("%s %s: the answer %d is not what the document says: %s\n%.600s", a.method, a.path, resp.StatusCode, brief(err), r.body)
	}
	if id := route.Operation.OperationID; a.status < 400 {
		h.good[id] = true
	} else {
		h.bad[id] = true
	}
	return r
}

// brief leaves out the schema that the library prints with each error.
func brief(err error) string {
	var out []string
	keep := true
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "Schema:"), strings.HasPrefix(line, "Value:"):
			keep = false
		case line != "" && line[0] != ' ':
			keep = true
		}
		if keep && line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "; ")
}

// admin asks as an operator.
func (h *holder) admin(method, path string, body any, status int, header ...string) *reply {
	h.t.Helper()
	return h.do(ask{method: method, path: "/admin/v1/" + path, body: body, header: header, auth: "Bearer " + h.node.admin(), status: status})
}

// authenticated wants the scheme of a requirement to be in the request.
func authenticated(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	header := in.RequestValidationInput.Request.Header.Get("Authorization")
	if scheme, _, _ := strings.Cut(header, " "); strings.EqualFold(scheme, in.SecurityScheme.Scheme) {
		return nil
	}
	return errors.New("no credentials of the scheme " + in.SecurityScheme.Scheme)
}

// withoutCredentials: every operation that needs some refuses a request without, and
// one with a wrong token.
func (h *holder) withoutCredentials() {
	for path, item := range h.doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.Security == nil || slices.ContainsFunc(*op.Security, func(r openapi3.SecurityRequirement) bool { return len(r) == 0 }) || len(*op.Security) == 0 {
				continue
			}
			path = strings.NewReplacer("{id}", "x", "{client_id}", "x").Replace(path)
			h.do(ask{method: method, path: path, status: 401})
			h.do(ask{method: method, path: path, auth: "Bearer wrong", status: 401, code: "invalid_token"})
		}
	}
}

func (h *holder) oauth() {
	id, secret := h.node.ready["client_id"], h.node.ready["client_secret"]
	basic := basicAuth(id, secret)
	form := "client_id=" + id + "&client_secret=" + secret
	got := h.do(ask{method: "POST", path: "/oauth2/token", body: "grant_type=client_credentials&scope=read", auth: basic, status: 200})
	token := url.QueryEscape(got.text("access_token"))
	for _, auth := range []string{basic, "Bearer " + h.node.admin(), "Bearer " + h.node.ready["gateway_credential"]} {
		if a := h.do(ask{method: "POST", path: "/oauth2/introspect", body: "token=" + token, auth: auth, status: 200}); a.json["active"] != true {
			h.t.Errorf("introspection of a fresh token: %s", a.body)
		}
	}
	h.do(ask{method: "POST", path: "/oauth2/revoke", body: "token=" + token, auth: basic, status: 200})
	if a := h.do(ask{method: "POST", path: "/oauth2/introspect", body: "token=" + token, auth: basic, status: 200}); a.json["active"] != false {
		h.t.Errorf("introspection of a revoked token: %s", a.body)
	}
	for _, bad := range []ask{
		{body: "grant_type=client_credentials", status: 401, code: "invalid_client"},
		{body: "grant_type=client_credentials", auth: basicAuth(id, "wrong"), status: 401, code: "invalid_client"},
		{body: "grant_type=urn:x", auth: basic, status: 400, code: "unsupported_grant_type"},
		{body: "grant_type=client_credentials&scope=admin", auth: basic, status: 400, code: "invalid_scope"},
		{body: "grant_type=client_credentials&resource=https://x.example", auth: basic, status: 400, code: "invalid_target"},
		{body: "grant_type=client_credentials&scope=read&scope=write", auth: basic, status: 400, code: "invalid_request"},
		{body: map[string]string{"grant_type": "client_credentials"}, auth: basic, status: 400, code: "invalid_request"},
		{body: "grant_type=client_credentials&" + form, auth: basic, status: 400, code: "invalid_request"},
		{body: strings.Repeat("x", 70<<10), auth: basic, status: 413, code: "invalid_request"},
		{body: "grant_type=client_credentials", auth: basic, header: []string{"X_Forged", "1"}, status: 400, code: "invalid_request"},
		{body: "grant_type=client_credentials", auth: basic, header: []string{"Content-Encoding", "gzip"}, status: 415},
		{body: "grant_type=client_credentials", auth: basic, header: []string{"DPoP", "x"}, status: 400, code: "invalid_dpop_proof"},
	} {
		bad.method, bad.path = "POST", "/oauth2/token"
		h.do(bad)
	}
	for _, path := range []string{"/oauth2/introspect", "/oauth2/revoke"} {
		h.do(ask{method: "POST", path: path, body: "token=x", status: 401, code: "invalid_client"})
		h.do(ask{method: "POST", path: path, body: "", auth: basic, status: 400, code: "invalid_request"})
	}
	gate := []string{"X_Forged", "1"}
	for _, path := range []string{"/oauth2/jwks", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		h.do(ask{method: "GET", path: path, status: 200})
		h.do(ask{method: "GET", path: path, header: gate, status: 400})
	}
	h.do(ask{method: "GET", path: "/.well-known/oauth-authorization-server/t/nobody", status: 404})
}

func (h *holder) clients() {
	made := h.admin("POST", "clients", map[string]any{"client_id": "orders", "client_name": "Orders", "scope": "read write", "resources": []string{"https://api.example"}}, 201)
	if made.text("client_secret") == "" {
		h.t.Errorf("no secret in %s", made.body)
	}
	h.admin("POST", "clients", map[string]any{"client_id": "orders"}, 409)
	h.admin("POST", "clients", map[string]any{"client_id": "b", "grant_types": []string{"kerberos"}}, 400)
	h.admin("POST", "clients", map[string]any{"colour": "red"}, 400)
	h.admin("POST", "clients", "client_id=x", 415)
	key := []string{"Idempotency-Key", "0123456789abcdef"}
	first := h.admin("POST", "clients", map[string]any{"client_name": "once"}, 201, key...)
	if again := h.admin("POST", "clients", map[string]any{"client_name": "once"}, 201, key...); again.text("client_secret") != first.text("client_secret") {
		h.t.Error("a retry under one Idempotency-Key made another secret")
	}
	h.admin("POST", "clients", map[string]any{"client_name": "other"}, 422, key...)
	page := h.admin("GET", "clients?limit=1", nil, 200)
	h.admin("GET", "clients?limit=1&cursor="+page.text("next_cursor"), nil, 200)
	h.admin("GET", "clients?consistency=stale", nil, 200)
	h.admin("GET", "clients?limit=many", nil, 400)
	h.admin("GET", "clients?cursor=forged", nil, 400)
	one := h.admin("GET", "clients/orders", nil, 200)
	h.admin("GET", "clients/nobody", nil, 404)
	h.admin("PUT", "clients/orders", map[string]any{"client_name": "Orders 2", "scope": "read"}, 200, "If-Match", one.header.Get("ETag"))
	h.admin("PUT", "clients/orders", map[string]any{"scope": "read"}, 412, "If-Match", one.header.Get("ETag"))
	h.admin("PATCH", "clients/orders", map[string]any{"access_token_lifetime": 600, "client_name": nil}, 200)
	h.admin("PATCH", "clients/orders", map[string]any{"access_token_lifetime": 0}, 400)
	h.admin("POST", "clients/orders/secret", nil, 200)
	h.admin("POST", "clients/orders/secret", map[string]any{"keep": "10m"}, 200)
	h.admin("POST", "clients/orders/secret", map[string]any{"keep": "soon"}, 400)
	h.admin("DELETE", "clients/nobody", nil, 404)
	h.admin("DELETE", "clients/orders", nil, 204)
}

// registrations are those of clients by themselves.
func (h *holder) registrations() {
	made := h.admin("POST", "initial-access-tokens", map[string]any{"ttl": "10m", "uses": 2}, 201)
	h.admin("POST", "initial-access-tokens", nil, 201)
	h.admin("POST", "initial-access-tokens", map[string]any{"ttl": "0s"}, 400)
	h.admin("POST", "initial-access-tokens", map[string]any{"uses": -1}, 400)
	h.admin("GET", "initial-access-tokens", nil, 200)
	h.admin("GET", "registration-policy", nil, 200)
	h.admin("PUT", "registration-policy", map[string]any{"scopes": []string{"orders read"}}, 400)
	keys := json.RawMessage(testproof.New(h.t).JWKS(h.t, "k"))
	for name, issuers := range map[string][]map[string]any{
		"no keys": {{"issuer": "https://d.example"}}, "both": {{"issuer": "https://d.example", "jwks": keys, "jwks_uri": "https://d.example/jwks"}},
		"no issuer": {{"issuer": "", "jwks": keys}}, "twice": {{"issuer": "x", "jwks": keys}, {"issuer": "x", "jwks": keys}}, "HMAC": {{"issuer": "x", "jwks": keys, "alg": "HS256"}},
		"a secret": {{"issuer": "x", "jwks": map[string]any{"keys": []any{map[string]any{"kty": "oct", "k": "AA"}}}}}, "SSR-01": {{"issuer": "x", "jwks_uri": "https://169.254.169.254/"}},
	} {
		if got := h.admin("PUT", "registration-policy", map[string]any{"statement_issuers": issuers}, 400); got.text("field") != "statement_issuers" {
			h.t.Errorf("%s: %s", name, got.body)
		}
	}
	h.admin("PUT", "registration-policy", map[string]any{"unused_lifetime": "yesterday"}, 400)
	h.admin("PUT", "registration-policy", map[string]any{"grant_types": []string{"client_credentials"}, "scopes": []string{"orders"}, "unused_lifetime": "240h", "max_per_address": 1000,
		"statement_issuers": []map[string]any{{"issuer": "https://d.example", "jwks": keys, "alg": "ES256", "software_ids": []string{"s1"}}}}, 200)
	if got := h.admin("GET", "registration-policy", nil, 200); got.json["unused_lifetime"] != 864000.0 || got.json["max_per_address"] != 1000.0 {
		h.t.Errorf("%s", got.body)
	}
	register := func(method, path, token string, body any, status int) *reply {
		h.t.Helper()
		return h.do(ask{method: method, path: "/oauth2/register" + path, body: body, auth: "Bearer " + token, status: status})
	}
	register("POST", "", "kri_x.y", map[string]any{}, 401)
	register("POST", "", made.text("token"), map[string]any{"scope": "payments"}, 400)
	register("POST", "", made.text("token"), map[string]any{"software_statement": "x"}, 400)
	client := register("POST", "", made.text("token"), map[string]any{"client_name": "Own", "scope": "orders"}, 201)
	path, token := "/"+client.text("client_id"), client.text("registration_access_token")
	register("GET", path, token, nil, 200)
	register("GET", path, "krr_x", nil, 401)
	register("PUT", path, token, map[string]any{"client_name": "Own"}, 400)
	token = register("PUT", path, token, map[string]any{"client_id": client.text("client_id"), "client_name": "Own 2"}, 200).text("registration_access_token")
	register("DELETE", path, token, nil, 204)
	register("DELETE", path, token, nil, 401)
	h.otherWords()
	h.admin("DELETE", "initial-access-tokens/"+made.text("id"), nil, 204)
	h.admin("DELETE", "initial-access-tokens/"+made.text("id"), nil, 404)
}

func (h *holder) revocations() {
	token := h.do(ask{method: "POST", path: "/oauth2/token", body: "grant_type=client_credentials", auth: basicAuth(h.node.ready["client_id"], h.node.ready["client_secret"]), status: 200}).text("access_token")
	if a := h.admin("POST", "explain", map[string]any{"token": token}, 200); a.json["accepted"] != true {
		h.t.Errorf("explain of a fresh token: %s", a.body)
	}
	h.admin("POST", "revocations", map[string]any{"token": token}, 200)
	if a := h.admin("POST", "explain", map[string]any{"token": token}, 200); a.text("reason") != "revoked" {
		h.t.Errorf("explain of a revoked token: %s", a.body)
	}
	h.admin("POST", "explain", map[string]any{"token": ""}, 400)
	h.admin("POST", "revocations?wait=gateways&timeout=1s", map[string]any{"subject": "somebody", "issued_before": 1}, 200)
	h.admin("POST", "revocations", map[string]any{}, 400)
	h.admin("POST", "revocations", map[string]any{"subject": "a", "root": "b"}, 400)
	h.admin("POST", "revocations", map[string]any{"client_id": "nobody"}, 404)
	h.admin("POST", "revocations?wait=everyone", map[string]any{"subject": "a"}, 400)
}

func (h *holder) gateways() {
	made := h.admin("POST", "gateways", map[string]any{"name": "edge"}, 201)
	h.admin("POST", "gateways", map[string]any{"name": "edge"}, 409)
	h.admin("POST", "gateways", map[string]any{"name": "no such name"}, 400)
	gateway := func(path string, status int, header ...string) *reply {
		h.t.Helper()
		return h.do(ask{method: "GET", path: "/gateway/v1/" + path, auth: "Bearer " + made.text("credential"), header: header, status: status})
	}
	for _, path := range []string{"revocations", "events"} {
		d := gateway(path+"?since=0", 200)
		if items, _ := d.json["items"].([]any); len(items) == 0 {
			h.t.Errorf("no events in %s", d.body)
		}
		gateway(path+"?since=0&wait=1s&instance=edge-1", 200, "X-Keyraft-Fail-Mode", "closed", "X-Keyraft-Bound-Ms", "10000")
		gateway(path+"?since=0", 200, "Accept", "application/x-protobuf")
		if a := gateway(path+"?since=1000000", 409); a.text("code") != "ahead" || a.json["head"] == nil {
			h.t.Errorf("since above the head: %s", a.body)
		}
		if a := gateway(path+"?since=1&epoch=77", 409); a.json["epoch"] == nil {
			h.t.Errorf("another epoch: %s", a.body)
		}
		gateway(path+"?since=-1", 400)
		gateway(path+"?since=x", 400)
		gateway(path+"?since=0&kinds=colour", 400)
	}
	for _, path := range []string{"revocations/snapshot", "jwks", "members", "key-managers", "apis"} {
		gateway(path, 200)
		gateway(path, 400, "X_Forged", "1")
	}
	h.admin("GET", "gateways", nil, 200)
	h.admin("GET", "gateways?consistency=perhaps", nil, 400)
	h.admin("DELETE", "gateways/"+made.text("id"), nil, 204)
	h.admin("DELETE", "gateways/nobody", nil, 404)
}

func (h *holder) keysAndTenants() {
	h.admin("GET", "keys", nil, 200)
	h.admin("GET", "keys?limit=x", nil, 400)
	h.admin("POST", "keys/rotate", nil, 200)
	h.admin("POST", "keys/rotate", map[string]any{"alg": "EdDSA", "emergency": true}, 200)
	h.admin("POST", "keys/rotate", map[string]any{"alg": "HS256"}, 400)
	h.admin("GET", "tenants", nil, 200)
	h.admin("GET", "tenants?name=x", nil, 400)
	h.admin("GET", "tenants/default", nil, 200)
	h.admin("GET", "tenants/nobody", nil, 404)
}

func (h *holder) registry() {
	h.admin("POST", "roles", map[string]any{"name": "clerk"}, 201)
	for path, members := range map[string]map[string]any{
		"roles":  {"name": "head", "description": "Of the office"},
		"groups": {"name": "head", "description": "Of the office", "roles": []string{"clerk"}},
		"scopes": {"name": "head", "display_name": "Orders", "roles": []string{"clerk"}, "claims": []string{"office"}},
	} {
		h.admin("POST", path, members, 201)
		h.admin("POST", path, members, 409)
		h.admin("GET", path+"?limit=1", nil, 200)
		h.admin("GET", path+"?limit=x", nil, 400)
		one := path + "/head"
		got := h.admin("GET", one, nil, 200)
		h.admin("PUT", one, map[string]any{"description": "Another"}, 200, "If-Match", got.header.Get("ETag"))
		h.admin("PUT", one, map[string]any{}, 412, "If-Match", got.header.Get("ETag"))
		h.admin("PATCH", one, map[string]any{"description": nil}, 200)
		h.admin("PATCH", one, map[string]any{"colour": "red"}, 400)
		h.admin("DELETE", path+"/~aGVhZA", nil, 204)
		h.admin("DELETE", one, nil, 404)
		h.admin("GET", one, nil, 404)
	}
	h.admin("DELETE", "roles/clerk?force=perhaps", nil, 400)
	h.admin("DELETE", "roles/clerk?force=true", nil, 204)
	h.admin("PATCH", "tenants/default", map[string]any{"refresh_idle_lifetime": "8h", "narrow_scopes": false, "scope_patterns": []string{"device_.*"}}, 200)
	h.admin("PATCH", "tenants/default", map[string]any{"scope_patterns": []string{"("}}, 400)
	h.admin("PATCH", "tenants/default", map[string]any{"password_min_length": 10, "password_max_length": 100, "password_refused": []string{"Keyraft2026!"}, "lockout_failures": 10, "lockout_window": "15m", "lockout_time": 900}, 200)
	h.admin("PATCH", "tenants/default", map[string]any{"password_min_length": 7}, 400)
	h.admin("PATCH", "tenants/default", map[string]any{"password_min_length": nil, "password_max_length": nil, "password_refused": nil, "lockout_failures": nil, "lockout_window": nil, "lockout_time": nil}, 200)
	h.admin("PATCH", "tenants/default", map[string]any{"refresh_idle_lifetime": nil, "scope_patterns": nil}, 200)
}

func (h *holder) operations() {
	for _, path := range []string{"/livez", "/readyz", "/readyz?verbose&require=leader", "/metrics"} {
		h.do(ask{method: "GET", path: path, status: 200})
		h.do(ask{method: "GET", path: path, header: []string{"X_Forged", "1"}, status: 400})
	}
}

func (h *holder) cluster() {
	h.admin("GET", "cluster/status", nil, 200)
	h.admin("GET", "cluster/checksum", nil, 200)
	h.admin("GET", "cluster/status?since=1", nil, 400)
	h.admin("GET", "cluster/checksum?x=1", nil, 400)
	h.admin("POST", "cluster/members", map[string]any{"node_id": "later", "suffrage": "voter", "ttl": 60}, 201)
	h.admin("POST", "cluster/members", map[string]any{"node_id": h.node.ready["node_id"]}, 409)
	h.admin("POST", "cluster/members", map[string]any{"node_id": "a b"}, 400)
	h.admin("POST", "cluster/join-tokens", map[string]any{"ttl": "1000h"}, 400)
	token := h.admin("POST", "cluster/join-tokens", map[string]any{"ttl": "10m", "suffrage": "nonvoter"}, 201).text("token")
	parsed, err := ca.ParseJoinToken(token)
	if err != nil {
		h.t.Fatal(err)
	}
	h.do(ask{method: "GET", path: "/cluster/v1/port?ca=" + hex.EncodeToString(parsed.Fingerprint[:]), status: 200})
	h.do(ask{method: "GET", path: "/cluster/v1/port?ca=" + strings.Repeat("0", 64), status: 404, code: "other_cluster"})
	second := startLive(h.t, map[string]string{"dev": "true", "node-id": "second", "non-voter": "true", "join": h.node.url, "join-token": token})
	h.admin("GET", "cluster/members", nil, 200)
	h.admin("GET", "cluster/members?limit=x", nil, 400)
	h.admin("POST", "cluster/members/nobody/promote", nil, 404)
	h.admin("POST", "cluster/members/second/promote", nil, 200)
	h.admin("POST", "cluster/transfer-leader", map[string]any{"id": "nobody"}, 409)
	h.admin("POST", "cluster/transfer-leader", nil, 200)
	h.admin("POST", "cluster/gossip-keys/rotate", map[string]any{"pool": "all"}, 400)
	h.admin("POST", "cluster/gossip-keys/rotate", nil, 200)
	h.admin("DELETE", "cluster/members/nobody", nil, 404)
	h.admin("DELETE", "cluster/members/second?force=perhaps", nil, 400)
	h.admin("DELETE", "cluster/members/second", nil, 204)
	select {
	case err := <-second.done:
		if !errors.Is(err, cluster.ErrRemoved) {
			h.t.Errorf("the removed node ended with %v", err)
		}
		second.done <- nil
	case <-time.After(30 * time.Second):
		h.t.Error("the removed node still runs after half a minute")
	}
}

func (h *holder) snapshots() {
	saved := h.admin("GET", "cluster/snapshot", nil, 200)
	h.admin("GET", "cluster/snapshot?x=1", nil, 400)
	h.admin("POST", "cluster/snapshot", saved.body[:len(saved.body)/2], 422)
	h.admin("POST", "cluster/snapshot", map[string]any{}, 415)
	h.admin("POST", "cluster/snapshot?foreign=perhaps", saved.body, 400)
	if a := h.admin("POST", "cluster/snapshot", saved.body, 200); a.json["epoch"] != 2.0 {
		h.t.Errorf("the epoch after a restore: %s", a.body)
	}
	h.admin("GET", "clients", nil, 200) // it goes on
}

// unasked fails for operations that nobody asked well and badly. A tenant's metadata
// has no good case: this version makes no other tenant than default.
func (h *holder) unasked() {
	for path, item := range h.doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !h.good[op.OperationID] && op.OperationID != "tenantMetadata" {
				h.t.Errorf("%s %s was never asked a good thing", method, path)
			}
			if !h.bad[op.OperationID] {
				h.t.Errorf("%s %s was never asked a bad thing", method, path)
			}
		}
	}
}

func basicAuth(id, secret string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	return r.Header.Get("Authorization")
}
