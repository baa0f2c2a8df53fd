package grants

import (
	"slices"
	"strings"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// person is the half of the gate that a grant passes after it has decided who allowed
// it: user, issuer, session, lockout, second factor, password and consent (TOK-30 to TOK-33,
// TOK-36, WEB-09). It fills in the generations on which that was seen, so that the
// commit refuses what has changed since. A grant without an Authorization is the
// client's own and has passed the gate whole.
func (p *Pipeline) person(v *state.View, tenant *state.Tenant, client *state.Client, d *Decision, seen *command.Decided) error {
	*seen = command.Decided{Client: client.GetGeneration(), Tenant: tenant.GetGeneration()}
	a := d.Authorization
	if a == nil {
		return nil
	}
	a.Tenant, a.ClientId = tenant.GetId(), client.GetId()
	if err := vouched(tenant, d, seen); err != nil {
		return err
	}
	if d.OfClient != "" {
		return ofClient(v, tenant, d)
	}
	if a.GetUser() == "" {
		if d.Vouched == nil {
			return oauth.InvalidGrant.With("the grant names nobody who allowed it; start again")
		}
		if within(d.Scope, "openid") { // its tokens would open userinfo, for whoever has the subject's name here
			return oauth.InvalidScope.With("openid needs a user of this tenant, and the assertion names none; leave it out")
		}
		return nil
	}
	user, err := v.User(tenant.GetId(), a.GetUser())
	if p.cfg.absent(err) {
		return errPerson
	}
	if err != nil {
		return err
	}
	seen.User = user.GetGeneration()
	if user.GetDisabled() {
		return errPerson
	}
	// Wrong passwords keep nobody from what they have begun at a browser, where they had proved
	// who they are: neither those of strangers nor those that somebody types at another one.
	if begun := a.GetSession() != "" || a.GetAtBrowser() || d.Begun; p.cfg.Locked != nil && !begun {
		locked, err := p.cfg.Locked(v, tenant.GetId(), user.GetId())
		if err != nil {
			return err
		}
		if locked {
			return errPerson
		}
	}
	if err := factor(v, user, d); err != nil {
		return err
	}
	if err := settled(user, d); err != nil {
		return err
	}
	if d.Rotated != nil && d.Rotated.family.GetCreatedAt() <= user.GetSessionsAfter() {
		return errPerson
	}
	// What outlives its login begins in it all the same: a code of before its end gives nothing.
	if err := p.session(v, user, a, d.Offline && d.Rotated != nil); err != nil {
		return err
	}
	// What client and user may no longer have is not given again, however it was granted.
	if d.Scope, err = remains(v, tenant, client, user, d.Scope); err != nil {
		return err
	}
	return p.consent(v, client, d, seen)
}

// ofClient holds a grant that comes of a client's own token against that client.
func ofClient(v *state.View, tenant *state.Tenant, d *Decision) error {
	of, ok := v.Client(tenant.GetId(), d.OfClient)
	if !ok || of.GetDisabled() {
		return oauth.InvalidGrant.With("the client that the token speaks of is disabled or gone; ask its owner")
	}
	return nil
}

// errPerson tells nobody whether a user is unknown, disabled or locked (WEB-12).
var errPerson = oauth.InvalidGrant.With("the user may not sign in now, or the login has ended; start again")

// vouched holds a trusted issuer against what it is now (TOK-32).
func vouched(tenant *state.Tenant, d *Decision, seen *command.Decided) error {
	if d.Vouched == nil {
		return nil
	}
	if d.Vouched.GetDisabled() || d.Vouched.GetTenant() != tenant.GetId() {
		return oauth.InvalidGrant.With("the issuer of the assertion is not trusted here")
	}
	seen.Issuer = d.Vouched.GetGeneration()
	d.Authorization.Issuer = d.Vouched.GetIssuer()
	return nil
}

// session holds a grant that lives by a login against that login.
func (p *Pipeline) session(v *state.View, user *state.User, a *state.Authorization, offline bool) error {
	if a.GetSession() == "" || offline {
		return nil
	}
	session, err := v.Session(a.GetTenant(), a.GetSession())
	if p.cfg.absent(err) || err == nil && (session.GetUser() != a.GetUser() || session.GetCreatedAt() <= user.GetSessionsAfter() || v.BroughtBack(session.GetCreatedAt()) || session.GetExpiresAt() <= max(p.cfg.Now().Unix(), v.Clock()/1000)) {
		return errPerson
	}
	return err
}

// consent asks whether the user's remembered consent still covers what is granted. A
// client that needs none is the operator's or administrator's own.
func (p *Pipeline) consent(v *state.View, client *state.Client, d *Decision, seen *command.Decided) error {
	a, scope := d.Authorization, d.Scope
	if client.GetSkipConsent() || scope == "" && !d.Begun { // who was shown no page has not seen the client either
		return nil
	}
	consent, err := v.Consented(a.GetTenant(), a.GetUser(), client.GetId())
	if p.cfg.absent(err) {
		return oauth.InvalidGrant.With("the user has not consented to this client, or no longer; take them through the login page")
	}
	if err != nil {
		return err
	}
	for item := range strings.FieldsSeq(scope) {
		if !slices.Contains(consent.GetScopes(), item) {
			return oauth.InvalidGrant.Withf("the user has not consented to the scope %.100s", item)
		}
	}
	seen.Consent = consent.GetGeneration()
	return nil
}
