package fsm

import (
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

const (
	// maxIssuers bounds the trusted issuers of one tenant, which all nodes hold in
	// memory.
	maxIssuers = 500
	// maxIssuerKeys bounds the keys of one, in bytes.
	maxIssuerKeys = 64 << 10
)

// putTrustedIssuer makes or replaces whom a tenant trusts to vouch for subjects.
func (s step) putTrustedIssuer(c *command.PutTrustedIssuer) (command.Result, error) {
	next := c.GetIssuer()
	if r := s.named(next.GetTenant(), next.GetIssuer(), next.GetJwksUri(), next.GetSubjectClaim(), next.GetKind()); r != command.Accepted {
		return reject(r)
	}
	if !listed(next.GetAudiences()) || !listed(next.GetClients()) || !listed(next.GetScopes()) || !keysFit(next) {
		return reject(command.Invalid)
	}
	for _, m := range next.GetClaimMapping() {
		if m.GetRemote() == "" || m.GetLocal() == "" || !keyable(m.GetRemote(), m.GetLocal()) {
			return reject(command.Invalid)
		}
	}
	old, ok := s.TrustedIssuer(next.GetTenant(), next.GetIssuer())
	if r := generation(c.GetExpect(), old.GetGeneration()); r != command.Accepted {
		return reject(r)
	}
	if !ok && len(s.TrustedIssuers(next.GetTenant())) >= maxIssuers {
		return reject(command.NotReady)
	}
	next.Generation, next.CreatedAt, next.UpdatedAt = s.index, s.now, s.now
	if ok {
		next.CreatedAt = old.GetCreatedAt()
	}
	s.PutTrustedIssuer(next)
	return command.Result{Generation: s.index}, nil
}

// keysFit bounds what every node keeps of an issuer.
func keysFit(i *state.TrustedIssuer) bool {
	size := len(i.GetJwks())
	for _, c := range i.GetCertificates() {
		size += len(c)
	}
	return size <= maxIssuerKeys && len(i.GetCertificates()) <= maxNames && len(i.GetClaimMapping()) <= maxNames && i.GetMaxLife() >= 0
}

// deleteTrustedIssuer takes the trust back: its assertions are refused from here on.
func (s step) deleteTrustedIssuer(c *command.DeleteTrustedIssuer) (command.Result, error) {
	if !keyable(c.GetTenant(), c.GetIssuer()) {
		return reject(command.Invalid)
	}
	old, _ := s.TrustedIssuer(c.GetTenant(), c.GetIssuer())
	if r := removable(c.GetExpect(), old.GetGeneration()); r != command.Accepted {
		return reject(r)
	}
	s.DeleteTrustedIssuer(c.GetTenant(), c.GetIssuer())
	return command.Result{}, nil
}

// vouches reports whether the issuer that a grant rests on is as it was when that was
// decided.
func (s step) vouches(a *state.Authorization, generation uint64) bool {
	issuer, ok := s.TrustedIssuer(a.GetTenant(), a.GetIssuer())
	return ok && !issuer.GetDisabled() && issuer.GetGeneration() == generation
}
