package oauthapi

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// RegisterPath is where clients register themselves, below a tenant's issuer.
const RegisterPath = "/oauth2/register"

// register answers RFC 7591 and RFC 7592: POST makes a client for who shows an initial
// access token, or for anybody where the tenant's registration is open; GET, PUT and DELETE below it are for who shows the client's own
// registration access token.
type register struct {
	registry *clients.Registry
	keys     *tokens.SigningKeys
	view     func(ctx context.Context, f state.Freshness) (*state.View, error)
	dialect
}

// dialect is how those who register say what they say.
type dialect struct {
	path string
	// token is what admits the request.
	token func(c *fasthttp.RequestCtx) (string, error)
	// in makes members those of RFC 7591; id is the client's that an update is of, else "".
	in func(members map[string]json.RawMessage, id string) error
	// out is the answer; uri is where the registration is managed.
	out func(r *clients.SelfRegistered, uri string) ([]byte, error)
}

// rfc7591 is the one that needs no words of another.
func rfc7591() dialect {
	return dialect{RegisterPath, bearerOf, func(map[string]json.RawMessage, string) error { return nil }, (*clients.SelfRegistered).Marshal}
}

// registrations are the routes of every dialect.
func registrations(r *clients.Registry, keys *tokens.SigningKeys, view func(ctx context.Context, f state.Freshness) (*state.View, error)) []httpapi.Route {
	own := (&register{r, keys, view, rfc7591()}).routes()
	dcr := (&register{r, keys, view, wso2DCR()}).routes()
	return append(append(own, dcr...), (&register{r, keys, view, wso2Registration()}).routes()[:1]...)
}

// routes begin with the one that makes a client.
func (h *register) routes() []httpapi.Route {
	own := h.path + "/{client_id}"
	route := func(method, path string, serve func(*fasthttp.RequestCtx, *state.View) error) httpapi.Route {
		return httpapi.Route{Method: method, Path: path, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: serve}
	}
	return []httpapi.Route{
		route("POST", h.path, h.create), route("GET", own, h.read), route("PUT", own, h.update), route("DELETE", own, h.remove),
	}
}

func (h *register) create(c *fasthttp.RequestCtx, v *state.View) error {
	token := ""
	if len(c.Request.Header.Peek(fasthttp.HeaderAuthorization)) > 0 {
		var err error
		if token, err = h.token(c); err != nil {
			return err
		}
	}
	// Before what a stranger sent is read.
	if err := h.registry.Admit(v, httpapi.Tenant(c), token, httpapi.Remote(c)); err != nil {
		return registrationError(err)
	}
	members, err := h.metadata(c, httpapi.Param(c, "client_id"))
	if err != nil {
		return err
	}
	made, err := h.registry.Register(httpapi.Context(c), v, httpapi.Tenant(c), token, members)
	if err != nil {
		return registrationError(err)
	}
	return h.answer(c, v, fasthttp.StatusCreated, made)
}

func (h *register) read(c *fasthttp.RequestCtx, v *state.View) error {
	token, err := h.token(c)
	if err != nil {
		return err
	}
	own, err := h.registry.Own(v, httpapi.Tenant(c), httpapi.Param(c, "client_id"), token)
	if err != nil {
		return registrationError(err)
	}
	return h.answer(c, v, fasthttp.StatusOK, own)
}

// maxRaces bounds how often a change that was overtaken by another is decided anew.
const maxRaces = 3

func (h *register) update(c *fasthttp.RequestCtx, v *state.View) error {
	token, err := h.token(c)
	if err != nil {
		return err
	}
	if _, err := h.registry.Own(v, httpapi.Tenant(c), httpapi.Param(c, "client_id"), token); err != nil {
		return registrationError(err)
	}
	members, err := h.metadata(c, httpapi.Param(c, "client_id"))
	if err != nil {
		return err
	}
	for race := 1; ; race++ {
		changed, err := h.registry.UpdateOwn(httpapi.Context(c), v, httpapi.Tenant(c), httpapi.Param(c, "client_id"), token, members)
		if err == nil {
			return h.answer(c, v, fasthttp.StatusOK, changed)
		}
		if v, err = h.again(c, err, race); err != nil {
			return err
		}
	}
}

func (h *register) remove(c *fasthttp.RequestCtx, v *state.View) error {
	token, err := h.token(c)
	if err != nil {
		return err
	}
	for race := 1; ; race++ {
		err := h.registry.DeleteOwn(httpapi.Context(c), v, httpapi.Tenant(c), httpapi.Param(c, "client_id"), token)
		if err == nil {
			c.SetStatusCode(fasthttp.StatusNoContent)
			return nil
		}
		if v, err = h.again(c, err, race); err != nil {
			return err
		}
	}
}

// again gives a fresh view where another change was quicker; any other error is the
// answer. What is found then is judged by the token as at first.
func (h *register) again(c *fasthttp.RequestCtx, err error, race int) (*state.View, error) {
	if !errors.Is(err, command.Stale) && !errors.Is(err, command.NotFound) || race == maxRaces {
		return nil, registrationError(err)
	}
	v, err := h.view(httpapi.Context(c), state.Linearizable)
	return v, clients.NoView(err)
}

func (h *register) answer(c *fasthttp.RequestCtx, v *state.View, status int, r *clients.SelfRegistered) error {
	issuer, err := h.keys.Issuer(v, httpapi.Tenant(c))
	if err != nil {
		return err
	}
	body, err := h.out(r, issuer+RegisterPath+"/"+r.ClientID)
	if err != nil {
		return err
	}
	c.SetStatusCode(status)
	c.SetContentType("application/json")
	c.SetBody(body)
	return nil
}

// bearerOf is the token of the Authorization header (RFC 6750 §2.1), the one place for
// it here.
func bearerOf(c *fasthttp.RequestCtx) (string, error) {
	header := c.Request.Header.Peek(fasthttp.HeaderAuthorization)
	if !isBearer(header) {
		return "", oauth.InvalidToken.With("send the access token of registration as Authorization: Bearer")
	}
	return strings.Trim(string(header[len("Bearer "):]), " "), nil
}

// metadata reads the members; which of them are known is for the registry to say.
func (h *register) metadata(c *fasthttp.RequestCtx, id string) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if err := httpapi.DecodeJSON(c, &members); err != nil {
		return nil, oauth.InvalidClientMetadata.With("the body must be one JSON object of client metadata, sent as application/json, with no member twice")
	}
	return members, h.in(members, id)
}

// registrationError makes the answer of RFC 7591 §3.2.2 of what the registry says.
func registrationError(err error) error {
	var field *clients.FieldError
	switch {
	case errors.As(err, &field):
		code := oauth.InvalidClientMetadata
		if field.Field == "redirect_uris" {
			code = oauth.InvalidRedirectURI
		}
		return code.With(field.Error())
	case errors.Is(err, clients.ErrFull):
		return oauth.TemporarilyUnavailable.With(clients.ErrFull.Error()).WithStatus(fasthttp.StatusTooManyRequests).WithRetryAfter(60)
	case errors.Is(err, clients.ErrTooMany):
		return oauth.TemporarilyUnavailable.With(clients.ErrTooMany.Error()).WithStatus(fasthttp.StatusTooManyRequests).WithRetryAfter(3600)
	}
	return err
}
