package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// tlsAPIAddr is where the API listens by default once it has TLS.
const tlsAPIAddr = "127.0.0.1:9443"

// freePort is the default between nodes in development, so that several nodes
// start side by side without a flag.
const freePort = "127.0.0.1:0"

// nodeID is what a node or gateway may be called: it stands in URLs, file names
// and certificates.
// headerName leaves out the underscore, which servers and proxies turn into a dash.
var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

var nodeID = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// envName is a name that a shell can set.
var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// fill puts in the defaults that depend on other settings.
func (c *Config) fill(settings Settings) {
	replace := func(key string, field *string, value string) {
		for i := range settings {
			if settings[i].Key == key && (settings[i].Origin == FromDefault || settings[i].Value == "") {
				*field, settings[i].Value = value, value
			}
		}
	}
	if c.DevTLS || c.TLS.On() {
		replace("api_addr", &c.APIAddr, tlsAPIAddr)
	}
	if c.Dev {
		replace("cluster_addr", &c.ClusterAddr, freePort)
		replace("gossip_addr", &c.GossipAddr, freePort)
	}
	if host, _, err := net.SplitHostPort(c.GossipAddr); err == nil {
		replace("gateway_gossip_addr", &c.GatewayGossipAddr, net.JoinHostPort(host, "0"))
	}
	replace("api_advertise_addr", &c.APIAdvertise, c.APIAddr)
	replace("cluster_advertise_addr", &c.ClusterAdvertise, c.ClusterAddr)
	replace("gossip_advertise_addr", &c.GossipAdvertise, c.GossipAddr)
	replace("gateway_gossip_advertise_addr", &c.GatewayGossipAdvertise, c.GatewayGossipAddr)
}

// checker collects mistakes.
type checker struct{ errs Errors }

// fail notes a mistake in key. A rule between several settings names the others
// too: the one that was set tells file and line.
func (k *checker) fail(key, problem, fix string, beside ...string) {
	k.errs = append(k.errs, &Error{Key: key, Problem: problem, Fix: fix, beside: beside})
}

func (k *checker) err() error {
	if len(k.errs) == 0 {
		return nil
	}
	return k.errs
}

// Validate checks what one setting alone does not show. The error is an Errors
// without places; Load adds them.
func (c Config) Validate() error {
	k := &checker{}
	if c.Data == "" {
		k.fail("data_dir", "is empty", "name a folder, such as ./keyraft-data")
	}
	if c.NodeID != "" && !nodeID.MatchString(c.NodeID) {
		k.fail("node_id", fmt.Sprintf("%q is not a node id", show(c.NodeID)), "use 1 to 64 of a-z, 0-9 and the hyphen: it stands in the node's certificate")
	}
	if c.DevTLS && !c.Dev {
		k.fail("dev_tls", "is on without dev", "start with --dev, or set tls.cert_file and tls.key_file")
	}
	if c.DevTLS && c.TLS.On() {
		k.fail("dev_tls", "is on although tls.cert_file names a certificate", "keep one of the two")
	}
	c.validateIssuer(k)
	c.validateStart(k)
	c.validateAddresses(k)
	k.tls(TLS{c.TLS.CertFile, c.TLS.KeyFile})
	c.validateProxy(k)
	c.validateSeal(k)
	c.validateTimes(k)
	for i, network := range c.OutboundAllow {
		if _, err := netip.ParsePrefix(network); err != nil {
			k.fail("outbound_allow", fmt.Sprintf("item %d, %q, is not a network", i+1, show(network)), "write it as 10.0.0.0/8 or fd00::/8")
		}
	}
	return k.err()
}

// header checks the name of one that proxies send; empty is none.
func (k *checker) header(key, name string) {
	if name != "" && !headerName.MatchString(name) {
		k.fail(key, fmt.Sprintf("%q is not the name of a header", show(name)), "use letters, digits and dashes, such as Client-Cert")
	}
}

// validateProxy checks who may speak for clients, and whether clients can.
func (c Config) validateProxy(k *checker) {
	for i, network := range c.Proxy.Trusted {
		if _, err := netip.ParsePrefix(network); err != nil {
			k.fail("proxy.trusted", fmt.Sprintf("item %d, %q, is not a network", i+1, show(network)), "write it as 10.0.0.5/32 or fd00::/8")
		}
	}
	header := c.Proxy.ClientCertHeader
	k.header("proxy.client_cert_header", header)
	if header != "" && len(c.Proxy.Trusted) == 0 {
		k.fail("proxy.trusted", "is missing although proxy.client_cert_header is set", "list the proxies' networks: nobody else is believed", "proxy.client_cert_header")
	}
	if c.TLS.AsksClients() && !c.TLS.On() && !c.DevTLS {
		k.fail("tls.cert_file", "is missing although clients are to be asked for certificates, which takes TLS", "set tls.cert_file and tls.key_file, or proxy.trusted and proxy.client_cert_header where a proxy ends TLS")
	}
}

