package oauthapi_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net/netip"
	"testing"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/internal/clientcert"
)

// certificate is one of a client, and how a proxy names it.
func certificate(t *testing.T) (thumbprint, header string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return clientcert.Thumbprint(der), ":" + base64.StdEncoding.EncodeToString(der) + ":"
}

// TestTokensOfACertificate: RFC 8705 §3 and POP-14, at the token endpoint, at
// introspection, at userinfo and at a refresh.
func TestTokensOfACertificate(t *testing.T) {
	t.Parallel()
	p := signedIn(t, func(r *clients.Registration) { r.AuthMethod, r.GrantTypes, r.TLSBound = "none", r.GrantTypes[:2], true })
	p.node = serve(t, p.world, func(c *httpapi.Config) {
		c.Proxies, c.ClientCerts = httpapi.Proxies{netip.MustParsePrefix("0.0.0.0/0")}, &httpapi.ClientCerts{Header: "Client-Cert"}
	})
	x5t, cert := certificate(t)
	_, other := certificate(t)
	post := func(form, cert string) *answer {
		if cert == "" {
			return p.do(t, "POST", oauthapi.TokenPath, form+"&client_id=web")
		}
		return p.do(t, "POST", oauthapi.TokenPath, form+"&client_id=web", "Client-Cert", cert)
	}
	code := codeForm + p.code("openid read", "", "")
	post(code, "").want(t, 400, "invalid_request") // and the code is good still
	a := post(code, cert)
	if a.want(t, 200, ""); a.json["token_type"] != "Bearer" || t.Failed() {
		t.Fatalf("answer %s", a.text)
	}
	token, refresh := a.json["access_token"].(string), "grant_type=refresh_token&refresh_token="+a.json["refresh_token"].(string)
	told := p.do(t, "POST", oauthapi.IntrospectPath, "token="+token, "Authorization", "Bearer "+gatewayKey)
	if cnf, _ := told.json["cnf"].(map[string]any); cnf["x5t#S256"] != x5t || told.json["token_type"] != "Bearer" {
		t.Errorf("introspection: %s", told.text)
	}
	userinfo := func(header ...string) *answer {
		return p.do(t, "GET", oauthapi.UserinfoPath, "", append(header, "Authorization", "Bearer "+token)...)
	}
	userinfo("Client-Cert", cert).want(t, 200, "")
	userinfo().want(t, 401, "invalid_token")
	userinfo("Client-Cert", other).want(t, 401, "invalid_token")
	post(refresh, other).want(t, 400, "invalid_grant")
	post(refresh, "").want(t, 400, "invalid_request")
	post(refresh, cert).want(t, 200, "")
}

// TestACertificateBindsNothingByItself: a client that is not registered so gets bearer
// tokens, whatever certificate its proxy names.
func TestACertificateBindsNothingByItself(t *testing.T) {
	t.Parallel()
	p := signedIn(t, nil)
	p.node = serve(t, p.world, func(c *httpapi.Config) {
		c.Proxies, c.ClientCerts = httpapi.Proxies{netip.MustParsePrefix("0.0.0.0/0")}, &httpapi.ClientCerts{Header: "Client-Cert"}
	})
	_, cert := certificate(t)
	a := p.do(t, "POST", oauthapi.TokenPath, codeForm+p.code("openid", "", ""), "Authorization", basicAuth("web", p.secret), "Client-Cert", cert)
	a.want(t, 200, "")
	token, _ := a.json["access_token"].(string)
	p.userinfo(token).want(t, 200, "")
}
