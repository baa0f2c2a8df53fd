package clients

import (
	"slices"

	"github.com/keyraft/keyraft/internal/oauth"
)

// checkExchange holds what a client may do by token exchange against its grants and its
// resources.
func (r *Registration) checkExchange() error {
	may := slices.Contains(r.GrantTypes, string(oauth.GrantTokenExchange))
	for _, m := range [...]struct {
		field string
		set   bool
	}{
		{"token_exchange_subjects", len(r.ExchangeSubjects) > 0},
		{"token_exchange_audiences", len(r.ExchangeAudiences) > 0},
		{"token_exchange_impersonation", r.ExchangeImpersonation},
	} {
		if m.set && !may {
			return bad(m.field, "it is for the grant type %s; add that to grant_types, or leave it out", oauth.GrantTokenExchange)
		}
	}
	if may && r.AuthMethod == string(oauth.AuthNone) {
		return bad("grant_types", "token exchange is for clients that prove who they are; choose another token_endpoint_auth_method than none")
	}
	if err := checkAudiences("token_exchange_subjects", r.ExchangeSubjects); err != nil {
		return err
	}
	if err := checkAudiences("token_exchange_audiences", r.ExchangeAudiences); err != nil {
		return err
	}
	for _, a := range r.ExchangeAudiences {
		if !slices.Contains(r.Resources, a) {
			return bad("token_exchange_audiences", "%.128q is not among its resources; add it there", a)
		}
	}
	return nil
}
