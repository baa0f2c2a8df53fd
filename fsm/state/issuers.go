package state

import "github.com/keyraft/keyraft/storage"

// TrustedIssuer returns whom a tenant trusts, by the iss of its assertions: byte by
// byte, so that no other spelling passes for it (JWT-25).
func (v *View) TrustedIssuer(tenant, issuer string) (*TrustedIssuer, bool) {
	return row[*TrustedIssuer](v, storage.Key(tableTrustedIssuers, tenant, issuer))
}

// TrustedIssuers lists those of a tenant, those with short names first.
func (v *View) TrustedIssuers(tenant string) []*TrustedIssuer {
	return all[*TrustedIssuer](v, storage.Key(tableTrustedIssuers, tenant))
}

// PutTrustedIssuer writes one trusted issuer.
func (b *Batch) PutTrustedIssuer(i *TrustedIssuer) {
	b.put(storage.Key(tableTrustedIssuers, i.GetTenant(), i.GetIssuer()), i)
}

// DeleteTrustedIssuer removes one trusted issuer.
func (b *Batch) DeleteTrustedIssuer(tenant, issuer string) {
	b.delete(storage.Key(tableTrustedIssuers, tenant, issuer))
}
