package clients_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/internal/oauth"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, now time.Time, constraints ...string) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, PermittedDNSDomains: constraints,
	}
	a := &authority{template, key}
	a.cert = a.issue(t, template, key)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) issue(t testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// leaf is a certificate of a client; change makes it another one.
func (a *authority) leaf(t testing.TB, now time.Time, change func(c *x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "orders", Organization: []string{"Example"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	return a.issue(t, template, newKey(t))
}

func TestTLSClientAuth(t *testing.T) {
	k := newKit(t)
	now := k.now()
	ca, other := newAuthority(t, now), newAuthority(t, now)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	k.cas.Store(roots)
	uri := &url.URL{Scheme: "spiffe", Host: "example", Path: "/orders"}
	all := func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses, c.URIs = []string{"orders.example"}, []string{"orders@example.org"}, []*url.URL{uri}
		c.IPAddresses = []net.IP{net.ParseIP("192.0.2.7")}
	}
	for name, r := range map[string]clients.Registration{
		"dn":    {TLSSubjectDN: "CN=orders,O=Example"},
		"dns":   {TLSSanDNS: "Orders.example"},
		"uri":   {TLSSanURI: "spiffe://example/orders"},
		"ip":    {TLSSanIP: "192.0.2.7"},
		"email": {TLSSanEmail: "orders@Example.org"},
		"cn":    {TLSSanDNS: "orders"}, // which is in no SAN
	} {
		r.ClientID, r.AuthMethod = name, "tls_client_auth"
		k.create(t, r)
		err := k.shows(clients.Request{ID: name, Certificate: ca.leaf(t, now, all)})
		if (err == nil) != (name != "cn") {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := ca.leaf(t, now, nil)
	for name, cert := range map[string]*x509.Certificate{
		"another authority, the same name": other.leaf(t, now, nil),
		"another name":                     ca.leaf(t, now, func(c *x509.Certificate) { c.Subject.CommonName = "Orders" }),
		"one part more":                    ca.leaf(t, now, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"x"} }),
		"the parts in another order": ca.leaf(t, now, func(c *x509.Certificate) {
			c.RawSubject = rawDN(t, pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "orders"}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Example"}}})
		}),
		"expired":        ca.leaf(t, now, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }),
		"not yet valid":  ca.leaf(t, now, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }),
		"for servers":    ca.leaf(t, now, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"no certificate": nil,
		"a critical part": ca.leaf(t, now, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true}}
		}),
	} {
		if err := k.shows(clients.Request{ID: "dn", Certificate: cert}); !errors.Is(err, oauth.InvalidClient) {
			t.Errorf("POP-12: %s: %v", name, err)
		}
	}
	wildcard := ca.leaf(t, now, func(c *x509.Certificate) { c.DNSNames = []string{"*.example"} })
	if err := k.shows(clients.Request{ID: "dns", Certificate: wildcard}); !errors.Is(err, oauth.InvalidClient) {
		t.Errorf("POP-12: a wildcard: %v", err)
	}
	utf8 := ca.leaf(t, now, func(c *x509.Certificate) {
		c.RawSubject = rawDN(t, pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Example"}},
			{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("orders")}}}})
	})
	if err := k.shows(clients.Request{ID: "dn", Certificate: utf8}); err != nil {
		t.Errorf("POP-12: the same name as UTF8String: %v", err)
	}
	if err := k.shows(clients.Request{ID: "dn", Certificate: good}); err != nil {
		t.Fatal(err)
	}
	k.cas.Store(x509.NewCertPool()) // POP-15: the authority is taken away; no handshake happens anew
	if err := k.shows(clients.Request{ID: "dn", Certificate: good}); !errors.Is(err, oauth.InvalidClient) {
		t.Errorf("POP-15: %v", err)
	}
}

