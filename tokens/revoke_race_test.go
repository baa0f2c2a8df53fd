package tokens_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens"
)

// TestLifetimeRaisedWhileRevoking is G11: between the view on which a revocation was
// decided and its commit, a client gets a longer life and a token of it. The
// revocation lasts as long as that token, also when the first try was made under an
// Idempotency-Key and its answer was lost.
func TestLifetimeRaisedWhileRevoking(t *testing.T) {
	t.Parallel()
	const day = 86_400
	for name, target := range map[string]tokens.Target{"client": {ClientID: "orders"}, "subject": {Subject: "orders"}} {
		for _, keyed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				k := newKit(t, tokens.KeyJobConfig{})
				k.addKeys(t, "ES256")
				client := k.addClient(t, &state.Client{Id: "orders"})
				var token string
				lost := keyed
				revoker, err := tokens.NewRevoker(k.intro, k.View, func(ctx context.Context, c command.Command) (command.Result, error) {
					if token == "" {
						k.must(t, &command.PutClient{Expect: client.GetGeneration(), Client: &state.Client{Tenant: "default", Id: "orders", AccessTokenLifetime: day}})
						claims := k.claims("orders")
						claims.Expires = k.now().Unix() + day
						token = k.mint(t, claims)
					}
					result, err := k.Propose(ctx, c)
					if lost {
						lost = false
						return command.Result{}, command.ErrOutcomeUnknown
					}
					return result, err
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx := context.Background()
				if keyed {
					ctx = command.WithKey(ctx, command.Key{1, 2, 3}, [8]byte{4})
				}
				v := k.view()
				_, err = revoker.RevokeTarget(ctx, v, "default", &target)
				if keyed && err != nil {
					_, err = revoker.RevokeTarget(ctx, k.view(), "default", &target)
				}
				if err != nil {
					t.Fatal(err)
				}
				for range 23 {
					k.pass(time.Hour)
					k.must(t, &command.Expire{UpTo: math.MaxInt64, Limit: 100})
					if a, err := k.intro.Introspect(k.view(), &tokens.Caller{}, token); err != nil || a.Active {
						t.Fatalf("the revoked token is active, %v", err)
					}
				}
			})
		}
	}
}
