package gateway

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/tokens/verify"
)

// maxWindows bounds the windows of all tenants together: a restore makes one a
// tenant, and each dies with the longest life of a token.
const maxWindows = 16384

var errWindows = errors.New("more revocations by restores than a gateway keeps (16384); nothing more is taken in until some expire")

// windows are the revocations that a restore makes (R15), by tenant: those with
// IssuedAfter. They are rare and have more to them than a record of the set, so
// they are looked through for each token of their tenant. Immutable: a change
// makes another one, published with the head.
type windows map[string][]verify.Revocation

// revocationOf is a revocation event as verify.Covers takes it.
func revocationOf(e *wire.Event) verify.Revocation {
	return verify.Revocation{
		Seq: e.Seq, Tenant: e.Tenant, Issuer: e.Issuer, Kind: e.Kind, Target: e.Target,
		IssuedBefore: e.IssuedBefore, ExpiresAt: e.ExpiresAt, DecidedAfter: e.DecidedAfter, IssuedAfter: e.IssuedAfter,
	}
}

// with adds revocations. One that covers nothing more than another is left out.
func (w windows) with(more []verify.Revocation) (windows, error) {
	if len(more) == 0 {
		return w, nil
	}
	next := maps.Clone(w)
	if next == nil {
		next = make(windows)
	}
	for _, r := range more {
		old := next[r.Tenant]
		if slices.ContainsFunc(old, func(o verify.Revocation) bool { return wider(&o, &r) }) {
			continue
		}
		kept := make([]verify.Revocation, 0, len(old)+1)
		for _, o := range old {
			if !wider(&r, &o) {
				kept = append(kept, o)
			}
		}
		next[r.Tenant] = append(kept, r)
	}
	if next.len() > maxWindows {
		return nil, errWindows
	}
	return next, nil
}

// wider says that r covers every token that o covers, for at least as long.
func wider(r, o *verify.Revocation) bool {
	return r.Tenant == o.Tenant && r.Kind == o.Kind && r.Target == o.Target && (r.Issuer == "" || r.Issuer == o.Issuer) &&
		r.Seq >= o.Seq && r.DecidedAfter <= o.DecidedAfter && r.IssuedAfter <= o.IssuedAfter &&
		(r.IssuedBefore == 0 || o.IssuedBefore != 0 && r.IssuedBefore >= o.IssuedBefore) &&
		(r.ExpiresAt == 0 || o.ExpiresAt != 0 && r.ExpiresAt >= o.ExpiresAt)
}

// covers says whether any of the tenant's covers the token.
func (w windows) covers(tenant string, c *verify.Claims) bool {
	for _, r := range w[tenant] {
		if verify.Covers(r, c) {
			return true
		}
	}
	return false
}

// live leaves out what has expired at over (seconds); itself when nothing has.
func (w windows) live(over int64) windows {
	gone := func(r verify.Revocation) bool { return r.ExpiresAt != 0 && r.ExpiresAt <= over }
	dropped := false
	for _, all := range w {
		dropped = dropped || slices.ContainsFunc(all, gone)
	}
	if !dropped {
		return w
	}
	next := make(windows)
	for tenant, all := range w {
		if kept := slices.DeleteFunc(slices.Clone(all), gone); len(kept) > 0 {
			next[tenant] = kept
		}
	}
	return next
}

// all lists them by seq.
func (w windows) all() []verify.Revocation {
	list := make([]verify.Revocation, 0, w.len())
	for _, of := range w {
		list = append(list, of...)
	}
	slices.SortFunc(list, func(a, b verify.Revocation) int { return cmp.Compare(a.Seq, b.Seq) })
	return list
}

func (w windows) len() (n int) {
	for _, of := range w {
		n += len(of)
	}
	return n
}
