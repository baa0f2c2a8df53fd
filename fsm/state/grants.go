package state

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/storage"
)

// Rows of people and grants are not in memory: a View reads them from the store, and
// they may be newer than its index, never older. The error is storage.ErrNotFound
// when there is none.

func rowAt[T proto.Message](v *View, into T, table byte, parts ...string) (T, error) {
	var none T
	raw, err := v.db.Get(storage.Key(table, parts...))
	if err != nil {
		return none, err
	}
	if err := proto.Unmarshal(raw, into); err != nil {
		return none, fmt.Errorf("row of table %#x: %w: the store is damaged", table, err)
	}
	return into, nil
}

// User returns one user by id.
func (v *View) User(tenant, id string) (*User, error) {
	return rowAt(v, &User{}, tableUsers, tenant, id)
}

// UserByName returns the user whose folded name is key.
func (v *View) UserByName(tenant, key string) (*User, error) {
	id, err := v.db.Get(storage.Key(tableUsersByName, tenant, key))
	if err != nil {
		return nil, err
	}
	return v.User(tenant, string(id))
}

// Session returns one session by its sid.
func (v *View) Session(tenant, id string) (*Session, error) {
	return rowAt(v, &Session{}, tableSessions, tenant, id)
}

// Consent returns what a user allowed a client.
func (v *View) Consent(tenant, user, client string) (*Consent, error) {
	return rowAt(v, &Consent{}, tableConsents, tenant, user, client)
}

// Bounds of a consent: MaxConsentItems of each list, and bytes in all.
const (
	MaxConsentItems = 256 // of each list
	maxConsentText  = 64 << 10
)

// Fits tells whether a consent is within its bounds.
func (x *Consent) Fits() bool {
	size := 0
	for _, list := range [][]string{x.GetScopes(), x.GetResources(), x.GetClaims()} {
		if len(list) > MaxConsentItems {
			return false
		}
		for _, text := range list {
			size += len(text)
		}
	}
	return size <= maxConsentText
}

// Consented is Consent as it counts now: what was allowed to another client of that id,
// which was deleted since, is not there.
func (v *View) Consented(tenant, user, client string) (*Consent, error) {
	c, err := v.Consent(tenant, user, client)
	if now, ok := v.Client(tenant, client); err == nil && ok && now.GetCreatedAt() > c.GetGrantedAt() {
		return nil, storage.ErrNotFound
	}
	return c, err
}

// Consumed returns the row of a one-time value that was used.
func (v *View) Consumed(tenant, kind, id string) (*Consumed, error) {
	return rowAt(v, &Consumed{}, tableConsumed, tenant, kind, id)
}

// RefreshFamily returns one family by its id, the gid of its tokens.
func (v *View) RefreshFamily(tenant, id string) (*RefreshFamily, error) {
	return rowAt(v, &RefreshFamily{}, tableFamilies, tenant, id)
}

// lastParts lists the last part of each key below parts, in order, after after and at
// most limit of them.
func (v *View) lastParts(table byte, after string, limit int, parts ...string) ([]string, error) {
	return lastParts(v.db.Scan, table, after, limit, parts...)
}

type scanner func(lower, upper []byte, fn func(key, value []byte) error) error

func lastParts(scan scanner, table byte, after string, limit int, parts ...string) ([]string, error) {
	prefix := storage.Key(table, parts...)
	var out []string
	err := scan(storage.AppendString(append([]byte(nil), prefix...), after), storage.PrefixEnd(prefix), func(key, _ []byte) error {
		if len(out) == limit {
			return storage.ErrStop
		}
		if last, _, ok := storage.CutString(key[len(prefix):]); ok && (after == "" || last != after) {
			out = append(out, last)
		}
		return nil
	})
	return out, err
}

// SessionsOf lists the sids of a user, FamiliesOf the families, FamiliesOfSession
// those that a session started, ClientsOfSession the clients that it signed in to:
// in order, after after, at most limit of them.
func (v *View) SessionsOf(tenant, user, after string, limit int) ([]string, error) {
	return v.lastParts(tableSessionsByUser, after, limit, tenant, user)
}

// FamiliesOf: see SessionsOf.
func (v *View) FamiliesOf(tenant, user, after string, limit int) ([]string, error) {
	return v.lastParts(tableFamiliesByUser, after, limit, tenant, user)
}

// FamiliesOfSession: see SessionsOf.
func (v *View) FamiliesOfSession(tenant, sid, after string, limit int) ([]string, error) {
	return v.lastParts(tableFamiliesBySession, after, limit, tenant, sid)
}

