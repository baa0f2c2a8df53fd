package oauthapi

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Paths at which WSO2's servers answer, for clients that are set up for one of them. Each
// is another name of an endpoint of ours.
const (
	wso2DCRPath          = "/api/identity/oauth2/dcr/v1.1/register"
	wso2RegistrationPath = "/client-registration/v0.17/register"
	wso2DevicePath       = "/oauth2/device_authorize"
	wso2TokenOpenIDPath  = "/oauth2/token" + OpenIDPath
	wso2OpenIDPath       = "/oauth2/oidcdiscovery" + OpenIDPath
)

// wso2DeviceCode is what WSO2's clients call the grant of RFC 8628, besides its name.
const wso2DeviceCode = "device_code"

// grantTypeOf is the grant type of a name on the wire.
func grantTypeOf(name string) string {
	if name == wso2DeviceCode {
		return string(oauth.GrantDeviceCode)
	}
	return name
}

// wso2DCR is registration as version 1.1 of the DCR API of WSO2 Identity Server words
// it: RFC 7591 with members of its own.
func wso2DCR() dialect { return dialect{wso2DCRPath, basicOrBearer, fromDCR, toDCR} }

// wso2Registration is registration of version 0.17 for WSO2's own products. It knows no
// management, so its answer has no token for that.
func wso2Registration() dialect {
	return dialect{wso2RegistrationPath, basicOrBearer, fromRegistration, toRegistration}
}

// basicOrBearer is the access token of registration: WSO2's clients send the name and
// password of a user, so it may stand where the password does. Whose name is beside it
// does not matter.
func basicOrBearer(c *fasthttp.RequestCtx) (string, error) {
	if header := c.Request.Header.Peek(fasthttp.HeaderAuthorization); !isBearer(header) {
		if _, token, ok := clients.ParseBasic(header); ok {
			return token, nil
		}
	}
	return bearerOf(c)
}

// fromDCR turns the members of WSO2's into those of RFC 7591. An update need not name the
// client, for its path does; in lists of URIs an empty text stands for none.
func fromDCR(members map[string]json.RawMessage, id string) error {
	for _, name := range []string{"ext_param_client_id", "ext_param_client_secret"} {
		if _, ok := members[name]; ok {
			return oauth.InvalidClientMetadata.With(name + ": a client can't choose its id and secret; leave it out, and take both from the answer")
		}
	}
	if _, ok := members["client_id"]; !ok && id != "" {
		members["client_id"] = quoted(id)
	}
	for theirs, ours := range map[string]string{"ext_application_display_name": "client_name", "ext_pkce_mandatory": "require_pkce", "url": "client_uri"} {
		if _, ok := members[ours]; !ok && members[theirs] != nil {
			members[ours] = members[theirs]
		}
	}
	if string(members["ext_public_client"]) == "true" {
		members["token_endpoint_auth_method"] = quoted(string(oauth.AuthNone))
	}
	var list []string
	if json.Unmarshal(members["redirect_uris"], &list) == nil {
		setList(members, "redirect_uris", slices.DeleteFunc(list, func(s string) bool { return s == "" }))
	}
	if list = nil; json.Unmarshal(members["grant_types"], &list) == nil {
		setGrants(members, list)
	}
	return nil
}

// toDCR is the answer of RFC 7591 with WSO2's members beside it.
func toDCR(r *clients.SelfRegistered, uri string) ([]byte, error) {
	body, err := r.Marshal(uri)
	if err != nil {
		return nil, err
	}
	more, err := json.Marshal(struct {
		Name      string           `json:"ext_application_display_name,omitempty"`
		TokenType string           `json:"ext_token_type"`
		Token     *clients.Seconds `json:"ext_application_token_lifetime,omitempty"`
		UserToken *clients.Seconds `json:"ext_user_token_lifetime,omitempty"`
		Refresh   *clients.Seconds `json:"ext_refresh_token_lifetime,omitempty"`
		IDToken   *clients.Seconds `json:"ext_id_token_lifetime,omitempty"`
		PKCE      bool             `json:"ext_pkce_mandatory"`
		Plain     bool             `json:"ext_pkce_support_plain"` // it is no protection (RFC 9700 §2.1.1)
		Public    bool             `json:"ext_public_client"`
	}{
		r.ClientName, tokenTypeOf(r, "Default"), r.AccessTokenLifetime, r.UserTokenLifetime, r.RefreshLifetime, r.IDTokenLifetime,
		r.RequirePKCE, false, r.AuthMethod == string(oauth.AuthNone),
	})
	if err != nil {
		return nil, err
	}
	return append(append(body[:len(body)-1], ','), more[1:]...), nil // neither object is empty
}

