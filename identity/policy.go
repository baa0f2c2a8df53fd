package identity

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/state"
)

// Policy says what a password must be and when guessing stops. Zero values are defaults.
type Policy struct {
	MinLength int           // characters; 0: 10
	MaxLength int           // characters; 0: 1024
	Refused   []string      // folded, besides the commonest
	Failures  uint32        // within Window that lock an account; 0: 10
	Window    time.Duration // 0: 15 minutes
	Lock      time.Duration // 0: 15 minutes
}

func (p *Policy) fill() {
	if p.MinLength == 0 {
		p.MinLength = 10
	}
	if p.MaxLength == 0 {
		p.MaxLength = maxPassword
	}
	if p.Failures == 0 {
		p.Failures = 10
	}
	if p.Window == 0 {
		p.Window = 15 * time.Minute
	}
	if p.Lock == 0 {
		p.Lock = 15 * time.Minute
	}
}

// Policy is that of a tenant.
func (u *Users) Policy(v *state.View, tenant string) Policy {
	p := u.cfg.Policy
	t, _ := v.Tenant(tenant) // of one that is not there the defaults
	own := t.GetSettings().GetPasswords()
	if own.GetMinLength() != 0 {
		p.MinLength = int(own.GetMinLength())
	}
	if own.GetMaxLength() != 0 {
		p.MaxLength = int(own.GetMaxLength())
	}
	if own.GetFailures() != 0 {
		p.Failures = own.GetFailures()
	}
	if own.GetWindow() != 0 {
		p.Window = time.Duration(own.GetWindow()) * time.Second
	}
	if own.GetLock() != 0 {
		p.Lock = time.Duration(own.GetLock()) * time.Second
	}
	p.Refused = own.GetRefused()
	return p
}

// Bounds of a tenant's own policy. NIST SP 800-63B §3.1.1.2 asks for at least 8 characters
// and for room for 64. A lock that never ends, or one after a slip or two, would be a means
// to lock people out.
const (
	leastMin, mostMin           = 8, 128
	leastMax, mostMax           = 64, maxPassword
	leastFailures, mostFailures = 3, 1000
	leastSpan, mostSpan         = 60, 86_400 // seconds
	maxRefused                  = 1000
	maxWord                     = 128 // bytes
)

// FoldPolicy holds a tenant's own policy against its bounds, and folds the words that it
// refuses. The error is a *FieldError that names the setting.
func FoldPolicy(p *state.PasswordPolicy) error {
	for _, m := range [...]struct {
		field              string
		value, least, most int64
	}{
		{"password_min_length", int64(p.GetMinLength()), leastMin, mostMin}, {"password_max_length", int64(p.GetMaxLength()), leastMax, mostMax},
		{"lockout_failures", int64(p.GetFailures()), leastFailures, mostFailures},
		{"lockout_window", p.GetWindow(), leastSpan, mostSpan}, {"lockout_time", p.GetLock(), leastSpan, mostSpan},
	} {
		if m.value != 0 && (m.value < m.least || m.value > m.most) {
			return bad(m.field, "%d to %d are allowed; null is the default", m.least, m.most)
		}
	}
	if least, most := p.GetMinLength(), p.GetMaxLength(); most != 0 && most < least {
		return bad("password_max_length", "it is less than password_min_length")
	}
	if len(p.GetRefused()) > maxRefused {
		return bad("password_refused", "at most %d words", maxRefused)
	}
	words := make([]string, 0, len(p.GetRefused()))
	for _, word := range p.GetRefused() {
		folded, err := foldPassword(word)
		if err != nil || len(folded) > maxWord {
			return bad("password_refused", "each is a password of at most %d bytes", maxWord)
		}
		words = append(words, strings.ToLower(folded))
	}
	slices.Sort(words)
	p.Refused = slices.Compact(words)
	return nil
}

// Rule is one that a new password may break.
type Rule string

// The rules.
const (
	RuleShort  Rule = "short"
	RuleLong   Rule = "long"
	RuleName   Rule = "name"   // it is the user name
	RuleCommon Rule = "common" // every guesser tries it first
	RuleSame   Rule = "same"   // it is the one of before
	RuleTyped  Rule = "typed"  // it holds what can't be typed everywhere
)

func weak(rule Rule, format string, args ...any) error {
	return &FieldError{Field: "password", Detail: fmt.Sprintf(format, args...), Rule: rule}
}

// common are passwords that every guesser tries first, one a line, folded to lower case.
//
//go:embed common_passwords.txt
var common string

// judge holds a password against the rules of a tenant, for the user of a folded name, and
// gives the text that is hashed.
func (p *Policy) judge(key, password string) (string, error) {
	if password == "" {
		return "", weak(RuleShort, "it is empty")
	}
	folded, err := foldPassword(password)
	if err != nil {
		return "", err
	}
	lower := strings.ToLower(folded)
	switch n := utf8.RuneCountInString(folded); {
	case n < p.MinLength:
		return "", weak(RuleShort, "at least %d characters are needed", p.MinLength)
	case n > p.MaxLength:
		return "", weak(RuleLong, "at most %d characters are allowed", p.MaxLength)
	case sameName(folded, key):
		return "", weak(RuleName, "it is the user name; choose another")
	case slices.Contains(strings.Fields(common), lower), slices.Contains(p.Refused, lower):
		return "", weak(RuleCommon, "it is one of the commonest passwords, or of those that are refused here; choose another")
	}
	return folded, nil
}

// setPassword puts a new password into a row. A link to set one is used up by it, whoever
// sets it.
func (u *Users) setPassword(ctx context.Context, v *state.View, tenant string, row *state.User, password string) error {
	p := u.Policy(v, tenant)
	folded, err := p.judge(row.GetKey(), password)
	if err != nil {
		return err
	}
	hash, err := u.cfg.Passwords.Hash(ctx, folded)
	if err != nil {
		return err
	}
	row.Password, row.PasswordChangedAt = hash, u.cfg.Now().UnixMilli()
	row.ResetHash, row.ResetUntil = nil, 0
	return nil
}

// ChangePassword is a user's own change: another password than the one of before. Every
// session, refresh token and access token of before ends with the same write, and so does
// that they must change it. Errors: *FieldError with the Rule, command.Stale when the user
// was changed meanwhile, seal.ErrBusy.
func (u *Users) ChangePassword(ctx context.Context, v *state.View, user *state.User, password string) (*state.User, error) {
	if folded, err := foldPassword(password); err == nil && user.GetPassword() != "" {
		same, err := u.cfg.Passwords.Verify(ctx, user.GetPassword(), folded)
		if err != nil {
			return nil, err
		}
		if same {
			return nil, weak(RuleSame, "it is the password of before; choose another")
		}
	}
	row := proto.CloneOf(user)
	if err := u.setPassword(ctx, v, user.GetTenant(), row, password); err != nil {
		return nil, err
	}
	row.MustChangePassword = false
	return u.put(ctx, row, user.GetGeneration(), true)
}

// MustChange tells whether who has signed in by these methods has to set another password
// before anything else: the one that they used was given to them, or is no longer safe.
func MustChange(user *state.User, amr []string) bool {
	return user.GetMustChangePassword() && slices.Contains(amr, AMRPassword)
}

// AMRPassword is what a login is marked with whose user has shown their password (RFC 8176).
const AMRPassword = "pwd"
