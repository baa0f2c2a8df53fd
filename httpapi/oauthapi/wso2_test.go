package oauthapi_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
)

const (
	dcrPath          = "/api/identity/oauth2/dcr/v1.1/register"
	registrationPath = "/client-registration/v0.17/register"
)

// letRegister lets clients of the tenant register themselves with grant types.
func (n *node) letRegister(t testing.TB, grants ...string) string {
	t.Helper()
	n.must(t, &command.PutTenant{Expect: tenantGeneration(n), Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{
		Registration: &state.RegistrationPolicy{GrantTypes: grants}}}})
	return n.initial(t, "default", 0)
}

// asUser sends what WSO2's clients do: a name, and the token where the password was.
func (n *node) asUser(t testing.TB, method, path, token, body string) *answer {
	t.Helper()
	return n.do(t, method, path, body, "Content-Type", "application/json", "Authorization", basicAuth("admin", token))
}

// TestWSO2RegistrationOf017: names of members and answer as the products send and read
// them.
func TestWSO2RegistrationOf017(t *testing.T) {
	t.Parallel()
	n := start(t)
	token := n.letRegister(t, "authorization_code", "refresh_token", "client_credentials")
	a := n.asUser(t, "POST", registrationPath, token,
		`{"callbackUrl":"https://app.example/cb","clientName":"rest_api_admin","owner":"admin","grantType":"client_credentials refresh_token authorization_code","saasApp":true,"tokenType":"JWT"}`)
	a.want(t, 201, "")
	if got := slices.Sorted(maps.Keys(a.json)); strings.Join(got, " ") != "appOwner callBackURL clientId clientName clientSecret isSaasApplication jsonAppAttribute jsonString tokenType" {
		t.Errorf("%s", got)
	}
	id, _ := a.json["clientId"].(string)
	secret, _ := a.json["clientSecret"].(string)
	if a.json["callBackURL"] != "https://app.example/cb" || a.json["clientName"] != "rest_api_admin" || a.json["tokenType"] != "JWT" || a.json["isSaasApplication"] != false {
		t.Errorf("%s", a.text)
	}
	text, _ := a.json["jsonString"].(string)
	var inner map[string]string
	if json.Unmarshal([]byte(text), &inner) != nil || inner["grant_types"] != "client_credentials refresh_token authorization_code" ||
		inner["redirect_uris"] != "https://app.example/cb" || inner["client_name"] != "rest_api_admin" {
		t.Errorf("jsonString is %s", text)
	}
	n.token(t, id, secret, "")
	if row, ok := n.view().Client("default", id); !ok || !row.GetSelfRegistered() {
		t.Errorf("%v", row)
	}
	several := n.metadata(t, "POST", registrationPath, token, `{"callbackUrl":"regexp=(https://app.example/a|https://app.example/b)","clientName":"x","grantType":"authorization_code"}`)
	several.want(t, 201, "")
	row, _ := n.view().Client("default", several.json["clientId"].(string))
	if !slices.Equal(row.GetRedirectUris(), []string{"https://app.example/a", "https://app.example/b"}) || several.json["callBackURL"] != "regexp=(https://app.example/a|https://app.example/b)" {
		t.Errorf("%v %s", row.GetRedirectUris(), several.text)
	}
}

// TestWSO2RegistrationIsJudgedAsAnyOther: the other words open nothing.
func TestWSO2RegistrationIsJudgedAsAnyOther(t *testing.T) {
	t.Parallel()
	n := start(t)
	token := n.letRegister(t)
	for name, tt := range map[string]struct {
		path, token, body, code string
	}{
		"REG-01 no token":              {registrationPath, "", `{}`, "invalid_token"},
		"REG-01 a user's password":     {registrationPath, "admin", `{}`, "invalid_token"},
		"REG-01 no token, 1.1":         {dcrPath, "x", `{}`, "invalid_token"},
		"REG-02 a pattern":             {registrationPath, token, `{"callbackUrl":"regexp=https://.*","grantType":"authorization_code"}`, "invalid_redirect_uri"},
		"REG-02 a script":              {registrationPath, token, `{"callbackUrl":"JaVaScRiPt:alert(1)","grantType":"authorization_code"}`, "invalid_redirect_uri"},
		"REG-02 no callback with code": {registrationPath, token, `{"callbackUrl":"","grantType":"authorization_code"}`, "invalid_redirect_uri"},
		"REG-03 a number":              {registrationPath, token, `{"clientName":7}`, "invalid_client_metadata"},
		"REG-03 null":                  {registrationPath, token, `{"callbackUrl":null}`, "invalid_client_metadata"},
		"REG-04 password":              {registrationPath, token, `{"callbackUrl":"https://app.example/cb","grantType":"password"}`, "invalid_client_metadata"},
		"REG-04 members of RFC 7591":   {registrationPath, token, `{"redirect_uris":["https://app.example/cb"],"scope":"keyraft:admin"}`, "invalid_client_metadata"},
		"REG-04 a chosen id":           {dcrPath, token, `{"redirect_uris":["https://app.example/cb"],"ext_param_client_id":"provided_client_id0001"}`, "invalid_client_metadata"},
		"REG-04 a chosen secret":       {dcrPath, token, `{"redirect_uris":["https://app.example/cb"],"ext_param_client_secret":"x"}`, "invalid_client_metadata"},
		"REG-04 NTLM":                  {dcrPath, token, `{"redirect_uris":["https://app.example/cb"],"grant_types":["iwa:ntlm"]}`, "invalid_client_metadata"},
		"REG-09 a page that is none":   {dcrPath, token, `{"redirect_uris":["https://app.example/cb"],"url":"javascript:alert(1)"}`, "invalid_client_metadata"},
	} {
		a := n.asUser(t, "POST", tt.path, tt.token, tt.body)
		if want := map[bool]int{true: 401, false: 400}[tt.code == "invalid_token"]; a.status != want || a.code() != tt.code {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.text, want, tt.code)
		}
	}
	if got := n.view().Clients("default", "", 10); len(got) != 0 {
		t.Errorf("%d clients were made", len(got))
	}
}

