package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// sameName tells whether a password is the user name, however it is written.
func sameName(password, key string) bool {
	folded, err := FoldName(password)
	return err == nil && folded == key
}

// errCheck tells nobody whether a user is unknown, disabled or locked, or the password
// wrong (WEB-12).
var errCheck = oauth.InvalidGrant.With("the user name or the password is wrong, or too many were tried; wait some minutes and try again")

// Classes of attempts: each browser that a user is known at is counted apart. Only a login
// makes such a browser, and its row goes with its window, so the rows of a user are few.
const (
	classStranger = ""
	classKnown    = "known:" // and the browser's id
)

// classOf is the class of a browser; "" is a stranger's.
func classOf(browser string) string {
	if browser == "" {
		return classStranger
	}
	return classKnown + browser
}

// Check tells which user has this name and password. v should be linearizable. browser is
// the id of the browser if it has shown that the user has signed in at it before, or "". A
// wrong password is counted before it is answered; so is one for a name that nobody has,
// which costs the same. Errors: invalid_grant with one text for every cause, seal.ErrBusy.
func (u *Users) Check(ctx context.Context, v *state.View, tenant, username, password, browser string) (*state.User, error) {
	user, account, err := u.account(v, tenant, username)
	if err != nil {
		return nil, err
	}
	stored := u.dummy
	if user != nil && user.GetPassword() != "" {
		stored = user.GetPassword()
	}
	folded, err := foldPassword(password)
	if err != nil {
		folded = "-" // costs what another wrong one costs
	}
	right, err := u.cfg.Passwords.Verify(ctx, stored, folded)
	if err != nil {
		return nil, err
	}
	right = right && user != nil && user.GetPassword() != "" && !user.GetDisabled()
	class := classOf(browser)
	// Guesses that ran beside this one count, too, and so does what has become of the
	// user while it waited for its turn.
	if v, err = u.cfg.View(ctx, state.Linearizable); err != nil {
		return nil, err
	}
	locked, counted, err := u.locked(v, tenant, account, class)
	if err != nil {
		return nil, err
	}
	if right {
		if user, err = u.same(v, user); err != nil {
			return nil, err
		}
		right = user != nil
	}
	if locked {
		// The write that others cost, in a row that locks nobody and prolongs no lock.
		account, right = lockedAccount, false
	}
	if !right || counted {
		if err := u.Attempt(ctx, v, tenant, account, class, right); err != nil {
			return nil, err
		}
	}
	if !right {
		return nil, errCheck
	}
	return user, nil
}

// lockedAccount is the name under which proofs of accounts that are locked are counted;
// no user has it, nor is it any name's that nobody has.
const lockedAccount = "-locked"

// same is the user as v has them; nil when they are gone, disabled, or have another
// password than the one that was checked.
func (u *Users) same(v *state.View, checked *state.User) (*state.User, error) {
	user, err := v.User(checked.GetTenant(), checked.GetId())
	switch {
	case err != nil && u.cfg.Absent(err):
		return nil, nil
	case err != nil:
		return nil, err
	case user.GetDisabled() || user.GetPassword() != checked.GetPassword():
		return nil, nil
	}
	return user, nil
}

// account finds a user, and the name under which guesses are counted: of one that is
// not there a digest of the folded name, so that its rows say nothing.
func (u *Users) account(v *state.View, tenant, username string) (*state.User, string, error) {
	key, err := FoldName(username)
	if err == nil {
		user, err := v.UserByName(tenant, key)
		if err == nil {
			return user, user.GetId(), nil
		}
		if !u.cfg.Absent(err) {
			return nil, "", err
		}
	}
	sum := sha256.Sum256([]byte("nobody\x00" + key))
	return nil, "-" + base64.RawURLEncoding.EncodeToString(sum[:12]), nil
}

// Locked tells whether too many wrong passwords of strangers have locked an account as
// such. What is guessed at a browser that its owner is known at locks that browser's login
// page alone.
func (u *Users) Locked(v *state.View, tenant, user string) (bool, error) {
	locked, _, err := u.locked(v, tenant, user, classStranger)
	return locked, err
}

func (u *Users) locked(v *state.View, tenant, user, class string) (locked, counted bool, err error) {
	a, err := v.Attempts(tenant, user, class)
	if err != nil {
		if u.cfg.Absent(err) {
			return false, false, nil
		}
		return false, false, err
	}
	return a.GetLockedUntil() > max(u.cfg.Now().UnixMilli(), v.Clock()), true, nil
}

// Attempt counts one proof of an account, right or wrong, by the tenant's policy.
func (u *Users) Attempt(ctx context.Context, v *state.View, tenant, user, class string, right bool) error {
	p := u.Policy(v, tenant)
	result, err := u.cfg.Propose(ctx, &command.RecordAttempt{
		Tenant: tenant, User: user, Class: class, Ok: right,
		Limit: p.Failures, Window: p.Window.Milliseconds(), Lock: p.Lock.Milliseconds(),
	})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return fmt.Errorf("count an attempt: %w", err)
	}
	return nil
}

// Unlock forgets all that is counted of an account: of strangers, of every browser, of second
// factors, and of codes of devices that were looked up.
func (u *Users) Unlock(ctx context.Context, tenant, user string) error {
	v, err := u.cfg.View(ctx, state.Linearizable) // one that lags would leave the newest
	if err != nil {
		return err
	}
	for after := ""; ; {
		classes, err := v.AttemptClasses(tenant, user, after, unlockPage)
		if err != nil {
			return err
		}
		for _, class := range classes {
			if err := u.Attempt(ctx, v, tenant, user, class, true); err != nil {
				return err
			}
		}
		if len(classes) < unlockPage {
			return nil
		}
		after = classes[unlockPage-1]
	}
}

// unlockPage bounds the classes that are read at once.
const unlockPage = 100
