// Package logout tells applications that a login has ended (OpenID Connect Back-Channel
// Logout 1.0): each client that got something in the session and has a
// backchannel_logout_uri is sent a logout token.
//
// The session and what lives by it have ended before anybody is told, so nothing depends
// on the telling: it is tried some times by this node, in the background, and then given
// up. Notifier is safe for concurrent use.
package logout

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens"
)

const (
	queued   = 4096 // deliveries that wait at once; more are given up
	share    = 256  // of them of one client
	workers  = 8    // that are on their way at once
	atOnce   = 2    // of them to one client
	patience = 10 * time.Second
	// lifetime of a logout token, in seconds (§2.4: two minutes at most are advised).
	lifetime = 120
	// tokenType keeps a logout token from passing for an ID token (§2.4).
	tokenType = "logout+jwt"
	event     = "http://schemas.openid.net/event/backchannel-logout"
)

// pauses lie before the second and the further tries.
func pauses() []time.Duration { return []time.Duration{time.Second, 5 * time.Second, 25 * time.Second} }

// Config has no optional fields but Log.
type Config struct {
	View     func(ctx context.Context, f state.Freshness) (*state.View, error)
	Minter   *tokens.Minter
	Keys     *tokens.SigningKeys
	Subjects *tokens.Subjects
	// ClientKeys are the key set of a client with a key to encrypt to with alg.
	ClientKeys func(ctx context.Context, client *state.Client, alg string) ([]byte, error)
	// Post sends a form and tells whether it was taken.
	Post func(ctx context.Context, url string, form url.Values) error
	Now  func() time.Time
	Log  *slog.Logger
}

// Notifier sends logout tokens.
type Notifier struct {
	cfg    Config
	counts [3]atomic.Uint64

	mu    sync.Mutex
	ready *sync.Cond // something may have become due, or Run is to end
	lines map[address]*line
	turn  []address // of lines with something due and room for it, in the order of their turns
	count int       // deliveries of all lines, those on their way and resting included
	over  bool
}

// address is whom deliveries are for.
type address struct{ tenant, client string }

// line is what waits for one client: one that is slow holds up nobody else.
type line struct {
	due     []delivery
	count   int // due, on their way, or resting before another try
	working int // on their way
	queued  bool
}

// Results of a delivery, for the metric.
const (
	delivered = iota
	failed
	dropped
)

// Results names the counts of Counts.
func Results() [3]string { return [3]string{"delivered", "failed", "dropped"} }

// Counts are the deliveries by result, since the start.
func (n *Notifier) Counts() (counts [3]uint64) {
	for i := range n.counts {
		counts[i] = n.counts[i].Load()
	}
	return counts
}

// delivery is one client of one session that has ended.
type delivery struct {
	address
	user, sid string
	tries     int // that have failed
}

// New checks its configuration.
func New(cfg Config) (*Notifier, error) {
	if cfg.View == nil || cfg.Minter == nil || cfg.Keys == nil || cfg.Subjects == nil || cfg.ClientKeys == nil || cfg.Post == nil || cfg.Now == nil {
		return nil, errors.New("logout: Config needs View, Minter, Keys, Subjects, Post and Now")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Notifier{cfg: cfg, lines: map[address]*line{}}
	n.ready = sync.NewCond(&n.mu)
	return n, nil
}

// Ended has the clients of a session that has ended told of it. It does not wait.
func (n *Notifier) Ended(v *state.View, s *state.Session, clients []string) {
	for _, id := range clients {
		if c, ok := v.Client(s.GetTenant(), id); !ok || c.GetBackchannelLogoutUri() == "" {
			continue
		}
		if !n.add(delivery{address: address{s.GetTenant(), id}, user: s.GetUser(), sid: s.GetId()}) {
			n.counts[dropped].Add(1)
			n.cfg.Log.Warn("too many logouts wait to be told; a client is not told of one", "tenant", s.GetTenant(), "client_id", id)
		}
	}
}

// add puts a delivery into its client's line, if there is room.
func (n *Notifier) add(d delivery) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.lines[d.address]
	if n.count >= queued || l != nil && l.count >= share {
		return false
	}
	if l == nil {
		l = &line{}
		n.lines[d.address] = l
	}
	n.count++
	l.count++
	l.due = append(l.due, d)
	n.offer(d.address, l)
	return true
}

