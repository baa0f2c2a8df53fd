package clients

import "github.com/keyraft/keyraft/internal/oauth"

// claimPost reads client_secret_post (RFC 6749 §2.3.1): id and secret in the form.
func (r *Request) claimPost() claim {
	return claim{method: oauth.AuthSecretPost, id: r.ID, secret: r.Secret, broken: r.ID == ""}
}
