package ca_test

import (
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/keyraft/keyraft/cluster/ca"
)

func FuzzIdentityOf(f *testing.F) {
	for _, s := range []string{
		"keyraft://c1/0/n1", "keyraft://c1/007/n1", "keyraft://c1/0/n1/", "keyraft://c1/0/n1?x", "keyraft://c1:1/0/n1",
		"keyraft://u@c1/0/n1", "https://c1/0/n1", "keyraft://c1/18446744073709551616/n1", "keyraft://c1/+1/n1", "keyraft://c1/0/n%31", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		id, err := ca.IdentityOf(&x509.Certificate{URIs: []*url.URL{u}})
		if err != nil {
			return
		}
		if id.String() != u.String() {
			t.Errorf("%q and %q are one identity", u, id)
		}
		if ca.ValidID(id.NodeID) != nil || ca.ValidID(id.ClusterID) != nil {
			t.Errorf("%q gives a name that is not allowed", u)
		}
	})
}

func TestIdentityOfRefuses(t *testing.T) {
	t.Parallel()
	one := &url.URL{Scheme: "keyraft", Host: "c1", Path: "/0/n1"}
	for name, cert := range map[string]*x509.Certificate{
		"a certificate without a URI name":   {},
		"two URI names":                      {URIs: []*url.URL{one, one}},
		"an authority":                       {IsCA: true, URIs: []*url.URL{one}},
		"a leading zero":                     {URIs: []*url.URL{{Scheme: "keyraft", Host: "c1", Path: "/00/n1"}}},
		"a client of the API (other scheme)": {URIs: []*url.URL{{Scheme: "spiffe", Host: "c1", Path: "/0/n1"}}},
		"a query":                            {URIs: []*url.URL{{Scheme: "keyraft", Host: "c1", Path: "/0/n1", RawQuery: "a"}}},
	} {
		if id, err := ca.IdentityOf(cert); err == nil {
			t.Errorf("%s is accepted as %v", name, id)
		}
	}
	if _, err := ca.IdentityOf(&x509.Certificate{URIs: []*url.URL{one}}); err != nil {
		t.Errorf("the good name: %v", err)
	}
}
