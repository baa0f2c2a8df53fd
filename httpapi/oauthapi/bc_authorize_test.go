package oauthapi_test

import (
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
)

func (h *home) backchannel(pairs ...string) *answer {
	h.t.Helper()
	form := url.Values{"scope": {"openid read"}, "login_hint": {"alice"}, "binding_message": {"W4SCT"}}
	for i := 0; i < len(pairs); i += 2 {
		form.Del(pairs[i])
		if pairs[i+1] != "" {
			form.Set(pairs[i], pairs[i+1])
		}
	}
	return h.do(h.t, "POST", oauthapi.BackchannelPath, form.Encode(), "Authorization", basicAuth("bank", h.secret))
}

func (h *home) asked(pairs ...string) string {
	h.t.Helper()
	a := h.backchannel(pairs...)
	a.want(h.t, 200, "")
	id, _ := a.json["auth_req_id"].(string)
	return id
}

// says is what u1 answers to the only request that waits for them.
func (h *home) says(allow bool) {
	h.t.Helper()
	waits, err := h.pending.WaitingFor(h.view(), "default", "u1")
	if err != nil || len(waits) != 1 {
		h.t.Fatalf("%d requests wait, %v", len(waits), err)
	}
	_, hash, err := h.pending.BackchannelOf(h.view(), "default", "u1", waits[0].GetId())
	if err != nil {
		h.t.Fatal(err)
	}
	who, r := h.who(), h.engine.Begin(h.view(), "default", authorize.PageRequests)
	if err := h.engine.AboutBackchannel(h.view(), r, who, waits[0]); err != nil {
		h.t.Fatal(err)
	}
	if err := h.pending.DecideBackchannel(h.t.Context(), "default", "u1", hash, h.allowed(r, who, allow)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) pollBackchannel(n *node, id string) *answer {
	h.t.Helper()
	return n.do(h.t, "POST", oauthapi.TokenPath, "grant_type="+url.QueryEscape(cibaGrant)+"&auth_req_id="+url.QueryEscape(id), "Authorization", basicAuth("bank", h.secret))
}

// TestBackchannelRequests is CIBA Core §7.1 and §13: who may ask, about whom, how.
func TestBackchannelRequests(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	h.must(t, &command.PutUser{User: &state.User{Tenant: "default", Id: "u2", Username: "bob", Key: "bob", Disabled: true}})
	a := h.backchannel("requested_expiry", "120")
	a.want(t, 200, "")
	if a.json["expires_in"] != 120.0 || a.json["interval"] != 5.0 || a.json["auth_req_id"] == nil {
		t.Errorf("answer %s", a.text)
	}
	for name, tt := range map[string]struct {
		pairs  []string
		code   string
		status int
	}{
		"no hint":                         {[]string{"login_hint", ""}, "invalid_request", 400},
		"two hints":                       {[]string{"id_token_hint", "x"}, "invalid_request", 400},
		"a login_hint_token":              {[]string{"login_hint_token", "x"}, "invalid_request", 400},
		"a forged id_token_hint":          {[]string{"login_hint", "", "id_token_hint", "x.y.z"}, "invalid_request", 400},
		"an unknown user":                 {[]string{"login_hint", "nobody"}, "unknown_user_id", 400},
		"a hint that can be no name":      {[]string{"login_hint", strings.Repeat("x", 2000)}, "unknown_user_id", 400},
		"TOK-31 a disabled user":          {[]string{"login_hint", "bob"}, "unknown_user_id", 400},
		"no openid":                       {[]string{"scope", "read"}, "invalid_scope", 400},
		"no scope":                        {[]string{"scope", ""}, "invalid_scope", 400},
		"a scope that it may not have":    {[]string{"scope", "openid admin"}, "invalid_scope", 400},
		"a signed request":                {[]string{"request", "x.y.z"}, "invalid_request", 400},
		"an expiry that is none":          {[]string{"requested_expiry", "-1"}, "invalid_request", 400},
		"a binding message of two lines":  {[]string{"binding_message", "a\nb"}, "invalid_request", 400},
		"one that turns the text round":   {[]string{"binding_message", "a\u202eb"}, "invalid_binding_message", 400},
		"one that is too long":            {[]string{"binding_message", strings.Repeat("x", 65)}, "invalid_binding_message", 400},
		"acr_values without end":          {[]string{"acr_values", strings.Repeat("x ", 300)}, "invalid_request", 400},
		"a resource that it has not":      {[]string{"resource", "https://api.example"}, "invalid_target", 400},
		"a message in letters of its own": {[]string{"binding_message", "Zahlung über 5 €"}, "", 200},
	} {
		t.Log(name)
		h.backchannel(tt.pairs...).want(t, tt.status, tt.code)
	}
	if a := h.backchannel("requested_expiry", "1000000"); a.json["expires_in"] != 600.0 {
		t.Errorf("answer %s", a.text)
	}
	// A public client proves nothing, so it asks nobody; neither does one without its secret.
	h.must(t, &command.PutClient{Client: &state.Client{Tenant: "default", Id: "pub", AuthMethod: "none", GrantTypes: []string{cibaGrant}, Scopes: []string{"openid"}}})
	h.do(t, "POST", oauthapi.BackchannelPath, "client_id=pub&scope=openid&login_hint=alice").want(t, 400, "unauthorized_client")
	h.do(t, "POST", oauthapi.TokenPath, "grant_type="+url.QueryEscape(cibaGrant)+"&client_id=pub&auth_req_id=x").want(t, 400, "unauthorized_client")
	h.do(t, "POST", oauthapi.BackchannelPath, "client_id=bank&scope=openid&login_hint=alice").want(t, 401, "invalid_client") // TOK-10
	h.do(t, "POST", oauthapi.BackchannelPath, "client_id=tv&scope=openid&login_hint=alice").want(t, 400, "unauthorized_client")
}

// TestABackchannelRequest goes its whole way: by login_hint, and then by the ID token that
// came of it.
func TestABackchannelRequest(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	id := h.asked()
	h.pollBackchannel(h.node, id).want(t, 400, "authorization_pending")
	h.pollBackchannel(h.node, id).want(t, 400, "slow_down")
	h.says(true)
	a := h.pollBackchannel(h.node, id)
	a.want(t, 200, "")
	token, _ := a.json["id_token"].(string)
	if token == "" || a.json["refresh_token"] == nil || a.json["scope"] != "openid read" {
		t.Fatalf("answer %s", a.text)
	}
	h.pollBackchannel(h.node, id).want(t, 400, "invalid_grant")

	again := h.asked("login_hint", "", "id_token_hint", token)
	h.says(false)
	h.pollBackchannel(h.node, again).want(t, 400, "access_denied")
	// Another client's ID token names nobody.
	h.client(t, clients.Registration{ClientID: "bank2", GrantTypes: []string{cibaGrant}, Scope: "openid"})
	secret, err := h.registry.RotateSecret(t.Context(), h.view(), "default", "bank2", clients.UntilNext, 0)
	if err != nil {
		t.Fatal(err)
	}
	auth := basicAuth("bank2", secret.Secret())
	h.do(t, "POST", oauthapi.BackchannelPath, "scope=openid&id_token_hint="+url.QueryEscape(token), "Authorization", auth).want(t, 400, "invalid_request")
	third := h.asked()
	h.says(true)
	h.do(t, "POST", oauthapi.TokenPath, "grant_type="+url.QueryEscape(cibaGrant)+"&auth_req_id="+third, "Authorization", auth).want(t, 400, "invalid_grant")
	h.pollBackchannel(h.node, third).want(t, 200, "")

	late := h.asked("requested_expiry", "60")
	h.pass(time.Minute)
	h.pollBackchannel(h.node, late).want(t, 400, "expired_token")
	device, _ := h.begin("tv")
	h.pollBackchannel(h.node, device).want(t, 400, "invalid_grant") // TOK-21
	h.poll(late).want(t, 400, "invalid_grant")
}

// TestABackchannelRequestIsRedeemedOnce of a hundred times over three nodes.
func TestABackchannelRequestIsRedeemedOnce(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	nodes := []*node{h.node, serve(t, h.world), serve(t, h.world)}
	id := h.asked()
	h.says(true)
	var won atomic.Int64
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if a := h.pollBackchannel(nodes[i%3], id); a.status == 200 {
				won.Add(1)
			} else if a.code() != "invalid_grant" {
				t.Errorf("%d %s", a.status, a.text)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d polls got tokens", won.Load())
	}
}

// TestNobodyIsWornDown: so many requests wait for a user, then no more.
func TestNobodyIsWornDown(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	for range 16 {
		h.asked()
	}
	h.backchannel().want(t, 403, "access_denied")
	h.pass(pending.BackchannelLifetime * time.Second)
	h.asked()
	h.says(false)
}

// TestABackchannelRequestWantsFactors: acr_values of the request make the user prove more.
func TestABackchannelRequestWantsFactors(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	h.asked("acr_values", authorize.ACRFactors)
	waits, err := h.pending.WaitingFor(h.view(), "default", "u1")
	if err != nil || len(waits) != 1 {
		t.Fatal(waits, err)
	}
	r := h.engine.Begin(h.view(), "default", authorize.PageRequests)
	if err := h.engine.AboutBackchannel(h.view(), r, h.who(), waits[0]); err != nil {
		t.Fatal(err)
	}
	if step, err := h.engine.Next(h.view(), r, h.who()); step != authorize.Factor || err != nil {
		t.Errorf("step %d, %v", step, err)
	}
	h.signIn("pwd", "otp", "mfa")
	h.says(true)
}