// Warnings are settings that work and are likely not meant, one sentence each.
func (c Config) Warnings() []string {
	var out []string
	host, _, _ := net.SplitHostPort(c.APIAddr)
	if !c.DevTLS && !c.TLS.On() && !loopback(host) {
		out = append(out, "api_addr "+c.APIAddr+" serves plain HTTP beyond this machine: set tls.cert_file and tls.key_file, or put a TLS proxy in front")
	}
	if c.Bootstrap && !c.Dev && c.Issuer == "" {
		out = append(out, "no issuer is configured, so tokens of a new cluster name the address of this API: set issuer to the URL that clients know this service by, such as https://login.example.com")
	}
	if c.Bootstrap && !c.Dev && c.Seal.KeyFile == "" && c.Seal.KeyEnv == "" && len(c.Seal.KeyExec) == 0 {
		out = append(out, "no sealing key is configured, so one is kept in the data folder, beside what it protects: set seal.key_file, seal.key_env or seal.key_exec")
	}
	return out
}

func (c Config) validateIssuer(k *checker) {
	if c.Issuer == "" {
		return // the address of the API then; Warnings says so
	}
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		k.fail("issuer", fmt.Sprintf("%q is not a URL", show(c.Issuer)), "write it as https://login.example.com")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(c.Issuer, "#"):
		k.fail("issuer", "has a user, query or fragment (RFC 8414 allows none)", "write it as https://login.example.com")
	case strings.HasSuffix(c.Issuer, "/"):
		k.fail("issuer", fmt.Sprintf("%q ends with a slash", show(c.Issuer)), "take the slash away: clients compare issuers byte by byte")
	case u.Scheme == "http" && !c.Dev && !loopback(u.Hostname()):
		k.fail("issuer", "is not https (RFC 8414 asks for it)", "use https, or --dev to try things out")
	}
}

func (c Config) validateStart(k *checker) {
	if c.Bootstrap && c.Join != "" {
		k.fail("join", "is set together with bootstrap", "bootstrap makes a new cluster, join enters one: keep one of the two")
	}
	if c.Join != "" {
		if err := checkNodeURL(c.Join); err != nil {
			k.fail("join", fmt.Sprintf("%q %v", show(c.Join), err), "give the API address of a member, such as https://node1:9443 or 10.0.0.1:9763")
		}
	}
	if c.Join == "" && (c.JoinToken != "" || c.JoinTokenFile != "") {
		k.fail(firstSet("join_token", c.JoinToken != "", "join_token_file"), "is set without join", "add --join with the API address of a member")
	}
	if c.JoinToken != "" && c.JoinTokenFile != "" {
		k.fail("join_token_file", "is set together with join_token", "keep one of the two")
	}
	if c.NonVoter && c.Bootstrap {
		k.fail("non_voter", "is on together with bootstrap", "the first node of a cluster votes: take one of the two away")
	}
}

func firstSet(a string, isA bool, b string) string {
	if isA {
		return a
	}
	return b
}

func (c Config) validateAddresses(k *checker) {
	for _, a := range []struct {
		key, addr, advertiseKey, advertise string
		needed                             bool // an advertised address is needed when addr is every interface
	}{
		{"api_addr", c.APIAddr, "api_advertise_addr", c.APIAdvertise, !c.Dev},
		{"cluster_addr", c.ClusterAddr, "cluster_advertise_addr", c.ClusterAdvertise, true},
		{"gossip_addr", c.GossipAddr, "gossip_advertise_addr", c.GossipAdvertise, true},
		{"gateway_gossip_addr", c.GatewayGossipAddr, "gateway_gossip_advertise_addr", c.GatewayGossipAdvertise, true},
	} {
		if k.listen(a.key, a.addr) {
			k.advertise(a.key, a.addr, a.advertiseKey, a.advertise, a.needed)
		}
	}
	if c.OpsAddr != "" {
		k.listen("ops_addr", c.OpsAddr)
	}
	taken := map[string]string{}
	for _, a := range []struct{ key, addr string }{
		{"api_addr", c.APIAddr}, {"cluster_addr", c.ClusterAddr}, {"gossip_addr", c.GossipAddr},
		{"gateway_gossip_addr", c.GatewayGossipAddr}, {"ops_addr", c.OpsAddr},
	} {
		if a.addr == "" || strings.HasSuffix(a.addr, ":0") {
			continue
		}
		if other, ok := taken[a.addr]; ok {
			k.fail(a.key, a.addr+" is the address of "+other+" too", "give each its own port")
			continue
		}
		taken[a.addr] = a.key
	}
}

func (c Config) validateSeal(k *checker) {
	set := 0
	for _, on := range []bool{c.Seal.KeyFile != "", c.Seal.KeyEnv != "", len(c.Seal.KeyExec) > 0} {
		if on {
			set++
		}
	}
	if set > 1 {
		k.fail("seal", "names more than one source of the sealing key", "keep one of seal.key_file, seal.key_env and seal.key_exec",
			"seal.key_exec", "seal.key_env", "seal.key_file")
	}
	if c.Seal.KeyEnv != "" && !envName.MatchString(c.Seal.KeyEnv) {
		k.fail("seal.key_env", "is not the name of an environment variable", "write the variable's name, such as KEYRAFT_SEAL, not the key itself")
	}
}

