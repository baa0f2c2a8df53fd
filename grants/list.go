package grants

import (
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// All are the grants that the token endpoint serves: one line each.
func All(cfg *Config) []Grant {
	trusted := &assertions{&issuerKeys{remote: verify.RemoteSets{Fetch: cfg.Fetch, Failed: cfg.KeysFailed, Now: cfg.Now}}, cfg.Now, cfg.TokenPath, cfg.absent}
	return []Grant{
		clientCredentials{},
		authorizationCode{cfg.Boxes},
		refreshToken{cfg.Refresh, cfg.absent},
		jwtBearer{trusted, cfg.subject},
		tokenExchange{trusted, cfg.Introspector, cfg.subject, cfg.absent},
		password{cfg.Check, cfg.subject, cfg.now},
		deviceCode{cfg},
		backchannel{cfg},
	}
}

// Types are the values of grant_type that All serves, for discovery and for the
// rules of registration.
func Types() []oauth.GrantType {
	all := All(&Config{})
	types := make([]oauth.GrantType, len(all))
	for i, g := range all {
		types[i] = g.Type()
	}
	return types
}
