package oauthapi_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
)

// initial makes an initial access token of a tenant.
func (n *node) initial(t testing.TB, tenant string, uses int) string {
	t.Helper()
	token, _, err := n.registry.NewInitialToken(context.Background(), n.view(), tenant, time.Hour, uses)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// metadata sends client metadata with a bearer token.
func (n *node) metadata(t testing.TB, method, path, token, body string) *answer {
	t.Helper()
	header := []string{"Content-Type", "application/json"}
	if token != "" {
		header = append(header, "Authorization", "Bearer "+token)
	}
	return n.do(t, method, path, body, header...)
}

// own is a client that has registered itself.
type own struct{ id, secret, token, path string }

func (n *node) registers(t testing.TB, token, body string) own {
	t.Helper()
	a := n.metadata(t, "POST", oauthapi.RegisterPath, token, body)
	if a.status != 201 {
		t.Fatalf("register: %d %s", a.status, a.text)
	}
	text := func(name string) string { s, _ := a.json[name].(string); return s }
	return own{text("client_id"), text("client_secret"), text("registration_access_token"), strings.TrimPrefix(text("registration_client_uri"), issuer)}
}

const webApp = `{"redirect_uris":["https://app.example/cb"],"client_name":"App"}`

func TestAClientRegistersItself(t *testing.T) {
	t.Parallel()
	n := start(t)
	token := n.initial(t, "default", 2)
	a := n.metadata(t, "POST", oauthapi.RegisterPath, token, `{"redirect_uris":["https://app.example/cb"],"client_name":"App","scope":"openid email","unknown":{"a":1},"contacts":["a@app.example"]}`)
	a.want(t, 201, "")
	for name, want := range map[string]any{
		"client_name": "App", "scope": "openid email", "token_endpoint_auth_method": "client_secret_basic", "client_secret_expires_at": 0.0,
		"self_registered": true, "unknown": nil, "registration_client_uri": issuer + oauthapi.RegisterPath + "/" + a.json["client_id"].(string),
	} {
		if a.json[name] != want {
			t.Errorf("%s is %v, want %v", name, a.json[name], want)
		}
	}
	if list, _ := a.json["grant_types"].([]any); len(list) != 1 || list[0] != "authorization_code" {
		t.Errorf("grant_types is %v", a.json["grant_types"])
	}
	c := n.registers(t, token, webApp)
	if c.secret == "" || c.token == "" || c.path != oauthapi.RegisterPath+"/"+c.id {
		t.Errorf("%+v", own{c.id, "", "", c.path})
	}
	n.metadata(t, "POST", oauthapi.RegisterPath, token, webApp).want(t, 401, "invalid_token") // REG-01: spent
	if n.do(t, "GET", oauthapi.OpenIDPath, "").json["registration_endpoint"] != issuer+oauthapi.RegisterPath {
		t.Error("discovery does not name the endpoint")
	}
}

func TestREG01WhatRegistersNobody(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	good, acme := n.initial(t, "default", 5), n.initial(t, "acme", 5)
	for name, token := range map[string]string{
		"none": "", "another tenant's": acme, "half": good[:len(good)-1], "another secret": good[:len(good)-4] + "AAAA", "a word": "kri_x.y", "long": "kri_" + strings.Repeat("x", 4000) + ".y",
	} {
		n.metadata(t, "POST", oauthapi.RegisterPath, token, webApp).want(t, 401, "invalid_token")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	n.do(t, "POST", oauthapi.RegisterPath+"?access_token="+good, webApp, "Content-Type", "application/json").want(t, 401, "invalid_token")
	n.do(t, "POST", oauthapi.RegisterPath, webApp, "Content-Type", "application/json", "Authorization", basicAuth("x", good)).want(t, 401, "invalid_token")
	n.metadata(t, "POST", "/t/acme"+oauthapi.RegisterPath, acme, webApp).want(t, 201, "")
	n.pass(2 * time.Hour)
	n.metadata(t, "POST", oauthapi.RegisterPath, good, webApp).want(t, 401, "invalid_token")
	if got := n.view().Clients("default", "", 10); len(got) != 0 {
		t.Errorf("%d clients were made", len(got))
	}
}

// TestREG01ManyAtOnce: 20 calls at three nodes with a token of three uses.
func TestREG01ManyAtOnce(t *testing.T) {
	t.Parallel()
	n := start(t)
	nodes := []*node{n, serve(t, n.world), serve(t, n.world)}
	token := n.initial(t, "default", 3)
	var made, refused atomic.Int64
	var all sync.WaitGroup
	for i := range 20 {
		at := nodes[i%3]
		all.Go(func() {
			switch a := at.metadata(t, "POST", oauthapi.RegisterPath, token, webApp); a.status {
			case 201:
				made.Add(1)
			case 401:
				refused.Add(1)
			default:
				t.Errorf("%d %s", a.status, a.text)
			}
		})
	}
	all.Wait()
	if made.Load() != 3 || refused.Load() != 17 || len(n.view().Clients("default", "", 100)) != 3 {
		t.Errorf("%d made, %d refused", made.Load(), refused.Load())
	}
}

func TestMetadataThatIsRefused(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.must(t, &command.PutTenant{Expect: tenantGeneration(n), Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{
		Registration: &state.RegistrationPolicy{Scopes: []string{"orders"}}}}})
	n.client(t, clients.Registration{ClientID: "first", AuthMethod: "none", RedirectURIs: []string{"com.example.app:/cb"}, GrantTypes: []string{"authorization_code"}})
	token := n.initial(t, "default", 0)
	const cb = `"redirect_uris":["https://app.example/cb"]`
	for name, tt := range map[string]struct{ body, code string }{
		"REG-02 no redirect URI":             {`{"grant_types":["authorization_code"]}`, "invalid_redirect_uri"},
		"REG-02 a script":                    {`{"redirect_uris":["JaVaScRiPt:alert(1)"]}`, "invalid_redirect_uri"},
		"REG-02 a host that begins as one":   {`{"redirect_uris":["http://localhost.evil.test/cb"]}`, "invalid_redirect_uri"},
		"REG-02 data":                        {`{"redirect_uris":["data:text/html,x"]}`, "invalid_redirect_uri"},
		"REG-02 an address that goes on":     {`{"redirect_uris":["http://127.0.0.1.evil.test/cb"]}`, "invalid_redirect_uri"},
		"REG-02 a wildcard":                  {`{"redirect_uris":["https://*.app.example/cb"]}`, "invalid_redirect_uri"},
		"REG-02 somebody before the host":    {`{"redirect_uris":["https://app.example@evil.test/cb"]}`, "invalid_redirect_uri"},
		"REG-02 a fragment":                  {`{"redirect_uris":["https://app.example/cb#x"]}`, "invalid_redirect_uri"},
		"REG-02 relative":                    {`{"redirect_uris":["/cb"]}`, "invalid_redirect_uri"},
		"REG-02 a look-alike":                {`{"redirect_uris":["https://\u0430pp.example/cb"]}`, "invalid_redirect_uri"},
		"REG-02 a thousand":                  {`{"redirect_uris":["https://a.example/` + strings.Repeat(`x","https://a.example/`, 999) + `y"]}`, "invalid_redirect_uri"},
		"REG-03 a private key":               {`{` + cb + `,"token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}]}}`, "invalid_client_metadata"},
		"REG-03 code without its grant":      {`{` + cb + `,"grant_types":["refresh_token"],"response_types":["code"]}`, "invalid_client_metadata"},
		"REG-03 alg none":                    {`{` + cb + `,"id_token_signed_response_alg":"none"}`, "invalid_client_metadata"},
		"REG-04 password":                    {`{` + cb + `,"grant_types":["authorization_code","password"]}`, "invalid_client_metadata"},
		"REG-04 token exchange":              {`{` + cb + `,"grant_types":["authorization_code","urn:ietf:params:oauth:grant-type:token-exchange"]}`, "invalid_client_metadata"},
		"REG-09 a policy that is a script":   {`{` + cb + `,"policy_uri":"javascript:alert(1)"}`, "invalid_client_metadata"},
		"REG-09 a name with a line end":      {`{` + cb + `,"client_name":"x\ny"}`, "invalid_client_metadata"},
		"REG-11 a sector by a private host":  {`{` + cb + `,"subject_type":"pairwise","sector_identifier_uri":"http://10.0.0.1/s"}`, "invalid_client_metadata"},
		"REG-03 none with client_credential": {`{` + cb + `,"token_endpoint_auth_method":"none","grant_types":["client_credentials"]}`, "invalid_client_metadata"},
		"REG-03 two key sets":                {`{` + cb + `,"jwks_uri":"https://app.example/jwks","jwks":{"keys":[]}}`, "invalid_client_metadata"},
		"REG-03 no object":                   {`[]`, "invalid_client_metadata"},
		"REG-03 a member twice":              {`{` + cb + `,` + cb + `}`, "invalid_client_metadata"},
		"REG-03 a number for a name":         {`{` + cb + `,"client_name":7}`, "invalid_client_metadata"},
		"REG-03 a very long name":            {`{` + cb + `,"client_name":"` + strings.Repeat("x", 60_000) + `"}`, "invalid_client_metadata"},
		"REG-04 nothing said is the default": {`{}`, "invalid_client_metadata"},
		"REG-04 client_credentials":          {`{"grant_types":["client_credentials"]}`, "invalid_client_metadata"},
		"REG-04 a privileged scope":          {`{` + cb + `,"scope":"openid keyraft:admin"}`, "invalid_client_metadata"},
		"REG-04 implicit":                    {`{` + cb + `,"grant_types":["implicit"],"response_types":["id_token"]}`, "invalid_client_metadata"},
		"REG-06 an unsigned statement":       {`{` + cb + `,"software_statement":"eyJhbGciOiJub25lIn0"}`, "invalid_software_statement"},
		"REG-09 a logo that is a script":     {`{` + cb + `,"logo_uri":"javascript:alert(1)"}`, "invalid_client_metadata"},
		"REG-09 a name that turns":           {`{` + cb + `,"client_name":"x\u202ey"}`, "invalid_client_metadata"},
		"REG-11 another's sector":            {`{` + cb + `,"subject_type":"pairwise","sector_identifier_uri":"https://other.example/s"}`, "invalid_client_metadata"},
		"AUT-05 another's scheme":            {`{"redirect_uris":["com.example.app:/other"],"token_endpoint_auth_method":"none"}`, "invalid_redirect_uri"},
	} {
		a := n.metadata(t, "POST", oauthapi.RegisterPath, token, tt.body)
		if a.status != 400 || a.code() != tt.code {
			t.Errorf("%s: %d %s, want 400 %s", name, a.status, a.text, tt.code)
		}
	}
	n.registers(t, token, `{`+cb+`,"scope":"openid orders"}`) // which the policy names
}

func tenantGeneration(n *node) uint64 {
	t, _ := n.view().Tenant("default")
	return t.GetGeneration()
}

// TestREG04WhatTheOperatorSaysIsNotForTheClient: privileged members are as unknown as
// any other, at first and in an update.
func TestREG04WhatTheOperatorSaysIsNotForTheClient(t *testing.T) {
	t.Parallel()
	n := start(t)
	const grab = `,"client_secret":"x","skip_consent":true,"introspection":"any","enabled":true,"access_token_lifetime":99999,"resources":["https://api.example"],"self_registered":false,"generation":9`
	c := n.registers(t, n.initial(t, "default", 1), `{"client_id":"chosen","redirect_uris":["https://app.example/cb"]`+grab+`}`)
	check := func() {
		t.Helper()
		row, ok := n.view().Client("default", c.id)
		if !ok || c.id == "chosen" || row.GetSkipConsent() || row.GetIntrospectAny() || row.GetAccessTokenLifetime() != 0 || len(row.GetResources()) != 0 || !row.GetSelfRegistered() {
			t.Errorf("%+v", row)
		}
	}
	check()
	a := n.metadata(t, "PUT", c.path, c.token, `{"client_id":"`+c.id+`","redirect_uris":["https://app.example/cb"]`+strings.Replace(grab, `"client_secret":"x",`, "", 1)+`}`)
	a.want(t, 200, "")
	check()
	// What the operator gave stays when the client changes itself.
	if _, err := n.registry.Update(context.Background(), n.view(), "default", c.id, &clients.Registration{
		RedirectURIs: []string{"https://app.example/cb"}, Scope: "openid extra", Resources: []string{"https://api.example"}, SkipConsent: true,
	}, 0); err != nil {
		t.Fatal(err)
	}
	token, _ := a.json["registration_access_token"].(string)
	n.metadata(t, "PUT", c.path, token, `{"client_id":"`+c.id+`","redirect_uris":["https://app.example/cb2"],"scope":"openid extra"}`).want(t, 200, "")
	row, _ := n.view().Client("default", c.id)
	if !row.GetSkipConsent() || len(row.GetResources()) != 1 || row.GetRedirectUris()[0] != "https://app.example/cb2" {
		t.Errorf("%+v", row)
	}
}

// TestREG07TheClientManagesItself (RFC 7592).
func TestREG07TheClientManagesItself(t *testing.T) {
	t.Parallel()
	n := start(t)
	initial := n.initial(t, "default", 0)
	c, other := n.registers(t, initial, webApp), n.registers(t, initial, webApp)
	got := n.metadata(t, "GET", c.path, c.token, "")
	got.want(t, 200, "")
	if got.json["client_id"] != c.id || got.json["registration_access_token"] != c.token || got.json["client_secret"] != nil {
		t.Errorf("%s", got.text)
	}
	put := func(more string) string {
		return `{"client_id":"` + c.id + `","redirect_uris":["https://app.example/new"]` + more + `}`
	}
	for name, tt := range map[string]struct{ token, path, body string }{
		"another client's token":   {other.token, c.path, put("")},
		"an initial access token":  {initial, c.path, put("")},
		"no token":                 {"", c.path, put("")},
		"a client that is unknown": {c.token, oauthapi.RegisterPath + "/nobody", put("")},
	} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			if a := n.metadata(t, method, tt.path, tt.token, map[bool]string{true: tt.body}[method == "PUT"]); a.status != 401 || a.code() != "invalid_token" {
				t.Errorf("%s: %s: %d %s", name, method, a.status, a.text)
			}
		}
	}
	for name, body := range map[string]string{
		"another id": `{"client_id":"other","redirect_uris":["https://app.example/new"]}`, "no id": `{"redirect_uris":["https://app.example/new"]}`,
		"another secret": put(`,"client_secret":"guess"`), "a token": put(`,"registration_access_token":"` + c.token + `"`), "a time": put(`,"client_id_issued_at":1`),
		"a bad policy": put(`,"scope":"admin"`),
	} {
		if a := n.metadata(t, "PUT", c.path, c.token, body); a.status != 400 || a.code() != "invalid_client_metadata" {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	changed := n.metadata(t, "PUT", c.path, c.token, put(`,"client_secret":"`+c.secret+`"`))
	changed.want(t, 200, "")
	next, _ := changed.json["registration_access_token"].(string)
	if next == c.token || next == "" || changed.json["client_secret"] != nil || changed.json["client_name"] != nil {
		t.Errorf("%s", changed.text)
	}
	n.metadata(t, "GET", c.path, c.token, "").want(t, 401, "invalid_token") // it has rotated
	if _, err := n.registry.RotateSecret(context.Background(), n.view(), "default", c.id, 0, 0); err != nil {
		t.Fatal(err)
	}
	n.metadata(t, "GET", c.path, next, "").want(t, 200, "") // it is of its own, whatever the secret
	n.metadata(t, "PUT", c.path, next, put(`,"client_secret":"`+c.secret+`"`)).want(t, 400, "invalid_client_metadata")
	before := n.view().Head()
	if a := n.metadata(t, "DELETE", c.path, next, ""); a.status != 204 {
		t.Errorf("delete: %d %s", a.status, a.text)
	}
	if n.view().Head() != before+1 {
		t.Error("the client's tokens were not revoked")
	}
	n.metadata(t, "GET", c.path, next, "").want(t, 401, "invalid_token")
	n.metadata(t, "DELETE", c.path, next, "").want(t, 401, "invalid_token")
}

// TestREG08ADisabledClientStaysSo: its registration token opens nothing.
func TestREG08ADisabledClientStaysSo(t *testing.T) {
	t.Parallel()
	n := start(t)
	c := n.registers(t, n.initial(t, "default", 1), webApp)
	disabled := false
	if _, err := n.registry.Update(context.Background(), n.view(), "default", c.id, &clients.Registration{
		Enabled: &disabled, RedirectURIs: []string{"https://app.example/cb"},
	}, 0); err != nil {
		t.Fatal(err)
	}
	for method, body := range map[string]string{"GET": "", "DELETE": "", "PUT": `{"client_id":"` + c.id + `","redirect_uris":["https://app.example/cb"],"enabled":true}`} {
		n.metadata(t, method, c.path, c.token, body).want(t, 401, "invalid_token")
	}
	if row, ok := n.view().Client("default", c.id); !ok || !row.GetDisabled() {
		t.Error("it is enabled again, or gone")
	}
}

// TestREG11TheListIsLookedAtAgain: when its URL or a redirect URI changes, so that nobody
// moves into the sector of others later on.
func TestREG11TheListIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	n := start(t)
	const at = "https://sector.example/list"
	n.published.Store(at, []byte(`["https://a.example/cb","https://b.example/cb"]`))
	body := func(more string) string {
		return `{` + more + `"redirect_uris":["https://a.example/cb","https://b.example/cb"],"subject_type":"pairwise","sector_identifier_uri":"` + at + `"}`
	}
	c := n.registers(t, n.initial(t, "default", 1), body(""))
	id := `"client_id":"` + c.id + `",`
	put := func(body string) *answer {
		t.Helper()
		a := n.metadata(t, "PUT", c.path, c.token, body)
		if next, ok := a.json["registration_access_token"].(string); ok {
			c.token = next
		}
		return a
	}
	for name, list := range map[string]string{"one is missing": `["https://a.example/cb"]`, "prefixes": `["https://a.example/","https://b.example/"]`, "no list": `{"a":1}`, "no JSON": `<html>`} {
		n.published.Store(at, []byte(list))
		a := put(strings.Replace(body(id), `/list"`, `/list?2"`, 1))
		n.published.Store(at+"?2", []byte(list))
		if b := put(strings.Replace(body(id), `/list"`, `/list?2"`, 1)); a.code() != "invalid_client_metadata" || b.status != 400 || b.code() != "invalid_client_metadata" {
			t.Errorf("%s: %s %s", name, a.text, b.text)
		}
		if a := put(strings.Replace(body(id), "b.example/cb", "b.example/other", 1)); a.status != 400 || a.code() != "invalid_client_metadata" {
			t.Errorf("%s, another redirect URI: %d %s", name, a.status, a.text)
		}
	}
	put(body(id)).want(t, 200, "") // nothing of it has changed
	n.published.Store(at, []byte(`["https://a.example/cb","https://b.example/other"]`))
	put(strings.Replace(body(id), "b.example/cb", "b.example/other", 1)).want(t, 200, "")
	n.metadata(t, "POST", oauthapi.RegisterPath, n.initial(t, "default", 1), strings.Replace(body(""), "https://sector", "http://sector", 1)).want(t, 400, "invalid_client_metadata")
}

