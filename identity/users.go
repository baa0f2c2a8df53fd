package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
)

// UsersConfig has no optional fields but the policy.
type UsersConfig struct {
	Propose   command.Propose
	View      func(ctx context.Context, f state.Freshness) (*state.View, error)
	Passwords *seal.Passwords
	Now       func() time.Time
	Absent    func(error) bool
	// TokensEnd is when the last access token that a tenant has given today has expired,
	// in seconds: how long a revocation of a user is kept.
	TokensEnd func(v *state.View, tenant string) int64
	Policy    Policy
}

// Users makes, changes and checks the users of the built-in store.
type Users struct {
	cfg   UsersConfig
	dummy string // hash of a password that nobody has
}

// NewUsers checks its configuration. It takes as long as one password hash.
func NewUsers(cfg UsersConfig) (*Users, error) {
	if cfg.Propose == nil || cfg.View == nil || cfg.Passwords == nil || cfg.Now == nil || cfg.Absent == nil || cfg.TokensEnd == nil {
		return nil, errors.New("identity: UsersConfig needs Propose, View, Passwords, Now, Absent and TokensEnd")
	}
	cfg.Policy.fill()
	dummy, err := cfg.Passwords.Hash(context.Background(), randomID())
	if err != nil {
		return nil, err
	}
	return &Users{cfg, dummy}, nil
}

// newUserID is random; under a caller's Idempotency-Key it follows from that, so that a
// retry finds the user of the first try.
func newUserID(ctx context.Context) string {
	key, _, ok := command.KeyFrom(ctx)
	if !ok {
		return randomID()
	}
	sum := sha256.Sum256(append([]byte("user\x00"), key[:]...))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// randomID is 128 random bits in base64url.
func randomID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// Profile is a user as the admin API reads and writes them. Nil pointers and absent
// members are the defaults. The password is only ever written.
type Profile struct {
	Username      string                     `json:"username"`
	Password      string                     `json:"password,omitempty"`
	Enabled       *bool                      `json:"enabled,omitempty"`
	Email         string                     `json:"email,omitempty"`
	EmailVerified bool                       `json:"email_verified,omitempty"`
	Name          string                     `json:"name,omitempty"`
	GivenName     string                     `json:"given_name,omitempty"`
	FamilyName    string                     `json:"family_name,omitempty"`
	PhoneNumber   string                     `json:"phone_number,omitempty"`
	PhoneVerified bool                       `json:"phone_number_verified,omitempty"`
	Locale        string                     `json:"locale,omitempty"`
	Roles         []string                   `json:"roles,omitempty"`
	Groups        []string                   `json:"groups,omitempty"`
	Entitlements  []string                   `json:"entitlements,omitempty"`
	Claims        map[string]json.RawMessage `json:"claims,omitempty"`
	SecondFactor  bool                       `json:"second_factor,omitempty"`
	// MustChange: who signs in with the password has to set another one first.
	MustChange bool `json:"must_change_password,omitempty"`
}

// ProfileOf is the profile of a stored user, without the password.
func ProfileOf(u *state.User) *Profile {
	enabled := !u.GetDisabled()
	p := &Profile{
		Username: u.GetUsername(), Enabled: &enabled, Email: u.GetEmail(), EmailVerified: u.GetEmailVerified(), Name: u.GetName(),
		GivenName: u.GetGivenName(), FamilyName: u.GetFamilyName(), PhoneNumber: u.GetPhoneNumber(), PhoneVerified: u.GetPhoneNumberVerified(),
		Locale: u.GetLocale(), Roles: u.GetRoles(), Groups: u.GetGroups(), Entitlements: u.GetEntitlements(), SecondFactor: u.GetSecondFactor(),
		MustChange: u.GetMustChangePassword(),
	}
	for _, a := range u.GetAttributes() {
		if p.Claims == nil {
			p.Claims = make(map[string]json.RawMessage)
		}
		p.Claims[a.GetName()] = a.GetJson()
	}
	return p
}

// Bounds of what a user's record may hold.
const (
	maxText   = 256 // bytes of one text
	maxItems  = 256 // of a list
	maxClaims = 16 << 10
)

// own are claims that a user's attributes may not speak for (REG-05).
var own = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "azp", "scope", "ev", "gid", "root", "app", "cnf", "act", "may_act",
	"auth_time", "acr", "amr", "nonce", "sid", "at_hash", "c_hash", "s_hash", "email", "email_verified", "name", "given_name",
	"family_name", "phone_number", "phone_number_verified", "locale", "preferred_username", "roles", "groups", "entitlements", "updated_at", "userinfo_claims", "login_scope",
}

