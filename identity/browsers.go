package identity

import (
	"encoding/json"
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
)

// Browsers tell the browsers in which a user has signed in before from those of
// strangers: wrong passwords of the whole world lock out strangers alone. Nothing is
// stored; the browser keeps a sealed cookie that names whom it knows.
type Browsers struct {
	Seal func(v *state.View, label string, plain []byte) (string, error)
	Open func(v *state.View, label, value string) (plain []byte, ok bool, err error)
}

// maxKnown bounds the users of one browser; the one that signed in longest ago is
// forgotten first.
const maxKnown = 8

const browserLabel = "known browser"

// known is what such a cookie says.
type known struct {
	Tenant string   `json:"t"`
	Users  []string `json:"u"` // ids, the latest last
}

func (b *Browsers) read(v *state.View, tenant, cookie string) (known, error) {
	plain, ok, err := b.Open(v, browserLabel, cookie)
	k := known{Tenant: tenant}
	if err != nil || !ok || json.Unmarshal(plain, &k) != nil || k.Tenant != tenant {
		return known{Tenant: tenant}, err
	}
	return k, nil
}

// Knows tells whether the user of this name has signed in at the browser of the cookie.
func (b *Browsers) Knows(v *state.View, tenant, cookie, username string) (bool, error) {
	if cookie == "" {
		return false, nil
	}
	k, err := b.read(v, tenant, cookie)
	if err != nil || len(k.Users) == 0 {
		return false, err
	}
	name, err := FoldName(username)
	if err != nil {
		return false, nil // nobody has such a name
	}
	user, err := v.UserByName(tenant, name)
	return err == nil && slices.Contains(k.Users, user.GetId()), nil
}

// Remember is the cookie of a browser at which user has signed in; "" where the one that
// it has says so already.
func (b *Browsers) Remember(v *state.View, tenant, cookie, user string) (string, error) {
	k := known{Tenant: tenant}
	if cookie != "" {
		var err error
		if k, err = b.read(v, tenant, cookie); err != nil {
			return "", err
		}
	}
	if n := len(k.Users); n > 0 && k.Users[n-1] == user {
		return "", nil
	}
	k.Users = append(slices.DeleteFunc(k.Users, func(id string) bool { return id == user }), user)
	k.Users = k.Users[max(0, len(k.Users)-maxKnown):]
	plain, err := json.Marshal(k)
	if err != nil {
		return "", err
	}
	return b.Seal(v, browserLabel, plain)
}
