// Package oauthapi serves the OAuth endpoints: token (RFC 6749), introspection (RFC
// 7662), revocation (RFC 7009), pushed authorization requests (RFC 9126), registration (RFC 7591, RFC 7592), JWKS (RFC 7517) and
// discovery (RFC 8414, OpenID Connect Discovery), one file each. Each handler decodes, asks the room that
// decides, and encodes; none decides by itself.
//
// The freshness of each one's view stands in the table that Routes returns; for the
// token endpoint the grant adds its own. Handlers are safe for concurrent use.
//
// Errors: *oauth.Error of the rooms; Translate turns what a proposal may meet into
// one, for the server's configuration.
package oauthapi

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens"
)

// Paths of the endpoints below a tenant's issuer.
const (
	TokenPath      = "/oauth2/token"
	IntrospectPath = "/oauth2/introspect"
	RevokePath     = "/oauth2/revoke"
	UserinfoPath   = "/oauth2/userinfo"
	JWKSPath       = "/oauth2/jwks"
	OpenIDPath     = "/.well-known/openid-configuration"
	MetadataPath   = "/.well-known/oauth-authorization-server"
)

// Deps are the rooms that decide.
type Deps struct {
	Pipeline     *grants.Pipeline
	Engine       *authorize.Engine
	Clients      *clients.Authenticator
	Keys         *tokens.SigningKeys
	Introspector *tokens.Introspector
	Revoker      *tokens.Revoker
	Proofs       *tokens.Proofs
	Minter       *tokens.Minter
	Subjects     *tokens.Subjects
	Now          func() time.Time
	// Absent tells the error of a row that is not there from that of a store that is
	// damaged or closed.
	Absent func(error) bool
	View   func(ctx context.Context, f state.Freshness) (*state.View, error)
	Grants []oauth.GrantType // those that the pipeline serves, for discovery
	// Pages are the endpoints that a browser is sent to, and the languages of what it is
	// shown: for discovery.
	Pages PagesMetadata
	// Bearer tells who shows a bearer token that is no access token: a gateway by its
	// credential, an operator by an admin token. The error is oauth.InvalidToken.
	Bearer func(v *state.View, token string) (tokens.Caller, error)
	// JWKSCache is how long answers of JWKS and discovery may be cached; 0: five
	// minutes. The key job must know the same one.
	JWKSCache time.Duration
	// Registry, when set, lets clients register themselves.
	Registry *clients.Registry
	// ClientCerts says that certificates of clients reach this server, so that
	// discovery names the methods that need them.
	ClientCerts bool
}

// Routes are the endpoints' lines of the routing table.
func Routes(d Deps) ([]httpapi.Route, error) {
	if d.Pipeline == nil || d.Engine == nil || d.Pages.AuthorizePath == "" || d.Pages.LogoutPath == "" || d.Clients == nil || d.Keys == nil || d.Introspector == nil || d.Revoker == nil ||
		d.View == nil || d.Bearer == nil || len(d.Grants) == 0 || d.Minter == nil || d.Subjects == nil || d.Now == nil || d.Absent == nil || d.Proofs == nil {
		return nil, errors.New("oauthapi: every member of Deps is needed but JWKSCache, Registry and ClientCerts")
	}
	if d.JWKSCache == 0 {
		d.JWKSCache = tokens.DefaultJWKSCache
	}
	if d.JWKSCache < time.Second {
		return nil, errors.New("oauthapi: JWKSCache must be a second or more")
	}
	token, published := newToken(d.Pipeline, d.Proofs), newPublished(&d)
	info := &userinfo{clients: d.Clients, keys: d.Keys, tokens: d.Introspector, subjects: d.Subjects, minter: d.Minter, absent: d.Absent, proofs: d.Proofs}
	signed := &signedIntrospection{d.Keys, d.Minter, d.Now}
	var routes []httpapi.Route
	if d.Registry != nil {
		routes = registrations(d.Registry, d.Keys, d.View)
	}
	routes = append(routes, (&waiting{d.Pipeline}).routes()...)
	return append(routes, []httpapi.Route{
		// The grant asks for more than Local where it must (grants.Grant.Freshness).
		{Method: "POST", Path: TokenPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Local, Serve: token.serve},
		{Method: "POST", Path: IntrospectPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: (&introspect{d.Clients, d.Introspector, d.Bearer, signed}).serve},
		// Linearizable, or a token that another node has just issued were unknown here.
		{Method: "POST", Path: RevokePath, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: (&revoke{d.Clients, d.Revoker}).serve},
		{Method: "POST", Path: PARPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: (&par{d.Clients, d.Engine, d.Proofs, d.Keys, d.Pages.AuthorizePath}).serve},
		{Method: "GET", Path: UserinfoPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: info.serve},
		{Method: "POST", Path: UserinfoPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: info.serve},
		{Method: "GET", Path: JWKSPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Local, Serve: published.jwks},
		{Method: "GET", Path: OpenIDPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Local, Serve: published.metadata},
		{Method: "GET", Path: wso2TokenOpenIDPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Local, Serve: published.metadata},
		{Method: "GET", Path: wso2OpenIDPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Local, Serve: published.metadata},
		// RFC 8414 §3.1 puts the well-known part before the issuer's path; clients of
		// other servers look behind it.
		{Method: "GET", Path: MetadataPath, Also: []string{MetadataPath + "/t/{tenant}"}, Tenanted: true, Class: httpapi.OAuth, Read: state.Local, Serve: published.metadata},
	}...), nil
}

// credentials gathers what a request holds to prove who its client is.
func credentials(c *fasthttp.RequestCtx, form *httpapi.Values) clients.Request {
	cert, chain := httpapi.ClientCertificate(c)
	return clients.Request{
		Certificate: cert, Intermediates: chain,
		Tenant:        httpapi.Tenant(c),
		Authorization: c.Request.Header.Peek(fasthttp.HeaderAuthorization),
		ID:            form.Get("client_id"),
		Secret:        form.Get("client_secret"),
		Assertion:     form.Get("client_assertion"),
		AssertionType: form.Get("client_assertion_type"),
	}
}

// isBearer tells whether the Authorization header is of the scheme Bearer.
func isBearer(authorization []byte) bool {
	scheme, _, found := bytes.Cut(authorization, []byte(" "))
	return found && bytes.EqualFold(scheme, []byte("Bearer"))
}

// retryAfter is what a client is told to wait, in seconds, while there is no leader:
// an election takes about that long.
const retryAfter = 1

// Translate turns what a proposal or a bounded pool may meet into the answer for it;
// nil for any other error. For httpapi.Config.Translate.
func Translate(err error) error {
	switch {
	case errors.Is(err, command.ErrOutcomeUnknown):
		return oauth.OutcomeUnknown.With(command.ErrOutcomeUnknown.Error()).WithRetryAfter(retryAfter)
	case errors.Is(err, command.ErrUnavailable):
		return oauth.TemporarilyUnavailable.With(command.ErrUnavailable.Error()).WithRetryAfter(retryAfter)
	case errors.Is(err, seal.ErrBusy):
		return oauth.TemporarilyUnavailable.With(seal.ErrBusy.Error()).WithRetryAfter(retryAfter)
	case errors.Is(err, command.EpochChanged):
		return oauth.TemporarilyUnavailable.With("the cluster was restored at this moment; try again").WithRetryAfter(retryAfter)
	}
	return nil
}
