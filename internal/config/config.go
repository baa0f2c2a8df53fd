// Package config holds every setting of a node and of the reference gateway.
//
// One struct with tags is the source of everything: the YAML keys, the
// KEYRAFT_* variables, the flags, `keyraft config example` and the reference
// page. A setting is added by adding a field.
//
// Precedence: flag, then environment, then file, then default. A value is
// checked in whichever source it stands, overridden or not, and an error names
// that source (file and line, variable or flag), the key and what to write
// instead. Secrets are of type Secret and never shown.
//
// Units: a duration is written "10m" or as a number of seconds, a size as
// "64KiB" or as a number of bytes. In YAML a list is a sequence; in a variable
// or a flag its items are separated by commas.
//
// Everything here is a value: nothing is kept between calls, so all functions
// may be called from any goroutine.
package config

import "time"

// Config is the configuration of one node (`keyraft server`). Its fields are
// documented by their help tags, which are also the reference page; a field's
// zero value is never used, since Load puts in the default first.
type Config struct {
	Dev    bool   `key:"dev" help:"Run one node for development: plain HTTP, keys made by itself and kept in the data folder, credentials printed at each start."`
	DevTLS bool   `key:"dev_tls" help:"With dev: serve the API over TLS with a certificate made at start."`
	Data   string `key:"data_dir" default:"./keyraft-data" help:"Folder of this node's state. One process at a time, on a local disk."`
	NodeID string `key:"node_id" help:"Name of this node in its cluster: 1 to 64 of a-z, 0-9 and the hyphen. Empty: made at the first start and kept in the data folder."`
	Issuer string `key:"issuer" help:"Issuer URL that tokens carry (RFC 8414). Needed to bootstrap, but for dev, where it follows the API address; a joining node takes the cluster's."`

	Bootstrap     bool   `key:"bootstrap" help:"Make a new cluster with this node as its first member. Without effect when the data folder already holds a cluster's state."`
	Join          string `key:"join" help:"API address of any member of the cluster to join, as URL or host:port. Without effect when the data folder already holds a cluster's state."`
	JoinToken     Secret `key:"join_token" help:"Single-use token from 'keyraft operator join-token'."`
	JoinTokenFile string `key:"join_token_file" help:"File with the join token on one line."`
	NonVoter      bool   `key:"non_voter" help:"Join as an issuer node: serves everything, counts in no quorum."`

	APIAddr          string `key:"api_addr" default:"127.0.0.1:9763" help:"Address of the HTTP API. Port 0 picks a free one. With TLS on, the default is 127.0.0.1:9443."`
	APIAdvertise     string `key:"api_advertise_addr" help:"host:port under which other nodes and gateways reach the API. Empty: api_addr. Port 0 stands for the port in use."`
	ClusterAddr      string `key:"cluster_addr" default:"127.0.0.1:9764" help:"Address of the port between nodes (TLS 1.3). With dev, the default picks a free port."`
	ClusterAdvertise string `key:"cluster_advertise_addr" help:"host:port under which other nodes reach cluster_addr. Empty: cluster_addr. Port 0 stands for the port in use."`
	OpsAddr          string `key:"ops_addr" help:"Address of /metrics, /livez, /readyz and pprof. Empty: off; with dev, /metrics is on the API address."`

	GossipAddr             string `key:"gossip_addr" default:"127.0.0.1:9765" help:"Address (TCP and UDP) of the nodes' encrypted gossip. With dev, the default picks a free port."`
	GossipAdvertise        string `key:"gossip_advertise_addr" help:"host:port under which other nodes reach gossip_addr. Empty: gossip_addr. Port 0 stands for the port in use."`
	GatewayGossipAddr      string `key:"gateway_gossip_addr" help:"Address (TCP and UDP) of the gossip that gateways join, a pool with a key of its own. Empty: the host of gossip_addr and a free port. Set it where a firewall stands between nodes and gateways."`
	GatewayGossipAdvertise string `key:"gateway_gossip_advertise_addr" help:"host:port under which gateways reach gateway_gossip_addr. Empty: gateway_gossip_addr. Port 0 stands for the port in use."`

	AdminTokenFile string `key:"admin_token_file" help:"File of the cluster's first admin token: read when it is there, else the generated token is written to it (mode 0600). Empty: the first node prints the token once."`

	LogFormat string `key:"log_format" default:"text" oneof:"text json" help:"Form of the log on standard error."`
	LogLevel  string `key:"log_level" default:"info" oneof:"debug info warn error" help:"Least important level that is logged."`

	StalenessBound  time.Duration `key:"staleness_bound" default:"5s" min:"1s" max:"24h" help:"How old this node's proof of freshness may be while it still issues tokens from local state."`
	WriteTimeout    time.Duration `key:"write_timeout" default:"5s" min:"100ms" max:"1m" help:"How long a write waits for a quorum before it is answered with 503."`
	ShutdownTimeout time.Duration `key:"shutdown_timeout" default:"15s" min:"1s" max:"10m" help:"Time for draining requests and handing leadership over after SIGTERM."`

	OutboundAllow []string `key:"outbound_allow" help:"Networks (CIDR) that outgoing calls may reach besides public addresses. Link-local ones never; with dev, loopback always."`

	TLS     ServerTLS `key:"tls" help:"Certificate of the API, and those of its clients."`
	Proxy   Proxy     `key:"proxy" help:"TLS proxies in front of the API."`
	Seal    Seal      `key:"seal" help:"Where the sealing key comes from, at most one of them: what protects keys and secrets at rest. With none, a key is made in the data folder, and a joining node gets it from the cluster."`
	Tokens  Tokens    `key:"tokens" help:"Defaults for clients that say nothing themselves."`
	Keys    Keys      `key:"keys" help:"Signing keys."`
	Limits  Limits    `key:"limits" help:"What one API listener accepts."`
	Storage Storage   `key:"storage" help:"The data folder."`
	Raft    Raft      `key:"raft" help:"Consensus. The defaults suit a local network; across regions, raise both timeouts on every node."`
}

