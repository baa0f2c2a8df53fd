package gateway

import (
	"errors"
	"strings"

	"github.com/keyraft/keyraft/internal/clientcert"
	"github.com/keyraft/keyraft/tokens/verify"
)

const schemeDPoP = "DPoP"

// held asks for the proof of what a token is bound to. A bound token is never taken as
// bearer token, nor any other with the scheme DPoP (RFC 9449 §7.2). A proof needs no
// nonce here, for a gateway has no key to make one: it is good for a minute, once a
// process. It is used up, so this is the last check of a request.
func (g *Gateway) held(c *verify.Claims, r *Request) *Refusal {
	dpop := strings.EqualFold(r.Scheme, schemeDPoP)
	switch {
	case c.Bound && c.JKT == "" && c.X5T == "": // in a way that we don't know
		return refuse(Bound)
	case c.JKT == "" && dpop:
		return refuse(Unbound)
	case c.JKT != "" && (!dpop || r.DPoP == ""):
		refusal := refuse(Bound)
		refusal.Scheme = schemeDPoP
		return refusal
	case c.X5T != "" && c.X5T != clientcert.Thumbprint(r.ClientCert):
		return refuse(Bound)
	case c.JKT == "":
		return nil
	}
	now := g.cfg.Clock.Now().Unix()
	p, err := verify.ParseProof(r.DPoP)
	if err == nil {
		err = p.Check(verify.ProofExpect{Method: r.Method, URL: r.URL, Token: r.Token, Now: now})
	}
	if err != nil {
		refusal := refuse(BadProof)
		refusal.Message = err.Error() // holds no part of it
		return refusal
	}
	if p.Thumbprint != c.JKT {
		return refuse(BadProof)
	}
	switch err := g.proofs.Use(p.ID(), p.KeepUntil(), now); {
	case errors.Is(err, verify.ErrReplayed):
		return refuse(ProofUsed)
	case err != nil:
		return refuse(ProofsFull)
	}
	return nil
}
