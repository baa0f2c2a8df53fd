// Package gossip lets members find each other and hear that the event log has
// moved. It is the only importer of memberlist (SWIM).
//
// Gossip is a hint (rule R16). Whoever holds the pool's key can say anything: a
// head heard here is only a reason to ask a node over an authenticated
// connection, a member only a place to try. Nothing else may be built on it.
//
// A pool is always encrypted, and labelled with the cluster id: a member with
// another key or label is neither heard nor merged, whoever introduces it. Nodes
// among themselves are one pool, gateways with the nodes that bridge to them
// another, with a key of its own.
//
// Memberlist calls back inside its locks, so its delegates here copy and return;
// everything that may wait happens on goroutines of the Pool, which Close waits
// for. A Pool is safe for concurrent use. Times are durations; sizes are bytes.
//
// Sources: Das, Gupta, Motivala: SWIM (2002); Dadgar, Phillips, Currey:
// Lifeguard (2018); memberlist's SECURITY.md on what its key means.
package gossip

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/keyraft/keyraft/cluster/member"
)

const (
	maxName = 128
	// leaveAtLeast: a shorter Leave times out before its message is spread.
	leaveAtLeast = 2 * time.Second
	// lookupTime bounds one look-up of a host name.
	lookupTime = 5 * time.Second
)

// ErrClosed is the error of whatever is asked of a pool that was closed or left.
var ErrClosed = errors.New("the gossip pool is closed")

// Config of a Pool. Printing it hides the keys.
type Config struct {
	// Label is the cluster id; it keeps clusters apart.
	Label string
	// Name is unique in the pool: a node's id, or GatewayName of a gateway's.
	Name string
	// BindAddr is the host:port to listen on, TCP and UDP; port 0 picks one. On
	// a loopback address the intervals are short, else those of a LAN.
	BindAddr string
	// AdvertiseAddr is the host:port that the others are told; its host may be a
	// name, which is looked up once. Empty: what was bound. Port 0: the bound one.
	AdvertiseAddr string
	// Keys are 32 bytes each: all open, the first one seals.
	Keys [][]byte
	// Info gives what this member says of itself. It must be quick and safe for
	// concurrent use.
	Info func() member.Info
	// OnHead, when set, is told of a place in the event log that is further than
	// this member's own (by Info). It is a hint, perhaps a lie. Calls come from
	// one goroutine, at most 20 a second; those between are merged. It must not
	// call Leave or Close, and Close waits for it.
	OnHead func(epoch, head uint64)
	Logger *slog.Logger // nil: nothing is logged
	// Rejoin, when set, gives the addresses of members that should be here, from
	// the cluster's state, the configuration, the last-known file. Those that are
	// missing are called every 10 to 30 s (1 to 2 s on loopback): memberlist by
	// itself never joins two islands.
	Rejoin func() []string
}

// LogValue hides the keys.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.text()) }

// Format hides the keys under every verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.text())) }

func (c Config) text() string {
	return fmt.Sprintf("gossip %s in %s at %s (%d keys hidden)", c.Name, c.Label, c.BindAddr, len(c.Keys))
}

// Pool is this program's membership of one gossip pool.
type Pool struct {
	cfg      Config
	pace     pace
	list     *memberlist.Memberlist
	keys     keys
	seen     *seen
	addr     string
	announce chan struct{} // capacity 1: nudges merge

	wg   sync.WaitGroup
	done chan struct{}

	left atomic.Bool

	life   sync.Mutex // orders Leave and Close: memberlist panics on a Leave after its end
	closed bool
}

// pace is how often things happen.
type pace struct {
	announce, heads    time.Duration // least time between two
	rejoin, rejoinMore time.Duration // least time, and what chance adds
}

// GatewayName is the pool name of one start of a gateway: its id and 64 random
// bits, so that two gateways configured with one id both live (row K28).
func GatewayName(id string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return id + "-" + hex.EncodeToString(b[:])
}

// Start joins nothing yet: it listens, and from then on calls those whom Rejoin
// names. Join calls others at once.
func Start(cfg Config) (*Pool, error) {
	meta, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ring, err := newKeys(cfg.Keys)
	if err != nil {
		return nil, err
	}
	cfg.Keys = nil // the keyring has them; one place to remove them from
	p := &Pool{cfg: cfg, keys: ring, seen: newSeen(meta), announce: make(chan struct{}, 1), done: make(chan struct{})}
	c, err := p.settings()
	if err != nil {
		return nil, err
	}
	p.list, err = memberlist.Create(c)
	if err != nil {
		_ = c.Transport.Shutdown()
		return nil, fmt.Errorf("start gossip on %s: %w", cfg.BindAddr, err)
	}
	p.addr = p.seen.address(cfg.Name)
	p.wg.Go(p.announceLoop)
	p.wg.Go(p.headLoop)
	p.wg.Go(p.noteLoop)
	p.wg.Go(p.rejoinLoop)
	return p, nil
}

// check gives the encoded Info when the configuration is whole.
func (c *Config) check() ([]byte, error) {
	if c.Label == "" || len(c.Label) > memberlist.LabelMaxSize {
		return nil, fmt.Errorf("gossip: the label has %d bytes, want 1 to %d: the cluster id, which keeps clusters apart", len(c.Label), memberlist.LabelMaxSize)
	}
	if c.Name == "" || len(c.Name) > maxName {
		return nil, fmt.Errorf("gossip: the name has %d bytes, want 1 to %d", len(c.Name), maxName)
	}
	for _, b := range []byte(c.Name) {
		if b <= ' ' || b > '~' || b == '/' {
			return nil, fmt.Errorf("gossip: the name %q has a character that is not allowed", c.Name)
		}
	}
	if c.Info == nil {
		return nil, errors.New("gossip: Info is missing")
	}
	// An oversized record must end here: memberlist would panic on it.
	meta, err := c.Info().Encode()
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return meta, nil
}

