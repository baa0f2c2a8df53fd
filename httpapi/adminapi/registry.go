package adminapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
)

// registry is one of the lists of names of a tenant: scopes, roles, groups, trusted
// issuers. T is the form of its rows as JSON, without what the server owns.
type registry[T any] struct {
	path, list, noun string
	key              string   // the member with the name; "" is name
	query            []string // of DELETE
	rows             func(v *state.View, tenant string) []row[T]
	row              func(v *state.View, tenant, name string) (row[T], bool)
	check            func(r *request, name string, in *T) error
	put              func(tenant string, in *row[T], expect uint64) command.Command
	remove           func(r *request, name string, expect uint64) (command.Command, error)
	inUse            string // why a removal is refused
}

// row is one line of a registry.
type row[T any] struct {
	Name       string
	Body       T
	Created    int64 // seconds
	Generation uint64
	key        string // see registry
}

// MarshalJSON puts name, members and time into one object.
func (l row[T]) MarshalJSON() ([]byte, error) {
	body, err := json.Marshal(l.Body)
	if err != nil {
		return nil, err
	}
	name, err := json.Marshal(l.Name)
	if err != nil {
		return nil, err
	}
	created, err := json.Marshal(l.Created)
	if err != nil {
		return nil, err
	}
	out := slices.Concat([]byte(`{"`+keyOf(l.key)+`":`), name)
	if len(body) > 2 {
		out = slices.Concat(out, []byte(","), body[1:len(body)-1])
	}
	return slices.Concat(out, []byte(`,"created_at":`), created, []byte("}")), nil
}

func keyOf(key string) string {
	if key == "" {
		return "name"
	}
	return key
}

func (g *registry[T]) endpoints(a *api) []endpoint {
	one := g.path + "/{id}"
	with := func(serve func(*api, *request) error) func(*request) error {
		return func(r *request) error { return serve(a, r) }
	}
	return []endpoint{
		{method: "POST", path: g.path, tenanted: true, keyed: true, serve: with(g.create)},
		{method: "GET", path: g.path, tenanted: true, offersStale: true, query: []string{"limit", "cursor"}, serve: with(g.all)},
		{method: "GET", path: one, tenanted: true, offersStale: true, serve: with(g.get)},
		{method: "PUT", path: one, tenanted: true, keyed: true, serve: with(g.replace)},
		{method: "PATCH", path: one, tenanted: true, keyed: true, serve: with(g.patch)},
		{method: "DELETE", path: one, tenanted: true, keyed: true, query: g.query, serve: with(g.delete)},
	}
}

// named is the name that the path holds: as it is, or "~" and its base64url, for names
// with a slash, a "~" at their head, or what else a path can't hold as it is.
func (r *request) named() (string, error) {
	name := httpapi.Param(r.RequestCtx, "id")
	coded, ok := strings.CutPrefix(name, "~")
	if !ok {
		return name, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(coded)
	if err != nil || len(raw) == 0 {
		return "", invalid("name", "after ~ the path holds the base64url of the name, without padding")
	}
	return string(raw), nil
}

// segment is the name as a path holds it.
func segment(name string) string {
	if strings.HasPrefix(name, "~") || strings.Trim(name, ".") == "" || escape(name) != name {
		return "~" + base64.RawURLEncoding.EncodeToString([]byte(name))
	}
	return name
}

func (g *registry[T]) create(a *api, r *request) error {
	members := map[string]json.RawMessage{}
	if err := httpapi.DecodeJSON(r.RequestCtx, &members); err != nil {
		return err
	}
	var name string
	key := keyOf(g.key)
	if err := json.Unmarshal(members[key], &name); err != nil || name == "" {
		return invalid(key, "the name of the "+g.noun+" is needed")
	}
	delete(members, key)
	in, err := g.decode(r, members, name)
	if err != nil {
		return err
	}
	result, err := a.Propose(r.ctx, g.put(r.tenant, &row[T]{Name: name, Body: *in}, 0))
	if err == nil {
		err = result.Err()
	}
	switch {
	case errors.Is(err, command.Exists):
		return conflict("exists", key, "a "+g.noun+" of this name is there; change it with PUT or PATCH")
	case errors.Is(err, command.NotReady):
		return conflict("conflict", "", "the tenant has as many as it may have; delete one first")
	case err != nil:
		return err
	}
	r.Response.Header.Set(fasthttp.HeaderLocation, r.below(g.path+"/"+segment(name)))
	return g.answer(a, r, fasthttp.StatusCreated, name)
}

// answer shows the row as the state has it now.
func (g *registry[T]) answer(a *api, r *request, status int, name string) error {
	if err := a.fresh(r); err != nil {
		return err
	}
	line, ok := g.row(r.view, r.tenant, name)
	if !ok {
		return conflict("gone", "name", "it was deleted since")
	}
	r.Response.Header.Set(fasthttp.HeaderETag, etag(line.Generation))
	return r.json(status, line)
}

// decode checks members strictly, as if they were the body.
func (g *registry[T]) decode(r *request, members map[string]json.RawMessage, name string) (*T, error) {
	body, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	r.Request.SetBodyRaw(body)
	in := new(T)
	if err := httpapi.DecodeJSON(r.RequestCtx, in); err != nil {
		return nil, err
	}
	return in, g.check(r, name, in)
}

func (g *registry[T]) all(a *api, r *request) error {
	p, err := pageOf(a, r, g.list, g.rows(r.view, r.tenant), func(l *row[T]) string { return l.Name })
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, p)
}