// TLS names the certificate of a listener, PEM files.
type TLS struct {
	CertFile string `key:"cert_file" help:"PEM file with the certificate of the listener and its chain."`
	KeyFile  string `key:"key_file" help:"PEM file with the private key of that certificate."`
}

// On reports whether a certificate is configured.
func (t TLS) On() bool { return t.CertFile != "" || t.KeyFile != "" }

// ServerTLS is the TLS of the API: its certificate, and those of its clients (RFC 8705).
type ServerTLS struct {
	CertFile          string `key:"cert_file" help:"PEM file with the certificate of the listener and its chain."`
	KeyFile           string `key:"key_file" help:"PEM file with the private key of that certificate."`
	ClientCAFile      string `key:"client_ca_file" help:"PEM file with the authorities whose certificates prove a client by tls_client_auth; read again when it changes. It makes the listener ask for certificates."`
	RequestClientCert bool   `key:"request_client_cert" help:"Ask for client certificates without an authority: for self_signed_tls_client_auth and for tokens that are bound to a certificate."`
}

// On reports whether a certificate is configured.
func (t ServerTLS) On() bool { return t.CertFile != "" || t.KeyFile != "" }

// AsksClients reports whether clients are asked for a certificate.
func (t ServerTLS) AsksClients() bool { return t.RequestClientCert || t.ClientCAFile != "" }

// Proxy says which peers are TLS proxies and so may speak for their clients.
type Proxy struct {
	Trusted          []string `key:"trusted" help:"Networks (CIDR) of the proxies. They are believed about the addresses of their clients (X-Forwarded-For, from the right to the first that is none of them); what other peers say is not read."`
	ClientCertHeader string   `key:"client_cert_header" help:"Header in which a trusted proxy names the client's certificate, such as Client-Cert (RFC 9440); the proxy must take away what clients send under this name. Empty: none is read."`
}

// Seal says where the sealing key comes from; at most one field is set.
type Seal struct {
	KeyFile string   `key:"key_file" help:"File with the sealing keys: one 32-byte key (base64 or hex) a line; the first seals, all open."`
	KeyEnv  string   `key:"key_env" help:"Name of the environment variable that holds the sealing keys, written as in key_file."`
	KeyExec []string `key:"key_exec" help:"Command that prints the sealing keys, written as in key_file, for a KMS: program and arguments, run without a shell."`
}

// Tokens are the defaults of a client's tokens.
type Tokens struct {
	AccessTokenLifetime time.Duration `key:"access_token_lifetime" default:"1h" min:"1s" max:"720h" help:"Lifetime of an access token of a new cluster's default tenant."`
	SigningAlg          string        `key:"signing_alg" default:"ES256" oneof:"ES256 EdDSA PS256 RS256" help:"Signature of JWT access tokens (RFC 7518, RFC 8037)."`
}

// Keys schedules the signing keys.
type Keys struct {
	RotationPeriod  time.Duration `key:"rotation_period" default:"720h" min:"1m" max:"87600h" help:"How long a signing key signs before the next one takes over."`
	PublicationLead time.Duration `key:"publication_lead" default:"1h" min:"1s" max:"8760h" help:"How long a key is published before a scheduled rotation lets it sign; at least twice jwks_max_age, which is how long one that was asked for by call waits."`
	JWKSMaxAge      time.Duration `key:"jwks_max_age" default:"15m" min:"1s" max:"24h" help:"Cache-Control max-age of the JWKS."`
}