// TestREG03AVeryLargeBody is not read to its end.
func TestREG03AVeryLargeBody(t *testing.T) {
	t.Parallel()
	n := start(t)
	if a := n.metadata(t, "POST", oauthapi.RegisterPath, n.initial(t, "default", 1), `{"client_name":"`+strings.Repeat("x", 1<<20)+`"}`); a.status != 413 {
		t.Errorf("%d %s", a.status, a.text)
	}
	if got := n.view().Clients("default", "", 1); len(got) != 0 {
		t.Error("a client was made")
	}
}

// TestREG10ATenantIsFull, and what a refusal has not used up is there for later.
func TestREG10ATenantIsFull(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.must(t, &command.PutTenant{Expect: tenantGeneration(n), Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{
		Registration: &state.RegistrationPolicy{MaxClients: 1}}}})
	token := n.initial(t, "default", 2)
	c := n.registers(t, token, webApp)
	a := n.metadata(t, "POST", oauthapi.RegisterPath, token, webApp)
	if a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", a.status, a.header, a.text)
	}
	n.metadata(t, "DELETE", c.path, c.token, "")
	n.registers(t, token, webApp)
}

// TestREG10AnAddressIsFull: what one address begins counts, good or bad, with a token or
// without; what has no right to begin does not, and each tenant has its own count.
func TestREG10AnAddressIsFull(t *testing.T) {
	t.Parallel()
	n := start(t)
	policy := &state.TenantSettings{Registration: &state.RegistrationPolicy{Open: true, MaxPerAddress: 4}}
	n.must(t, &command.PutTenant{Expect: tenantGeneration(n), Tenant: &state.Tenant{Id: "default", Settings: policy}})
	n.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme", Settings: policy}})
	token := n.initial(t, "default", 0)
	for range 5 {
		n.metadata(t, "POST", oauthapi.RegisterPath, token+"x", webApp).want(t, 401, "invalid_token")
	}
	c := n.registers(t, token, webApp)
	n.registers(t, "", webApp)
	n.metadata(t, "POST", oauthapi.RegisterPath, token, `{"redirect_uris":["`+strings.Repeat("x", 64<<10-100)+`"]}`).want(t, 400, "invalid_redirect_uri")
	n.metadata(t, "POST", oauthapi.RegisterPath, "", `{}`).want(t, 400, "invalid_client_metadata")
	for _, shown := range []string{token, ""} {
		a := n.metadata(t, "POST", oauthapi.RegisterPath, shown, webApp)
		if a.status != 429 || a.header.Get("Retry-After") == "" || len(n.view().Clients("default", "", 100)) != 2 {
			t.Errorf("%d %v %s", a.status, a.header, a.text)
		}
	}
	n.metadata(t, "GET", c.path, c.token, "").want(t, 200, "") // who has registered goes on
	n.metadata(t, "POST", "/t/acme"+oauthapi.RegisterPath, "", webApp).want(t, 201, "")
	n.pass(time.Hour)
	n.registers(t, "", webApp)
}

