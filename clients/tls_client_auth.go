package clients

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/clientcert"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Thumbprint is the x5t#S256 of a certificate (RFC 8705 §3.1); "" for none.
func Thumbprint(cert *x509.Certificate) string {
	if cert == nil {
		return ""
	}
	return clientcert.Thumbprint(cert.Raw)
}

// provesCertificate checks a request that shows a certificate and an id and no other
// credentials. For a client of another method the certificate proves nothing: such a
// request is one of method none.
func (a *Authenticator) provesCertificate(ctx context.Context, v *state.View, client *state.Client, r *Request) (oauth.AuthMethod, bool, error) {
	now := a.cfg.Now()
	if clock := time.UnixMilli(v.Clock()); clock.After(now) {
		now = clock
	}
	switch method := oauth.AuthMethod(client.GetAuthMethod()); method {
	case oauth.AuthTLS:
		return method, a.chains(r, now) && named(client, r.Certificate), nil
	case oauth.AuthSelfSignedTLS:
		ok, err := a.registered(ctx, client, r.Certificate, now)
		return method, ok, err
	}
	return oauth.AuthNone, true, nil
}

// chains holds the certificate against the authorities of now: what a handshake, a
// ticket or another request found out before is no matter (POP-15).
func (a *Authenticator) chains(r *Request, now time.Time) bool {
	if a.cfg.ClientCAs == nil {
		return false
	}
	roots := a.cfg.ClientCAs()
	if roots == nil {
		return false
	}
	between := x509.NewCertPool()
	for _, c := range r.Intermediates {
		between.AddCert(c)
	}
	_, err := r.Certificate.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// named tells whether the certificate has the one name that the client is registered
// with, of that kind (RFC 8705 §2.1.2): a common name never stands for a SAN.
func named(c *state.Client, cert *x509.Certificate) bool {
	switch {
	case c.GetTlsSubjectDn() != "":
		want, ok := parseDN(c.GetTlsSubjectDn())
		have, ok2 := subjectDN(cert.RawSubject)
		return ok && ok2 && sameDN(want, have)
	case c.GetTlsSanDns() != "":
		return slices.ContainsFunc(cert.DNSNames, func(s string) bool { return strings.EqualFold(s, c.GetTlsSanDns()) })
	case c.GetTlsSanUri() != "":
		for _, u := range cert.URIs {
			if u.String() == c.GetTlsSanUri() {
				return true
			}
		}
	case c.GetTlsSanIp() != "":
		want, err := netip.ParseAddr(c.GetTlsSanIp())
		for _, ip := range cert.IPAddresses {
			if have, ok := netip.AddrFromSlice(ip); err == nil && ok && have.Unmap() == want.Unmap() {
				return true
			}
		}
	case c.GetTlsSanEmail() != "":
		return slices.ContainsFunc(cert.EmailAddresses, func(s string) bool { return sameMailbox(s, c.GetTlsSanEmail()) })
	}
	return false
}

// sameMailbox compares the local part byte for byte, the host in any letter case (RFC
// 5280 §7.5).
func sameMailbox(a, b string) bool {
	local, host, ok := strings.Cut(a, "@")
	local2, host2, ok2 := strings.Cut(b, "@")
	return ok && ok2 && local == local2 && strings.EqualFold(host, host2)
}
