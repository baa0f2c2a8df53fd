package adminapi

import (
	"encoding/json"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
)

// passwordSettings are the members of a tenant that say what passwords must be and when
// guessing stops.
func passwordSettings() map[string]set {
	return map[string]set{
		"password_min_length": ofPasswords(func(p *state.PasswordPolicy, n uint32) { p.MinLength = n }),
		"password_max_length": ofPasswords(func(p *state.PasswordPolicy, n uint32) { p.MaxLength = n }),
		"password_refused":    ofPasswords(func(p *state.PasswordPolicy, words []string) { p.Refused = words }),
		"lockout_failures":    ofPasswords(func(p *state.PasswordPolicy, n uint32) { p.Failures = n }),
		"lockout_window":      lockoutSpan(func(p *state.PasswordPolicy, n int64) { p.Window = n }),
		"lockout_time":        lockoutSpan(func(p *state.PasswordPolicy, n int64) { p.Lock = n }),
	}
}

// ofPasswords reads a member of JSON type T of the policy; null is the default. A number of
// no whole one is not of it, nor is 0, which no bound allows and a record reads as absent.
func ofPasswords[T uint32 | []string](put func(*state.PasswordPolicy, T)) set {
	return func(s *state.TenantSettings, field string, raw json.RawMessage) error {
		var v T
		if raw != nil && json.Unmarshal(raw, &v) != nil || string(raw) == "0" {
			return invalid(field, "it has another type or is out of bounds; see the API's description")
		}
		return inPolicy(s, func(p *state.PasswordPolicy) { put(p, v) })
	}
}

func lockoutSpan(put func(*state.PasswordPolicy, int64)) set {
	return func(s *state.TenantSettings, field string, raw json.RawMessage) error {
		var span int64
		if err := seconded(func(_ *state.TenantSettings, n *int64) { span = value(n) }, 1)(s, field, raw); err != nil {
			return err
		}
		return inPolicy(s, func(p *state.PasswordPolicy) { put(p, span) })
	}
}

func inPolicy(s *state.TenantSettings, put func(*state.PasswordPolicy)) error {
	if s.Passwords == nil {
		s.Passwords = &state.PasswordPolicy{}
	}
	put(s.Passwords)
	return nil
}

// passwordLine is what a tenant shows of its policy. Absent: the default.
type passwordLine struct {
	MinLength uint32   `json:"password_min_length,omitempty"`
	MaxLength uint32   `json:"password_max_length,omitempty"`
	Refused   []string `json:"password_refused,omitempty"`
	Failures  uint32   `json:"lockout_failures,omitempty"`
	Window    int64    `json:"lockout_window,omitempty"`
	Lock      int64    `json:"lockout_time,omitempty"`
}

func passwordsOf(p *state.PasswordPolicy) passwordLine {
	return passwordLine{p.GetMinLength(), p.GetMaxLength(), p.GetRefused(), p.GetFailures(), p.GetWindow(), p.GetLock()}
}

// checkPasswords holds the policy as a whole against its bounds, after all of a patch.
func checkPasswords(s *state.TenantSettings) error {
	if s.GetPasswords() == nil {
		return nil
	}
	return identity.FoldPolicy(s.Passwords)
}
