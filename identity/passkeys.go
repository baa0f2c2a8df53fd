package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Bounds of a ceremony.
const (
	ceremonyLifetime = 300      // seconds between page and answer
	maxCeremony      = 16 << 10 // bytes of a browser's answer
	maxPasskeyName   = 64       // bytes
)

// errPasskey tells nobody why a passkey was refused (WEB-12).
var errPasskey = oauth.InvalidGrant.With("the passkey was not accepted; try again, or sign in another way")

// errCeremony is the refusal of an answer to a page of another browser, or of long ago.
var errCeremony = oauth.InvalidRequest.With("this page belongs to another browser, or its time is over; open it again")

// Ceremony is what a page needs for one use of a passkey.
type Ceremony struct {
	Options string // JSON for the browser (WebAuthn L3 §5.1.8, §5.1.9)
	Value   string // sealed, for the browser to send back
}

// ceremony is what Value seals.
type ceremony struct {
	Data    webauthn.SessionData `json:"d"`
	Browser string               `json:"b"`
	Ends    int64                `json:"e"` // seconds
}

// holder is a user as the library sees one.
type holder struct {
	user *state.User
	keys []webauthn.Credential
}

func (h *holder) WebAuthnID() []byte                         { return []byte(h.user.GetId()) }
func (h *holder) WebAuthnName() string                       { return h.user.GetUsername() }
func (h *holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

func (h *holder) WebAuthnDisplayName() string {
	if h.user.GetName() != "" {
		return h.user.GetName()
	}
	return h.user.GetUsername()
}

func (f *Factors) holder(v *state.View, user *state.User) (*holder, error) {
	have, err := f.Of(v, user)
	if err != nil {
		return nil, err
	}
	h := &holder{user: user}
	for _, c := range have.Passkeys {
		var key webauthn.Credential
		if err := json.Unmarshal(c.GetPublic(), &key); err != nil {
			return nil, fmt.Errorf("passkey of user %q: %w", user.GetId(), err)
		}
		h.keys = append(h.keys, key)
	}
	return h, nil
}

// party is the relying party of a tenant: the host of its issuer, and that origin alone.
// ok is false where a host can have no passkeys, since it is an address.
func (f *Factors) party(v *state.View, tenant string) (party *webauthn.WebAuthn, ok bool, err error) {
	issuer, err := f.cfg.Issuer(v, tenant)
	if err != nil {
		return nil, false, err
	}
	u, err := url.Parse(issuer)
	if err != nil || protocol.ValidateRPID(u.Hostname()) != nil {
		return nil, false, nil
	}
	party, err = webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: u.Hostname(), RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationPreferred,
		},
	})
	return party, err == nil, err
}

func registrationLabel(user *state.User) string {
	return "passkey registration\x00" + user.GetTenant() + "\x00" + user.GetId()
}

// loginLabel keeps an answer to the page that asked: user is "" where anyone may sign in.
func loginLabel(tenant, user string) string { return "passkey login\x00" + tenant + "\x00" + user }

func (f *Factors) begun(v *state.View, label, browser string, options any, data *webauthn.SessionData) (*Ceremony, error) {
	asked, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(&ceremony{*data, browser, f.now(v).Unix() + ceremonyLifetime})
	if err != nil {
		return nil, err
	}
	value, err := f.cfg.Seal(v, label, plain)
	return &Ceremony{string(asked), value}, err
}

func (f *Factors) openCeremony(v *state.View, label, browser, value string) (*ceremony, error) {
	plain, ok, err := f.cfg.Open(v, label, value)
	if err != nil {
		return nil, err
	}
	c := &ceremony{}
	if !ok || json.Unmarshal(plain, c) != nil || c.Browser != browser || c.Ends < f.now(v).Unix() {
		return nil, errCeremony
	}
	return c, nil
}

