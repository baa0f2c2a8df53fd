package state

import "github.com/keyraft/keyraft/storage"

// InitialAccessToken returns one initial access token.
func (v *View) InitialAccessToken(tenant, id string) (*InitialAccessToken, bool) {
	return row[*InitialAccessToken](v, storage.Key(tableInitialAccessTokens, tenant, id))
}

// InitialAccessTokens lists those of a tenant by id.
func (v *View) InitialAccessTokens(tenant string) []*InitialAccessToken {
	return all[*InitialAccessToken](v, storage.Key(tableInitialAccessTokens, tenant))
}

// Registrations is how many clients of a tenant have registered themselves.
func (v *View) Registrations(tenant string) uint64 {
	r, _ := row[*Registrations](v, storage.Key(tableRegistrations, tenant))
	return r.GetClients()
}

// PutInitialAccessToken writes one token and queues its end.
func (b *Batch) PutInitialAccessToken(t *InitialAccessToken) {
	key := storage.Key(tableInitialAccessTokens, t.GetTenant(), t.GetId())
	b.put(key, t)
	b.queue(t.GetExpiresAt(), key)
}

// DeleteInitialAccessToken removes one token.
func (b *Batch) DeleteInitialAccessToken(tenant, id string) {
	b.delete(storage.Key(tableInitialAccessTokens, tenant, id))
}

// DeleteInitialAccessTokens forgets those of every tenant.
func (b *Batch) DeleteInitialAccessTokens() { b.deleteTable(tableInitialAccessTokens) }

// PutRegistrations writes how many clients of a tenant have registered themselves.
func (b *Batch) PutRegistrations(tenant string, r *Registrations) {
	b.put(storage.Key(tableRegistrations, tenant), r)
}
