package pending

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// alphabet is RFC 8628 §6.1's: no vowels, so that no code is a word, and no two letters
// that look alike.
const alphabet = "BCDFGHJKLMNPQRSTVWXZ"

// userCodeLength is the number of letters: 20^10, some 2^43 codes. Twice a tenant's wrong
// codes in a window (one window may begin while a request waits), and what its users may
// have on their way at that moment, leave less than 2^-32 for finding one that waits
// (RFC 8628 §5.1; TOK-41).
const userCodeLength = 10

// Bounds of looking codes up, within attemptWindow.
const (
	maxLooks         = 10  // of one user, right or wrong
	maxWrong         = 50  // of one address at one node
	maxWrongOfTenant = 500 // of all users together
	maxStarts        = 600 // requests that one address begins at one node in a minute
	attemptWindow    = 10 * time.Minute
)

// maxTyped bounds what a person types, in bytes.
const maxTyped = 64

func newUserCode() string {
	var out [userCodeLength]byte
	var raw [1]byte
	for i := 0; i < len(out); {
		rand.Read(raw[:])              // never fails: crypto/rand ends the process instead
		if n := int(raw[0]); n < 240 { // the largest multiple of 20: no letter is likelier
			out[i] = alphabet[n%len(alphabet)]
			i++
		}
	}
	return string(out[:])
}

// Canonical is a user code as it is kept, of what a person typed: case and punctuation
// are theirs, letters are not. False for what is no code.
func Canonical(typed string) (string, bool) {
	if len(typed) > maxTyped {
		return "", false
	}
	var b strings.Builder
	for _, c := range typed {
		switch {
		case unicode.IsSpace(c) || unicode.IsPunct(c):
		case c < unicode.MaxASCII && strings.ContainsRune(alphabet, unicode.ToUpper(c)):
			b.WriteRune(unicode.ToUpper(c))
		default:
			return "", false
		}
	}
	return b.String(), b.Len() == userCodeLength
}

// Display is a canonical code as people read it.
func Display(code string) string {
	if len(code) != userCodeLength {
		return code
	}
	return code[:userCodeLength/2] + "-" + code[userCodeLength/2:]
}

// What looks at codes are counted under: a class of attempts that locks no login, and for
// all users of a tenant a name that none has.
const (
	attemptClass = "device"
	everybody    = "-device-codes"
)

// mayLook counts a look before it is made, so that many at once are no more than many one
// after another. Who has looked too often is counted no further, or the end would move.
func (r *Requests) mayLook(ctx context.Context, tenant, user string) error {
	v, err := r.cfg.View(ctx, state.Linearizable)
	if err != nil {
		return err
	}
	for _, who := range []string{everybody, user} {
		_, locked, err := r.looks(v, tenant, who)
		if err != nil {
			return err
		}
		if locked {
			return ErrTooMany
		}
	}
	if err := r.attempt(ctx, tenant, user, maxLooks); err != nil {
		return err
	}
	// It was applied on this node, so a local view has it, and those that came before.
	if v, err = r.cfg.View(ctx, state.Local); err != nil {
		return err
	}
	n, _, err := r.looks(v, tenant, user)
	if err == nil && n > maxLooks {
		return ErrTooMany
	}
	return err
}

func (r *Requests) looks(v *state.View, tenant, who string) (n uint32, locked bool, err error) {
	a, err := v.Attempts(tenant, who, attemptClass)
	if r.cfg.Absent(err) {
		return 0, false, nil
	}
	return a.GetFailed(), a.GetLockedUntil() > max(r.cfg.Now().UnixMilli(), v.Clock()), err
}

func (r *Requests) attempt(ctx context.Context, tenant, who string, limit uint32) error {
	result, err := r.cfg.Propose(ctx, &command.RecordAttempt{
		Tenant: tenant, User: who, Class: attemptClass, Limit: limit, Window: attemptWindow.Milliseconds(), Lock: attemptWindow.Milliseconds(),
	})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return fmt.Errorf("count a user code: %w", err)
	}
	return nil
}
