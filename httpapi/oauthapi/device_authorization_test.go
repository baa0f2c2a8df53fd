package oauthapi_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/testproof"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	deviceGrant = string(oauth.GrantDeviceCode)
	cibaGrant   = string(oauth.GrantCIBA)
)

// home is a node with the user u1, who is signed in, and clients of theirs: tv, a public
// one, other, which is like it, and bank, which proves who it is.
type home struct {
	*node
	t      *testing.T
	secret string // of bank
}

func atHome(t *testing.T) *home {
	t.Helper()
	h := &home{node: start(t), t: t}
	h.must(t, &command.PutUser{User: &state.User{Tenant: "default", Id: "u1", Username: "alice", Key: "alice"}})
	h.signIn("pwd")
	for _, id := range []string{"tv", "other"} {
		h.client(t, clients.Registration{
			ClientID: id, AuthMethod: "none", GrantTypes: []string{deviceGrant, "refresh_token"}, Scope: "openid profile read", IDTokenAlg: "ES256",
		})
	}
	h.secret = h.client(t, clients.Registration{
		ClientID: "bank", GrantTypes: []string{deviceGrant, cibaGrant, "refresh_token"}, Scope: "openid profile read", IDTokenAlg: "ES256",
	})
	return h
}

// signIn gives u1 a new session, in place of any other.
func (h *home) signIn(amr ...string) {
	h.t.Helper()
	user, err := h.view().User("default", "u1")
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.view().Session("default", "s1"); err == nil {
		h.must(h.t, &command.EndSession{Tenant: "default", Id: "s1"})
	}
	h.must(h.t, &command.PutSession{UserGeneration: user.GetGeneration(), Session: &state.Session{
		Tenant: "default", Id: "s1", User: "u1", Secret: make([]byte, 32), AuthTime: h.now().Unix(), Amr: amr, Acr: authorize.ACRPassword, ExpiresAt: h.now().Unix() + 7200,
	}})
}

func (h *home) who() authorize.Present {
	h.t.Helper()
	s, err1 := h.view().Session("default", "s1")
	u, err2 := h.view().User("default", "u1")
	if err1 != nil || err2 != nil {
		h.t.Fatal(err1, err2)
	}
	return authorize.Present{Session: s, User: u}
}

