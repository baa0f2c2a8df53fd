package tokens

import (
	"sync"

	"github.com/keyraft/keyraft/fsm/state"
)

// longestLives remembers the longest life of a tenant's tokens, since a revocation
// is kept for as long as that and a tenant may have a million clients: only what
// changed since the last time is looked at. What it remembers never falls, so a
// revocation may be kept longer than it had to be, never shorter. The zero value
// is ready. Safe for concurrent use.
type longestLives struct {
	mu   sync.Mutex
	seen map[string]tenantLife
}

type tenantLife struct {
	view    *state.View // up to which it was counted
	longest int64       // seconds
}

// of is the longest life, in seconds, that a token of the tenant can have in v.
func (l *longestLives) of(v *state.View, tenant string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.seen[tenant]
	if was.view == nil {
		was.longest = tenantLongest(v, tenant)
	} else {
		t, _ := v.Tenant(tenant)
		was.longest = max(was.longest, clientLongest(t, nil))
		v.ClientsSince(was.view, tenant, func(c *state.Client) { was.longest = max(was.longest, clientLongest(t, c)) })
	}
	if _, ok := v.Tenant(tenant); !ok {
		return was.longest // not kept: names that don't exist would fill the memory
	}
	if was.view == nil || v.Index() > was.view.Index() {
		was.view = v
	}
	if l.seen == nil {
		l.seen = map[string]tenantLife{}
	}
	l.seen[tenant] = was
	return was.longest
}
