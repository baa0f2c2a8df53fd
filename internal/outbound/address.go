package outbound

import (
	"net/netip"
	"slices"
)

// permits tells whether an address may be called: a public one, or one that the
// operator allows. One that holds an IPv4 address in IPv6 clothes is judged as none of
// both (SSR-02).
func (c *Client) permits(address netip.Addr) bool {
	if address.Zone() != "" {
		return false
	}
	address = address.Unmap()
	switch {
	case !address.IsValid() || address.IsLinkLocalUnicast() || address.IsMulticast() || address.IsUnspecified():
		return false
	case c.cfg.Loopback && address.IsLoopback():
		return true
	case slices.ContainsFunc(c.cfg.Allow, func(p netip.Prefix) bool { return p.Contains(address) }):
		return true
	}
	if address.Is6() && !global6().Contains(address) {
		return false
	}
	return !slices.ContainsFunc(reserved(), func(p netip.Prefix) bool { return p.Contains(address) })
}

// global6 is what of IPv6 is assigned to the public (IANA). Loopback, private
// addresses and the NAT64 prefixes lie outside.
func global6() netip.Prefix { return netip.MustParsePrefix("2000::/3") }

// reserved are the networks that are not public (IANA special-purpose registries), and
// those that hold IPv4 addresses: 6to4 and Teredo.
func reserved() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range [...]string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
