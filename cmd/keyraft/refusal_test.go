package main

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRefusals: whatever the server says becomes one line that says what to do.
func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer answer
		noAuth bool
		want   string
	}{
		{name: "a problem document names the field", answer: answer{status: 422, body: `{"type":"urn:keyraft:error:invalid","code":"invalid","title":"Unprocessable Entity","status":422,"detail":"must be https","field":"redirect_uris"}`},
			want: "keyraft: redirect_uris: must be https (invalid)\n"},
		{name: "no token was given", noAuth: true, answer: answer{status: 401, body: `{"title":"Unauthorized","status":401,"detail":"a token is needed."}`},
			want: "keyraft: a token is needed; no token was sent: set KEYRAFT_TOKEN, --token or --token-file (a node prints its admin token at its first start)\n"},
		{name: "a wrong token", answer: answer{status: 401, body: `{"title":"Unauthorized","status":401,"code":"invalid_token","detail":"unknown token"}`},
			want: "keyraft: unknown token (invalid_token); check KEYRAFT_TOKEN, --token or --token-file\n"},
		{name: "a token without the right", answer: answer{status: 403, body: `{"error":"insufficient_scope","error_description":"scope keyraft:admin is needed"}`},
			want: "keyraft: scope keyraft:admin is needed (insufficient_scope); use a token that has the right\n"},
		{name: "no quorum", answer: answer{status: 503, body: `{"error":"temporarily_unavailable","error_description":"no leader"}`, header: map[string]string{"Retry-After": "5"}},
			want: "keyraft: no leader (temporarily_unavailable); try again in 5s\n"},
		{name: "an outcome that nobody knows", answer: answer{status: 503, body: `{"code":"outcome_unknown","title":"Service Unavailable"}`},
			want: "keyraft: Service Unavailable (outcome_unknown); it may have been done or not: look before you repeat it\n"},
		{name: "a proxy's page", answer: answer{status: 502, body: `<html>bad gateway</html>`}, want: "answered 502 Bad Gateway without saying why; if it is not a Keyraft node, set --addr or KEYRAFT_ADDR\n"},
		{name: "a redirect is not followed", answer: answer{status: 302, header: map[string]string{"Location": "https://elsewhere/"}}, want: "answered 302 Found to https://elsewhere/, which is not followed"},
		{name: "something else answers", answer: answer{status: 200, body: `hello`}, want: "answered with something that is not JSON; is it a Keyraft node?"},
		{name: "control characters are taken out", answer: answer{status: 400, body: `{"detail":"a\u001b[2J\nb"}`}, want: "keyraft: a [2J b\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, map[string][]answer{"GET /admin/v1/clients/x": {tt.answer}})
			env := map[string]string{}
			if tt.noAuth {
				env["KEYRAFT_TOKEN"] = ""
			}
			got := n.at(t, call{args: []string{"client", "get", "x"}, env: env})
			if got.code != 1 || !strings.HasSuffix(got.err, tt.want) && !strings.Contains(got.err, tt.want) {
				t.Errorf("exit code %d, %q, want %q", got.code, got.err, tt.want)
			}
			if strings.Count(got.err, "\n") != 1 || got.out != "" || strings.Contains(got.err, adminSecret) {
				t.Errorf("not one line on standard error alone: %q %q", got.out, got.err)
			}
		})
	}
}

// TestRetry: a 503 that names a time is tried again with the same key, so an
// election does not fail a command and does nothing twice.
func TestRetry(t *testing.T) {
	t.Parallel()
	busy := answer{503, `{"error":"temporarily_unavailable","error_description":"no leader"}`, map[string]string{"Retry-After": "0"}}
	n := newNode(t, map[string][]answer{"POST /admin/v1/clients": {busy, busy, {201, clientAnswer, nil}}})
	got := n.at(t, call{args: []string{"client", "create", "--name", "a"}, patience: 20 * time.Second})
	if got.code != 0 || !strings.Contains(got.out, "orders") {
		t.Fatalf("exit code %d: %s", got.code, got.err)
	}
	all := n.requests()
	if len(all) != 3 {
		t.Fatalf("%d requests, want 3", len(all))
	}
	for _, r := range all[1:] {
		if r.Header.Get("Idempotency-Key") != all[0].Header.Get("Idempotency-Key") || r.Body != all[0].Body {
			t.Error("the retry is another request")
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	plain := newNode(t, nil)
	tlsNode := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(clientAnswer))
	}))
	tlsNode.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshakes of this test
	tlsNode.StartTLS()
	t.Cleanup(tlsNode.Close)
	cacert := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(cacert, pemOf(tlsNode.Certificate()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing listens", []string{"--addr", addr}, 1, "nothing listens at http://" + addr + "; start a node with 'keyraft server --dev', or point --addr or KEYRAFT_ADDR to one"},
		{"https to plain HTTP", []string{"--addr", strings.Replace(plain.URL, "http:", "https:", 1)}, 1, "speaks plain HTTP; use http://"},
		{"an unknown authority", []string{"--addr", tlsNode.URL}, 1, "name it with --cacert or KEYRAFT_CACERT"},
		{"the authority is named", []string{"--addr", tlsNode.URL, "--cacert", cacert}, 0, "orders"},
		{"an address that is none", []string{"--addr", "ftp://x"}, 2, "is not a URL with http or https"},
		{"an address with a password in it", []string{"--addr", "http://a:hunter2@x"}, 2, "has a user, a query or a fragment"},
		{"a CA file that is not there", []string{"--cacert", "nowhere.pem"}, 2, "name a readable file"},
		{"a token file that is not there", []string{"--token-file", "nowhere"}, 2, "name a readable file"},
		{"two tokens", []string{"--token-file", cacert, "--token", "x"}, 2, "keep one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := call{args: append([]string{"client", "get", "orders"}, tt.args...)}.run(t)
			if got.code != tt.code || !strings.Contains(got.out+got.err, tt.want) {
				t.Errorf("exit code %d, %q", got.code, got.out+got.err)
			}
			if strings.Contains(got.err, "hunter2") {
				t.Errorf("a password is shown: %q", got.err)
			}
		})
	}
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
