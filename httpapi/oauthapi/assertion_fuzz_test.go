package oauthapi_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/internal/testproof"
)

// FuzzClientAssertion: of what a client signs, that proves who it is in which encoding/json
// finds the client twice, our issuer alone as audience, a jti, and an end that is near; and
// it does so once. What the client did not sign proves nothing.
func FuzzClientAssertion(f *testing.F) {
	n, key := start(f), testproof.New(f)
	n.client(f, clients.Registration{ClientID: "signer", AuthMethod: "private_key_jwt", JWKS: json.RawMessage(key.JWKS(f, "k1"))})
	const header = `{"alg":"ES256","kid":"k1"}`
	now := n.now().Unix()
	good := fmt.Sprintf(`{"iss":"signer","sub":"signer","aud":"%s","jti":"j","iat":%d,"exp":%d}`, issuer, now, now+60)
	f.Add(header, good, true)
	f.Add(header, good, false)
	for _, change := range [][2]string{
		{`"iss":"signer"`, `"iss":"other"`}, {`"sub":"signer"`, `"sub":"other"`}, {`"sub":"signer",`, ``}, {`"jti":"j",`, ``}, {`"jti":"j"`, `"jti":""`},
		{`"aud":"` + issuer + `"`, `"aud":["` + issuer + `"]`}, {`"aud":"` + issuer + `"`, `"aud":["` + issuer + `","x"]`}, {`"aud":"` + issuer, `"aud":"` + issuer + oauthapi.TokenPath}, {`"aud":"` + issuer, `"aud":"` + issuer + `/`},
		{fmt.Sprint(now + 60), fmt.Sprint(now - 600)}, {fmt.Sprint(now + 60), fmt.Sprint(now + 1<<40)}, {`,"exp"`, `,"nbf":9999999999,"exp"`}, {`{`, `{"sub":"signer",`},
	} {
		f.Add(header, strings.Replace(good, change[0], change[1], 1), true)
	}
	f.Add(`{"alg":"ES256","kid":"k1","typ":"client-authentication+jwt"}`, good, true)
	f.Add(`{"alg":"ES256","kid":"k1","typ":"dpop+jwt"}`, good, true)
	f.Fuzz(func(t *testing.T, header, payload string, signed bool) {
		text := key.SignRaw(t, header, payload)
		if !signed {
			text = text[:len(text)-4] + strings.Map(func(r rune) rune { return map[bool]rune{true: 'B', false: 'A'}[r == 'A'] }, text[len(text)-4:])
		}
		form := "token=x&client_assertion=" + url.QueryEscape(text) + "&client_assertion_type=" + url.QueryEscape("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		a := n.do(t, "POST", oauthapi.RevokePath, form)
		if a.status != 200 {
			if a.code() != "invalid_client" && a.code() != "invalid_request" {
				t.Errorf("%s %s: %d %s", header, payload, a.status, a.text)
			}
			return
		}
		var said map[string]any
		if json.Unmarshal([]byte(payload), &said) != nil || !signed {
			t.Fatalf("%s %s is taken (signed: %v)", header, payload, signed)
		}
		aud, _ := said["aud"].(string)
		if list, ok := said["aud"].([]any); ok && len(list) == 1 {
			aud, _ = list[0].(string)
		}
		jti, _ := said["jti"].(string)
		end, _ := said["exp"].(float64)
		if at := float64(n.now().Unix()); said["iss"] != "signer" || said["sub"] != "signer" || aud != issuer || jti == "" || end < at-120 || end > at+4000 {
			t.Errorf("%s is taken", payload)
		}
		var head map[string]any
		if json.Unmarshal([]byte(header), &head) != nil || head["alg"] != "ES256" || !slices.Contains([]any{nil, "", "k1"}, head["kid"]) {
			t.Errorf("%s is taken", header)
		}
		if again := n.do(t, "POST", oauthapi.RevokePath, form); again.status == 200 {
			t.Errorf("JWT-21: %s is taken twice", payload)
		}
	})
}