func (c Config) validateTimes(k *checker) {
	if c.Raft.ElectionTimeout < c.Raft.HeartbeatTimeout {
		k.fail("raft.election_timeout", formatDuration(c.Raft.ElectionTimeout)+" is shorter than raft.heartbeat_timeout "+formatDuration(c.Raft.HeartbeatTimeout), "make it at least as long", "raft.heartbeat_timeout")
	}
	if c.Keys.PublicationLead < 2*c.Keys.JWKSMaxAge {
		k.fail("keys.publication_lead", formatDuration(c.Keys.PublicationLead)+" is less than twice keys.jwks_max_age "+formatDuration(c.Keys.JWKSMaxAge), "raise it, or verifiers meet tokens of a key that they have not seen", "keys.jwks_max_age")
	}
	if c.Keys.RotationPeriod <= c.Keys.PublicationLead {
		k.fail("keys.rotation_period", formatDuration(c.Keys.RotationPeriod)+" is not longer than keys.publication_lead "+formatDuration(c.Keys.PublicationLead), "raise it", "keys.publication_lead")
	}
}

// Validate checks what one setting alone does not show.
func (g Gateway) Validate() error {
	k := &checker{}
	if len(g.Nodes) == 0 {
		k.fail("nodes", "is missing", "give the URL of one or more nodes, such as --nodes http://127.0.0.1:9763")
	}
	for i, node := range g.Nodes {
		if err := checkNodeURL(node); err != nil {
			k.fail("nodes", fmt.Sprintf("item %d, %q, %v", i+1, show(node), err), "write it as https://node1:9443")
		}
	}
	if g.CredentialFile == "" {
		k.fail("credential_file", "is missing", "make one with 'keyraft gateway register NAME --credential-out FILE'")
	}
	if g.Name != "" && !nodeID.MatchString(g.Name) {
		k.fail("name", fmt.Sprintf("%q is not a name", show(g.Name)), "use up to 64 letters, digits, dots, dashes and underscores")
	}
	k.listen("listen", g.Listen)
	k.tls(g.TLS)
	k.header("client_cert_header", g.ClientCertHeader)
	if g.GossipAddr == "" {
		if g.GossipAdvertise != "" || g.GossipKeyFile != "" {
			k.fail("gossip_addr", "is missing although other gossip settings are there", "set it, or take them away", "gossip_advertise_addr", "gossip_key_file")
		}
	} else {
		if k.listen("gossip_addr", g.GossipAddr) {
			k.advertise("gossip_addr", g.GossipAddr, "gossip_advertise_addr", firstNonEmpty(g.GossipAdvertise, g.GossipAddr), true)
		}
		if g.GossipKeyFile == "" {
			k.fail("gossip_key_file", "is missing", "name the file with the gossip_key that 'keyraft gateway register' gave", "gossip_addr")
		}
	}
	return k.err()
}

func firstNonEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// tls checks that a certificate comes with its key.
func (k *checker) tls(t TLS) {
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		k.fail("tls.key_file", "is missing although tls.cert_file is set", "name the PEM file with its private key", "tls.cert_file")
	case t.CertFile == "" && t.KeyFile != "":
		k.fail("tls.cert_file", "is missing although tls.key_file is set", "name the PEM file with its certificate", "tls.key_file")
	}
}

// listen checks an address to listen on.
func (k *checker) listen(key, addr string) bool {
	if _, err := splitAddr(addr); err != nil {
		k.fail(key, fmt.Sprintf("%q %v", show(addr), err), "write it as 127.0.0.1:9763 or [::1]:9763; port 0 picks a free one")
		return false
	}
	return true
}

// advertise checks the address that others dial in place of addr.
func (k *checker) advertise(key, addr, advertiseKey, advertise string, needed bool) {
	given := advertise != "" && advertise != addr
	if advertise == "" {
		advertise = addr
	}
	host, err := splitAddr(advertise)
	switch {
	case err != nil:
		k.fail(advertiseKey, fmt.Sprintf("%q %v", show(advertise), err), "write it as node1.example.com:9764")
	case needed && unspecified(host) && given:
		k.fail(advertiseKey, fmt.Sprintf("%q is every interface, which nobody can dial", show(advertise)), "set the host:port under which other machines reach this one")
	case needed && unspecified(host):
		k.fail(advertiseKey, "is missing although "+key+" is every interface ("+addr+")", "set the host:port under which other machines reach this one", key)
	}
}

// splitAddr returns the host of host:port.
func splitAddr(addr string) (host string, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("is not host:port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", fmt.Errorf("has no port from 0 to 65535")
	}
	if strings.ContainsAny(host, " /@?#\t") {
		return "", fmt.Errorf("has a host that is none")
	}
	return host, nil
}

// checkNodeURL checks the address of a node's API: a URL, or host:port.
func checkNodeURL(text string) error {
	if !strings.Contains(text, "://") {
		if _, err := splitAddr(text); err != nil {
			return err
		}
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("is not a URL with http or https")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("has more than scheme, host and port")
	}
	return nil
}

func unspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || (err == nil && ip.IsUnspecified())
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}
