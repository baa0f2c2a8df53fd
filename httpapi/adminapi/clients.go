package adminapi

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/httpapi"
)

const clientsPath = "/admin/v1/clients"

// clientEndpoints are the OAuth clients of a tenant, with RFC 7591's member names.
func (a *api) clientEndpoints() []endpoint {
	return []endpoint{
		{method: "POST", path: clientsPath, tenanted: true, keyed: true, serve: a.createClient},
		{method: "GET", path: clientsPath, tenanted: true, offersStale: true, query: []string{"limit", "cursor"}, serve: a.listClients},
		{method: "GET", path: clientsPath + "/{id}", tenanted: true, offersStale: true, serve: a.getClient},
		{method: "PUT", path: clientsPath + "/{id}", tenanted: true, keyed: true, serve: a.putClient},
		{method: "PATCH", path: clientsPath + "/{id}", tenanted: true, keyed: true, serve: a.patchClient},
		{method: "DELETE", path: clientsPath + "/{id}", tenanted: true, keyed: true, serve: a.deleteClient},
		{method: "POST", path: clientsPath + "/{id}/secret", tenanted: true, keyed: true, serve: a.rotateClientSecret},
	}
}

func (a *api) createClient(r *request) error {
	reg := new(clients.Registration)
	if err := httpapi.DecodeJSON(r.RequestCtx, reg); err != nil {
		return err
	}
	made, err := a.Clients.Create(r.ctx, r.view, r.tenant, reg)
	switch {
	case errors.Is(err, command.Exists):
		return conflict("exists", "client_id", "a client of this id is registered; change it with PUT or PATCH, or choose another id")
	case err != nil:
		return err
	}
	r.Response.Header.Set(fasthttp.HeaderLocation, r.below(clientsPath+"/"+escape(made.ClientID)))
	return r.client(fasthttp.StatusCreated, made)
}

// below is a path of the tenant that the request is of.
func (r *request) below(path string) string {
	if at := strings.Index(string(r.Path()), "/admin/v1/"); at > 0 {
		return string(r.Path())[:at] + path
	}
	return path
}

// client answers with a client, its ETag, and the secret if this call made one.
func (r *request) client(status int, c *clients.Registered) error {
	body, err := c.MarshalWithSecret()
	if err != nil {
		return err
	}
	r.Response.Header.Set(fasthttp.HeaderETag, etag(c.Generation))
	r.SetStatusCode(status)
	r.SetContentType("application/json")
	r.SetBody(body)
	return nil
}

func (a *api) listClients(r *request) error {
	limit, err := r.limit()
	if err != nil {
		return err
	}
	after, err := a.after(r, "clients")
	if err != nil {
		return err
	}
	rows := r.view.Clients(r.tenant, after, limit+1)
	p := page[*clients.Registered]{Items: []*clients.Registered{}}
	if len(rows) > limit {
		rows = rows[:limit]
		if p.Next, err = a.cursor(r, "clients", rows[limit-1].GetId()); err != nil {
			return err
		}
	}
	for _, c := range rows {
		p.Items = append(p.Items, clients.FromClient(c))
	}
	return r.json(fasthttp.StatusOK, p)
}

// current is the registration that the path names.
func (r *request) current() (*clients.Registered, error) {
	c, ok := r.view.Client(r.tenant, httpapi.Param(r.RequestCtx, "id"))
	if !ok {
		return nil, notFound("there is no such client")
	}
	return clients.FromClient(c), nil
}

func (a *api) getClient(r *request) error {
	c, err := r.current()
	if err != nil {
		return err
	}
	return r.client(fasthttp.StatusOK, c)
}

func (a *api) putClient(r *request) error {
	reg := new(clients.Registration)
	if err := httpapi.DecodeJSON(r.RequestCtx, reg); err != nil {
		return err
	}
	return a.changeClient(r, func(c *clients.Registered, expect uint64) (*clients.Registered, error) {
		return a.Clients.Update(r.ctx, r.view, r.tenant, c.ClientID, reg, expect)
	})
}

// patchClient is a merge patch (RFC 7396): members that are not named stay, null puts
// one back to its default.
func (a *api) patchClient(r *request) error {
	patch := map[string]json.RawMessage{}
	if err := httpapi.DecodeJSON(r.RequestCtx, &patch); err != nil {
		return err
	}
	return a.changeClient(r, func(c *clients.Registered, expect uint64) (*clients.Registered, error) {
		before, err := json.Marshal(c.Registration)
		if err != nil {
			return nil, err
		}
		after, err := merge(before, patch)
		if err != nil {
			return nil, err
		}
		r.Request.SetBodyRaw(after) // the strict decoder reads the body
		reg := new(clients.Registration)
		if err := httpapi.DecodeJSON(r.RequestCtx, reg); err != nil {
			return nil, err
		}
		return a.Clients.Update(r.ctx, r.view, r.tenant, c.ClientID, reg, expect)
	})
}

