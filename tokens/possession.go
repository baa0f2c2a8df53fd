package tokens

import (
	"context"
	"errors"
	"strings"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// Presented is an access token as a request shows it at a resource of ours, with what
// proves that its sender may use it.
type Presented struct {
	Scheme, Token string // of the Authorization header
	Proof         string // the DPoP header; "" for none
	X5T           string // thumbprint of the certificate of the client; "" for none
	Method, URL   string // of the request, as a proof must name them
}

// DPoPChallenge is the challenge for a token that is bound to a key (RFC 9449 §7.1).
func DPoPChallenge(code oauth.Code) string {
	c := `DPoP algs="` + strings.Join(verify.ProofAlgs(), " ") + `"`
	if code != "" {
		c += `, error="` + string(code) + `"`
	}
	return c
}

// refusedProof is a refusal of a proof as a resource answers it.
func refusedProof(err error) error {
	var refusal *oauth.Error
	if errors.As(err, &refusal) && (refusal.Code() == oauth.InvalidDPoPProof || refusal.Code() == oauth.UseDPoPNonce) {
		return refusal.WithStatus(401).WithChallenge(DPoPChallenge(refusal.Code()))
	}
	return err
}

// Held tells whether the sender of a token holds what it is bound to: nil for one that is
// bound to nothing and comes as bearer token. A bound token is never taken as one, nor
// any other with the scheme DPoP (RFC 9449 §7.2). s is the token's, from
// Introspector.Holder. It uses the proof up: ask once a request. The nonce is for the
// answer, whatever that is; "" where no proof came.
// Errors, all answered with 401: invalid_token, invalid_dpop_proof, use_dpop_nonce.
func (p *Proofs) Held(ctx context.Context, v *state.View, s *Subject, shown *Presented) (nonce string, err error) {
	if shown.Proof != "" {
		if nonce, err = p.Nonce(v, s.Tenant); err != nil {
			return "", err
		}
	}
	dpop := strings.EqualFold(shown.Scheme, "DPoP")
	switch {
	case s.Bound && s.JKT == "" && s.X5T == "":
		err = oauth.InvalidToken.With("the token is bound in a way that can't be checked here")
	case s.JKT != "" && !dpop:
		err = oauth.InvalidToken.With("the token is bound to a DPoP key; send it with the scheme DPoP and a proof").
			WithChallenge(DPoPChallenge(oauth.InvalidToken))
	case s.JKT == "" && dpop:
		err = oauth.InvalidToken.With("the token is bound to no DPoP key; send it with the scheme Bearer")
	case s.X5T != "" && s.X5T != shown.X5T:
		err = oauth.InvalidToken.With("the token is bound to the client's certificate; send it over a connection with that certificate")
	case dpop:
		err = p.proves(ctx, v, s, shown)
	}
	return nonce, err
}

// proves takes the proof that came with a token that is bound to a key.
func (p *Proofs) proves(ctx context.Context, v *state.View, s *Subject, shown *Presented) error {
	if shown.Proof == "" {
		return refusedProof(oauth.InvalidDPoPProof.With("the DPoP header with the proof is missing"))
	}
	read, err := p.Read(v, s.Tenant, shown.Proof, verify.ProofExpect{Method: shown.Method, URL: shown.URL, Token: shown.Token})
	if err == nil && read.JKT != s.JKT {
		err = oauth.InvalidDPoPProof.With("the proof is of another key than the one that the token is bound to")
	}
	if err == nil {
		err = p.Use(ctx, &read)
	}
	return refusedProof(err)
}