// record holds a profile against the rules and makes the row of it; what no profile
// names is kept from old.
func (p *Profile) record(old *state.User) (*state.User, error) {
	key, err := FoldName(p.Username)
	if err != nil {
		return nil, err
	}
	for _, m := range [...]struct{ field, value string }{
		{"email", p.Email}, {"name", p.Name}, {"given_name", p.GivenName}, {"family_name", p.FamilyName}, {"phone_number", p.PhoneNumber}, {"locale", p.Locale},
	} {
		if !plain(m.value) {
			return nil, bad(m.field, "at most %d bytes of UTF-8 without control characters", maxText)
		}
	}
	if p.Email != "" && (strings.Count(p.Email, "@") != 1 || strings.HasPrefix(p.Email, "@") || strings.HasSuffix(p.Email, "@") || strings.ContainsAny(p.Email, " \t")) {
		return nil, bad("email", "an address such as alice@example.com is needed")
	}
	for _, m := range [...]struct {
		field string
		list  []string
	}{{"roles", p.Roles}, {"groups", p.Groups}, {"entitlements", p.Entitlements}} {
		if len(m.list) > maxItems || slices.ContainsFunc(m.list, func(s string) bool { return s == "" || !plain(s) }) {
			return nil, bad(m.field, "at most %d names, none empty, without control characters", maxItems)
		}
	}
	u := &state.User{}
	if old != nil {
		u = proto.CloneOf(old)
	}
	u.Attributes, err = p.attributes()
	if err != nil {
		return nil, err
	}
	u.Username, u.Key, u.Disabled = p.Username, key, p.Enabled != nil && !*p.Enabled
	u.Email, u.EmailVerified, u.Name, u.GivenName, u.FamilyName = p.Email, p.EmailVerified, p.Name, p.GivenName, p.FamilyName
	u.PhoneNumber, u.PhoneNumberVerified, u.Locale = p.PhoneNumber, p.PhoneVerified, p.Locale
	u.Roles, u.Groups, u.Entitlements, u.SecondFactor = p.Roles, p.Groups, p.Entitlements, p.SecondFactor
	u.MustChangePassword = p.MustChange
	return u, nil
}

func (p *Profile) attributes() ([]*state.Attribute, error) {
	names, size := make([]string, 0, len(p.Claims)), 0
	for name, value := range p.Claims {
		if name == "" || !plain(name) || slices.Contains(own, name) {
			return nil, bad("claims", "%.64q is not a claim that a user's record can set here", name)
		}
		names, size = append(names, name), size+len(name)+len(value)
	}
	if len(names) > maxItems || size > maxClaims {
		return nil, bad("claims", "at most %d claims of %d bytes in all", maxItems, maxClaims)
	}
	slices.Sort(names)
	var out []*state.Attribute
	for _, name := range names {
		out = append(out, &state.Attribute{Name: name, Json: p.Claims[name]})
	}
	return out, nil
}

// plain keeps out what makes a text look like another one where people read it.
func plain(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
	})
}

// Create makes a user. Without a password nobody can sign in with one.
func (u *Users) Create(ctx context.Context, tenant string, p *Profile) (*state.User, error) {
	row, err := p.record(nil)
	if err != nil {
		return nil, err
	}
	if p.Password != "" {
		v, err := u.cfg.View(ctx, state.Local)
		if err != nil {
			return nil, err
		}
		if err := u.setPassword(ctx, v, tenant, row, p.Password); err != nil {
			return nil, err
		}
	}
	row.Tenant, row.Id = tenant, newUserID(ctx)
	return u.put(ctx, row, 0, false)
}

// Update replaces a user's profile. expect is the generation that the caller saw; 0:
// whichever v has. Disabling ends all logins; so does a new password.
func (u *Users) Update(ctx context.Context, v *state.View, tenant, id string, p *Profile, expect uint64) (*state.User, error) {
	old, err := u.existing(v, tenant, id)
	if err != nil {
		return nil, err
	}
	row, err := p.record(old)
	if err != nil {
		return nil, err
	}
	if p.Password != "" {
		if err := u.setPassword(ctx, v, tenant, row, p.Password); err != nil {
			return nil, err
		}
	}
	if expect == 0 {
		expect = old.GetGeneration()
	}
	return u.put(ctx, row, expect, p.Password != "")
}

// EndLogins ends every session, refresh token and access token of a user.
func (u *Users) EndLogins(ctx context.Context, v *state.View, tenant, id string) error {
	old, err := u.existing(v, tenant, id)
	if err != nil {
		return err
	}
	_, err = u.put(ctx, proto.CloneOf(old), old.GetGeneration(), true)
	return err
}

// Delete removes a user and revokes their tokens.
func (u *Users) Delete(ctx context.Context, v *state.View, tenant, id string, expect uint64) error {
	result, err := u.cfg.Propose(ctx, &command.DeleteUser{Tenant: tenant, Id: id, Expect: expect, RevokeUntil: u.cfg.TokensEnd(v, tenant)})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return fmt.Errorf("delete user %q: %w", id, err)
	}
	return nil
}

func (u *Users) existing(v *state.View, tenant, id string) (*state.User, error) {
	old, err := v.User(tenant, id)
	if err != nil && u.cfg.Absent(err) {
		return nil, fmt.Errorf("user %q: %w", id, command.NotFound)
	}
	return old, err
}

func (u *Users) put(ctx context.Context, row *state.User, expect uint64, endLogins bool) (*state.User, error) {
	v, err := u.cfg.View(ctx, state.Local)
	if err != nil {
		return nil, err
	}
	result, err := u.cfg.Propose(ctx, &command.PutUser{User: row, Expect: expect, EndLogins: endLogins, RevokeUntil: u.cfg.TokensEnd(v, row.GetTenant())})
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("store user %q: %w", row.GetUsername(), err)
	}
	// The proposal was applied on this node, so a local view has it.
	if v, err = u.cfg.View(ctx, state.Local); err != nil {
		return nil, fmt.Errorf("read user %q back: %w", row.GetUsername(), err)
	}
	return u.existing(v, row.GetTenant(), row.GetId())
}
