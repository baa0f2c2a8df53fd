package testcluster_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/testcluster"
)

// issuer makes commands that each store one opaque token.
func issuer(b *testing.B, n *testcluster.Node) func() command.Command {
	b.Helper()
	r, err := n.Propose(context.Background(), &command.PutClient{Client: &state.Client{Tenant: tenant, Id: "bench"}})
	if err != nil || r.Err() != nil {
		b.Fatal(err, r.Err())
	}
	t, _ := n.FSM().View().Tenant(tenant)
	return func() command.Command {
		hash := make([]byte, 32)
		_, _ = rand.Read(hash)
		return &command.IssueOpaque{
			Hash: hash, ClientGeneration: r.Generation, TenantGeneration: t.GetGeneration(),
			Token: &state.OpaqueToken{Tenant: tenant, Id: "jti", ClientId: "bench", Scope: "read write", ExpiresAt: time.Now().Unix() + 3600},
		}
	}
}

// BenchmarkIssueOpaque is writes from many clients at once, at the leader and at
// a follower, and one client's latency.
func BenchmarkIssueOpaque(b *testing.B) {
	for _, voters := range []int{1, 3} {
		c := testcluster.Start(b, voters)
		at := map[string]*testcluster.Node{"leader": c.Leader()}
		if voters > 1 {
			at["follower"] = c.Followers()[0]
		}
		for where, n := range at {
			issue := issuer(b, n)
			for _, clients := range []int{1, 128} {
				b.Run(fmt.Sprintf("voters=%d/at=%s/clients=%d", voters, where, clients), func(b *testing.B) {
					took := parallel(b, clients, func() error {
						r, err := n.Propose(context.Background(), issue())
						if err == nil {
							err = r.Err()
						}
						return err
					})
					report(b, took)
				})
			}
			if r, err := n.Propose(context.Background(), &command.DeleteClient{Tenant: tenant, Id: "bench"}); err != nil || r.Err() != nil {
				b.Fatal(err, r.Err())
			}
		}
	}
}

// BenchmarkLinearizableRead shares rounds of the voters between many readers.
func BenchmarkLinearizableRead(b *testing.B) {
	c := testcluster.Start(b, 3)
	for where, n := range map[string]*testcluster.Node{"leader": c.Leader(), "follower": c.Followers()[0]} {
		for _, clients := range []int{1, 128} {
			b.Run(fmt.Sprintf("at=%s/clients=%d", where, clients), func(b *testing.B) {
				report(b, parallel(b, clients, func() error {
					_, err := n.View(context.Background(), state.Linearizable)
					return err
				}))
			})
		}
	}
}

// parallel does b.N operations by so many clients and returns how long each took.
func parallel(b *testing.B, clients int, do func() error) []time.Duration {
	b.Helper()
	took := make([][]time.Duration, clients)
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range clients {
		wg.Go(func() {
			for range b.N/clients + 1 {
				began := time.Now()
				if err := do(); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	return slices.Concat(took...)
}

func report(b *testing.B, took []time.Duration) {
	b.Helper()
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(0, "ns/op")
}
