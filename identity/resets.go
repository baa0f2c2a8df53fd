package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Resets are links that an administrator makes and that let a user set a password, once,
// within an hour. A user has one at most. Of its token only a keyed hash is kept, in the
// user's own row: the write that sets the password uses it up, on whichever node.
type Resets struct {
	Users *Users
	// Hashes are the keyed hashes of a generated secret, the newest key's first.
	Hashes func(v *state.View, secret []byte) ([][32]byte, error)
	// Seal and Open are those of values that leave the cluster and come back.
	Seal func(v *state.View, label string, plain []byte) (string, error)
	Open func(v *state.View, label, value string) (plain []byte, ok bool, err error)
}

// ResetLifetime is how long a link is good, in seconds.
const ResetLifetime = 3600

// errReset tells nobody whether a link was used, is too old, or of somebody unknown.
var errReset = oauth.InvalidGrant.With("this link was used, is too old, or is none of ours; ask for another one")

// hashes are those of a token's secret. The words before it keep a token of another kind,
// tenant or user from passing for this one.
func (s *Resets) hashes(v *state.View, tenant, user, secret string) ([][32]byte, error) {
	return s.Hashes(v, []byte("password reset\x00"+tenant+"\x00"+user+"\x00"+secret))
}

// New makes the token of a link for a user, in place of the one that there was. until is
// when it ends, in seconds. Errors: command.NotFound, command.Disabled for a user who may not
// sign in.
func (s *Resets) New(ctx context.Context, v *state.View, tenant, id string) (token string, until int64, err error) {
	var raw [32]byte
	rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	secret := base64.RawURLEncoding.EncodeToString(raw[:])
	hashes, err := s.hashes(v, tenant, id, secret)
	if err != nil {
		return "", 0, err
	}
	until = s.now(v) + ResetLifetime
	return id + "." + secret, until, s.set(ctx, v, tenant, id, hashes[0][:], until)
}

// Withdraw ends the link of a user, if there is one.
func (s *Resets) Withdraw(ctx context.Context, v *state.View, tenant, id string) error {
	return s.set(ctx, v, tenant, id, nil, 0)
}

func (s *Resets) set(ctx context.Context, v *state.View, tenant, id string, hash []byte, until int64) error {
	user, err := s.Users.existing(v, tenant, id)
	if err != nil {
		return err
	}
	if until != 0 && user.GetDisabled() {
		return command.Disabled
	}
	row := proto.CloneOf(user)
	row.ResetHash, row.ResetUntil = hash, until
	_, err = s.Users.put(ctx, row, user.GetGeneration(), false)
	return err
}

func (s *Resets) now(v *state.View) int64 {
	return max(s.Users.cfg.Now().Unix(), v.Clock()/1000)
}

// Holder is who may set a password by a token. v should be linearizable. Errors:
// invalid_grant with one text for whatever is wrong.
func (s *Resets) Holder(v *state.View, tenant, token string) (*state.User, error) {
	id, secret, ok := strings.Cut(token, ".")
	if !ok || len(token) > 256 {
		return nil, errReset
	}
	user, err := v.User(tenant, id)
	if err != nil {
		if s.Users.cfg.Absent(err) {
			return nil, errReset
		}
		return nil, err
	}
	hashes, err := s.hashes(v, tenant, id, secret)
	if err != nil {
		return nil, err
	}
	good := 0
	for i := range hashes {
		good |= subtle.ConstantTimeCompare(hashes[i][:], user.GetResetHash())
	}
	// A restore brings back a link that was used since its backup (R15).
	old := v.BroughtBack((user.GetResetUntil() - ResetLifetime) * 1000)
	if good != 1 || old || user.GetDisabled() || user.GetResetUntil() <= s.now(v) {
		return nil, errReset
	}
	return user, nil
}

// Use sets the password of who holds a token. The same write uses the token up and ends
// every login of before: of two at once, one wins. Errors: as Holder's; *FieldError with the
// Rule; seal.ErrBusy.
func (s *Resets) Use(ctx context.Context, v *state.View, tenant, token, password string) (*state.User, error) {
	for range maxRaces {
		user, err := s.Holder(v, tenant, token)
		if err != nil {
			return nil, err
		}
		changed, err := s.Users.ChangePassword(ctx, v, user, password)
		if !errors.Is(err, command.Stale) {
			return changed, err
		}
		// Changed meanwhile: by the other use of the link, or by anything else.
		if v, err = s.Users.cfg.View(ctx, state.Linearizable); err != nil {
			return nil, err
		}
	}
	return nil, errReset
}

// resetLabel keeps the address of a page from passing for another sealed value.
const resetLabel = "password reset page"

// resetPage is what the address of a page says, whose link was opened at a browser.
type resetPage struct {
	Tenant  string `json:"t"`
	Token   string `json:"k"`
	Browser string `json:"b"`
}

// Carry puts a token into a value that is good at one browser alone: the page that the link
// leads to has it in its address, not the token (WEB-06).
func (s *Resets) Carry(v *state.View, tenant, token, browser string) (string, error) {
	plain, err := json.Marshal(resetPage{tenant, token, browser})
	if err != nil {
		return "", err
	}
	return s.Seal(v, resetLabel, plain)
}

// Carried is the token of such a value; "" where it is none of this browser.
func (s *Resets) Carried(v *state.View, tenant, value, browser string) (string, error) {
	plain, ok, err := s.Open(v, resetLabel, value)
	var p resetPage
	if err != nil || !ok || json.Unmarshal(plain, &p) != nil || p.Tenant != tenant || p.Browser != browser {
		return "", err
	}
	return p.Token, nil
}
