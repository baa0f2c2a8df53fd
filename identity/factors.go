package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// AMRFactors is what a login is marked with whose user has proved who they are in two ways
// (RFC 8176).
const AMRFactors = "mfa"

// FactorsConfig has no optional fields.
type FactorsConfig struct {
	Propose command.Propose
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Now     func() time.Time
	Users   *Users // that count guesses
	// Seal and Open are those of values that leave the cluster and come back; a secret at
	// rest is sealed by them too.
	Seal func(v *state.View, label string, plain []byte) (string, error)
	Open func(v *state.View, label, value string) (plain []byte, ok bool, err error)
	// Hashes are the keyed hashes of a generated secret, the newest key's first.
	Hashes func(v *state.View, secret []byte) ([][32]byte, error)
	// Issuer is the URL of a tenant: a passkey is bound to its host.
	Issuer func(v *state.View, tenant string) (string, error)
}

// Factors are what users prove themselves with besides a password: codes of an
// authenticator (RFC 6238), passkeys (WebAuthn), recovery codes. Each proof counts once
// over all nodes, and wrong codes are counted over all nodes.
type Factors struct{ cfg FactorsConfig }

// NewFactors checks its configuration.
func NewFactors(cfg FactorsConfig) (*Factors, error) {
	if cfg.Propose == nil || cfg.View == nil || cfg.Now == nil || cfg.Users == nil || cfg.Seal == nil || cfg.Open == nil || cfg.Hashes == nil || cfg.Issuer == nil {
		return nil, errors.New("identity: FactorsConfig needs Propose, View, Now, Users, Seal, Open, Hashes and Issuer")
	}
	return &Factors{cfg}, nil
}

// now is the later of this node's clock and the cluster's.
func (f *Factors) now(v *state.View) time.Time {
	return time.UnixMilli(max(f.cfg.Now().UnixMilli(), v.Clock()))
}

// FactorNeeded tells whether a login by these methods is too little for its user: one of
// whom an administrator wants a second factor, or who has set one up. v should be
// linearizable.
func FactorNeeded(v *state.View, user *state.User, amr []string) (bool, error) {
	if slices.Contains(amr, AMRFactors) {
		return false, nil
	}
	if user.GetSecondFactor() {
		return true, nil
	}
	since, err := FactorSince(v, user)
	return since != 0, err
}

// FactorSince is when the oldest second factor of a user was set up, in milliseconds; 0
// when they have none. A login from before needed none.
func FactorSince(v *state.View, user *state.User) (int64, error) {
	have, err := v.CredentialsOf(user.GetTenant(), user.GetId())
	if err != nil {
		return 0, err
	}
	var since int64
	for _, c := range have {
		if isFactor(c) && (since == 0 || c.GetCreatedAt() < since) {
			since = c.GetCreatedAt()
		}
	}
	return since, nil
}

// isFactor tells what makes a second factor from what stands in for one.
func isFactor(c *state.Credential) bool { return c.GetKind() != state.KindRecovery }

// Held are the second factors of a user.
type Held struct {
	TOTP     *state.Credential   // nil: none
	Passkeys []*state.Credential // in the order of their ids
	Recovery *state.Credential   // nil: none
	Codes    int                 // recovery codes that are left
}

// Any tells whether there is a second factor at all.
func (h *Held) Any() bool { return h.TOTP != nil || len(h.Passkeys) > 0 }

// Of lists the second factors of a user.
func (f *Factors) Of(v *state.View, user *state.User) (*Held, error) {
	have, err := v.CredentialsOf(user.GetTenant(), user.GetId())
	if err != nil {
		return nil, err
	}
	h := &Held{}
	for _, c := range have {
		switch c.GetKind() {
		case state.KindTOTP:
			h.TOTP = c
		case state.KindPasskey:
			h.Passkeys = append(h.Passkeys, c)
		case state.KindRecovery:
			h.Recovery, h.Codes = c, codesLeft(c)
		}
	}
	return h, nil
}

// Remove takes a second factor away from a user. Recovery codes go with the last one, for
// they stand in for it. One that is gone already is command.NotFound.
func (f *Factors) Remove(ctx context.Context, v *state.View, user *state.User, id string) error {
	have, err := f.Of(v, user)
	if err != nil {
		return err
	}
	if err := f.remove(ctx, user, id); err != nil {
		return err
	}
	if have.TOTP.GetId() == id {
		have.TOTP = nil
	}
	have.Passkeys = slices.DeleteFunc(have.Passkeys, func(c *state.Credential) bool { return c.GetId() == id })
	if have.Any() || have.Recovery == nil || have.Recovery.GetId() == id {
		return nil
	}
	if err := f.remove(ctx, user, have.Recovery.GetId()); err != nil && !errors.Is(err, command.NotFound) {
		return err
	}
	return nil
}

func (f *Factors) remove(ctx context.Context, user *state.User, id string) error {
	result, err := f.cfg.Propose(ctx, &command.DeleteCredential{Tenant: user.GetTenant(), User: user.GetId(), Id: id})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return fmt.Errorf("remove a second factor: %w", err)
	}
	return nil
}

// Name of the class that guesses of second factors are counted in: only one who has given
// the right password can guess, and a right password ends no lock of it.
const classFactor = "factor"

// errFactor tells nobody whether a code is wrong, used, or one of a locked account.
var errFactor = oauth.InvalidGrant.With("the code is wrong or was used before, or too many were tried; wait for the next code, or some minutes")

// guessed counts a wrong code before it is answered. Where the account is locked, the write
// that it costs locks nobody and prolongs no lock.
func (f *Factors) guessed(ctx context.Context, v *state.View, user *state.User, locked bool) error {
	account := user.GetId()
	if locked {
		account = lockedAccount
	}
	if err := f.cfg.Users.Attempt(ctx, v, user.GetTenant(), account, classFactor, false); err != nil {
		return err
	}
	return errFactor
}

// use lets a proof count, once. A refusal of the state reads like a wrong code.
func (f *Factors) use(ctx context.Context, c *command.UseCredential) error {
	result, err := f.cfg.Propose(ctx, c)
	if err != nil {
		return fmt.Errorf("use a second factor: %w", err)
	}
	switch result.Reject {
	case command.Accepted:
		return nil
	case command.AlreadyUsed, command.AlreadyExpired, command.NotFound, command.NotReady, command.Disabled:
		return errFactor
	}
	return fmt.Errorf("use a second factor: %w", result.Reject)
}

// put stores a second factor in place of another of its kind, if one is named.
func (f *Factors) put(ctx context.Context, c *command.PutCredential) error {
	result, err := f.cfg.Propose(ctx, c)
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return fmt.Errorf("store a second factor: %w", err)
	}
	return nil
}