// Limits bounds one API listener.
type Limits struct {
	ConnsPerIP  int           `key:"conns_per_ip" default:"1024" min:"1" max:"1000000" help:"Open connections from one address."`
	Concurrency int           `key:"concurrency" default:"16384" min:"1" max:"1000000" help:"Open connections in all."`
	Body        Bytes         `key:"body" default:"64KiB" min:"1KiB" max:"16MiB" help:"Largest request body; snapshots are exempt."`
	Header      Bytes         `key:"header" default:"16KiB" min:"4KiB" max:"1MiB" help:"Largest request head."`
	ReadTimeout time.Duration `key:"read_timeout" default:"10s" min:"1s" max:"10m" help:"Time to send one request."`
	IdleTimeout time.Duration `key:"idle_timeout" default:"90s" min:"1s" max:"1h" help:"How long an idle connection is kept."`
}

// Storage tunes the data folder.
type Storage struct {
	Cache          Bytes         `key:"cache" default:"16MiB" min:"1MiB" max:"1TiB" help:"Memory for cached blocks of the store."`
	StallLimit     time.Duration `key:"stall_limit" default:"10s" min:"1s" max:"10m" help:"A disk write slower than this halts the node, so that another one takes over."`
	AllowNetworkFS bool          `key:"allow_network_fs" help:"Start on a network file system all the same. Their locks and syncs have lost data of others."`
}

// Raft tunes consensus.
type Raft struct {
	HeartbeatTimeout time.Duration `key:"heartbeat_timeout" default:"1s" min:"50ms" max:"1m" help:"Silence of the leader after which a follower stands for election."`
	ElectionTimeout  time.Duration `key:"election_timeout" default:"1s" min:"50ms" max:"1m" help:"How long a candidate waits for votes; at least heartbeat_timeout."`
	SnapshotLog      Bytes         `key:"snapshot_log" default:"64MiB" min:"1MiB" max:"1TiB" help:"Log since the last snapshot that makes one due; half the size of the state where that is more."`
	TrailingLogs     int           `key:"trailing_logs" default:"4096" min:"0" max:"100000000" help:"Log entries kept behind a snapshot, so that a slow follower needs none."`
}

// Gateway is the configuration of the reference gateway (`keyraft gateway`).
type Gateway struct {
	Nodes          []string `key:"nodes" help:"URLs of one or more nodes; more are found by gossip or from these."`
	CredentialFile string   `key:"credential_file" help:"File with the gateway's credential on one line, from 'keyraft gateway register'."`
	CACert         string   `key:"cacert" help:"PEM file with the authorities that signed the nodes' certificates. Empty: those of the system."`
	Name           string   `key:"name" help:"Name of this instance in receipts and lists. Empty: host name and a random suffix."`
	Listen         string   `key:"listen" default:"127.0.0.1:9768" help:"Address of /validate and /status."`
	TLS            TLS      `key:"tls" help:"Certificate of listen. Empty: plain HTTP."`

	GossipAddr      string `key:"gossip_addr" help:"Address (TCP and UDP) for the gateways' gossip. Empty: the nodes are only those of the list."`
	GossipAdvertise string `key:"gossip_advertise_addr" help:"host:port under which others reach gossip_addr. Empty: gossip_addr. Port 0 stands for the port in use."`
	GossipKeyFile   string `key:"gossip_key_file" help:"File with the gossip key that came with the credential."`

	CacheFile     string        `key:"cache_file" help:"File that keeps what is revoked, and the place in the event log, over a restart. Empty: none."`
	FailMode      string        `key:"fail_mode" default:"closed" oneof:"closed open" help:"What happens to requests when the node's news is older than max_staleness: refuse them all (closed) or go on (open)."`
	MaxStaleness  time.Duration `key:"max_staleness" default:"30s" min:"1s" max:"24h" help:"Age of the last news from a node at which fail_mode takes effect."`
	DecisionCache Bytes         `key:"decision_cache" default:"64MiB" min:"1MiB" max:"1TiB" help:"Memory for verified tokens."`

	ClientCertHeader string `key:"client_cert_header" help:"Header in which the proxy names the client's certificate, such as Client-Cert (RFC 9440), for tokens that are bound to it; the proxy must overwrite what clients send under this name. Empty: none is read, and such tokens are refused."`

	LogFormat       string        `key:"log_format" default:"text" oneof:"text json" help:"Form of the log on standard error."`
	LogLevel        string        `key:"log_level" default:"info" oneof:"debug info warn error" help:"Least important level that is logged."`
	ShutdownTimeout time.Duration `key:"shutdown_timeout" default:"15s" min:"1s" max:"10m" help:"Time for draining requests after SIGTERM."`
}
