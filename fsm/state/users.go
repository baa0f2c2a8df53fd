package state

import (
	"github.com/keyraft/keyraft/storage"
)

// PutUser writes a user and its index by name, in place of old (nil: new).
func (b *Batch) PutUser(old, u *User) {
	if old != nil && old.GetKey() != u.GetKey() {
		b.delete(storage.Key(tableUsersByName, old.GetTenant(), old.GetKey()))
	}
	b.set(storage.Key(tableUsers, u.GetTenant(), u.GetId()), encode(u), nil)
	if old == nil || old.GetKey() != u.GetKey() {
		b.set(storage.Key(tableUsersByName, u.GetTenant(), u.GetKey()), []byte(u.GetId()), nil)
	}
}

// DeleteUser removes a user, its index and the sectors that know it by subjects.
func (b *Batch) DeleteUser(u *User, subjects []string) {
	for _, subject := range subjects {
		b.delete(storage.Key(tablePairwise, u.GetTenant(), subject))
	}
	b.delete(storage.Key(tableUsers, u.GetTenant(), u.GetId()))
	b.delete(storage.Key(tableUsersByName, u.GetTenant(), u.GetKey()))
	prefix := storage.Key(tableSectors, u.GetTenant(), u.GetId())
	b.deleteRange(prefix, storage.PrefixEnd(prefix))
}

// SubjectsOf lists the pairwise subjects of a user as this entry has left them.
func (b *Batch) SubjectsOf(tenant, user string) ([]string, error) {
	prefix := storage.Key(tableSectors, tenant, user)
	var out []string
	err := b.w.Scan(prefix, storage.PrefixEnd(prefix), func(_, subject []byte) error {
		out = append(out, string(subject))
		return nil
	})
	return out, err
}

// Attempts returns the counter of an account's proofs; nil when there is none.
func (b *Batch) Attempts(tenant, user, class string) (*Attempts, error) {
	m := &Attempts{}
	return found(m, b.read(storage.Key(tableAttempts, tenant, user, class), m))
}

// PutAttempts writes a counter, until it counts no more.
func (b *Batch) PutAttempts(tenant, user, class string, a *Attempts) {
	key := storage.Key(tableAttempts, tenant, user, class)
	b.set(key, encode(a), nil)
	b.queue(a.GetExpiresAt(), key)
}

// DeleteAttempts forgets a counter.
func (b *Batch) DeleteAttempts(tenant, user, class string) {
	b.delete(storage.Key(tableAttempts, tenant, user, class))
}

// Attempts returns the counter of an account's proofs.
func (v *View) Attempts(tenant, user, class string) (*Attempts, error) {
	return rowAt(v, &Attempts{}, tableAttempts, tenant, user, class)
}

// AttemptClasses returns up to limit classes in which an account's proofs are counted,
// after after, in order.
func (v *View) AttemptClasses(tenant, user, after string, limit int) ([]string, error) {
	return v.lastParts(tableAttempts, after, limit, tenant, user)
}

// Users returns up to limit users of a tenant whose id is greater than after, by id.
func (v *View) Users(tenant, after string, limit int) ([]*User, error) {
	ids, err := v.lastParts(tableUsers, after, limit, tenant)
	if err != nil {
		return nil, err
	}
	out := make([]*User, 0, len(ids))
	for _, id := range ids {
		u, err := v.User(tenant, id)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}