// settings makes memberlist's configuration and sets the pace.
func (p *Pool) settings() (*memberlist.Config, error) {
	ip, port, err := endpoint(p.cfg.BindAddr)
	if err != nil {
		return nil, fmt.Errorf("gossip: the address to listen on: %w", err)
	}
	c := memberlist.DefaultLANConfig()
	p.pace = pace{announce: 100 * time.Millisecond, heads: 50 * time.Millisecond, rejoin: 10 * time.Second, rejoinMore: 20 * time.Second}
	c.TCPTimeout = 5 * time.Second
	c.DeadNodeReclaimTime = 30 * time.Second
	if ip.IsLoopback() {
		c = memberlist.DefaultLocalConfig()
		p.pace = pace{announce: 20 * time.Millisecond, heads: 50 * time.Millisecond, rejoin: time.Second, rejoinMore: time.Second}
		c.TCPTimeout = 2 * time.Second
		c.GossipInterval, c.PushPullInterval = 20*time.Millisecond, 2*time.Second
		c.RetransmitMult = 4 // as on a LAN: with the local default of 2, one of four members is often not told
		c.ProbeInterval, c.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
		c.DeadNodeReclaimTime = time.Second
	}
	c.Name, c.Label, c.Keyring = p.cfg.Name, p.cfg.Label, p.keys.ring
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true
	c.EnableCompression = false // a packet of 1.4 kB needs none, and inflating a stranger's bytes is a risk
	c.Delegate, c.Events, c.Conflict, c.Alive = p.seen, p.seen, p.seen, p.seen
	c.Logger = log.New(newBridge(p.cfg.Logger.With("gossip_label", p.cfg.Label)), "", 0)
	return c, p.listen(c, ip, port)
}

// listen binds the port and sets what is told of it; last, so that nothing is
// left open by an error.
func (p *Pool) listen(c *memberlist.Config, ip netip.Addr, port int) error {
	c.AdvertiseAddr = "" // memberlist then finds a private address of this host
	advertised := 0
	if p.cfg.AdvertiseAddr != "" {
		told, n, err := endpoint(p.cfg.AdvertiseAddr)
		if err != nil {
			return fmt.Errorf("gossip: the advertised address: %w", err)
		}
		c.AdvertiseAddr, advertised = told.String(), n
	}
	bound, err := newNetwork(ip, port, c.Logger)
	if err != nil {
		return err
	}
	c.Transport = bound
	c.BindAddr, c.BindPort = ip.String(), bound.GetAutoBindPort()
	c.AdvertisePort = c.BindPort
	if advertised != 0 {
		c.AdvertisePort = advertised
	}
	return nil
}

// endpoint splits host:port and looks the host up.
func endpoint(addr string) (netip.Addr, int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q is not host:port", addr)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q has no port from 0 to 65535", addr)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	ips, err := lookup(host)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	return ips[0], int(n), nil
}

// lookup gives the addresses of host, at least one, IPv4 unmapped.
func lookup(host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", host, err)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("look up %q: it has no address", host)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return ips, nil
}

// Addr is the ip:port that the others are told.
func (p *Pool) Addr() string { return p.addr }

// Members are those who seem alive and whose record can be read, this member
// among them, sorted by id and instance.
func (p *Pool) Members() []member.Info { return p.seen.members() }

// Join calls these host:port addresses at once, one after the other, each for
// some seconds at most. It returns how many answered, and an error when none
// did.
func (p *Pool) Join(addrs []string) (int, error) {
	joined := 0
	var failed []error
	for _, addr := range addrs {
		if p.isDone() || p.left.Load() {
			return joined, ErrClosed
		}
		if err := p.call(addr); err != nil {
			failed = append(failed, err)
			continue
		}
		joined++
	}
	if joined > 0 || len(addrs) == 0 {
		return joined, nil
	}
	return 0, fmt.Errorf("join gossip of %q: nobody answered; are the addresses right, is the key the same? %w", p.cfg.Label, errors.Join(failed...))
}

// call joins one address.
func (p *Pool) call(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	ips, err := lookup(host)
	if err != nil {
		return err
	}
	for _, ip := range ips {
		if _, err = p.list.Join([]string{net.JoinHostPort(ip.String(), port)}); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", addr, err)
}

// Announce says that Info has changed, for example that the head has moved. It
// never waits: calls that come close together are spread as one.
func (p *Pool) Announce() { nudge(p.announce) }

// Leave tells the others that this member goes, so that nobody suspects it, and
// waits until that is spread or timeout is over (at least 2 s are taken). What
// remains is Close.
func (p *Pool) Leave(timeout time.Duration) error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.left.Store(true)
	if err := p.list.Leave(max(timeout, leaveAtLeast)); err != nil {
		return fmt.Errorf("leave gossip of %q: %w", p.cfg.Label, err)
	}
	return nil
}

// Close stops gossip without a word: the others will find this member dead.
// Call Leave first where that is wrong. It waits for the pool's goroutines.
func (p *Pool) Close() error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	close(p.done)
	err := p.list.Shutdown()
	p.wg.Wait()
	return err
}