func rawDN(t testing.TB, seq pkix.RDNSequence) []byte {
	t.Helper()
	raw, err := asn1.Marshal(seq)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestNameConstraintsHold (POP-12): an intermediate authority is good for its names only.
func TestNameConstraintsHold(t *testing.T) {
	k := newKit(t)
	now := k.now()
	ca := newAuthority(t, now, "inside.example")
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	k.cas.Store(roots)
	for name, good := range map[string]bool{"a.inside.example": true, "a.outside.example": false} {
		k.create(t, clients.Registration{ClientID: name, AuthMethod: "tls_client_auth", TLSSanDNS: name})
		cert := ca.leaf(t, now, func(c *x509.Certificate) { c.DNSNames = []string{name} })
		if err := k.shows(clients.Request{ID: name, Certificate: cert}); (err == nil) != good {
			t.Errorf("POP-12: %s: %v", name, err)
		}
	}
}

func TestSelfSignedTLSClientAuth(t *testing.T) {
	k := newKit(t)
	now := k.now()
	self := newAuthority(t, now) // it signs itself
	set := func(cert *x509.Certificate, x5c bool) json.RawMessage {
		point, err := self.key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		key := map[string]any{"kty": "EC", "crv": "P-256", "kid": "k1",
			"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:])}
		if x5c {
			key["x5c"] = []string{base64.StdEncoding.EncodeToString(cert.Raw)}
		}
		out, err := json.Marshal(map[string]any{"keys": []any{key}})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	k.create(t, clients.Registration{ClientID: "self", AuthMethod: "self_signed_tls_client_auth", JWKS: set(self.cert, true)})
	if err := k.shows(clients.Request{ID: "self", Certificate: self.cert}); err != nil {
		t.Error(err)
	}
	template := *self.cert
	template.SerialNumber = big.NewInt(3)
	again := self.issue(t, &template, self.key)
	for name, cert := range map[string]*x509.Certificate{
		"another certificate": newAuthority(t, now).cert, "the key in a new certificate": again, "none": nil,
	} {
		if err := k.shows(clients.Request{ID: "self", Certificate: cert}); !errors.Is(err, oauth.InvalidClient) {
			t.Errorf("POP-13: %s: %v", name, err)
		}
	}
	if _, err := k.registry.Create(t.Context(), k.view(), "default", &clients.Registration{ClientID: "x", AuthMethod: "self_signed_tls_client_auth", JWKS: set(self.cert, false)}); err == nil {
		t.Error("POP-13: keys without x5c are taken")
	}
	const at = "https://self.example/jwks"
	k.create(t, clients.Registration{ClientID: "fetched", AuthMethod: "self_signed_tls_client_auth", JWKSURI: at})
	asks := func(cert *x509.Certificate) error {
		return k.shows(clients.Request{ID: "fetched", Certificate: cert})
	}
	for _, step := range []struct {
		name      string
		published []byte // nil: nobody answers
		ahead     time.Duration
		cert      *x509.Certificate
		good      bool
	}{
		{"nobody answers", nil, 0, self.cert, false},
		{"within the cool-down", set(self.cert, true), time.Second, self.cert, false},
		{"what is published", set(self.cert, true), time.Minute, self.cert, true},
		{"another", set(self.cert, true), time.Minute, again, false},
		{"a new one that is published", set(again, true), time.Minute, again, true},
		{"the one before", set(again, true), time.Minute, self.cert, false},
		{"the key alone", set(again, false), time.Hour, again, false},
		{"no JSON", []byte("<html>"), time.Hour, again, false},
		{"a secret is published", []byte(`{"keys":[{"kty":"oct","k":"AA"}]}`), time.Hour, again, false},
	} {
		if k.keysAt.Store(at, step.published); step.published == nil {
			k.keysAt.Delete(at)
		}
		k.pass(step.ahead)
		if err := asks(step.cert); (err == nil) != step.good || err != nil && !errors.Is(err, oauth.InvalidClient) {
			t.Errorf("POP-13 at jwks_uri: %s: %v", step.name, err)
		}
	}
	k.pass(366 * 24 * time.Hour)
	if err := k.shows(clients.Request{ID: "self", Certificate: self.cert}); !errors.Is(err, oauth.InvalidClient) {
		t.Errorf("POP-13: after its end: %v", err)
	}
}

// TestACertificateIsNoPassForOtherMethods: who is registered for a secret needs it
// whatever certificate is shown, and a public client stays one.
func TestACertificateIsNoPassForOtherMethods(t *testing.T) {
	k := newKit(t)
	cert := newAuthority(t, k.now()).cert
	made := k.create(t, clients.Registration{ClientID: "secret"})
	k.create(t, clients.Registration{ClientID: "public", AuthMethod: "none", GrantTypes: []string{}})
	if err := k.shows(clients.Request{ID: "secret", Certificate: cert}); !errors.Is(err, oauth.InvalidClient) {
		t.Errorf("TOK-08: %v", err)
	}
	if err := k.shows(clients.Request{ID: "public", Certificate: cert}); err != nil {
		t.Error(err)
	}
	k.create(t, clients.Registration{ClientID: "post", AuthMethod: "client_secret_post"})
	if err := k.shows(clients.Request{ID: "post", Secret: made.Secret(), Certificate: cert}); !errors.Is(err, oauth.InvalidClient) {
		t.Errorf("TOK-08: %v", err)
	}
	if got := clients.Thumbprint(cert); len(got) != 43 || clients.Thumbprint(nil) != "" {
		t.Errorf("thumbprint %q", got)
	}
}