// merge applies a merge patch to the members of a JSON object.
func merge(target []byte, patch map[string]json.RawMessage) ([]byte, error) {
	members := map[string]json.RawMessage{}
	if len(target) > 0 && target[0] == '{' { // anything else is replaced whole (RFC 7396 §2)
		if err := json.Unmarshal(target, &members); err != nil {
			return nil, err
		}
	}
	for name, value := range patch {
		inner := map[string]json.RawMessage{}
		switch {
		case string(value) == "null":
			delete(members, name)
		case json.Unmarshal(value, &inner) == nil:
			merged, err := merge(members[name], inner)
			if err != nil {
				return nil, err
			}
			members[name] = merged
		default:
			members[name] = value
		}
	}
	return json.Marshal(members)
}

// maxRaces bounds how often a change that was overtaken is decided anew.
const maxRaces = 3

// changeClient makes one change on the newest registration. With If-Match it is that
// one or none; without, a change that was overtaken by another is decided once more.
func (a *api) changeClient(r *request, change func(c *clients.Registered, expect uint64) (*clients.Registered, error)) error {
	for race := 1; ; race++ {
		c, err := r.current()
		if err != nil {
			return err
		}
		expect, named, err := r.ifMatch(c.Generation)
		if err != nil {
			return err
		}
		changed, err := change(c, expect)
		switch {
		case err == nil:
			return r.client(fasthttp.StatusOK, changed)
		case !errors.Is(err, command.Stale):
			return err
		case named:
			return errChanged
		case race == maxRaces:
			return err
		}
		if err := a.fresh(r); err != nil {
			return err
		}
	}
}

var errChanged = httpapi.Problem(fasthttp.StatusPreconditionFailed, "precondition_failed", "If-Match", "it was changed since it was read; read it again and repeat the change on that")

func etag(generation uint64) string { return `"` + strconv.FormatUint(generation, 10) + `"` }

// ifMatch compares the request's If-Match with the generation (RFC 9110 §13.1.1,
// strong comparison) and gives the one that the change may meet; named: the header names
// it. Under an Idempotency-Key the state compares: a retry of what was done already
// finds its own change, and gets the answer that was kept.
func (r *request) ifMatch(generation uint64) (expect uint64, named bool, err error) {
	header := string(r.Request.Header.Peek(fasthttp.HeaderIfMatch))
	if header == "" || header == "*" { // whatever there is
		return generation, false, nil
	}
	tags, ok := parseTags(header)
	if !ok {
		return 0, false, invalid("If-Match", "send back the ETag as it came, in its quotes")
	}
	if slices.Contains(tags, etag(generation)) {
		return generation, true, nil
	}
	if _, _, retry := command.KeyFrom(r.ctx); retry {
		for _, t := range tags {
			if n, err := strconv.ParseUint(strings.Trim(t, `"`), 10, 64); err == nil && n != 0 {
				return n, true, nil
			}
		}
	}
	return 0, false, errChanged
}

// parseTags reads a list of entity tags (RFC 9110 §8.8.3); a weak one keeps its W/ and
// so matches nothing.
func parseTags(header string) (tags []string, ok bool) {
	for _, t := range strings.Split(header, ",") {
		t = strings.Trim(t, " \t")
		opaque := strings.TrimPrefix(t, "W/")
		if len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' || strings.Contains(opaque[1:len(opaque)-1], `"`) {
			return nil, false
		}
		tags = append(tags, t)
	}
	return tags, true
}

func (a *api) deleteClient(r *request) error {
	id := httpapi.Param(r.RequestCtx, "id")
	var expect uint64 // whichever there is
	c, err := r.current()
	if err == nil {
		tagged, named, mismatch := r.ifMatch(c.Generation)
		if mismatch != nil {
			return mismatch
		}
		if named {
			expect = tagged
		}
	} else if _, _, retry := command.KeyFrom(r.ctx); !retry {
		return err
	}
	_, err = a.Clients.Delete(r.ctx, r.tenant, id, expect) // a retry gets the kept answer
	switch {
	case errors.Is(err, command.Stale):
		return errChanged
	case err != nil:
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

func (a *api) rotateClientSecret(r *request) error {
	var in struct {
		Keep json.RawMessage `json:"keep"` // how long the secret before stays good, 0: no longer; absent: until the next rotation
	}
	if r.hasBody() {
		if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
			return err
		}
	}
	keep, err := duration("keep", in.Keep, clients.UntilNext)
	if err != nil {
		return err
	}
	return a.changeClient(r, func(c *clients.Registered, expect uint64) (*clients.Registered, error) {
		return a.Clients.RotateSecret(r.ctx, r.view, r.tenant, c.ClientID, keep, expect)
	})
}