// BeginRegistration asks this browser for a new passkey of a user; nil where the issuer's
// host can have none.
func (f *Factors) BeginRegistration(v *state.View, user *state.User, browser string) (*Ceremony, error) {
	party, ok, err := f.party(v, user.GetTenant())
	if err != nil || !ok {
		return nil, err
	}
	h, err := f.holder(v, user)
	if err != nil {
		return nil, err
	}
	options, data, err := party.BeginRegistration(h, webauthn.WithExclusions(webauthn.Credentials(h.keys).CredentialDescriptors()))
	if err != nil {
		return nil, fmt.Errorf("ask for a passkey: %w", err)
	}
	return f.begun(v, registrationLabel(user), browser, options.Response, data)
}

// Register stores the passkey that a browser answers BeginRegistration with, under a name
// for people. Its challenge is used up by it. first says that the user has no second factor:
// one that has come meanwhile stays (WEB-09). Errors: oauth.InvalidGrant for an answer that
// proves nothing or a passkey of another user, oauth.InvalidRequest for a value that is
// none of this browser, *FieldError for the name, command.Stale when another factor was
// first.
func (f *Factors) Register(ctx context.Context, v *state.View, user *state.User, browser, value, answer, name string, first bool) error {
	if len(name) > maxPasskeyName || !plain(name) {
		return bad("name", "at most %d bytes without control characters", maxPasskeyName)
	}
	c, err := f.openCeremony(v, registrationLabel(user), browser, value)
	if err != nil {
		return err
	}
	party, ok, err := f.party(v, user.GetTenant())
	if err != nil {
		return err
	}
	h, err := f.holder(v, user)
	if err != nil {
		return err
	}
	if !ok || len(answer) > maxCeremony {
		return errPasskey
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return errPasskey
	}
	key, err := party.CreateCredential(h, c.Data, parsed)
	if err != nil {
		return errPasskey
	}
	key.Attestation = webauthn.CredentialAttestation{} // nobody asked for it
	public, err := json.Marshal(key)
	if err != nil {
		return err
	}
	err = f.put(ctx, &command.PutCredential{
		Credential: &state.Credential{
			Tenant: user.GetTenant(), User: user.GetId(), Id: passkeyID(key.ID), Kind: state.KindPasskey, Name: name,
			Public: public, Counter: uint64(key.Authenticator.SignCount),
		},
		Challenge: c.Data.Challenge, ChallengeEndsAt: c.Ends + 1, First: first,
	})
	for _, refused := range []command.Reject{command.Conflict, command.Exists, command.AlreadyUsed, command.AlreadyExpired} {
		if errors.Is(err, refused) {
			return errPasskey
		}
	}
	return err
}

// passkeyID is the id of a passkey's row.
func passkeyID(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// BeginLogin asks this browser for any passkey of a tenant, which must know its user by
// itself, by a finger or a PIN: no list tells who has which (WEB-12). nil where the
// issuer's host can have none.
func (f *Factors) BeginLogin(v *state.View, tenant, browser string) (*Ceremony, error) {
	party, ok, err := f.party(v, tenant)
	if err != nil || !ok {
		return nil, err
	}
	options, data, err := party.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, fmt.Errorf("ask for a passkey: %w", err)
	}
	return f.begun(v, loginLabel(tenant, ""), browser, options.Response, data)
}

// Login tells whose passkey answers BeginLogin. It is a proof in two ways: the passkey, and
// what opened it. The challenge is used up by it. Errors as those of Register.
func (f *Factors) Login(ctx context.Context, v *state.View, tenant, browser, value, answer string) (*state.User, error) {
	c, err := f.openCeremony(v, loginLabel(tenant, ""), browser, value)
	if err != nil {
		return nil, err
	}
	party, parsed, err := f.assertion(v, tenant, answer)
	if err != nil {
		return nil, err
	}
	var broken error // not the library's to judge
	found, key, err := party.ValidatePasskeyLogin(func(rawID, handle []byte) (webauthn.User, error) {
		var h *holder
		if h, broken = f.owner(v, tenant, rawID); broken != nil {
			return nil, broken
		}
		if h == nil || h.user.GetId() != string(handle) {
			return nil, errPasskey
		}
		return h, nil
	}, c.Data, parsed)
	if broken != nil {
		return nil, broken
	}
	if err != nil {
		return nil, errPasskey
	}
	user := found.(*holder).user
	return user, f.usePasskey(ctx, user, key, c)
}

