package fsm

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

// BenchmarkApplyIssueOpaque applies entries of 256 opaque tokens on a real disk.
func BenchmarkApplyIssueOpaque(b *testing.B) {
	const commands = 256
	n := openIn(b, b.TempDir(), storage.Options{})
	n.must(bootstrap())
	n.must(&command.PutClient{Client: client("app")})
	var serial uint64
	data := entry(n.header())
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		data = command.AppendHeader(data[:0], n.header(), commands)
		for range commands {
			serial++
			h := digest("x")
			binary.BigEndian.PutUint64(h, serial)
			data = append(data, encoded(b, &command.IssueOpaque{Hash: h, ClientGeneration: 2, TenantGeneration: 1,
				Token: &state.OpaqueToken{Tenant: "default", Id: fmt.Sprintf("%024d", serial), ClientId: "app", Subject: "app", Scope: "read write",
					Audience: []string{"https://api.example"}, IssuedAt: seconds(0), ExpiresAt: seconds(600), Epoch: 1}}, command.Key(h[:16]), [8]byte{}, false)...)
		}
		size = len(data)
		n.index++
		b.StartTimer()
		if r := n.Apply(n.index, 1, data); len(r) != commands || r[commands-1].Reject != command.Accepted {
			b.Fatalf("%v, halt %v", r, n.haltedBy())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*commands), "ns/command")
	b.ReportMetric(float64(size)/commands, "B/command")
}

// BenchmarkViewClient is a lookup of the hot path among ten thousand clients.
func BenchmarkViewClient(b *testing.B) {
	n := fresh(b)
	n.must(bootstrap())
	for i := range 20 {
		cmds := make([]command.Command, 500)
		for j := range cmds {
			cmds[j] = &command.PutClient{Client: client(fmt.Sprintf("client-%05d", i*500+j))}
		}
		n.do(cmds...)
	}
	v := n.View()
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := v.Client("default", "client-07777"); !ok {
			b.Fatal("no client")
		}
	}
}