// TestREG10WhatIsNotUsedGoes: of the clients that nobody vouched for, those that got no
// token in time.
func TestREG10WhatIsNotUsedGoes(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.must(t, &command.PutTenant{Expect: tenantGeneration(n), Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{Registration: &state.RegistrationPolicy{
		Open: true, UnusedLifetime: 3600, GrantTypes: []string{"client_credentials"}}}}})
	used, unused, vouched := n.registers(t, "", `{}`), n.registers(t, "", `{}`), n.registers(t, n.initial(t, "default", 1), `{}`)
	adopted := n.registers(t, "", `{}`)
	n.token(t, used.id, used.secret, "")
	if _, err := n.registry.Update(context.Background(), n.view(), "default", adopted.id, &clients.Registration{Scope: "openid"}, 0); err != nil {
		t.Fatal(err)
	}
	n.pass(59 * time.Minute)
	n.expire(t)
	n.metadata(t, "GET", unused.path, unused.token, "").want(t, 200, "")
	n.pass(2 * time.Minute)
	n.expire(t)
	n.metadata(t, "GET", unused.path, unused.token, "").want(t, 401, "invalid_token")
	n.do(t, "POST", oauthapi.TokenPath, "grant_type=client_credentials", "Authorization", basicAuth(unused.id, unused.secret)).want(t, 401, "invalid_client")
	for _, c := range []own{used, vouched, adopted} {
		n.token(t, c.id, c.secret, "")
	}
}

// expire does what the leader does by and by.
func (n *node) expire(t testing.TB) {
	t.Helper()
	n.must(t, &command.Expire{UpTo: n.now().UnixMilli(), Limit: 1000})
}

// TestNoTokenOfRegistrationIsKept: neither in rows nor in the log.
func TestNoTokenOfRegistrationIsKept(t *testing.T) {
	t.Parallel()
	n := start(t)
	initial := n.initial(t, "default", 2)
	c := n.registers(t, initial, webApp)
	n.metadata(t, "GET", c.path, c.token+"x", "")
	row, _ := n.view().Client("default", c.id)
	text, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := json.Marshal(n.view().InitialAccessTokens("default"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{initial[len(initial)-43:], c.token, c.secret, url.QueryEscape(c.token)} {
		if strings.Contains(string(text)+string(tokens)+n.log.String(), secret) {
			t.Error("a secret is kept as it is")
		}
	}
}