// owner is the user whose passkey this is; nil when it is nobody's, or of one who may not
// sign in.
func (f *Factors) owner(v *state.View, tenant string, rawID []byte) (*holder, error) {
	absent := f.cfg.Users.cfg.Absent
	id, err := v.UserByPasskey(tenant, passkeyID(rawID))
	if err != nil {
		if absent(err) {
			return nil, nil
		}
		return nil, err
	}
	user, err := v.User(tenant, id)
	if err != nil {
		if absent(err) {
			return nil, nil
		}
		return nil, err
	}
	if user.GetDisabled() {
		return nil, nil
	}
	return f.holder(v, user)
}

func (f *Factors) assertion(v *state.View, tenant, answer string) (*webauthn.WebAuthn, *protocol.ParsedCredentialAssertionData, error) {
	party, ok, err := f.party(v, tenant)
	if err != nil {
		return nil, nil, err
	}
	if !ok || len(answer) > maxCeremony {
		return nil, nil, errPasskey
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return nil, nil, errPasskey
	}
	return party, parsed, nil
}

// BeginFactor asks this browser for a passkey of a user who has proved who they are in
// another way; nil for one who has none.
func (f *Factors) BeginFactor(v *state.View, user *state.User, browser string) (*Ceremony, error) {
	party, ok, err := f.party(v, user.GetTenant())
	if err != nil || !ok {
		return nil, err
	}
	h, err := f.holder(v, user)
	if err != nil || len(h.keys) == 0 {
		return nil, err
	}
	options, data, err := party.BeginLogin(h)
	if err != nil {
		return nil, fmt.Errorf("ask for a passkey: %w", err)
	}
	return f.begun(v, loginLabel(user.GetTenant(), user.GetId()), browser, options.Response, data)
}

// CheckPasskey accepts the passkey that answers BeginFactor. The challenge is used up by
// it. Errors as those of Register.
func (f *Factors) CheckPasskey(ctx context.Context, v *state.View, user *state.User, browser, value, answer string) error {
	c, err := f.openCeremony(v, loginLabel(user.GetTenant(), user.GetId()), browser, value)
	if err != nil {
		return err
	}
	party, parsed, err := f.assertion(v, user.GetTenant(), answer)
	if err != nil {
		return err
	}
	h, err := f.holder(v, user)
	if err != nil {
		return err
	}
	key, err := party.ValidateLogin(h, c.Data, parsed)
	if err != nil {
		return errPasskey
	}
	return f.usePasskey(ctx, user, key, c)
}

// usePasskey lets a passkey's proof count. A signature count that went back is that of a
// copy (WebAuthn L2 §7.2 step 21).
func (f *Factors) usePasskey(ctx context.Context, user *state.User, key *webauthn.Credential, c *ceremony) error {
	if key.Authenticator.CloneWarning {
		return errPasskey
	}
	public, err := json.Marshal(key)
	if err != nil {
		return err
	}
	err = f.use(ctx, &command.UseCredential{
		Tenant: user.GetTenant(), User: user.GetId(), Id: passkeyID(key.ID), Counter: uint64(key.Authenticator.SignCount),
		Public: public, Challenge: c.Data.Challenge, ChallengeEndsAt: c.Ends + 1,
	})
	if errors.Is(err, oauth.InvalidGrant) {
		return errPasskey
	}
	return err
}

// HavePasskeys tells whether the issuer's host can have passkeys at all.
func (f *Factors) HavePasskeys(v *state.View, tenant string) (bool, error) {
	_, ok, err := f.party(v, tenant)
	return ok, err
}
