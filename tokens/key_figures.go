package tokens

import (
	"time"

	"github.com/keyraft/keyraft/fsm/state"
)

// KeyFigures are numbers about the signing keys of one algorithm, over all tenants.
type KeyFigures struct {
	Next, Active, Retired, Revoked int

	// Age is how long the oldest of the active keys has been there.
	Age time.Duration
	// Overdue is how long the next step has been due for the tenant that waits
	// longest: to make a key, or to let one take over. 0 when all goes to plan.
	Overdue time.Duration
}

// Figures looks at all signing keys of a view, by algorithm. It writes nothing.
func (j *KeyJob) Figures(v *state.View) map[string]KeyFigures {
	now := j.cfg.Now().UnixMilli()
	out := make(map[string]KeyFigures, algCount)
	for _, t := range v.Tenants() {
		keys := v.SigningKeys(t.GetId())
		for _, alg := range Algs() {
			f := out[alg]
			for _, k := range keys {
				if k.GetAlg() == alg {
					f.count(k, now)
				}
			}
			f.Overdue = max(f.Overdue, since(j.dueSince(t, keys, alg), now))
			out[alg] = f
		}
	}
	return out
}

func (f *KeyFigures) count(k *state.SigningKey, now int64) {
	switch k.GetStatus() {
	case keyNext:
		f.Next++
	case keyActive:
		f.Active++
		f.Age = max(f.Age, since(k.GetCreatedAt(), now))
	case keyRetired:
		f.Retired++
	case keyRevoked:
		f.Revoked++
	}
}

// dueSince is when the next step for one tenant and algorithm was or will be due.
func (j *KeyJob) dueSince(t *state.Tenant, keys []*state.SigningKey, alg string) int64 {
	active := keyWith(keys, alg, keyActive)
	if active == nil {
		return t.GetCreatedAt()
	}
	return j.stepAt(active, keyWith(keys, alg, keyNext))
}

func since(ms, now int64) time.Duration {
	return time.Duration(max(0, now-ms)) * time.Millisecond
}