func (g *registry[T]) current(r *request) (row[T], error) {
	name, err := r.named()
	if err != nil {
		return row[T]{}, err
	}
	line, ok := g.row(r.view, r.tenant, name)
	if !ok {
		return row[T]{Name: name}, notFound("there is no such " + g.noun)
	}
	return line, nil
}

func (g *registry[T]) get(_ *api, r *request) error {
	line, err := g.current(r)
	if err != nil {
		return err
	}
	r.Response.Header.Set(fasthttp.HeaderETag, etag(line.Generation))
	return r.json(fasthttp.StatusOK, line)
}

func (g *registry[T]) replace(a *api, r *request) error { return g.change(a, r, nil) }

// patch is a merge patch (RFC 7396).
func (g *registry[T]) patch(a *api, r *request) error {
	return g.change(a, r, func(line row[T], members map[string]json.RawMessage) (map[string]json.RawMessage, error) {
		before, err := json.Marshal(line.Body)
		if err != nil {
			return nil, err
		}
		after, err := merge(before, members)
		if err != nil {
			return nil, err
		}
		whole := map[string]json.RawMessage{}
		return whole, json.Unmarshal(after, &whole)
	})
}

// change makes one change on the newest row, as changeClient does.
func (g *registry[T]) change(a *api, r *request, onto func(row[T], map[string]json.RawMessage) (map[string]json.RawMessage, error)) error {
	sent := map[string]json.RawMessage{}
	if err := httpapi.DecodeJSON(r.RequestCtx, &sent); err != nil {
		return err
	}
	for race := 1; ; race++ {
		line, err := g.current(r)
		if err != nil {
			return err
		}
		var name string
		key := keyOf(g.key)
		if raw, there := sent[key]; there && (json.Unmarshal(raw, &name) != nil || name != line.Name) {
			return invalid(key, "a "+g.noun+" keeps its name; make another one")
		}
		delete(sent, key)
		expect, tagged, err := r.ifMatch(line.Generation)
		if err != nil {
			return err
		}
		members := sent
		if onto != nil {
			if members, err = onto(line, sent); err != nil {
				return err
			}
		}
		in, err := g.decode(r, members, line.Name)
		if err != nil {
			return err
		}
		result, err := a.Propose(r.ctx, g.put(r.tenant, &row[T]{Name: line.Name, Body: *in}, expect))
		if err == nil {
			err = result.Err()
		}
		switch {
		case err == nil:
			return g.answer(a, r, fasthttp.StatusOK, line.Name)
		case !errors.Is(err, command.Stale):
			return err
		case tagged:
			return errChanged
		case race == maxRaces:
			return err
		}
		if err := a.fresh(r); err != nil {
			return err
		}
	}
}

func (g *registry[T]) delete(a *api, r *request) error {
	line, err := g.current(r)
	var expect uint64 // whichever there is
	if err == nil {
		tagged, named, mismatch := r.ifMatch(line.Generation)
		if mismatch != nil {
			return mismatch
		}
		if named {
			expect = tagged
		}
	} else if _, _, retry := command.KeyFrom(r.ctx); !retry || line.Name == "" {
		return err
	}
	c, err := g.remove(r, line.Name, expect)
	if err != nil {
		return err
	}
	result, err := a.Propose(r.ctx, c)
	if err == nil {
		err = result.Err()
	}
	switch {
	case errors.Is(err, command.Stale):
		return errChanged
	case errors.Is(err, command.Conflict):
		return conflict("in_use", "", g.inUse)
	case err != nil:
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}
