package oauthapi

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// published answers what anyone may read: JWKS and discovery.
type published struct {
	keys      *tokens.SigningKeys
	view      func(ctx context.Context, f state.Freshness) (*state.View, error)
	grants    []oauth.GrantType
	cache     string
	registers bool // clients may register themselves
	certs     bool // certificates of clients reach this server
	pages     PagesMetadata
}

func newPublished(d *Deps) *published {
	seconds := strconv.FormatInt(int64(d.JWKSCache/time.Second), 10)
	return &published{keys: d.Keys, view: d.View, grants: d.Grants, cache: "public, max-age=" + seconds, certs: d.ClientCerts, registers: d.Registry != nil, pages: d.Pages}
}

// tenant finds the tenant that is asked for; one that is unknown here is looked for
// once more on a fresh view.
func (p *published) tenant(c *fasthttp.RequestCtx, v *state.View) (*state.View, string, error) {
	id := httpapi.Tenant(c)
	if _, ok := v.Tenant(id); ok {
		return v, id, nil
	}
	v, err := p.view(httpapi.Context(c), state.Linearizable)
	if err != nil {
		return nil, "", clients.NoView(err)
	}
	if _, ok := v.Tenant(id); !ok {
		return nil, "", oauth.InvalidRequest.With("there is no such tenant").WithStatus(fasthttp.StatusNotFound)
	}
	return v, id, nil
}

// jwks answers GET /oauth2/jwks (RFC 7517 §5).
func (p *published) jwks(c *fasthttp.RequestCtx, v *state.View) error {
	v, tenant, err := p.tenant(c, v)
	if err != nil {
		return err
	}
	set, err := p.keys.JWKS(v, tenant)
	if err != nil {
		return err
	}
	c.SetStatusCode(fasthttp.StatusOK)
	c.SetContentType("application/jwk-set+json")
	c.Response.Header.Set(fasthttp.HeaderCacheControl, p.cache)
	c.SetBody(set)
	return nil
}

// metadata is the document of RFC 8414 §2 and OpenID Connect Discovery §3: what is
// served here, and nothing else.
type metadata struct {
	Registration      string            `json:"registration_endpoint,omitempty"`
	Issuer            string            `json:"issuer"`
	Token             string            `json:"token_endpoint"`
	Introspect        string            `json:"introspection_endpoint"`
	Revoke            string            `json:"revocation_endpoint"`
	JWKS              string            `json:"jwks_uri"`
	Grants            []oauth.GrantType `json:"grant_types_supported"`
	Methods           []string          `json:"token_endpoint_auth_methods_supported"`
	AssertionAlgs     []string          `json:"token_endpoint_auth_signing_alg_values_supported"`
	IntrospectMethods []string          `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectAlgs    []string          `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	RevokeMethods     []string          `json:"revocation_endpoint_auth_methods_supported"`
	RevokeAlgs        []string          `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	SubjectTypes      []string          `json:"subject_types_supported"`
	IDTokenAlgs       []string          `json:"id_token_signing_alg_values_supported"`
	DPoPAlgs          []string          `json:"dpop_signing_alg_values_supported"`
	CertificateBound  bool              `json:"tls_client_certificate_bound_access_tokens"`
	RequestURI        bool              `json:"request_uri_parameter_supported"`
	RequestURINamed   bool              `json:"require_request_uri_registration"`
	openIDMetadata
	authorizeMetadata
	waitingMetadata
	AccessTokenFormats []string `json:"access_token_formats_supported"` // ours
}

// metadata answers GET /.well-known/oauth-authorization-server and
// …/openid-configuration.
func (p *published) metadata(c *fasthttp.RequestCtx, v *state.View) error {
	v, tenant, err := p.tenant(c, v)
	if err != nil {
		return err
	}
	issuer, err := p.keys.Issuer(v, tenant)
	if err != nil {
		return err
	}
	methods := clients.Methods()
	if !p.certs {
		methods = slices.DeleteFunc(methods, func(m string) bool { return m == string(oauth.AuthTLS) || m == string(oauth.AuthSelfSignedTLS) })
	}
	algs := append(clients.AssertionAlgs(), verify.HS256)
	var proved []string // what proves who the caller is
	for _, m := range methods {
		if m != string(oauth.AuthNone) {
			proved = append(proved, m)
		}
	}
	t, _ := v.Tenant(tenant)
	allowed := slices.DeleteFunc(append(slices.Clone(p.grants), oauth.GrantImplicit), func(g oauth.GrantType) bool { return !grants.Allows(t, g) })
	registration := ""
	if p.registers {
		registration = issuer + RegisterPath
	}
	c.Response.Header.Set(fasthttp.HeaderCacheControl, p.cache)
	return httpapi.JSON(c, fasthttp.StatusOK, &metadata{
		Registration: registration, Issuer: issuer, Token: issuer + TokenPath, Introspect: issuer + IntrospectPath, Revoke: issuer + RevokePath, JWKS: issuer + JWKSPath,
		Grants:  allowed,
		Methods: methods, AssertionAlgs: algs,
		IntrospectMethods: append(proved, "Bearer"), IntrospectAlgs: algs,
		RevokeMethods: methods, RevokeAlgs: algs,
		SubjectTypes: []string{"public", tokens.SubjectPairwise}, IDTokenAlgs: tokens.Algs(), DPoPAlgs: verify.ProofAlgs(), CertificateBound: p.certs,
		RequestURI: true, RequestURINamed: true,
		openIDMetadata:     newOpenIDMetadata(issuer, allowed),
		authorizeMetadata:  newAuthorizeMetadata(issuer, t, p.pages),
		waitingMetadata:    newWaitingMetadata(issuer),
		AccessTokenFormats: []string{"jwt", "opaque"},
	})
}
