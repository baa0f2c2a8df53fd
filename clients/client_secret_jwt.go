package clients

import (
	"context"
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// secretLabel is the label under which a secret is sealed: it opens for no other client.
func secretLabel(c *state.Client, s *state.SecretHash) string {
	return "client-secret/" + c.GetTenant() + "/" + c.GetId() + "/" + s.GetId()
}

// newSecret makes the one secret of c; for client_secret_jwt it is kept sealed, since a
// hash verifies no HMAC.
func (r *Registry) newSecret(v *state.View, m maker, c *state.Client) (string, error) {
	secret, row := m.secret(r.cfg.Now())
	if c.GetAuthMethod() == string(oauth.AuthSecretJWT) {
		if r.cfg.Keys.Seal == nil {
			return "", bad("token_endpoint_auth_method", "client_secret_jwt is not served here; use private_key_jwt")
		}
		sealed, err := r.cfg.Keys.Seal(v, secretLabel(c, row), []byte(secret))
		if err != nil {
			return "", err
		}
		row.Sealed = []byte(sealed)
	}
	c.Secrets = []*state.SecretHash{row}
	return secret, nil
}

// fits tells whether the secrets of c are of the form that its method needs, and drops
// what it has no need of.
func fits(c *state.Client) bool {
	if c.GetAuthMethod() == string(oauth.AuthSecretJWT) {
		return len(c.GetSecrets()) > 0 && !slices.ContainsFunc(c.GetSecrets(), func(s *state.SecretHash) bool { return len(s.GetSealed()) == 0 })
	}
	for _, s := range c.GetSecrets() {
		s.Sealed = nil
	}
	return len(c.GetSecrets()) > 0
}

// verifiesMAC checks an assertion of client_secret_jwt with the live secrets of the
// client.
func (a *Authenticator) verifiesMAC(_ context.Context, v *state.View, client *state.Client, t *verify.Token) (bool, error) {
	now := max(a.cfg.Now().UnixMilli(), v.Clock())
	for _, s := range client.GetSecrets() {
		if len(s.GetSealed()) == 0 || a.cfg.Keys.Open == nil || s.GetExpiresAt() != 0 && s.GetExpiresAt() <= now {
			continue
		}
		secret, ok, err := a.cfg.Keys.Open(v, secretLabel(client, s), string(s.GetSealed()))
		if err != nil {
			return false, err
		}
		if ok && t.VerifyMAC(secret) {
			return true, nil
		}
	}
	return false, nil
}
