package adminapi

import (
	"encoding/json"
	"errors"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
)

// issuerBody is a trusted issuer: its keys are in exactly one of jwks, jwks_uri and pem.
type issuerBody struct {
	Enabled       *bool           `json:"enabled,omitempty"`
	JWKS          json.RawMessage `json:"jwks,omitempty"`
	JWKSURI       string          `json:"jwks_uri,omitempty"`
	PEM           string          `json:"pem,omitempty"`
	Audiences     []string        `json:"audiences,omitempty"`
	SubjectClaim  string          `json:"subject_claim,omitempty"`
	MapToUser     bool            `json:"map_to_user,omitempty"`
	ClaimMapping  []claimMapping  `json:"claim_mapping,omitempty"`
	Clients       []string        `json:"clients,omitempty"`
	Scopes        []string        `json:"scopes,omitempty"`
	MaxLifetime   clients.Seconds `json:"max_lifetime,omitempty"`
	TokenExchange bool            `json:"token_exchange,omitempty"`
}

type claimMapping struct {
	Remote string `json:"remote"`
	Local  string `json:"local"`
}

// issuerEndpoints are whom a tenant trusts to vouch for subjects. They are named by
// their issuer identifiers.
func (a *api) issuerEndpoints() []endpoint {
	line := func(i *state.TrustedIssuer) row[issuerBody] {
		return row[issuerBody]{i.GetIssuer(), issuerBodyOf(i), seconds(i.GetCreatedAt()), i.GetGeneration(), "issuer"}
	}
	g := &registry[issuerBody]{
		path: "/admin/v1/trusted-issuers", list: "trusted issuers", noun: "trusted issuer", key: "issuer",
		rows: func(v *state.View, tenant string) []row[issuerBody] { return rowsOf(v.TrustedIssuers(tenant), line) },
		row: func(v *state.View, tenant, issuer string) (row[issuerBody], bool) {
			i, ok := v.TrustedIssuer(tenant, issuer)
			return line(i), ok
		},
		check: a.checkIssuer,
		put: func(tenant string, in *row[issuerBody], expect uint64) command.Command {
			i, _ := in.Body.record(tenant, in.Name) // its form was checked
			return &command.PutTrustedIssuer{Issuer: i, Expect: expect}
		},
		remove: func(r *request, issuer string, expect uint64) (command.Command, error) {
			return &command.DeleteTrustedIssuer{Tenant: r.tenant, Issuer: issuer, Expect: expect}, nil
		},
	}
	return g.endpoints(a)
}

func (a *api) checkIssuer(r *request, issuer string, in *issuerBody) error {
	own, err := a.Signing.Issuer(r.view, r.tenant)
	if err != nil {
		return err
	}
	i, err := in.record(r.tenant, issuer)
	if err == nil {
		err = grants.CheckIssuer(i, own, a.OutboundURL)
	}
	var refused *clients.FieldError
	if errors.As(err, &refused) {
		return invalid(refused.Field, refused.Detail) // it is no client's metadata
	}
	return err
}

// record makes the row. The error is a *clients.FieldError.
func (b *issuerBody) record(tenant, issuer string) (*state.TrustedIssuer, error) {
	i := &state.TrustedIssuer{
		Tenant: tenant, Issuer: issuer, Kind: grants.KindJWT, Disabled: b.Enabled != nil && !*b.Enabled, JwksUri: b.JWKSURI, Audiences: b.Audiences,
		SubjectClaim: b.SubjectClaim, MapToUser: b.MapToUser, Clients: b.Clients, Scopes: b.Scopes, MaxLife: int64(b.MaxLifetime), TokenExchange: b.TokenExchange,
	}
	if len(b.JWKS) > 0 && string(b.JWKS) != "null" {
		i.Jwks = b.JWKS
	}
	for _, m := range b.ClaimMapping {
		i.ClaimMapping = append(i.ClaimMapping, &state.ClaimMapping{Remote: m.Remote, Local: m.Local})
	}
	var err error
	if b.PEM != "" {
		i.Certificates, err = grants.ParsePEM(b.PEM)
	}
	return i, err
}

func issuerBodyOf(i *state.TrustedIssuer) issuerBody {
	enabled := !i.GetDisabled()
	b := issuerBody{
		Enabled: &enabled, JWKS: i.GetJwks(), JWKSURI: i.GetJwksUri(), Audiences: i.GetAudiences(), SubjectClaim: i.GetSubjectClaim(),
		MapToUser: i.GetMapToUser(), Clients: i.GetClients(), Scopes: i.GetScopes(), MaxLifetime: clients.Seconds(i.GetMaxLife()), TokenExchange: i.GetTokenExchange(),
	}
	if len(i.GetCertificates()) > 0 {
		b.PEM = grants.FormatPEM(i.GetCertificates())
	}
	for _, m := range i.GetClaimMapping() {
		b.ClaimMapping = append(b.ClaimMapping, claimMapping{m.GetRemote(), m.GetLocal()})
	}
	return b
}
