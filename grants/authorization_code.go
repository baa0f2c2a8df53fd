package grants

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// codeKind is the kind of one-time value that a code is.
const codeKind = "code"

// CodeLifetime is how long a code is good, in seconds (RFC 6749 §4.1.2: ten minutes at
// most).
const CodeLifetime = 60

// codeLabel keeps a code to its tenant, and from passing for another kind of sealed
// value (TOK-20, TOK-21).
func codeLabel(tenant string) string { return "authorization code\x00" + tenant }

// SealCode makes an authorization code: nothing is stored of it until it is redeemed.
func SealCode(boxes *tokens.Boxes, v *state.View, code *state.AuthorizationCode) (string, error) {
	plain, err := proto.Marshal(code)
	if err != nil {
		return "", err
	}
	return boxes.Seal(v, codeLabel(code.GetAuthorization().GetTenant()), plain)
}

// authorizationCode serves grant_type=authorization_code (RFC 6749 §4.1.3, RFC 7636).
type authorizationCode struct{ boxes *tokens.Boxes }

func (authorizationCode) Type() oauth.GrantType { return oauth.GrantAuthorizationCode }

// Freshness is linearizable: user, session and consent are looked at as they are now.
func (authorizationCode) Freshness() state.Freshness { return state.Linearizable }

var errCode = oauth.InvalidGrant.With("the code is unknown, expired, used, or not this client's; start again at the authorization endpoint")

// Authorize opens the code and holds it against the request. A code that another client
// shows stays good for its own (TOK-13). Errors: invalid_request for a malformed
// verifier and for a verifier where none was announced (TOK-18), invalid_grant,
// invalid_target.
func (g authorizationCode) Authorize(_ context.Context, in *Input, out *Decision) error {
	value := in.Form.Get("code")
	if value == "" {
		return oauth.InvalidRequest.With("code is missing")
	}
	plain, ok, err := g.boxes.Open(in.View, codeLabel(in.Tenant.GetId()), value)
	if err != nil {
		return err
	}
	code := &state.AuthorizationCode{}
	if !ok || proto.Unmarshal(plain, code) != nil {
		return errCode
	}
	a := code.GetAuthorization()
	// Another history may not know what was used (R15); another client of the same id is
	// another client.
	if a.GetClientId() != in.Client.GetId() || code.GetClientCreatedAt() != in.Client.GetCreatedAt() || code.GetEpoch() != in.View.Epoch() {
		return errCode
	}
	if code.GetRedirectUri() != in.Form.Get("redirect_uri") {
		return oauth.InvalidGrant.With("redirect_uri must be the one of the authorization request, byte by byte, and left out where that had none")
	}
	if err := verifier(code.GetChallenge(), in.Form.Get("code_verifier")); err != nil {
		return err
	}
	if a.GetJkt() != "" && a.GetJkt() != in.Binding.JKT {
		return oauth.InvalidDPoPProof.With("the code is bound to another DPoP key (dpop_jkt); prove that one")
	}
	if out.Audience, err = ofGrant(in, a.GetResources()); err != nil {
		return err
	}
	if out.Details, err = ofDetails(in, a.GetDetails()); err != nil {
		return err
	}
	out.Authorization = proto.CloneOf(a)
	out.Authorization.Jkt = ""
	out.Subject, out.Scope, out.Grant = a.GetSubject(), a.GetScope(), a.GetGrant()
	out.Refresh, out.Offline = true, code.GetOffline()
	out.Use = OneTime{Kind: codeKind, ID: code.GetId(), ExpiresAt: code.GetExpiresAt(), RevokeOnReuse: true}
	out.Nonce = a.GetNonce()
	return nil
}

// verifier is RFC 7636 §4.6, S256 alone.
func verifier(challenge, verifier string) error {
	switch {
	case challenge == "" && verifier == "":
		return nil
	case challenge == "":
		return oauth.InvalidRequest.With("code_verifier was sent, but the authorization request had no code_challenge: somebody took it out, or the client forgot it")
	case verifier == "":
		return oauth.InvalidGrant.With("code_verifier is missing")
	}
	if len(verifier) < 43 || len(verifier) > 128 {
		return oauth.InvalidRequest.With("code_verifier must be 43 to 128 characters (RFC 7636 §4.1)")
	}
	for i := range len(verifier) {
		if !unreserved(verifier[i]) {
			return oauth.InvalidRequest.With("code_verifier may hold letters, digits and - . _ ~ only (RFC 7636 §4.1)")
		}
	}
	sum := sha256.Sum256([]byte(verifier))
	if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) != 1 {
		return oauth.InvalidGrant.With("code_verifier does not match the code_challenge")
	}
	return nil
}

func unreserved(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '.' || b == '_' || b == '~'
}
