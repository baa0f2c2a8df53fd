package adminapi

import (
	"encoding/json"
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/identity"
)

const usersPath = "/admin/v1/users"

// userEndpoints are the users of a tenant's built-in store.
func (a *api) userEndpoints() []endpoint {
	return []endpoint{
		{method: "POST", path: usersPath, tenanted: true, keyed: true, serve: a.createUser},
		{method: "GET", path: usersPath, tenanted: true, offersStale: true, query: []string{"limit", "cursor", "username"}, serve: a.listUsers},
		{method: "GET", path: usersPath + "/{id}", tenanted: true, offersStale: true, serve: a.getUser},
		{method: "PUT", path: usersPath + "/{id}", tenanted: true, keyed: true, serve: a.putUser},
		{method: "PATCH", path: usersPath + "/{id}", tenanted: true, keyed: true, serve: a.patchUser},
		{method: "DELETE", path: usersPath + "/{id}", tenanted: true, keyed: true, serve: a.deleteUser},
		{method: "POST", path: usersPath + "/{id}/password", tenanted: true, keyed: true, serve: a.setPassword},
		{method: "DELETE", path: usersPath + "/{id}/logins", tenanted: true, serve: a.endLogins},
		{method: "DELETE", path: usersPath + "/{id}/lockout", tenanted: true, serve: a.unlockUser},
	}
}

// user is a user as it is answered.
type user struct {
	ID string `json:"id"`
	identity.Profile
	HasPassword bool   `json:"has_password"`
	CreatedAt   int64  `json:"created_at"` // seconds, as the next
	UpdatedAt   int64  `json:"updated_at"`
	Generation  uint64 `json:"generation"` // the ETag
}

func userOf(u *state.User) *user {
	return &user{
		ID: u.GetId(), Profile: *identity.ProfileOf(u), HasPassword: u.GetPassword() != "",
		CreatedAt: u.GetCreatedAt() / 1000, UpdatedAt: u.GetUpdatedAt() / 1000, Generation: u.GetGeneration(),
	}
}

func (r *request) user(status int, u *state.User) error {
	r.Response.Header.Set(fasthttp.HeaderETag, etag(u.GetGeneration()))
	return r.json(status, userOf(u))
}

func (a *api) createUser(r *request) error {
	p := new(identity.Profile)
	if err := httpapi.DecodeJSON(r.RequestCtx, p); err != nil {
		return err
	}
	made, err := a.Users.Create(r.ctx, r.tenant, p)
	if err != nil {
		return nameTaken(err)
	}
	r.Response.Header.Set(fasthttp.HeaderLocation, r.below(usersPath+"/"+escape(made.GetId())))
	return r.user(fasthttp.StatusCreated, made)
}

// nameTaken names the member where the state refuses a second account of one name.
func nameTaken(err error) error {
	if errors.Is(err, command.Conflict) || errors.Is(err, command.Exists) {
		return conflict("exists", "username", "a user of this name is there, or of one that looks the same; choose another")
	}
	return err
}

func (a *api) listUsers(r *request) error {
	if name := r.query.Get("username"); name != "" {
		return a.findUser(r, name)
	}
	limit, err := r.limit()
	if err != nil {
		return err
	}
	after, err := a.after(r, "users")
	if err != nil {
		return err
	}
	rows, err := r.view.Users(r.tenant, after, limit+1)
	if err != nil {
		return err
	}
	p := page[*user]{Items: []*user{}}
	if len(rows) > limit {
		rows = rows[:limit]
		if p.Next, err = a.cursor(r, "users", rows[limit-1].GetId()); err != nil {
			return err
		}
	}
	for _, u := range rows {
		p.Items = append(p.Items, userOf(u))
	}
	return r.json(fasthttp.StatusOK, p)
}

// findUser lists the one user of a name, however it is written.
func (a *api) findUser(r *request, name string) error {
	p := page[*user]{Items: []*user{}}
	if key, err := identity.FoldName(name); err == nil {
		u, err := r.view.UserByName(r.tenant, key)
		if err != nil && !a.Absent(err) {
			return err
		}
		if err == nil {
			p.Items = append(p.Items, userOf(u))
		}
	}
	return r.json(fasthttp.StatusOK, p)
}

