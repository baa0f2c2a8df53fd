package httpapi

import (
	"crypto/x509"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/internal/clientcert"
)

// ClientCerts says where the certificate of a client comes from: from the connection,
// or from a proxy that has ended TLS. Immutable.
type ClientCerts struct {
	// Header names the certificate of the client of one of Config.Proxies, as RFC 9440 §2.2
	// writes it or as percent-encoded PEM; its chain comes in Header with "-Chain" added.
	// From all others it is not read. "": none.
	Header string
}

const maxChain = 5

// ClientCertificate is the certificate of the client of this request, and the others of
// its chain. That the client holds its key is proved, by the handshake or by a proxy's
// word; its names and authorities are for the caller to judge. nil for none, and for
// what a proxy has garbled or sent twice.
func ClientCertificate(c *fasthttp.RequestCtx) (cert *x509.Certificate, chain []*x509.Certificate) {
	r := of(c)
	if r == nil || r.certs == nil {
		return nil, nil
	}
	if r.certs.Header != "" && r.byProxy(c) {
		return r.certs.fromHeader(c) // the connection's certificate is the proxy's own
	}
	state := c.TLSConnectionState()
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil, nil
	}
	return state.PeerCertificates[0], state.PeerCertificates[1:min(len(state.PeerCertificates), maxChain)]
}

// byProxy tells whether the peer is a trusted proxy.
func (r *request) byProxy(c *fasthttp.RequestCtx) bool {
	peer, ok := netip.AddrFromSlice(c.RemoteIP())
	return ok && r.proxies.hold(peer.Unmap())
}

func (p *ClientCerts) fromHeader(c *fasthttp.RequestCtx) (*x509.Certificate, []*x509.Certificate) {
	values := c.Request.Header.PeekAll(p.Header)
	if len(values) != 1 {
		return nil, nil
	}
	cert := clientcert.Parse(string(values[0]))
	if cert == nil {
		return nil, nil
	}
	var chain []*x509.Certificate
	for _, value := range c.Request.Header.PeekAll(p.Header + "-Chain") {
		for item := range strings.SplitSeq(string(value), ",") {
			next := clientcert.Parse(strings.Trim(item, " \t"))
			if next == nil || len(chain) == maxChain {
				return nil, nil
			}
			chain = append(chain, next)
		}
	}
	return cert, chain
}