// begin asks for a device's codes.
func (h *home) begin(client string, pairs ...string) (device, user string) {
	h.t.Helper()
	form := url.Values{"client_id": {client}, "scope": {"openid read"}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	a := h.do(h.t, "POST", oauthapi.DeviceAuthorizationPath, form.Encode())
	a.want(h.t, 200, "")
	device, _ = a.json["device_code"].(string)
	user, _ = a.json["user_code"].(string)
	return device, user
}

// answer is what u1 says to a device that shows this code, by the rule of the pages.
func (h *home) answer(user string, allow bool) {
	h.t.Helper()
	code, ok := pending.Canonical(user)
	if !ok {
		h.t.Fatalf("%q is no code", user)
	}
	who, r := h.who(), h.engine.Begin(h.view(), "default", authorize.PageDevice)
	d, hash, err := h.pending.DeviceByUserCode(h.t.Context(), "default", code, "u1", "192.0.2.1")
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.engine.AboutDevice(h.view(), r, who, d, hash); err != nil {
		h.t.Fatal(err)
	}
	if err := h.pending.DecideDevice(h.t.Context(), "default", hash, h.allowed(r, who, allow)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) allowed(r *state.AuthorizationRequest, who authorize.Present, allow bool) *state.Authorization {
	h.t.Helper()
	step, err := h.engine.Next(h.view(), r, who)
	if err != nil || step != authorize.Page {
		h.t.Fatalf("step %d, %v", step, err)
	}
	if !allow {
		return nil
	}
	old, _ := h.view().Consent("default", "u1", r.GetClientId())
	h.must(h.t, &command.PutConsent{Expect: old.GetGeneration(), Consent: &state.Consent{
		Tenant: "default", User: "u1", ClientId: r.GetClientId(), Scopes: strings.Fields(r.GetScope()),
	}})
	a, err := h.engine.Allow(h.view(), r, who)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// poll asks the token endpoint of a node.
func (h *home) pollAt(n *node, client, device string, header ...string) *answer {
	h.t.Helper()
	return n.do(h.t, "POST", oauthapi.TokenPath, "grant_type="+url.QueryEscape(deviceGrant)+"&client_id="+client+"&device_code="+url.QueryEscape(device), header...)
}

func (h *home) poll(device string) *answer {
	h.t.Helper()
	return h.pollAt(h.node, "tv", device)
}

// proposals counts what is proposed from now on.
func (h *home) proposals() *atomic.Int64 {
	n := new(atomic.Int64)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.propose = func(command.Command) error {
		n.Add(1)
		return nil
	}
	return n
}

// TestADeviceAsks is the answer of RFC 8628 §3.2, and what is refused.
func TestADeviceAsks(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	a := h.do(t, "POST", oauthapi.DeviceAuthorizationPath, "client_id=tv&scope=openid+read")
	a.want(t, 200, "")
	code, _ := a.json["user_code"].(string)
	if a.json["verification_uri"] != issuer+"/device" || a.json["verification_uri_complete"] != issuer+"/device?user_code="+code ||
		a.json["expires_in"] != 600.0 || a.json["interval"] != 5.0 || len(code) != 11 || code[5] != '-' {
		t.Errorf("answer %s", a.text)
	}
	told := h.do(t, "GET", oauthapi.MetadataPath, "").json
	if told["device_authorization_endpoint"] != issuer+oauthapi.DeviceAuthorizationPath || told["backchannel_authentication_endpoint"] != issuer+oauthapi.BackchannelPath ||
		told["backchannel_user_code_parameter_supported"] != false || told["backchannel_token_delivery_modes_supported"] == nil {
		t.Errorf("discovery %v", told)
	}
	for name, tt := range map[string]struct {
		form, code string
		status     int
	}{
		"no client":                       {"scope=read", "invalid_client", 401},
		"an unknown client":               {"client_id=nobody", "invalid_client", 401},
		"TOK-10 a client without proof":   {"client_id=bank", "invalid_client", 401},
		"a scope that it may not have":    {"client_id=tv&scope=admin", "invalid_scope", 400},
		"a resource that it has not":      {"client_id=tv&resource=https%3A%2F%2Fapi.example", "invalid_target", 400},
		"a dpop_jkt that is no digest":    {"client_id=tv&dpop_jkt=short", "invalid_request", 400},
		"details of a type not known":     {"client_id=tv&authorization_details=%5B%5D", "invalid_authorization_details", 400},
		"a parameter twice":               {"client_id=tv&scope=read&scope=read", "invalid_request", 400},
		"TOK-35 a client of other grants": {"client_id=plain", "unauthorized_client", 400},
	} {
		if strings.Contains(tt.form, "plain") {
			h.client(t, clients.Registration{ClientID: "plain", AuthMethod: "none", GrantTypes: []string{}})
		}
		t.Log(name)
		h.do(t, "POST", oauthapi.DeviceAuthorizationPath, tt.form).want(t, tt.status, tt.code)
	}
}

// TestADeviceGetsItsTokens after its user has allowed it: an access token, an ID token and
// a refresh token that goes on when the user signs out at the browser.
func TestADeviceGetsItsTokens(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	device, user := h.begin("tv")
	h.poll(device).want(t, 400, "authorization_pending")
	h.answer(user, true)
	h.must(t, &command.EndSession{Tenant: "default", Id: "s1"})
	a := h.poll(device)
	a.want(t, 200, "")
	refresh, _ := a.json["refresh_token"].(string)
	if a.json["id_token"] == nil || a.json["scope"] != "openid read" || refresh == "" {
		t.Fatalf("answer %s", a.text)
	}
	next := h.do(t, "POST", oauthapi.TokenPath, "grant_type=refresh_token&client_id=tv&refresh_token="+refresh)
	next.want(t, 200, "")
	last, _ := next.json["refresh_token"].(string)

	// What ends all of the user's logins ends this one.
	u, _ := h.view().User("default", "u1")
	h.pass(time.Second)
	h.must(t, &command.PutUser{User: u, Expect: u.GetGeneration(), EndLogins: true})
	h.do(t, "POST", oauthapi.TokenPath, "grant_type=refresh_token&client_id=tv&refresh_token="+last).want(t, 400, "invalid_grant")
}

// TestADeviceAsksForDetails: authorization_details and resources go the whole way (RFC
// 9396, RFC 8707).
func TestADeviceAsksForDetails(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	tenant, _ := h.view().Tenant("default")
	h.must(t, &command.PutTenant{Expect: tenant.GetGeneration(), Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{DetailsTypes: []string{"payment"}}}})
	h.client(t, clients.Registration{
		ClientID: "till", AuthMethod: "none", GrantTypes: []string{deviceGrant}, Scope: "openid read", IDTokenAlg: "ES256",
		DetailsTypes: []string{"payment"}, Resources: []string{"https://api.example"},
	})
	const payment = `[{"type":"payment","amount":5}]`
	device, user := h.begin("till", "authorization_details", payment, "resource", "https://api.example")
	h.answer(user, true)
	more := h.do(t, "POST", oauthapi.TokenPath, url.Values{
		"grant_type": {deviceGrant}, "client_id": {"till"}, "device_code": {device}, "authorization_details": {`[{"type":"payment","amount":6}]`},
	}.Encode())
	more.want(t, 400, "invalid_authorization_details")
	a := h.pollAt(h.node, "till", device)
	a.want(t, 200, "")
	if !strings.Contains(a.text, `"authorization_details":`+payment) {
		t.Errorf("answer %s", a.text)
	}
	token, _ := a.json["access_token"].(string)
	parsed, err := verify.Parse(token)
	if err != nil || len(parsed.Claims.Audience) != 1 || parsed.Claims.Audience[0] != "https://api.example" {
		t.Errorf("audience %v, %v", parsed, err)
	}
}

// TestStrangersEndNoDevicesLogin: who tries wrong passwords locks the account, and what a
// device has got goes on; what it has not got yet waits for the end of the lock (TOK-33).
func TestStrangersEndNoDevicesLogin(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	device, user := h.begin("tv")
	h.answer(user, true)
	refresh, _ := h.poll(device).json["refresh_token"].(string)
	second, user := h.begin("tv")
	h.answer(user, true)
	for range 3 {
		h.must(t, &command.RecordAttempt{Tenant: "default", User: "u1", Limit: 3, Window: 60_000, Lock: 60_000})
	}
	h.do(t, "POST", oauthapi.TokenPath, "grant_type=refresh_token&client_id=tv&refresh_token="+refresh).want(t, 200, "")
	h.poll(second).want(t, 400, "invalid_grant")
	h.pass(time.Minute)
	h.poll(second).want(t, 200, "")
}

// TestACodeIsOfItsTenantAndHistory: another tenant knows nothing of it, and neither does
// the cluster after a restore, which may have forgotten that it was used (TOK-20, R15).
func TestACodeIsOfItsTenantAndHistory(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	h.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	h.clientOf(t, "acme", clients.Registration{ClientID: "tv", AuthMethod: "none", GrantTypes: []string{deviceGrant}, Scope: "openid read"})
	device, user := h.begin("tv")
	h.answer(user, true)
	h.do(t, "POST", "/t/acme"+oauthapi.TokenPath, "grant_type="+url.QueryEscape(deviceGrant)+"&client_id=tv&device_code="+device).want(t, 400, "invalid_grant")
	v := h.view()
	if end := h.now().Unix() + 60; h.pending.Overdue(v, end, v.Epoch()) || !h.pending.Overdue(v, end, v.Epoch()+1) || !h.pending.Overdue(v, end-60, v.Epoch()) {
		t.Error("a request is over by its time and by another history, and by nothing else")
	}
	h.poll(device).want(t, 200, "")
}

// TestPolling is TOK-40: before approval, faster than the interval, after denial, after
// expiry and after success.
func TestPolling(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	device, user := h.begin("tv")
	h.poll(device).want(t, 400, "authorization_pending")
	h.poll(device).want(t, 400, "slow_down")
	h.pass(6 * time.Second) // 5 were enough before, now it is 10
	h.poll(device).want(t, 400, "slow_down")
	h.pass(15 * time.Second)
	h.poll(device).want(t, 400, "authorization_pending")
	h.answer(user, true)
	h.poll(device).want(t, 200, "")
	h.poll(device).want(t, 400, "invalid_grant")

	denied, user := h.begin("tv")
	h.answer(user, false)
	h.poll(denied).want(t, 400, "access_denied")
	h.poll(denied).want(t, 400, "access_denied")

	late, _ := h.begin("tv")
	allowed, user := h.begin("tv")
	h.answer(user, true)
	h.pass(pending.DeviceLifetime * time.Second)
	h.poll(late).want(t, 400, "expired_token")
	h.poll(allowed).want(t, 400, "expired_token")
	h.must(t, &command.Expire{UpTo: h.clock.Load(), Limit: 1000})
	h.poll(late).want(t, 400, "expired_token")
	h.pass(time.Hour)
	h.must(t, &command.Expire{UpTo: h.clock.Load(), Limit: 1000})
	h.poll(late).want(t, 400, "invalid_grant")
}

// TestPollsAtTwoNodes is TOK-40: one that comes too soon is told so at whichever node, and
// of a hundred at once over three nodes one gets the tokens.
func TestPollsAtTwoNodes(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	second, third := serve(t, h.world), serve(t, h.world)
	device, user := h.begin("tv")
	h.poll(device).want(t, 400, "authorization_pending")
	h.pass(2 * time.Second)
	h.pollAt(second, "tv", device).want(t, 400, "slow_down")
	h.pass(10 * time.Second)
	h.pollAt(third, "tv", device).want(t, 400, "authorization_pending")
	h.answer(user, true)

	var won, lost atomic.Int64
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			a := h.pollAt([]*node{h.node, second, third}[i%3], "tv", device)
			switch {
			case a.status == 200:
				won.Add(1)
			case a.code() == "invalid_grant":
				lost.Add(1)
			default:
				t.Errorf("%d %s", a.status, a.text)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 || lost.Load() != 99 {
		t.Errorf("%d polls got tokens, %d did not", won.Load(), lost.Load())
	}
}

// TestPollsWriteLittle: those that come in time to one node write once, those that come
// too soon a dozen times in all, those of what is decided or unknown never.
func TestPollsWriteLittle(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	device, user := h.begin("tv")
	n := h.proposals()
	for range 20 {
		h.poll(device).want(t, 400, "authorization_pending")
		h.pass(5 * time.Second)
	}
	if got := n.Load(); got != 1 {
		t.Errorf("%d writes for 20 polls in time at one node, want 1", got)
	}
	for range 50 {
		h.poll(device)
	}
	if got := n.Load(); got > 13 {
		t.Errorf("%d writes for 50 polls without a pause", got)
	}
	h.answer(user, true)
	h.poll(device).want(t, 200, "")
	n.Store(0)
	for range 10 {
		h.poll(device).want(t, 400, "invalid_grant")
		h.poll("krd1_"+strings.Repeat("A", 43)).want(t, 400, "invalid_grant")
	}
	if n.Load() != 0 {
		t.Errorf("%d writes for polls of what is used or unknown", n.Load())
	}
}

// TestACodeIsItsClients is TOK-42: another client's try gets nothing and spoils nothing; a
// client that was made anew under the same name is another one.
func TestACodeIsItsClients(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	device, user := h.begin("tv")
	h.answer(user, true)
	h.pollAt(h.node, "other", device).want(t, 400, "invalid_grant")
	h.do(t, "POST", oauthapi.TokenPath, "grant_type="+url.QueryEscape(deviceGrant)+"&device_code="+device, "Authorization", basicAuth("bank", h.secret)).want(t, 400, "invalid_grant")
	h.poll(device).want(t, 200, "")

	device, user = h.begin("tv")
	h.answer(user, true)
	h.pass(time.Second)
	old, _ := h.view().Client("default", "tv")
	h.must(t, &command.DeleteClient{Tenant: "default", Id: "tv", Expect: old.GetGeneration()})
	h.client(t, clients.Registration{ClientID: "tv", AuthMethod: "none", GrantTypes: []string{deviceGrant}, Scope: "openid read"})
	h.poll(device).want(t, 400, "invalid_grant")

	h.do(t, "POST", oauthapi.TokenPath, "grant_type="+url.QueryEscape(deviceGrant)+"&client_id=bank&device_code="+device).want(t, 401, "invalid_client") // TOK-10
	h.do(t, "POST", oauthapi.TokenPath, "grant_type="+url.QueryEscape(deviceGrant)+"&client_id=tv").want(t, 400, "invalid_request")
}

// TestACodeIsNothingElse is TOK-21 and REV-06: a device code is good as no other kind of
// value, and no other value as a device code.
func TestACodeIsNothingElse(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	h.client(t, clients.Registration{
		ClientID: "all", AuthMethod: "none", GrantTypes: []string{deviceGrant, "refresh_token", "authorization_code"}, ResponseTypes: []string{"code"},
		RedirectURIs: []string{"https://a.example/cb"}, Scope: "openid read", IDTokenAlg: "ES256",
	})
	device, user := h.begin("all")
	h.answer(user, true)
	another, code := h.begin("all")
	h.answer(code, true)
	refresh, _ := h.pollAt(h.node, "all", another).json["refresh_token"].(string)
	if refresh == "" {
		t.Fatal("no refresh token")
	}
	for _, form := range []string{
		"grant_type=refresh_token&client_id=all&refresh_token=" + device,
		"grant_type=authorization_code&client_id=all&redirect_uri=https%3A%2F%2Fa.example%2Fcb&code=" + device,
		"grant_type=" + url.QueryEscape(deviceGrant) + "&client_id=all&device_code=" + refresh,
		"grant_type=" + url.QueryEscape(deviceGrant) + "&client_id=all&device_code=" + user,
		"grant_type=" + url.QueryEscape(deviceGrant) + "&client_id=all&device_code=krb1_" + device[5:],
		"grant_type=" + url.QueryEscape(deviceGrant) + "&client_id=all&device_code=" + device[5:],
		"grant_type=" + url.QueryEscape(deviceGrant) + "&client_id=all&device_code=" + strings.Repeat("krd1_", 2000),
	} {
		h.do(t, "POST", oauthapi.TokenPath, form).want(t, 400, "invalid_grant")
	}
	h.do(t, "GET", oauthapi.UserinfoPath, "", "Authorization", "Bearer "+device).want(t, 401, "invalid_token")
	if a := h.do(t, "POST", oauthapi.RevokePath, "client_id=all&token="+device); a.status != 200 && a.code() != "unsupported_token_type" {
		t.Errorf("revocation of a device code: %d %s", a.status, a.text)
	}
	h.pollAt(h.node, "all", device).want(t, 200, "")
}

// TestRedemptionPassesTheGate is TOK-31, TOK-33, TOK-36 and WEB-09: what was allowed is
// worth nothing when user, client or consent are no longer what they were.
func TestRedemptionPassesTheGate(t *testing.T) {
	t.Parallel()
	user := func(h *home, change func(u *state.User)) {
		u, _ := h.view().User("default", "u1")
		change(u)
		h.must(h.t, &command.PutUser{User: u, Expect: u.GetGeneration()})
	}
	tests := map[string]struct {
		change func(h *home)
		status int
		code   string
	}{
		"TOK-31 a user who was disabled": {func(h *home) { user(h, func(u *state.User) { u.Disabled = true }) }, 400, "invalid_grant"},
		"TOK-31 a user who was deleted":  {func(h *home) { h.must(h.t, &command.DeleteUser{Tenant: "default", Id: "u1"}) }, 400, "invalid_grant"},
		"TOK-31 a client that was disabled": {func(h *home) {
			c, _ := h.view().Client("default", "tv")
			c = proto.CloneOf(c)
			c.Disabled = true
			h.must(h.t, &command.PutClient{Client: c, Expect: c.GetGeneration()})
		}, 401, "invalid_client"},
		"TOK-33 an account that was locked": {func(h *home) {
			for range 3 {
				h.must(h.t, &command.RecordAttempt{Tenant: "default", User: "u1", Limit: 3, Window: 600_000, Lock: 600_000})
			}
		}, 400, "invalid_grant"},
		"WEB-09 a user who needs a second factor now": {func(h *home) { user(h, func(u *state.User) { u.SecondFactor = true }) }, 400, "invalid_grant"},
		"TOK-36 consent that was taken back": {func(h *home) {
			h.must(h.t, &command.DeleteConsent{Tenant: "default", User: "u1", ClientId: "tv"})
		}, 400, "invalid_grant"},
		"WEB-05 all logins ended": {func(h *home) {
			u, _ := h.view().User("default", "u1")
			h.must(h.t, &command.PutUser{User: u, Expect: u.GetGeneration(), EndLogins: true})
		}, 400, "invalid_grant"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := atHome(t)
			device, code := h.begin("tv")
			h.answer(code, true)
			tt.change(h)
			h.poll(device).want(t, tt.status, tt.code)
		})
	}
}

// TestWhoAllowsIsSignedIn: a session that has ended, or that the client or the user wants
// a second factor of, allows nothing (WEB-09).
func TestWhoAllowsIsSignedIn(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	device, user := h.begin("tv")
	code, _ := pending.Canonical(user)
	who, r := h.who(), h.engine.Begin(h.view(), "default", authorize.PageDevice)
	d, hash, err := h.pending.DeviceByUserCode(t.Context(), "default", code, "u1", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.engine.AboutDevice(h.view(), r, who, d, hash); err != nil {
		t.Fatal(err)
	}
	a := h.allowed(r, who, true)
	h.must(t, &command.EndSession{Tenant: "default", Id: "s1"})
	if err := h.pending.DecideDevice(t.Context(), "default", hash, a); err == nil {
		t.Error("a session that has ended allowed a device")
	}
	h.poll(device).want(t, 400, "authorization_pending")

	u, _ := h.view().User("default", "u1")
	u.SecondFactor = true
	h.must(t, &command.PutUser{User: u, Expect: u.GetGeneration()})
	h.signIn("pwd")
	if step, err := h.engine.Next(h.view(), r, h.who()); step != authorize.Factor || err != nil {
		t.Errorf("step %d, %v: no second factor is asked for", step, err)
	}
	if answer, err := h.engine.Finish(t.Context(), h.view(), r, h.who()); err == nil {
		t.Errorf("a device's flow gave an authorization code: %v", answer)
	}
	other := authorize.Present{Session: h.who().Session, User: &state.User{Tenant: "default", Id: "u2"}}
	if step, err := h.engine.Next(h.view(), r, other); step != authorize.Login || err != nil {
		t.Errorf("step %d, %v: what one user was shown another may answer", step, err)
	}
}

// TestADeviceCodeOfAKey: what a device binds to its key by dpop_jkt is good with that key
// alone (RFC 9449 §10).
func TestADeviceCodeOfAKey(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	key, thief := testproof.New(t), testproof.New(t)
	device, user := h.begin("tv", "dpop_jkt", key.Thumbprint)
	h.answer(user, true)
	h.poll(device).want(t, 400, "invalid_dpop_proof")
	h.pollAt(h.node, "tv", device, "DPoP", h.proof(t, thief, nil)).want(t, 400, "invalid_dpop_proof")
	a := h.pollAt(h.node, "tv", device, "DPoP", h.proof(t, key, nil))
	a.want(t, 200, "")
	if a.json["token_type"] != "DPoP" {
		t.Errorf("answer %s", a.text)
	}
}

// TestUserCodesAreNotGuessed is TOK-41: so many looks of one user, so many wrong ones of
// one address and of one tenant, whatever runs at once; a code of another tenant is none.
func TestUserCodesAreNotGuessed(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	device, right := h.begin("tv")
	look := func(tenant, user, address, code string) error {
		canonical, ok := pending.Canonical(code)
		if !ok {
			t.Fatalf("%q is no code", code)
		}
		_, _, err := h.pending.DeviceByUserCode(t.Context(), tenant, canonical, user, address)
		return err
	}
	if err := look("acme", "u1", "192.0.2.1", right); err != pending.ErrUnknown {
		t.Errorf("a code of another tenant: %v", err)
	}
	var found, refused atomic.Int64
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			switch err := look("default", "mallory", "192.0.2.1", "BBBBB-BBBBB"); err {
			case pending.ErrUnknown:
				found.Add(1)
			case pending.ErrTooMany:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if found.Load() > 10 || found.Load()+refused.Load() != 40 {
		t.Errorf("%d of 40 guesses of one user at once were looked up", found.Load())
	}
	if err := look("default", "mallory", "192.0.2.2", right); err != pending.ErrTooMany {
		t.Errorf("the right code after too many wrong ones: %v", err)
	}
	h.answer(right, true) // nobody else is locked out
	h.poll(device).want(t, 200, "")

	_, right = h.begin("tv")
	for i := range 60 {
		_ = look("default", fmt.Sprint("one of many ", i), "2001:db8::1", "BBBBB-BBBBB")
	}
	if err := look("default", "u1", "2001:db8::2", right); err != pending.ErrTooMany {
		t.Errorf("the right code from a network of too many wrong ones: %v", err)
	}
	for i := range 520 {
		_ = look("default", fmt.Sprint("one of more ", i), fmt.Sprint("198.51.100.", i/40), "BBBBB-BBBBB")
	}
	if err := look("default", "u1", "192.0.2.77", right); err != pending.ErrTooMany {
		t.Errorf("the right code in a tenant of too many wrong ones: %v", err)
	}
	h.pass(11 * time.Minute)
	_, right = h.begin("tv")
	if err := look("default", "u1", "192.0.2.77", right); err != nil {
		t.Errorf("when the window is over: %v", err)
	}
}

// TestAnAddressBeginsSoMany: one address can't fill the state with requests.
func TestAnAddressBeginsSoMany(t *testing.T) {
	t.Parallel()
	h := atHome(t)
	var last *answer
	for range 601 {
		last = h.do(t, "POST", oauthapi.DeviceAuthorizationPath, "client_id=tv")
	}
	last.want(t, 429, "slow_down")
	if last.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	h.pass(time.Minute)
	h.begin("tv")
}