// currentUser is the user that the path names.
func (a *api) currentUser(r *request) (*state.User, error) {
	u, err := r.view.User(r.tenant, httpapi.Param(r.RequestCtx, "id"))
	if a.Absent(err) {
		return nil, notFound("there is no such user")
	}
	return u, err
}

func (a *api) getUser(r *request) error {
	u, err := a.currentUser(r)
	if err != nil {
		return err
	}
	return r.user(fasthttp.StatusOK, u)
}

func (a *api) putUser(r *request) error {
	p := new(identity.Profile)
	if err := httpapi.DecodeJSON(r.RequestCtx, p); err != nil {
		return err
	}
	return a.changeUser(r, func(*state.User) (*identity.Profile, error) { return p, nil })
}

// patchUser is a merge patch (RFC 7396).
func (a *api) patchUser(r *request) error {
	patch := map[string]json.RawMessage{}
	if err := httpapi.DecodeJSON(r.RequestCtx, &patch); err != nil {
		return err
	}
	return a.changeUser(r, func(u *state.User) (*identity.Profile, error) {
		before, err := json.Marshal(identity.ProfileOf(u))
		if err != nil {
			return nil, err
		}
		after, err := merge(before, patch)
		if err != nil {
			return nil, err
		}
		r.Request.SetBodyRaw(after) // the strict decoder reads the body
		p := new(identity.Profile)
		return p, httpapi.DecodeJSON(r.RequestCtx, p)
	})
}

// setPassword gives a user a new password, which ends every login of before.
func (a *api) setPassword(r *request) error {
	var in struct {
		Password   string `json:"password"`
		MustChange bool   `json:"must_change_password"` // at the next login
	}
	if err := httpapi.DecodeJSON(r.RequestCtx, &in); err != nil {
		return err
	}
	if in.Password == "" {
		return invalid("password", "it is missing; send the new password")
	}
	return a.changeUser(r, func(u *state.User) (*identity.Profile, error) {
		p := identity.ProfileOf(u)
		p.Password, p.MustChange = in.Password, in.MustChange
		return p, nil
	})
}

// changeUser makes one change on the newest record, as changeClient does.
func (a *api) changeUser(r *request, change func(*state.User) (*identity.Profile, error)) error {
	for race := 1; ; race++ {
		u, err := a.currentUser(r)
		if err != nil {
			return err
		}
		expect, named, err := r.ifMatch(u.GetGeneration())
		if err != nil {
			return err
		}
		p, err := change(u)
		if err != nil {
			return err
		}
		changed, err := a.Users.Update(r.ctx, r.view, r.tenant, u.GetId(), p, expect)
		switch {
		case err == nil:
			return r.user(fasthttp.StatusOK, changed)
		case !errors.Is(err, command.Stale):
			return nameTaken(err)
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

func (a *api) deleteUser(r *request) error {
	id := httpapi.Param(r.RequestCtx, "id")
	var expect uint64 // whichever there is
	u, err := a.currentUser(r)
	if err == nil {
		tagged, named, mismatch := r.ifMatch(u.GetGeneration())
		if mismatch != nil {
			return mismatch
		}
		if named {
			expect = tagged
		}
	} else if _, _, retry := command.KeyFrom(r.ctx); !retry {
		return err
	}
	err = a.Users.Delete(r.ctx, r.view, r.tenant, id, expect) // a retry gets the kept answer
	switch {
	case errors.Is(err, command.Stale):
		return errChanged
	case err != nil:
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// endLogins ends every session, refresh token and access token of a user.
func (a *api) endLogins(r *request) error {
	u, err := a.currentUser(r)
	if err == nil {
		err = a.Users.EndLogins(r.ctx, r.view, r.tenant, u.GetId())
	}
	if err != nil {
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

func (a *api) unlockUser(r *request) error {
	u, err := a.currentUser(r)
	if err == nil {
		err = a.Users.Unlock(r.ctx, r.tenant, u.GetId())
	}
	if err != nil {
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}
