package identity

import (
	"encoding/json"
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
)

// Browsers tell the browsers in which a user has signed in before from those of
// strangers, and from each other: wrong passwords of the whole world lock out strangers
// alone, and those that are typed at one browser lock that one. Nothing is stored; the
// browser keeps a sealed cookie that names whom it knows.
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
	Tenant string      `json:"t"`
	Users  []knownUser `json:"u"` // the latest last
}

// knownUser is one user of a browser. A new password ends it: whoever has had the use of
// the browser, or a copy of its cookie, is a stranger from then on.
type knownUser struct {
	ID      string `json:"i"`
	Browser string `json:"b"` // random: what guesses at this browser are counted under
	Changed int64  `json:"p"` // PasswordChangedAt, as it was
}

// of finds a user's entry; -1 where there is none that counts. It compares for equality,
// so that no two clocks are.
func (k *known) of(user *state.User) int {
	return slices.IndexFunc(k.Users, func(u knownUser) bool {
		return u.ID == user.GetId() && u.Changed == user.GetPasswordChangedAt() && u.Browser != ""
	})
}

func (b *Browsers) read(v *state.View, tenant, cookie string) (known, error) {
	plain, ok, err := b.Open(v, browserLabel, cookie)
	k := known{Tenant: tenant}
	if err != nil || !ok || json.Unmarshal(plain, &k) != nil || k.Tenant != tenant {
		return known{Tenant: tenant}, err
	}
	return k, nil
}

// Knows is the id under which the browser of the cookie is known to the user of this
// name; "" where they have not signed in at it since they have their password.
func (b *Browsers) Knows(v *state.View, tenant, cookie, username string) (string, error) {
	if cookie == "" {
		return "", nil
	}
	k, err := b.read(v, tenant, cookie)
	if err != nil || len(k.Users) == 0 {
		return "", err
	}
	name, err := FoldName(username)
	if err != nil {
		return "", nil // nobody has such a name
	}
	user, err := v.UserByName(tenant, name)
	if err != nil {
		return "", nil // nobody's, so a stranger's
	}
	if i := k.of(user); i >= 0 {
		return k.Users[i].Browser, nil
	}
	return "", nil
}

// Remember is the cookie of a browser at which user has signed in; "" where the one that
// it has says so already. A browser keeps its id as long as it knows the user.
func (b *Browsers) Remember(v *state.View, tenant, cookie string, user *state.User) (string, error) {
	k := known{Tenant: tenant}
	if cookie != "" {
		var err error
		if k, err = b.read(v, tenant, cookie); err != nil {
			return "", err
		}
	}
	entry := knownUser{ID: user.GetId(), Browser: randomID(), Changed: user.GetPasswordChangedAt()}
	if i := k.of(user); i >= 0 {
		if i == len(k.Users)-1 {
			return "", nil
		}
		entry = k.Users[i]
	}
	k.Users = append(slices.DeleteFunc(k.Users, func(u knownUser) bool { return u.ID == entry.ID }), entry)
	k.Users = k.Users[max(0, len(k.Users)-maxKnown):]
	plain, err := json.Marshal(k)
	if err != nil {
		return "", err
	}
	return b.Seal(v, browserLabel, plain)
}