// TestWSO2DCR11: RFC 7591 and RFC 7592 with WSO2's members.
func TestWSO2DCR11(t *testing.T) {
	t.Parallel()
	n := start(t)
	token := n.letRegister(t, "client_credentials", "authorization_code", "urn:ietf:params:oauth:grant-type:device_code")
	a := n.asUser(t, "POST", dcrPath, token, `{"redirect_uris":[""],"client_name":"application_1","grant_types":["client_credentials","device_code"],
		"ext_application_owner":"admin","ext_application_token_lifetime":999999,"ext_token_type":"JWT","ext_pkce_mandatory":true,"ext_pkce_support_plain":true,"url":"https://app.example/"}`)
	a.want(t, 201, "")
	for name, want := range map[string]any{
		"client_name": "application_1", "ext_application_display_name": "application_1", "ext_token_type": "JWT", "ext_pkce_mandatory": true, "ext_pkce_support_plain": false,
		"ext_public_client": false, "require_pkce": true, "client_uri": "https://app.example/", "client_secret_expires_at": 0.0, "redirect_uris": nil,
		"ext_application_token_lifetime": nil, "access_token_lifetime": nil, // REG-04: that is the operator's to say
		"registration_client_uri": issuer + oauthapi.RegisterPath + "/" + a.json["client_id"].(string),
	} {
		if a.json[name] != want {
			t.Errorf("%s is %v, want %v", name, a.json[name], want)
		}
	}
	if list, _ := a.json["grant_types"].([]any); len(list) != 2 || list[1] != "urn:ietf:params:oauth:grant-type:device_code" {
		t.Errorf("grant_types is %v", a.json["grant_types"])
	}
	id, own := a.json["client_id"].(string), a.json["registration_access_token"].(string)
	n.token(t, id, a.json["client_secret"].(string), "")
	n.asUser(t, "GET", dcrPath+"/"+id, own, "").want(t, 200, "")
	n.asUser(t, "GET", dcrPath+"/"+id, token, "").want(t, 401, "invalid_token") // REG-07
	changed := n.asUser(t, "PUT", dcrPath+"/"+id, own, `{"redirect_uris":["https://client.example/callback"],"grant_types":["authorization_code"],"ext_public_client":true,"ext_application_display_name":"Two"}`)
	changed.want(t, 200, "")
	if changed.json["token_endpoint_auth_method"] != "none" || changed.json["ext_public_client"] != true || changed.json["client_name"] != "Two" || changed.json["client_id"] != id {
		t.Errorf("%s", changed.text)
	}
	own = changed.json["registration_access_token"].(string)
	n.asUser(t, "PUT", dcrPath+"/"+id, own, `{"client_id":"other","redirect_uris":["https://client.example/callback"]}`).want(t, 400, "invalid_client_metadata")
	n.metadata(t, "DELETE", dcrPath+"/"+id, own, "").want(t, 204, "")
	n.metadata(t, "GET", dcrPath+"/"+id, own, "").want(t, 401, "invalid_token")
	n.do(t, "GET", dcrPath+"?client_name=application_1", "", "Authorization", "Bearer "+token).want(t, 405, "invalid_request") // names are no secret: nobody finds clients by them
}

// TestWSO2Paths: other names of what is served, in every tenant.
func TestWSO2Paths(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: "acme"}})
	for _, tenant := range []string{"", "/t/acme"} {
		want := n.do(t, "GET", tenant+oauthapi.OpenIDPath, "").text
		for _, path := range []string{"/oauth2/token/.well-known/openid-configuration", "/oauth2/oidcdiscovery/.well-known/openid-configuration"} {
			if a := n.do(t, "GET", tenant+path, ""); a.status != 200 || a.text != want {
				t.Errorf("%s: %d %s", path, a.status, a.text)
			}
		}
	}
	d := atHome(t)
	begun := d.do(t, "POST", "/oauth2/device_authorize", "client_id=tv&scope=openid")
	begun.want(t, 200, "")
	d.do(t, "POST", oauthapi.TokenPath, "client_id=tv&grant_type=device_code&device_code="+begun.json["device_code"].(string)).want(t, 400, "authorization_pending")
}
