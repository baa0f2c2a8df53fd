package tokens

import "github.com/keyraft/keyraft/fsm/state"

// LongestLives is longestLives.
type LongestLives struct{ longestLives }

// Of is the longest life in a view.
func (l *LongestLives) Of(v *state.View, tenant string) int64 { return l.of(v, tenant) }

// Kept is how many tenants are remembered.
func (l *LongestLives) Kept() int { return len(l.seen) }
