package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/keyraft/keyraft/keymanagers/match"
)

// FailMode says what happens while the head can't be proved fresh.
type FailMode string

// FailClosed, the default, refuses every token. FailOpen goes on with the last
// known revocations and keys, and counts what it let pass so.
const (
	FailClosed FailMode = "closed"
	FailOpen   FailMode = "open"
)

// Config is how a gateway is set up. Nodes and a credential are needed; every
// other field has a usable zero value.
type Config struct {
	// Nodes are base URLs of nodes' APIs, tried in a random order.
	Nodes []string
	// Credential gives the gateway's credential; it is asked again when a node
	// refused the last one. CredentialFile is the same from a file's one line.
	// One of both, or a client certificate in TLS.
	Credential     func(context.Context) (string, error)
	CredentialFile string
	// Cluster is the id of the one cluster to speak to; empty: the first one met.
	Cluster string
	// Instance names this process to the cluster; empty: random.
	Instance string
	// Tenant is whose opaque tokens are presented here; empty: "default".
	Tenant string

	// FailMode: FailClosed when empty.
	FailMode FailMode
	// MaxStaleness is the oldest head that may decide. 0: 10 s. At least 2 s.
	MaxStaleness time.Duration
	// CacheFile keeps the copy over a restart; empty: none. It holds no secret of
	// the cluster, but what is in it is believed: mode 0600.
	CacheFile string

	// Audience: a token must be meant for one of them; empty: not asked. An API's
	// own list goes before it.
	Audience []string
	// APIs that tokens are used at; a request that names another one is refused.
	APIs []match.API
	// Skew is how far clocks may be apart. 0: 60 s. At most 10 min.
	Skew time.Duration
	// OpaqueTTL bounds how long a node's answer about an opaque token is used. 0:
	// 5 s. At most 60 s. A revocation that arrives ends it at once.
	OpaqueTTL time.Duration

	// CacheBytes bounds the decision cache. 0: 64 MiB.
	CacheBytes int64
	// MaxRevocations bounds the live revocations, some 40 bytes each. 0: 20
	// million. A cluster that tells more is not followed further.
	MaxRevocations int
	// MaxProofs bounds the used DPoP proofs that are remembered, each for two to three
	// minutes, some 60 bytes each. 0: one million. When they are full, further ones are refused.
	MaxProofs int

	// TLS is for the nodes; nil: the system's roots.
	TLS *tls.Config
	// Gossip makes changes arrive a moment earlier and finds further nodes.
	Gossip *Gossip

	// Logger: nil discards.
	Logger *slog.Logger
	// OnSync is called from the sync loop after each publication, and must not
	// block.
	OnSync func(epoch, head uint64)
	// Clock is for tests.
	Clock Clock

	pace pace
}

// pace is how often a short poll goes out and how long it may take. Together they
// bound how long a silent node is followed.
type pace struct{ probe, limit time.Duration }

// Gossip is membership of the cluster's pool for gateways.
type Gossip struct {
	BindAddr      string   // host:port; port 0 picks one
	AdvertiseAddr string   // what others dial; empty: BindAddr
	Key           []byte   // 32 bytes, handed out with the credential
	Join          []string // host:port of members; empty: the nodes tell them
}

func (c *Config) fill() error {
	if len(c.Nodes) == 0 {
		return errors.New("gateway: no nodes; give the base URL of at least one node's API")
	}
	for i, n := range c.Nodes {
		u, err := url.Parse(n)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("gateway: node %d is not a base URL; write https://host:port", i+1)
		}
	}
	if c.Credential != nil && c.CredentialFile != "" {
		return errors.New("gateway: both a credential function and a credential file; give one of them")
	}
	if c.Credential == nil && c.CredentialFile == "" && (c.TLS == nil || len(c.TLS.Certificates) == 0 && c.TLS.GetClientCertificate == nil) {
		return errors.New("gateway: no credential; make one with POST /admin/v1/gateways and name its file")
	}
	if c.FailMode == "" {
		c.FailMode = FailClosed
	}
	if c.FailMode != FailClosed && c.FailMode != FailOpen {
		return fmt.Errorf("gateway: fail mode %q; use %q or %q", c.FailMode, FailClosed, FailOpen)
	}
	if err := c.fillTimes(); err != nil {
		return err
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	if c.MaxRevocations == 0 {
		c.MaxRevocations = 20_000_000
	}
	if c.CacheBytes < 1<<20 || c.MaxRevocations < 0 || c.MaxProofs < 0 {
		return errors.New("gateway: the decision cache needs at least 1 MiB, and the bounds of revocations and proofs can't be negative")
	}
	if c.Gossip != nil && len(c.Gossip.Key) != 32 {
		return fmt.Errorf("gateway: the gossip key has %d bytes; it must have 32", len(c.Gossip.Key))
	}
	if c.Tenant == "" {
		c.Tenant = defaultTenant
	}
	if c.Instance == "" {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		c.Instance = "gw-" + hex.EncodeToString(b[:])
	}
	if strings.Trim(c.Instance, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" || len(c.Instance) > 64 {
		return errors.New("gateway: the instance may have 64 letters, digits, '-', '_' and '.'")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Clock = c.Clock.withDefaults()
	if c.pace == (pace{}) {
		c.pace = pace{700 * time.Millisecond, time.Second} // 2 s
	}
	return nil
}

func (c *Config) fillTimes() error {
	for _, d := range []struct {
		name             string
		value            *time.Duration
		preset, low, top time.Duration
	}{
		{"max staleness", &c.MaxStaleness, 10 * time.Second, 2 * time.Second, 24 * time.Hour},
		{"skew", &c.Skew, 60 * time.Second, time.Second, 10 * time.Minute},
		{"opaque TTL", &c.OpaqueTTL, 5 * time.Second, time.Second, time.Minute},
	} {
		if *d.value == 0 {
			*d.value = d.preset
		}
		if *d.value < d.low || *d.value > d.top {
			return fmt.Errorf("gateway: %s is %v; it must be from %v to %v", d.name, *d.value, d.low, d.top)
		}
	}
	return nil
}

const defaultTenant = "default"
