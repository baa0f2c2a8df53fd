package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"math/bits"
	"strings"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// recoveryCodes is how many codes a user gets at a time; a bit of the row's counter tells
// which are used.
const recoveryCodes = 10

func codesLeft(c *state.Credential) int {
	return len(c.GetSealed())/sha256.Size - bits.OnesCount64(c.GetCounter())
}

// NewRecoveryCodes makes codes that stand in for a lost second factor, each once, in place
// of those of before. They are shown once; what is stored is a keyed hash of each.
func (f *Factors) NewRecoveryCodes(ctx context.Context, v *state.View, user *state.User) ([]string, error) {
	have, err := f.Of(v, user)
	if err != nil {
		return nil, err
	}
	codes, stored := make([]string, recoveryCodes), make([]byte, 0, recoveryCodes*sha256.Size)
	for i := range codes {
		code := rand.Text() // 128 bits or more, in base32
		hashes, err := f.cfg.Hashes(v, []byte(code))
		if err != nil {
			return nil, err
		}
		codes[i], stored = grouped(code), append(stored, hashes[0][:]...)
	}
	err = f.put(ctx, &command.PutCredential{
		Credential: &state.Credential{Tenant: user.GetTenant(), User: user.GetId(), Id: randomID(), Kind: state.KindRecovery, Sealed: stored},
		Replaces:   have.Recovery.GetId(),
	})
	return codes, err
}

// grouped is a code as people read it: groups of five, the last one longer.
func grouped(code string) string {
	var b strings.Builder
	for i := 0; i < len(code); i++ {
		if i > 0 && i%5 == 0 && len(code)-i >= 5 {
			b.WriteByte('-')
		}
		b.WriteByte(code[i])
	}
	return b.String()
}

// recovery fills in the proof that a recovery code is, if it is one. All codes are looked
// at, so the time tells nothing.
func (f *Factors) recovery(v *state.View, c *state.Credential, code string, proof *command.UseCredential) (bool, error) {
	if c == nil || code == "" {
		return false, nil
	}
	hashes, err := f.cfg.Hashes(v, []byte(strings.ToUpper(code)))
	if err != nil {
		return false, err
	}
	found, stored := false, c.GetSealed()
	for i := 0; (i+1)*sha256.Size <= len(stored); i++ {
		one := stored[i*sha256.Size : (i+1)*sha256.Size]
		for _, h := range hashes {
			if subtle.ConstantTimeCompare(h[:], one) == 1 && c.GetCounter()&(1<<i) == 0 {
				found, proof.Id, proof.Counter = true, c.GetId(), uint64(i)
			}
		}
	}
	return found, nil
}
