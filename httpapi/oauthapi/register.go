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
}

func (h *register) routes() []httpapi.Route {
	own := RegisterPath + "/{client_id}"
	route := func(method, path string, serve func(*fasthttp.RequestCtx, *state.View) error) httpapi.Route {
		return httpapi.Route{Method: method, Path: path, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: serve}
	}
	return []httpapi.Route{
		route("POST", RegisterPath, h.create), route("GET", own, h.read), route("PUT", own, h.update), route("DELETE", own, h.remove),
	}
}

func (h *register) create(c *fasthttp.RequestCtx, v *state.View) error {
	token := ""
	if len(c.Request.Header.Peek(fasthttp.HeaderAuthorization)) > 0 {
		var err error
		if token, err = bearerOf(c); err != nil {
			return err
		}
	}
	// Before what a stranger sent is read.
	if err := h.registry.Admit(v, httpapi.Tenant(c), token, c.RemoteIP().String()); err != nil {
		return registrationError(err)
	}
	members, err := metadataOf(c)
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
	token, err := bearerOf(c)
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
	token, err := bearerOf(c)
	if err != nil {
		return err
	}
	if _, err := h.registry.Own(v, httpapi.Tenant(c), httpapi.Param(c, "client_id"), token); err != nil {
		return registrationError(err)
	}
	members, err := metadataOf(c)
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
	token, err := bearerOf(c)
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
	body, err := r.Marshal(issuer + RegisterPath + "/" + r.ClientID)
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

// metadataOf reads the members; which of them are known is for the registry to say.
func metadataOf(c *fasthttp.RequestCtx) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if err := httpapi.DecodeJSON(c, &members); err != nil {
		return nil, oauth.InvalidClientMetadata.With("the body must be one JSON object of client metadata, sent as application/json, with no member twice")
	}
	return members, nil
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
