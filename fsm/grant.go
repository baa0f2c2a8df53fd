package fsm

import (
	"bytes"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// current holds the generations on which a grant was decided against what is now, and
// the session that it belongs to. A difference is Stale: the pipeline decides once
// more and finds out what it means.
func (s step) current(a *state.Authorization, d *command.Decided) (*state.Tenant, *state.Client, command.Reject, error) {
	tenant, ok := s.Tenant(a.GetTenant())
	if !ok {
		return nil, nil, command.NotFound, nil
	}
	client, ok := s.Client(a.GetTenant(), a.GetClientId())
	if !ok {
		return nil, nil, command.NotFound, nil
	}
	if tenant.GetDisabled() || client.GetDisabled() {
		return nil, nil, command.Disabled, nil
	}
	if tenant.GetGeneration() != d.GetTenant() || client.GetGeneration() != d.GetClient() {
		return nil, nil, command.Stale, nil
	}
	if d.GetUser() != 0 {
		user, err := s.User(a.GetTenant(), a.GetUser())
		if err != nil || user.GetDisabled() || user.GetGeneration() != d.GetUser() {
			return nil, nil, command.Stale, err
		}
	}
	if d.GetIssuer() != 0 && !s.vouches(a, d.GetIssuer()) {
		return nil, nil, command.Stale, nil
	}
	if d.GetConsent() != 0 {
		consent, err := s.Consent(a.GetTenant(), a.GetUser(), a.GetClientId())
		if err != nil || consent.GetGeneration() != d.GetConsent() {
			return nil, nil, command.Stale, err
		}
	}
	return tenant, client, command.Accepted, nil
}

// sessionStands reports whether the session of a grant that lives by it is there. That it
// began after the moment before which its user's logins have ended is not looked at: that
// moment moves with the user's generation only, which current compares.
func (s step) sessionStands(a *state.Authorization, offline bool) (bool, error) {
	if a.GetSession() == "" || offline {
		return true, nil
	}
	session, err := s.Session(a.GetTenant(), a.GetSession())
	return session != nil && session.GetUser() == a.GetUser() && !s.over(session.GetExpiresAt()), err
}

// keepClient keeps for the session of a grant that it signed in to the client. The row goes
// with the session, so there is none for one that has ended.
func (s step) keepClient(a *state.Authorization) error {
	if a.GetSession() == "" {
		return nil
	}
	session, err := s.Session(a.GetTenant(), a.GetSession())
	if err != nil || session == nil {
		return err
	}
	return s.PutSessionClient(a.GetTenant(), a.GetSession(), a.GetClientId())
}

// validAuthorization keeps what becomes part of keys within their bound.
func validAuthorization(a *state.Authorization) bool {
	return a.GetTenant() != "" && a.GetClientId() != "" && a.GetGrant() != "" &&
		keyable(a.GetTenant(), a.GetClientId(), a.GetUser(), a.GetSession(), a.GetGrant(), a.GetSector(), a.GetSubject())
}

// redeem uses a one-time value up and starts what it allows, as one change (I3). A
// value that was used before takes back what its first use gave (RFC 6749 §4.1.2):
// that is a change too, and its refusal carries the revocation's seq.
func (s step) redeem(c *command.Redeem) (command.Result, error) {
	a, f := c.GetAuthorization(), c.GetFamily()
	if !validAuthorization(a) || !keyable(c.GetValueKind(), c.GetValueId()) ||
		f != nil && (f.GetId() != a.GetGrant() || len(f.GetHash()) != 32 || f.GetAuthorization() != nil) {
		return reject(command.Invalid)
	}
	if c.GetValueKind() != "" {
		if s.over(c.GetValueExpiresAt()) {
			return reject(command.AlreadyExpired)
		}
		old, err := s.Consumed(a.GetTenant(), c.GetValueKind(), c.GetValueId())
		if err != nil {
			return command.Result{}, err
		}
		if old != nil {
			return s.redeemedBefore(c, old)
		}
	}
	tenant, client, verdict, err := s.current(a, c.GetDecided())
	if err != nil || verdict != command.Accepted {
		return command.Result{Reject: verdict}, err
	}
	if stands, err := s.sessionStands(a, f.GetOffline()); err != nil || !stands {
		return command.Result{Reject: command.Stale}, err
	}
	if f != nil && s.over(f.GetExpiresAt()) {
		return reject(command.AlreadyExpired)
	}
	if c.GetValueKind() != "" {
		s.PutConsumed(a.GetTenant(), c.GetValueKind(), c.GetValueId(), &state.Consumed{
			ExpiresAt: c.GetValueExpiresAt(), Proposal: s.key[:],
		})
	}
	if err := s.keepClient(a); err != nil {
		return command.Result{}, err
	}
	if a.GetSector() != "" {
		if err := s.PutSector(a.GetTenant(), a.GetUser(), a.GetSector(), a.GetSubject()); err != nil {
			return command.Result{}, err
		}
	}
	if f != nil {
		old, err := s.RefreshFamily(a.GetTenant(), f.GetId())
		if err != nil {
			return command.Result{}, err
		}
		if old != nil {
			return reject(command.Exists)
		}
		f.Authorization, f.Number, f.CreatedAt, f.Generation = a, 1, s.now, s.index
		s.PutFamily(nil, f)
		s.longer(tenant, client, f)
	}
	return command.Result{Generation: s.index}, nil
}

// redeemedBefore answers a second use: the same proposal again is the first one's
// retry, any other takes everything back where the value is of that kind.
func (s step) redeemedBefore(c *command.Redeem, old *state.Consumed) (command.Result, error) {
	if bytes.Equal(old.GetProposal(), s.key[:]) {
		return command.Result{}, nil
	}
	if !c.GetRevokeOnReuse() {
		return reject(command.AlreadyUsed)
	}
	a := c.GetAuthorization()
	seq, err := s.endGrant(a.GetTenant(), a.GetClientId(), a.GetGrant())
	return command.Result{Reject: command.AlreadyUsed, Seq: seq}, err
}

// longer remembers a family's life in its client's row, so that a revocation of the
// client is kept as long as anything of it lives.
func (s step) longer(tenant *state.Tenant, client *state.Client, f *state.RefreshFamily) {
	life := f.GetExpiresAt() - s.now/1000
	if life <= max(client.GetLongestLifetime(), longestLifetime(tenant, client)) {
		return
	}
	client = cloneOf(client)
	client.LongestLifetime = life
	s.PutClient(client)
}

// rotateRefresh puts the next token of a family in place of the one that is shown.
// One that was replaced gets InGrace within its window, if its successor was not used
// yet; any other use of an old one ends the family (RFC 9700 §4.14.2).
func (s step) rotateRefresh(c *command.RotateRefresh) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetFamily()) || len(c.GetPresented()) != 32 || len(c.GetNext()) != 32 ||
		c.GetGrace() < 0 || c.GetGrace() > 1000*maxLifetime || c.GetExpiresAt() < 0 || c.GetExpiresAt() > maxClock/1000 {
		return reject(command.Invalid)
	}
	f, err := s.RefreshFamily(c.GetTenant(), c.GetFamily())
	if err != nil {
		return command.Result{}, err
	}
	if f == nil {
		return reject(command.NotFound)
	}
	if s.over(f.GetExpiresAt()) {
		return reject(command.AlreadyExpired)
	}
	a := f.GetAuthorization()
	switch {
	case bytes.Equal(f.GetHash(), c.GetPresented()):
	case bytes.Equal(f.GetHash(), c.GetNext()) && bytes.Equal(f.GetPrevious(), c.GetPresented()):
		return command.Result{Generation: f.GetGeneration()}, nil // this proposal, tried again
	case bytes.Equal(f.GetPrevious(), c.GetPresented()) && s.now < f.GetGraceUntil():
		return reject(command.InGrace)
	default:
		seq, err := s.endGrant(a.GetTenant(), a.GetClientId(), f.GetId())
		return command.Result{Reject: command.AlreadyUsed, Seq: seq}, err
	}
	_, _, verdict, err := s.current(a, c.GetDecided())
	if err != nil || verdict != command.Accepted {
		return command.Result{Reject: verdict}, err
	}
	if stands, err := s.sessionStands(a, f.GetOffline()); err != nil || !stands {
		return command.Result{Reject: command.Stale}, err
	}
	next := cloneOf(f)
	next.Number++
	next.Previous, next.Hash, next.Successor = f.GetHash(), c.GetNext(), c.GetSuccessor()
	next.GraceUntil = s.now + c.GetGrace()
	if c.GetGrace() == 0 {
		next.Successor = nil
	}
	next.ExpiresAt, next.Generation = c.GetExpiresAt(), s.index
	if f.GetEndsAt() != 0 {
		next.ExpiresAt = min(next.GetExpiresAt(), f.GetEndsAt())
	}
	if s.over(next.GetExpiresAt()) {
		return reject(command.AlreadyExpired)
	}
	s.PutFamily(f, next)
	return command.Result{Generation: s.index}, nil
}

// endGrantCommand deletes a family and revokes what was made from it.
func (s step) endGrantCommand(c *command.EndGrant) (command.Result, error) {
	if c.GetTenant() == "" || c.GetGrant() == "" || c.GetClientId() == "" || !keyable(c.GetTenant(), c.GetGrant(), c.GetClientId()) {
		return reject(command.Invalid)
	}
	seq, err := s.endGrant(c.GetTenant(), c.GetClientId(), c.GetGrant())
	return command.Result{Seq: seq}, err
}

// endGrant deletes the family of a grant, if there is one, and revokes all tokens of
// the grant for as long as the longest of the client's can live.
func (s step) endGrant(tenant, client, grant string) (seq uint64, err error) {
	f, err := s.RefreshFamily(tenant, grant)
	if err != nil {
		return 0, err
	}
	if f != nil {
		s.DeleteFamily(f)
	}
	t, _ := s.Tenant(tenant)
	c, _ := s.Client(tenant, client)
	life := max(c.GetLongestLifetime(), longestLifetime(t, c))
	return s.record(&state.Event{Tenant: tenant, Kind: "grant", Target: grant, ExpiresAt: s.now/1000 + life + skew}), nil
}
