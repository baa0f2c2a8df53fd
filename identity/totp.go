package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// What every authenticator can do (RFC 6238 §5.2, Key URI Format): HMAC-SHA-1, six digits,
// steps of 30 seconds.
const (
	totpStep   = 30
	totpDigits = 6
	totpSecret = 20 // bytes, RFC 4226 §4 R6
	// A clock may be one step off, either way (RFC 6238 §6).
	totpDrift = 1
)

// hotp is the code of a counter (RFC 4226 §5.3).
func hotp(secret []byte, counter uint64) string {
	mac := hmac.New(sha1.New, secret)
	mac.Write(binary.BigEndian.AppendUint64(nil, counter))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%0*d", totpDigits, (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

// stepOf finds the step above last whose code this is, near now. All are looked at, so the
// time tells nothing.
func stepOf(secret []byte, code string, now int64, last uint64) (step uint64, ok bool) {
	middle := now / totpStep
	for at := middle - totpDrift; at <= middle+totpDrift; at++ {
		if at <= 0 {
			continue
		}
		same := subtle.ConstantTimeCompare([]byte(hotp(secret, uint64(at))), []byte(code)) == 1
		if same && uint64(at) > last && !ok {
			step, ok = uint64(at), true
		}
	}
	return step, ok
}

// typed is a code without the gaps that people type.
func typed(code string) string {
	if len(code) > 64 {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, code)
}

// isTOTP tells whether a code is six digits.
func isTOTP(code string) bool {
	return len(code) == totpDigits && strings.Trim(code, "0123456789") == ""
}

// Labels keep a sealed secret to its user: a row that is moved to another user opens
// nowhere.
func totpLabel(user *state.User) string {
	return "totp secret\x00" + user.GetTenant() + "\x00" + user.GetId()
}

func enrolmentLabel(user *state.User) string {
	return "totp enrolment\x00" + user.GetTenant() + "\x00" + user.GetId()
}

// Enrolment is an authenticator that is being set up. Nothing is stored before its first
// code is right.
type Enrolment struct {
	Value string // sealed, for the browser to send back
	text  string
	uri   string
}

// Secret is what is typed into an authenticator, in base32. It is shown while it is set up,
// and never again.
func (e *Enrolment) Secret() string { return e.text }

// URI is the same for a camera (Key URI Format).
func (e *Enrolment) URI() string { return e.uri }

// String hides the secret.
func (e *Enrolment) String() string { return "identity.Enrolment{…}" }

// enrolment is what Value seals.
type enrolment struct {
	Secret  []byte `json:"s"`
	Browser string `json:"b"`
	Ends    int64  `json:"e"` // seconds
}

// enrolmentLifetime is how long an authenticator may take to be set up, in seconds.
const enrolmentLifetime = 900

// BeginTOTP makes the secret of a new authenticator, for this browser alone.
func (f *Factors) BeginTOTP(v *state.View, user *state.User, browser string) (*Enrolment, error) {
	secret := make([]byte, totpSecret)
	rand.Read(secret) // never fails: crypto/rand ends the process instead
	plain, err := json.Marshal(&enrolment{secret, browser, f.now(v).Unix() + enrolmentLifetime})
	if err != nil {
		return nil, err
	}
	value, err := f.cfg.Seal(v, enrolmentLabel(user), plain)
	if err != nil {
		return nil, err
	}
	return f.enrolment(v, user, secret, value)
}

func (f *Factors) enrolment(v *state.View, user *state.User, secret []byte, value string) (*Enrolment, error) {
	issuer, err := f.cfg.Issuer(v, user.GetTenant())
	if err != nil {
		return nil, err
	}
	host := issuer
	if u, err := url.Parse(issuer); err == nil {
		host = u.Hostname()
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	// Authenticators read %20 and not +.
	query := strings.ReplaceAll(url.Values{"secret": {text}, "issuer": {host}}.Encode(), "+", "%20")
	return &Enrolment{Value: value, text: text, uri: "otpauth://totp/" + url.PathEscape(host) + ":" + url.PathEscape(user.GetUsername()) + "?" + query}, nil
}

// ResumeTOTP shows the same authenticator again after a wrong first code.
func (f *Factors) ResumeTOTP(v *state.View, user *state.User, browser, value string) (*Enrolment, error) {
	e, err := f.openEnrolment(v, user, browser, value)
	if err != nil {
		return nil, err
	}
	return f.enrolment(v, user, e.Secret, value)
}

func (f *Factors) openEnrolment(v *state.View, user *state.User, browser, value string) (*enrolment, error) {
	plain, ok, err := f.cfg.Open(v, enrolmentLabel(user), value)
	if err != nil {
		return nil, err
	}
	e := &enrolment{}
	if !ok || json.Unmarshal(plain, e) != nil || e.Browser != browser || len(e.Secret) != totpSecret || e.Ends < f.now(v).Unix() {
		return nil, oauth.InvalidRequest.With("this page belongs to another browser, or its time is over; set the authenticator up again")
	}
	return e, nil
}

// ConfirmTOTP stores an authenticator whose first code is right, in place of the user's
// last one. That code is used up by it. first says that the user has no second factor: one
// that has come meanwhile stays (WEB-09). Errors: oauth.InvalidGrant for a wrong code,
// oauth.InvalidRequest for a value that is none of this browser, command.Stale when another
// factor was first.
func (f *Factors) ConfirmTOTP(ctx context.Context, v *state.View, user *state.User, browser, value, code string, first bool) error {
	e, err := f.openEnrolment(v, user, browser, value)
	if err != nil {
		return err
	}
	step, ok := stepOf(e.Secret, typed(code), f.now(v).Unix(), 0)
	if !ok {
		return errFactor
	}
	have, err := f.Of(v, user)
	if err != nil {
		return err
	}
	sealed, err := f.cfg.Seal(v, totpLabel(user), e.Secret)
	if err != nil {
		return err
	}
	return f.put(ctx, &command.PutCredential{
		Credential: &state.Credential{Tenant: user.GetTenant(), User: user.GetId(), Id: randomID(), Kind: state.KindTOTP, Sealed: []byte(sealed), Counter: step},
		Replaces:   have.TOTP.GetId(), First: first,
	})
}

// CheckCode accepts a code of the user's authenticator or one of their recovery codes, each
// once over all nodes. v should be linearizable. Wrong ones are counted before they are
// answered. Errors: oauth.InvalidGrant with one text for every cause.
func (f *Factors) CheckCode(ctx context.Context, v *state.View, user *state.User, code string) error {
	locked, _, err := f.cfg.Users.locked(v, user.GetTenant(), user.GetId(), classFactor)
	if err != nil {
		return err
	}
	have, err := f.Of(v, user)
	if err != nil {
		return err
	}
	proof := &command.UseCredential{Tenant: user.GetTenant(), User: user.GetId(), Attempts: classFactor}
	var right bool
	if code = typed(code); isTOTP(code) {
		right, err = f.totp(v, user, have.TOTP, code, proof)
	} else {
		right, err = f.recovery(v, have.Recovery, code, proof)
	}
	if err != nil {
		return err
	}
	if locked || !right {
		return f.guessed(ctx, v, user, locked)
	}
	return f.use(ctx, proof)
}

// totp fills in the proof that a code is, if it is one.
func (f *Factors) totp(v *state.View, user *state.User, c *state.Credential, code string, proof *command.UseCredential) (bool, error) {
	if c == nil {
		return false, nil
	}
	secret, ok, err := f.cfg.Open(v, totpLabel(user), string(c.GetSealed()))
	if err != nil {
		return false, err
	}
	if !ok {
		return false, fmt.Errorf("the secret of an authenticator of user %q does not open with any key of this cluster", user.GetId())
	}
	proof.Id = c.GetId()
	proof.Counter, ok = stepOf(secret, code, f.now(v).Unix(), c.GetCounter())
	return ok, nil
}
