package oauthapi

import (
	"encoding/json"
	"testing"
)

// FuzzDialects: whatever the members are, what comes out of WSO2's words is JSON that the
// registry can judge, and of the names that RFC 7591 has, or a refusal.
func FuzzDialects(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"callbackUrl":"regexp=(a|b)","clientName":"x","grantType":"a b","saasApp":true}`, `{"callbackUrl":"regexp=(","grantType":" "}`, `{"callbackUrl":null}`, `{"clientName":{}}`,
		`{"redirect_uris":[""],"grant_types":["device_code",""],"ext_public_client":true,"url":1}`, `{"redirect_uris":{"a":1},"grant_types":"x"}`, `{"ext_param_client_id":"a"}`, `{"ext_pkce_mandatory":"\ud800"}`,
	} {
		f.Add([]byte(seed), "client")
	}
	f.Fuzz(func(t *testing.T, body []byte, id string) {
		for _, d := range []dialect{wso2DCR(), wso2Registration(), rfc7591()} {
			members := map[string]json.RawMessage{}
			if json.Unmarshal(body, &members) != nil || members == nil {
				return
			}
			if d.in(members, id) != nil {
				continue
			}
			for name, value := range members {
				if !json.Valid(value) {
					t.Errorf("%s: %s is %q", d.path, name, value)
				}
				if d.path == wso2RegistrationPath && name != "client_name" && name != "redirect_uris" && name != "grant_types" {
					t.Errorf("%s is a member", name)
				}
			}
		}
	})
}