// ClientsOfSession: see SessionsOf.
func (v *View) ClientsOfSession(tenant, sid, after string, limit int) ([]string, error) {
	return v.lastParts(tableSessionClients, after, limit, tenant, sid)
}

// PairwiseSubjects lists the subjects under which sectors know a user.
func (v *View) PairwiseSubjects(tenant, user string) ([]string, error) {
	prefix := storage.Key(tableSectors, tenant, user)
	var out []string
	err := v.db.Scan(prefix, storage.PrefixEnd(prefix), func(_, subject []byte) error {
		out = append(out, string(subject))
		return nil
	})
	return out, err
}

// UserBySubject returns the user whom a subject of the tenant's tokens stands for: a
// user's id, or a pairwise subject under which some sector knows one.
func (v *View) UserBySubject(tenant, subject string) (*User, error) {
	id, err := v.db.Get(storage.Key(tablePairwise, tenant, subject))
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return v.User(tenant, subject)
	case err != nil:
		return nil, err
	}
	return v.User(tenant, string(id))
}

// The same reads in a batch see the entry's own writes; nil when there is no row.

// User returns a user as this entry has left it.
func (b *Batch) User(tenant, id string) (*User, error) {
	m := &User{}
	return found(m, b.read(storage.Key(tableUsers, tenant, id), m))
}

// UserIDByName returns the id of the user with this folded name; "" for none.
func (b *Batch) UserIDByName(tenant, key string) (string, error) {
	return b.text(storage.Key(tableUsersByName, tenant, key))
}

// Session returns a session as this entry has left it.
func (b *Batch) Session(tenant, id string) (*Session, error) {
	m := &Session{}
	return found(m, b.read(storage.Key(tableSessions, tenant, id), m))
}

// Consent returns a consent as this entry has left it.
func (b *Batch) Consent(tenant, user, client string) (*Consent, error) {
	m := &Consent{}
	return found(m, b.read(storage.Key(tableConsents, tenant, user, client), m))
}

// RefreshFamily returns a family as this entry has left it.
func (b *Batch) RefreshFamily(tenant, id string) (*RefreshFamily, error) {
	m := &RefreshFamily{}
	return found(m, b.read(storage.Key(tableFamilies, tenant, id), m))
}

// PutFamily writes a refresh family, its indexes, and its place in the expiry queue.
func (b *Batch) PutFamily(old, f *RefreshFamily) {
	a := f.GetAuthorization()
	key := storage.Key(tableFamilies, a.GetTenant(), f.GetId())
	b.set(key, encode(f), nil)
	if f.GetExpiresAt() != 0 && f.GetExpiresAt() != old.GetExpiresAt() {
		b.queue(f.GetExpiresAt(), key)
	}
	if old != nil {
		return
	}
	if a.GetUser() != "" {
		b.set(storage.Key(tableFamiliesByUser, a.GetTenant(), a.GetUser(), f.GetId()), nil, nil)
	}
	if a.GetSession() != "" {
		b.set(storage.Key(tableFamiliesBySession, a.GetTenant(), a.GetSession(), f.GetId()), nil, nil)
	}
}

// DeleteFamily removes a refresh family and its indexes.
func (b *Batch) DeleteFamily(f *RefreshFamily) {
	a := f.GetAuthorization()
	b.delete(storage.Key(tableFamilies, a.GetTenant(), f.GetId()))
	if a.GetUser() != "" {
		b.delete(storage.Key(tableFamiliesByUser, a.GetTenant(), a.GetUser(), f.GetId()))
	}
	if a.GetSession() != "" {
		b.delete(storage.Key(tableFamiliesBySession, a.GetTenant(), a.GetSession(), f.GetId()))
	}
}

// PutSessionClient records that a session signed in to a client, for its logout. The
// row goes with the session.
func (b *Batch) PutSessionClient(tenant, sid, client string) error {
	key := storage.Key(tableSessionClients, tenant, sid, client)
	_, err := b.w.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		b.set(key, nil, nil)
		return nil
	}
	return err
}

// PutSector records under which subject a sector knows a user, so that a revocation
// by subject finds all of them, and whom a pairwise subject stands for.
func (b *Batch) PutSector(tenant, user, sector, subject string) error {
	key := storage.Key(tableSectors, tenant, user, sector)
	have, err := b.text(key)
	if err == nil && have != subject {
		b.set(key, []byte(subject), nil)
		b.set(storage.Key(tablePairwise, tenant, subject), []byte(user), nil)
	}
	return err
}

func (b *Batch) text(key []byte) (string, error) {
	raw, err := b.w.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return strings.Clone(string(raw)), err
}