// offer gives a line a turn, if it can use one and has none.
func (n *Notifier) offer(a address, l *line) {
	if len(l.due) > 0 && l.working < atOnce && !l.queued {
		l.queued = true
		n.turn = append(n.turn, a)
		n.ready.Signal()
	}
}

// next waits for a delivery that is due; ok is false when Run is to end.
func (n *Notifier) next() (d delivery, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.turn) == 0 && !n.over {
		n.ready.Wait()
	}
	if n.over {
		return d, false
	}
	a := n.turn[0]
	n.turn = n.turn[1:]
	l := n.lines[a]
	d, l.due, l.queued = l.due[0], l.due[1:], false
	l.working++
	n.offer(a, l)
	return d, true
}

// done notes that a try has ended; rests, when positive, is how long the next one waits.
func (n *Notifier) done(d delivery, rests time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.lines[d.address]
	l.working--
	if rests > 0 {
		time.AfterFunc(rests, func() { n.again(d) })
	} else {
		n.count--
		if l.count--; l.count == 0 {
			delete(n.lines, d.address)
			return
		}
	}
	n.offer(d.address, l)
}

func (n *Notifier) again(d delivery) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.lines[d.address]
	l.due = append(l.due, d)
	n.offer(d.address, l)
}

// Run sends what waits, until ctx ends. It runs once.
func (n *Notifier) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.over = true
		n.ready.Broadcast()
	})
	defer stop()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				d, ok := n.next()
				if !ok {
					return
				}
				n.done(d, n.deliver(ctx, &d))
			}
		})
	}
	all.Wait()
}

// deliver tries once, and says how long to rest before another try; 0: there is none.
func (n *Notifier) deliver(ctx context.Context, d *delivery) time.Duration {
	err := n.once(ctx, *d)
	if err == nil {
		n.counts[delivered].Add(1)
		return 0
	}
	if d.tries++; d.tries <= len(pauses()) {
		return pauses()[d.tries-1]
	}
	n.counts[failed].Add(1)
	n.cfg.Log.Warn("a client was not told of a logout", "tenant", d.tenant, "client_id", d.client, "error", err)
	return 0
}

// once is one try, with a token of its own: the client may have changed meanwhile.
func (n *Notifier) once(ctx context.Context, d delivery) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	v, err := n.cfg.View(ctx, state.Local)
	if err != nil {
		return err
	}
	client, ok := v.Client(d.tenant, d.client)
	if !ok || client.GetBackchannelLogoutUri() == "" {
		return nil // it wants to know nothing any more
	}
	token, err := n.token(ctx, v, client, d)
	if err != nil {
		return err
	}
	return n.cfg.Post(ctx, client.GetBackchannelLogoutUri(), url.Values{"logout_token": {string(token)}})
}

// token is a logout token (§2.4), encrypted where the client's ID tokens are.
func (n *Notifier) token(ctx context.Context, v *state.View, client *state.Client, d delivery) ([]byte, error) {
	issuer, err := n.cfg.Keys.Issuer(v, d.tenant)
	if err != nil {
		return nil, err
	}
	sub, _, err := n.cfg.Subjects.Subject(v, client, d.user)
	if err != nil {
		return nil, err
	}
	var id [16]byte
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	now := n.cfg.Now().Unix()
	payload, err := json.Marshal(map[string]any{
		"iss": issuer, "aud": client.GetId(), "sub": sub, "sid": d.sid, "iat": now, "exp": now + lifetime,
		"jti": base64.RawURLEncoding.EncodeToString(id[:]), "events": map[string]any{event: struct{}{}},
	})
	if err != nil {
		return nil, err
	}
	alg := client.GetIdTokenAlg()
	if alg == "" {
		alg = tokens.DefaultIDTokenAlg
	}
	var keys []byte
	if encryption := client.GetIdTokenEncryptedAlg(); encryption != "" {
		if keys, err = n.cfg.ClientKeys(ctx, client, encryption); err != nil {
			return nil, err
		}
	}
	signed, err := n.cfg.Minter.AppendSigned(ctx, nil, v, d.tenant, alg, tokenType, payload)
	if err != nil || client.GetIdTokenEncryptedAlg() == "" {
		return signed, err
	}
	return tokens.Encrypt(nil, keys, client.GetIdTokenEncryptedAlg(), client.GetIdTokenEncryptedEnc(), "JWT", signed)
}
