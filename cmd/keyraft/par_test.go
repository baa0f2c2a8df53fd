package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// TestAUT20TheLargestRequest that is taken can be signed in for; one byte more of it is
// refused where it is pushed, and told why.
func TestAUT20TheLargestRequest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var scopes []string
	for i := range 200 {
		scopes = append(scopes, fmt.Sprintf("an_item_of_a_scope_%d", i))
	}
	s.call("PATCH", "/admin/v1/clients/web", "Bearer "+s.node.admin(), "application/merge-patch+json", `{"scope":"`+strings.Join(scopes, " ")+`"}`, 200)
	push := func(state int) (int, []byte) {
		t.Helper()
		form := authorizeForm("nonce", "", "state", strings.Repeat("s", state), "scope", strings.Join(scopes, " "))
		return s.ask("POST", "/oauth2/par", basicAuth("web", s.secret), formType, form.Encode())
	}
	fits, over := 1, 2048 // bytes of state, which may have no more
	for over-fits > 1 {
		middle := (fits + over) / 2
		if status, _ := push(middle); status == 201 {
			fits = middle
		} else {
			over = middle
		}
	}
	status, text := push(over)
	if status != 413 || !strings.Contains(string(text), `"error":"invalid_request"`) || !strings.Contains(string(text), "8192") || strings.Contains(string(text), "urn:") {
		t.Fatalf("with %d bytes of state: %d %.300s", over, status, text)
	}
	form := authorizeForm("nonce", "", "state", strings.Repeat("s", fits), "scope", strings.Join(scopes, " "))
	uri, _ := s.call("POST", "/oauth2/par", basicAuth("web", s.secret), formType, form.Encode(), 201)["request_uri"].(string)
	p := s.Open(t, "/oauth2/authorize?"+url.Values{"client_id": {"web"}, "request_uri": {uri}}.Encode())
	if p.Status != 200 {
		t.Fatalf("%d, the request_uri has %d bytes: %.300s", p.Status, len(uri), p.Text)
	}
	if len(uri) < 8000 {
		t.Errorf("no more than %d bytes are taken", len(uri))
	}
	p = s.signIn(p)
	s.redeem(200, away(t, s.SubmitTo(t, p, "/consent", "decision", "allow")).Get("code"))
}
