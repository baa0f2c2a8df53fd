package grants

import (
	"context"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// defaultAudience is for whom a token is when the request names no resource: of a client
// whose tokens are encrypted the one that can read them.
func defaultAudience(tenant *state.Tenant, client *state.Client, issuer string) string {
	switch named := tenant.GetSettings().GetDefaultAudience(); {
	case client.GetAccessTokenEncryptedAlg() != "" && client.GetAccessTokenFormat() != formatOpaque:
		return clients.Recipient(client)
	case named != "":
		return named
	}
	return issuer
}

// recipient is the key that an access token of the client is encrypted to: of the resource
// server that all of its audience is. Without it there is no token, and none in clear.
func (p *Pipeline) recipient(ctx context.Context, v *state.View, client *state.Client, audience []string) (verify.EncryptionKey, error) {
	server, ok := v.Client(client.GetTenant(), clients.Recipient(client))
	if !ok || server.GetDisabled() {
		return verify.EncryptionKey{}, oauth.InvalidTarget.Withf("the resource server %.120s, to whose key the client's access tokens are encrypted, was disabled or deleted; ask the client's owner", clients.Recipient(client))
	}
	if !clients.Serves(server, audience) {
		return verify.EncryptionKey{}, oauth.InvalidTarget.Withf("the client's access tokens are encrypted for %.120s; ask for a resource that is registered there, or for none", server.GetId())
	}
	keys, err := p.cfg.Clients.EncryptionKeys(ctx, server, client.GetAccessTokenEncryptedAlg())
	if err != nil {
		return verify.EncryptionKey{}, err
	}
	key, err := verify.FindEncryptionKey(keys, client.GetAccessTokenEncryptedAlg())
	if err != nil {
		return verify.EncryptionKey{}, oauth.InvalidTarget.Withf("the resource server %.120s has no key for %s any more; its owner must register one", server.GetId(), client.GetAccessTokenEncryptedAlg())
	}
	return key, nil
}

// encrypted makes the access token as a JWE around the signed one (RFC 7519 §11.2, RFC
// 9068 §4).
func (p *Pipeline) encrypted(ctx context.Context, v *state.View, client *state.Client, x *exchange, out *Answer) error {
	signed, err := p.cfg.Minter.AppendJWT(ctx, nil, v, &x.claims)
	if err != nil {
		return err
	}
	out.Token, err = tokens.EncryptTo(out.Token[:0], x.sealed, client.GetAccessTokenEncryptedAlg(), client.GetAccessTokenEncryptedEnc(), "JWT", signed)
	return err
}
