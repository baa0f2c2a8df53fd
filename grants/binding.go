package grants

import (
	"context"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

// binding is what the tokens of this request are bound to: the key of its DPoP proof
// (RFC 9449 §5), and the certificate of a client that is registered so (RFC 8705 §3). A
// client that must have bound tokens gets no others (POP-10). The proof is read
// once a request, and used up later.
func (p *Pipeline) binding(v *state.View, tenant *state.Tenant, client *state.Client, issuer string, req *Request, x *exchange) (Binding, error) {
	var b Binding
	if client.GetTlsBound() {
		if b.X5T = clients.Thumbprint(req.Credentials.Certificate); b.X5T == "" {
			return Binding{}, oauth.InvalidRequest.With("the client's tokens are bound to its certificate, and none came; send the request over a connection with the certificate")
		}
	}
	switch {
	case req.Proof == "" && bindsToDPoP(tenant, client):
		return Binding{}, oauth.InvalidDPoPProof.With("the client's tokens are bound to a key; send a proof of it in the DPoP header")
	case req.Proof == "":
		return b, nil
	case x.shown.JKT == "":
		var err error
		x.shown, err = p.cfg.Proofs.Read(v, tenant.GetId(), req.Proof, verify.ProofExpect{Method: "POST", URL: issuer + p.cfg.TokenPath})
		if err != nil {
			return Binding{}, err
		}
	}
	b.JKT = x.shown.JKT
	return b, nil
}

// useProof takes the DPoP proof, when the grant has accepted: only who may have a token
// fills the memory of those that were used.
func (p *Pipeline) useProof(ctx context.Context, x *exchange) error {
	if x.shown.JKT == "" || x.used {
		return nil
	}
	x.used = true
	return p.cfg.Proofs.Use(ctx, &x.shown)
}
