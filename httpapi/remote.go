package httpapi

import (
	"bytes"
	"net/netip"

	"github.com/valyala/fasthttp"
)

// Proxies are the networks of proxies that are believed about their clients. Immutable.
type Proxies []netip.Prefix

// maxHops bounds how far back a chain of proxies is followed.
const maxHops = 16

func (p Proxies) hold(a netip.Addr) bool {
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// Remote is the address of who asks, for limits and for people to read: the peer's, or,
// where that is a trusted proxy, the right-most address in X-Forwarded-For that is none
// (HTT-14). What stands left of it anybody may have written. Names are never resolved.
func Remote(c *fasthttp.RequestCtx) string {
	peer, ok := netip.AddrFromSlice(c.RemoteIP())
	if !ok {
		return c.RemoteIP().String()
	}
	at := peer.Unmap()
	r := of(c)
	if r == nil || len(r.proxies) == 0 || !r.proxies.hold(at) {
		return at.String()
	}
	lines := c.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor)
	for hops := 0; len(lines) > 0; lines = lines[:len(lines)-1] {
		for rest := lines[len(lines)-1]; rest != nil; hops++ {
			var item []byte
			if i := bytes.LastIndexByte(rest, ','); i >= 0 {
				rest, item = rest[:i], rest[i+1:]
			} else {
				rest, item = nil, rest
			}
			before, ok := hop(item)
			if !ok || hops == maxHops {
				return at.String() // the last of whom somebody we trust has told
			}
			if at = before; !r.proxies.hold(at) {
				return at.String()
			}
		}
	}
	return at.String()
}

// hop is an address as proxies write it, some with a port behind it.
func hop(item []byte) (netip.Addr, bool) {
	text := string(trim(item))
	a, err := netip.ParseAddr(text)
	if err != nil {
		var both netip.AddrPort
		if both, err = netip.ParseAddrPort(text); err == nil {
			a = both.Addr()
		}
	}
	return a.Unmap().WithZone(""), err == nil
}
