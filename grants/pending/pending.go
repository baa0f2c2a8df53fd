// Package pending keeps requests that wait for a user at another device than the one that
// asks: device authorization (RFC 8628) and CIBA (OpenID Connect Client-Initiated
// Backchannel Authentication, poll mode). It makes their codes, finds and paces them, and
// keeps what the user says; what a client may ask and what it is given is decided in
// grants.
//
// A request is a row under the keyed hash of its secret, so every node knows it. It costs
// one write to make and one to decide. Polls cost none while they come to one node: that
// node remembers when the last one came, and the row tells which node knows. A poll at
// another node takes that over by a write, and one that comes too soon lengthens the
// interval by another, until it is a minute long: so a client that polls as it is told
// writes at most once an interval, and one that does not a dozen times in all.
//
// User codes are looked up for people who are signed in, and for them so often only.
//
// Errors: *oauth.Error for what the client is told; ErrUnknown and ErrTooMany for the
// person; those of a view or a proposal are passed on wrapped. Units: instants and
// lifetimes are seconds. Requests is safe for concurrent use.
package pending

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/internal/window"
	"github.com/keyraft/keyraft/tokens"
)

// Pages below a tenant's issuer at which a user decides.
const (
	DevicePath   = "/device"
	RequestsPath = "/requests"
)

// Lives of requests and the interval between polls, in seconds (RFC 8628 §3.2).
const (
	DeviceLifetime         = 600
	BackchannelLifetime    = 300
	MaxBackchannelLifetime = 600
	Interval               = 5
)

// What a person is told.
var (
	// ErrUnknown says that nothing waits under a code.
	ErrUnknown = errors.New("no device waits for this code")
	// ErrTooMany says that too many codes were tried.
	ErrTooMany = errors.New("too many codes were tried; wait some minutes")
)

// Config has no optional fields.
type Config struct {
	Node    string // this one, as its polls' rows name it
	Propose command.Propose
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Shared  *tokens.ClusterKeys
	Now     func() time.Time
	Absent  func(error) bool
}

// Requests are those of one node's users and clients.
type Requests struct {
	cfg    Config
	polls  polls
	starts window.Window // requests that an address has made
	wrong  window.Window // user codes that an address has tried in vain
}

// New checks its configuration.
func New(cfg Config) (*Requests, error) {
	if cfg.Node == "" || cfg.Propose == nil || cfg.View == nil || cfg.Shared == nil || cfg.Now == nil || cfg.Absent == nil {
		return nil, errors.New("pending: every member of Config is needed")
	}
	return &Requests{
		cfg:    cfg,
		starts: window.Window{Lasts: time.Minute},
		wrong:  window.Window{Lasts: attemptWindow},
	}, nil
}

// now is the later of this node's clock and the cluster's, in seconds.
func (r *Requests) now(v *state.View) int64 { return max(r.cfg.Now().Unix(), v.Clock()/1000) }

// newSecret makes the secret of a request and what is stored of it. Its prefix keeps it
// from passing for a token of another kind (TOK-21).
func (r *Requests) newSecret(v *state.View, prefix string) (string, []byte, error) {
	key, _, err := r.cfg.Shared.Newest(v, tokens.KeyHash)
	if err != nil {
		return "", nil, err
	}
	secret := prefix + seal.NewSecret().Reveal()
	hash := seal.Hash(key, []byte(secret))
	return secret, hash[:], nil
}

// maxSecret bounds what is hashed of a presented secret, in bytes.
const maxSecret = 128

// find looks a secret up under every version of the hash key; found is false for one that
// nothing is kept of.
func (r *Requests) find(v *state.View, prefix, secret string, get func(hash []byte) error) (found bool, err error) {
	if len(secret) > maxSecret || len(secret) < len(prefix) || secret[:len(prefix)] != prefix {
		return false, nil
	}
	var failed error
	err = r.cfg.Shared.Each(v, tokens.KeyHash, func(_ uint32, key *seal.Key) bool {
		hash := seal.Hash(key, []byte(secret))
		failed = get(hash[:])
		found = failed == nil
		return r.cfg.Absent(failed)
	})
	if err == nil && failed != nil && !r.cfg.Absent(failed) {
		err = failed
	}
	return found, err
}

// Overdue tells whether a request is over for whoever polls: by its time, or because the
// cluster was restored since, which may have forgotten what was used (R15).
func (r *Requests) Overdue(v *state.View, expiresAt int64, epoch uint64) bool {
	return r.now(v) >= expiresAt || epoch != v.Epoch()
}

// started is what the client is told where a request could not be made.
func started(what string, verdict command.Reject) error {
	switch verdict {
	case command.Accepted:
		return nil
	case command.NotFound, command.Disabled:
		return oauth.InvalidClient.With("the client or its tenant was disabled or deleted; ask its owner")
	case command.Stale:
		return oauth.TemporarilyUnavailable.With("the client is being changed at the same time; try again").WithRetryAfter(1)
	}
	return fmt.Errorf("make a %s request: %w", what, verdict)
}

// decided is what a person is told where a decision did not count.
func decided(what string, result command.Result, err error) error {
	if err != nil {
		return fmt.Errorf("decide a %s request: %w", what, err)
	}
	switch result.Reject {
	case command.Accepted:
		return nil
	case command.AlreadyUsed, command.AlreadyExpired, command.NotFound:
		return oauth.AccessDenied.With("this request was decided before, or its time is over; start again at the device")
	case command.Stale:
		return oauth.AccessDenied.With("your login has ended meanwhile; start again")
	}
	return fmt.Errorf("decide a %s request: %w", what, result.Reject)
}