// tokenTypeOf is WSO2's name of the format of the client's access tokens.
func tokenTypeOf(r *clients.SelfRegistered, opaque string) string {
	if r.AccessTokenFormat == "opaque" {
		return opaque
	}
	return "JWT"
}

// fromRegistration turns the members of version 0.17 into those of RFC 7591. Who owns the
// client, and whether all tenants share it, are not things that one can say of itself.
func fromRegistration(members map[string]json.RawMessage, _ string) error {
	var in struct {
		Callback   string `json:"callbackUrl"`
		Name       string `json:"clientName"`
		GrantTypes string `json:"grantType"`
	}
	for name, to := range map[string]*string{"callbackUrl": &in.Callback, "clientName": &in.Name, "grantType": &in.GrantTypes} {
		if raw, ok := members[name]; ok && (json.Unmarshal(raw, to) != nil || string(raw) == "null") {
			return oauth.InvalidClientMetadata.With(name + ": a text is needed")
		}
	}
	clear(members)
	if in.Name != "" {
		members["client_name"] = quoted(in.Name)
	}
	setList(members, "redirect_uris", callbacks(in.Callback))
	setGrants(members, strings.Fields(in.GrantTypes))
	return nil
}

// callbacks are the redirect URIs of WSO2's one member for them: a URI, or several as
// regexp=(a|b). What looks like a pattern is refused with the URI that it makes.
func callbacks(s string) []string {
	rest, several := strings.CutPrefix(s, "regexp=")
	if !several {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	rest = strings.TrimSuffix(strings.TrimPrefix(rest, "("), ")")
	return strings.Split(rest, "|")
}

// toRegistration is the answer of version 0.17.
func toRegistration(r *clients.SelfRegistered, _ string) ([]byte, error) {
	callback := strings.Join(r.RedirectURIs, "|")
	if len(r.RedirectURIs) > 1 {
		callback = "regexp=(" + callback + ")"
	}
	text, err := json.Marshal(map[string]string{"grant_types": strings.Join(r.GrantTypes, " "), "redirect_uris": callback, "client_name": r.ClientName})
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		ID         string `json:"clientId"`
		Secret     string `json:"clientSecret,omitempty"`
		Name       string `json:"clientName"`
		Callback   string `json:"callBackURL"` // as WSO2 writes it
		SaaS       bool   `json:"isSaasApplication"`
		Owner      string `json:"appOwner"`
		Text       string `json:"jsonString"`
		Attributes string `json:"jsonAppAttribute"`
		TokenType  string `json:"tokenType"`
	}{r.ClientID, r.Secret(), r.ClientName, callback, false, "", string(text), "{}", tokenTypeOf(r, "OAUTH")})
}

// setGrants names grant types, as RFC 7591 does.
func setGrants(members map[string]json.RawMessage, names []string) {
	for i := range names {
		names[i] = grantTypeOf(names[i])
	}
	setList(members, "grant_types", names)
}

// setList names a list that is not empty.
func setList(members map[string]json.RawMessage, name string, list []string) {
	if len(list) == 0 {
		delete(members, name)
		return
	}
	text, err := json.Marshal(list)
	if err == nil { // as it is for any text
		members[name] = text
	}
}

func quoted(s string) json.RawMessage {
	text, err := json.Marshal(s)
	if err != nil { // as it never is for a text
		return nil
	}
	return text
}
