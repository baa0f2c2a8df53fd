package oauthapi_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/internal/testproof"
)

const directory = "https://directory.example"

// believes lets clients of the tenant register by statements.
func (n *node) believes(t testing.TB, policy *state.RegistrationPolicy) {
	t.Helper()
	n.must(t, &command.PutTenant{Expect: tenantGeneration(n), Tenant: &state.Tenant{Id: "default", Settings: &state.TenantSettings{Registration: policy}}})
}

// speaks is what a directory says of a software, with changes; nil takes away.
func speaks(change map[string]any) map[string]any {
	return testproof.With(map[string]any{
		"iss": directory, "software_id": "s1", "client_name": "As Stated", "redirect_uris": []string{"https://stated.example/cb"}, "scope": "openid",
	}, change)
}

func stating(t testing.TB, statement string, more map[string]any) string {
	t.Helper()
	body, err := json.Marshal(testproof.With(map[string]any{"software_statement": statement}, more))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestREG06SoftwareStatements (RFC 7591 §2.3, RFC 8725).
func TestREG06SoftwareStatements(t *testing.T) {
	t.Parallel()
	n := start(t)
	key, other, rs256 := testproof.New(t), testproof.New(t), testproof.NewRSA(t, "RS256")
	n.believes(t, &state.RegistrationPolicy{StatementIssuers: []*state.StatementIssuer{
		{Issuer: directory, Jwks: key.JWKS(t, "k"), SoftwareIds: []string{"s1", "s2"}},
		{Issuer: "https://other.example", Jwks: other.JWKS(t, "k")},
		{Issuer: "https://ps256.example", Jwks: rs256.JWKSWithoutAlg(t, "k"), Alg: "PS256"},
		{Issuer: "https://named.example", Jwks: rs256.JWKS(t, "k"), Alg: "PS256"},
	}})
	token := n.initial(t, "default", 0)
	sign := func(header, change map[string]any) string {
		return key.Sign(t, testproof.With(map[string]any{"alg": "ES256", "kid": "k"}, header), speaks(change))
	}
	now := n.now().Unix()
	for name, tt := range map[string]struct{ statement, code string }{
		"unsigned":                  {"eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2RpcmVjdG9yeS5leGFtcGxlIn0.", "invalid_software_statement"},
		"alg none with a signature": {sign(map[string]any{"alg": "none"}, nil), "invalid_software_statement"},
		"HMAC":                      {sign(map[string]any{"alg": "HS256"}, nil), "invalid_software_statement"},
		"another alg than the key":  {sign(map[string]any{"alg": "ES384"}, nil), "invalid_software_statement"},
		"a foreign issuer":          {sign(nil, map[string]any{"iss": "https://evil.example"}), "unapproved_software_statement"},
		"no issuer":                 {sign(nil, map[string]any{"iss": nil}), "unapproved_software_statement"},
		"another issuer's key":      {other.Sign(t, map[string]any{"alg": "ES256", "kid": "k"}, speaks(nil)), "invalid_software_statement"},
		"of one, in another's name": {sign(nil, map[string]any{"iss": "https://other.example"}), "invalid_software_statement"},
		"an unknown key":            {sign(map[string]any{"kid": "k2"}, nil), "invalid_software_statement"},
		"its own key in the header": {other.Sign(t, map[string]any{"alg": "ES256", "jwk": json.RawMessage(`{"kty":"EC"}`)}, speaks(nil)), "invalid_software_statement"},
		"expired":                   {sign(nil, map[string]any{"exp": now - 100}), "invalid_software_statement"},
		"not yet good":              {sign(nil, map[string]any{"nbf": now + 100}), "invalid_software_statement"},
		"of tomorrow":               {sign(nil, map[string]any{"iat": now + 100}), "invalid_software_statement"},
		"for another server":        {sign(nil, map[string]any{"aud": "https://other-sts.example"}), "invalid_software_statement"},
		"a client assertion":        {sign(map[string]any{"typ": "client-authentication+jwt"}, nil), "invalid_software_statement"},
		"an access token":           {sign(map[string]any{"typ": "at+jwt"}, nil), "invalid_software_statement"},
		"about no software":         {sign(nil, map[string]any{"software_id": nil}), "invalid_software_statement"},
		"about another software":    {sign(nil, map[string]any{"software_id": "s9"}), "unapproved_software_statement"},
		"another alg than stated":   {rs256.Sign(t, map[string]any{"alg": "RS256", "kid": "k"}, speaks(map[string]any{"iss": "https://ps256.example"})), "invalid_software_statement"},
		"the alg of the key, which is not the one stated": {rs256.Sign(t, map[string]any{"alg": "RS256", "kid": "k"}, speaks(map[string]any{"iss": "https://named.example"})), "invalid_software_statement"},
		"crit":               {sign(map[string]any{"crit": []string{"x"}, "x": 1}, nil), "invalid_software_statement"},
		"a privileged scope": {sign(nil, map[string]any{"scope": "keyraft:admin"}), "invalid_client_metadata"},
		"a script to go to":  {sign(nil, map[string]any{"redirect_uris": []string{"javascript:alert(1)"}}), "invalid_redirect_uri"},
		"very long":          {sign(nil, map[string]any{"x": string(make([]byte, 3000))}), "invalid_software_statement"},
		"no JWT":             {"a.b.c", "invalid_software_statement"},
	} {
		a := n.metadata(t, "POST", oauthapi.RegisterPath, token, stating(t, tt.statement, nil))
		if a.status != 400 || a.code() != tt.code {
			t.Errorf("%s: %d %s, want 400 %s", name, a.status, a.text, tt.code)
		}
	}
	n.metadata(t, "POST", oauthapi.RegisterPath, token, `{"redirect_uris":["https://app.example/cb"],"software_statement":7}`).want(t, 400, "invalid_software_statement")
	if got := n.view().Clients("default", "", 100); len(got) != 0 {
		t.Errorf("%d clients were made", len(got))
	}
	for name, statement := range map[string]string{
		"without end": sign(nil, nil), "with its type": sign(map[string]any{"typ": "JWT"}, nil), "for this server": sign(nil, map[string]any{"aud": issuer, "exp": now + 100}),
		"of the other issuer": other.Sign(t, map[string]any{"alg": "ES256"}, speaks(map[string]any{"iss": "https://other.example", "software_id": "any"})),
	} {
		if a := n.metadata(t, "POST", oauthapi.RegisterPath, token, stating(t, statement, nil)); a.status != 201 || a.json["software_statement"] != statement {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
}

// TestREG06WhatAStatementSaysWins, at first and when the client changes itself; it is
// given back as it came, and what it does not say is the client's.
func TestREG06WhatAStatementSaysWins(t *testing.T) {
	t.Parallel()
	n := start(t)
	key, another := testproof.New(t), testproof.New(t)
	n.believes(t, &state.RegistrationPolicy{RequireStatement: true, StatementIssuers: []*state.StatementIssuer{{Issuer: directory, Jwks: key.JWKS(t, "k")}}})
	token := n.initial(t, "default", 0)
	sign := func(change map[string]any) string {
		return key.Sign(t, map[string]any{"alg": "ES256", "kid": "k"}, speaks(change))
	}
	n.metadata(t, "POST", oauthapi.RegisterPath, token, webApp).want(t, 400, "invalid_client_metadata") // none is there
	first := sign(map[string]any{"exp": n.now().Unix() + 60, "jwks": json.RawMessage(another.JWKS(t, "c")), "skip_consent": true, "introspection": "any"})
	a := n.metadata(t, "POST", oauthapi.RegisterPath, token, stating(t, first, map[string]any{
		"client_name": "As Asked", "redirect_uris": []string{"https://evil.example/cb"}, "contacts": []string{"a@app.example"}, "jwks_uri": "https://evil.example/jwks",
		"token_endpoint_auth_method": "private_key_jwt", "software_id": "s9",
	}))
	a.want(t, 201, "")
	holds := func(a *answer, statement, name string) {
		t.Helper()
		uris, _ := a.json["redirect_uris"].([]any)
		if a.json["software_statement"] != statement || a.json["client_name"] != name || len(uris) != 1 || uris[0] != "https://stated.example/cb" || a.json["software_id"] != "s1" {
			t.Errorf("%s", a.text)
		}
	}
	holds(a, first, "As Stated")
	id := a.json["client_id"].(string)
	row, _ := n.view().Client("default", id)
	if row.GetJwksUri() != "" || len(row.GetJwks()) == 0 || row.GetSkipConsent() || row.GetIntrospectAny() || len(row.GetContacts()) != 1 {
		t.Errorf("%v", row)
	}
	path, own := oauthapi.RegisterPath+"/"+id, a.json["registration_access_token"].(string)
	holds(n.metadata(t, "GET", path, own, ""), first, "As Stated")
	n.pass(time.Hour) // the statement has expired, but what it said stays
	put := func(more map[string]any) *answer {
		t.Helper()
		body, err := json.Marshal(testproof.With(map[string]any{"client_id": id, "client_name": "Mine", "redirect_uris": []string{"https://evil.example/cb"}, "token_endpoint_auth_method": "private_key_jwt"}, more))
		if err != nil {
			t.Fatal(err)
		}
		a := n.metadata(t, "PUT", path, own, string(body))
		if next, ok := a.json["registration_access_token"].(string); ok {
			own = next
		}
		return a
	}
	holds(put(nil), first, "As Stated")
	put(map[string]any{"software_statement": first}).want(t, 400, "invalid_software_statement")
	put(map[string]any{"software_statement": sign(map[string]any{"software_id": "s2"})}).want(t, 400, "unapproved_software_statement")
	second := sign(map[string]any{"client_name": "Stated Anew", "jwks": json.RawMessage(another.JWKS(t, "c"))})
	holds(put(map[string]any{"software_statement": second}), second, "Stated Anew")
}

// TestREG06KeysOfAnIssuerThatAreFetched: none to be had is no 500, and no statement is
// believed then.
func TestREG06KeysOfAnIssuerThatAreFetched(t *testing.T) {
	t.Parallel()
	n := start(t)
	key := testproof.NewRSA(t, "PS256")
	const uri = directory + "/jwks"
	n.believes(t, &state.RegistrationPolicy{Open: true, StatementIssuers: []*state.StatementIssuer{{Issuer: directory, JwksUri: uri, Alg: "PS256"}}})
	statement := key.Sign(t, map[string]any{"alg": "PS256", "kid": "k"}, speaks(nil))
	a := n.metadata(t, "POST", oauthapi.RegisterPath, "", stating(t, statement, nil))
	if a.status != 503 || a.code() != "temporarily_unavailable" || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", a.status, a.header, a.text)
	}
	n.published.Store(uri, key.JWKSWithoutAlg(t, "k"))
	n.pass(time.Minute)
	n.metadata(t, "POST", oauthapi.RegisterPath, "", stating(t, statement, nil)).want(t, 201, "")
	n.metadata(t, "POST", oauthapi.RegisterPath, "", stating(t, testproof.NewRSA(t, "PS256").Sign(t, map[string]any{"alg": "PS256", "kid": "k"}, speaks(nil)), nil)).want(t, 400, "invalid_software_statement")
}
