package state

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/storage"
)

// Credential returns one proof of a user.
func (v *View) Credential(tenant, user, id string) (*Credential, error) {
	return rowAt(v, &Credential{}, tableCredentials, tenant, user, id)
}

// CredentialsOf lists the proofs of a user in the order of their ids. The state keeps
// them few.
func (v *View) CredentialsOf(tenant, user string) ([]*Credential, error) {
	return credentialsOf(v.db.Scan, tenant, user)
}

// UserByPasskey returns the id of the user whose passkey has this id.
func (v *View) UserByPasskey(tenant, passkey string) (string, error) {
	id, err := v.db.Get(storage.Key(tableCredentialsByPasskey, tenant, passkey))
	return string(id), err
}

// ConsentsOf lists the clients that a user allowed something: see SessionsOf.
func (v *View) ConsentsOf(tenant, user, after string, limit int) ([]string, error) {
	return v.lastParts(tableConsents, after, limit, tenant, user)
}

func credentialsOf(scan scanner, tenant, user string) ([]*Credential, error) {
	prefix := storage.Key(tableCredentials, tenant, user)
	var out []*Credential
	err := scan(prefix, storage.PrefixEnd(prefix), func(_, value []byte) error {
		c := &Credential{}
		if err := proto.Unmarshal(value, c); err != nil {
			return fmt.Errorf("row of table %#x: %w: the store is damaged", tableCredentials, err)
		}
		out = append(out, c)
		return nil
	})
	return out, err
}

// PutSession writes a session, its index, and its place in the expiry queue.
func (b *Batch) PutSession(old, s *Session) {
	key := storage.Key(tableSessions, s.GetTenant(), s.GetId())
	b.set(key, encode(s), nil)
	if s.GetExpiresAt() != old.GetExpiresAt() {
		b.queue(s.GetExpiresAt(), key)
	}
	if old == nil {
		b.set(storage.Key(tableSessionsByUser, s.GetTenant(), s.GetUser(), s.GetId()), nil, nil)
	}
}

// DeleteSession removes a session, its index and the list of its clients.
func (b *Batch) DeleteSession(s *Session) {
	b.delete(storage.Key(tableSessions, s.GetTenant(), s.GetId()))
	b.delete(storage.Key(tableSessionsByUser, s.GetTenant(), s.GetUser(), s.GetId()))
	clients := storage.Key(tableSessionClients, s.GetTenant(), s.GetId())
	b.deleteRange(clients, storage.PrefixEnd(clients))
}

// FamiliesOfSession lists the first families that a session started, as this entry
// has left them.
func (b *Batch) FamiliesOfSession(tenant, sid string, limit int) ([]string, error) {
	return lastParts(b.w.Scan, tableFamiliesBySession, "", limit, tenant, sid)
}

// LeaveSession takes a family out of the list of its session.
func (b *Batch) LeaveSession(tenant, sid, family string) {
	b.delete(storage.Key(tableFamiliesBySession, tenant, sid, family))
}

// PutConsent writes what a user allowed a client.
func (b *Batch) PutConsent(c *Consent) {
	b.set(storage.Key(tableConsents, c.GetTenant(), c.GetUser(), c.GetClientId()), encode(c), nil)
}

// DeleteConsent removes what a user allowed a client.
func (b *Batch) DeleteConsent(tenant, user, client string) {
	b.delete(storage.Key(tableConsents, tenant, user, client))
}

// Credential returns a proof as this entry has left it; nil when there is none.
func (b *Batch) Credential(tenant, user, id string) (*Credential, error) {
	m := &Credential{}
	return found(m, b.read(storage.Key(tableCredentials, tenant, user, id), m))
}

// CredentialsOf lists the proofs of a user as this entry has left them.
func (b *Batch) CredentialsOf(tenant, user string) ([]*Credential, error) {
	return credentialsOf(b.w.Scan, tenant, user)
}

// UserByPasskey returns the user whose passkey has this id; "" for none.
func (b *Batch) UserByPasskey(tenant, passkey string) (string, error) {
	return b.text(storage.Key(tableCredentialsByPasskey, tenant, passkey))
}

// Kinds of credentials. A passkey's id is there once in a tenant; recovery codes stand in
// for another factor and are none alone.
const (
	KindPasskey  = "passkey"
	KindTOTP     = "totp"
	KindRecovery = "recovery"
)

// PutCredential writes a proof of a user, and where a passkey's id is found.
func (b *Batch) PutCredential(c *Credential) {
	b.set(storage.Key(tableCredentials, c.GetTenant(), c.GetUser(), c.GetId()), encode(c), nil)
	if c.GetKind() == KindPasskey {
		b.set(storage.Key(tableCredentialsByPasskey, c.GetTenant(), c.GetId()), []byte(c.GetUser()), nil)
	}
}

// DeleteCredential removes a proof of a user.
func (b *Batch) DeleteCredential(c *Credential) {
	b.delete(storage.Key(tableCredentials, c.GetTenant(), c.GetUser(), c.GetId()))
	if c.GetKind() == KindPasskey {
		b.delete(storage.Key(tableCredentialsByPasskey, c.GetTenant(), c.GetId()))
	}
}

// ForgetProofs removes the credentials and the consents of a user.
func (b *Batch) ForgetProofs(tenant, user string) error {
	credentials, err := b.CredentialsOf(tenant, user)
	if err != nil {
		return err
	}
	for _, c := range credentials {
		b.DeleteCredential(c)
	}
	some, err := lastParts(b.w.Scan, tableConsents, "", 1, tenant, user)
	if err != nil || len(some) == 0 {
		return err
	}
	consents := storage.Key(tableConsents, tenant, user)
	b.deleteRange(consents, storage.PrefixEnd(consents))
	return nil
}
