package transport_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/keyraft/keyraft/cluster/transport"
)

// heartbeat is what raft sends when a leader has nothing to say.
func heartbeat(from raft.ServerAddress) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: []byte(from)},
		Term:      7,
	}
}

// raftNodes is three nodes with wrapped transports and a handler set on each.
func raftNodes(t *testing.T, handler func(raft.RPC)) []*transport.RaftTransport {
	t.Helper()
	cluster := newCluster(t, "c1")
	var all []*transport.RaftTransport
	for _, node := range []string{"n1", "n2", "n3"} {
		trans, err := transport.NewRaft(listen(t, cluster.config(t, node)).Raft(), transport.RaftConfig{Timeout: wait})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = trans.Close() })
		raft.Transport(trans).SetHeartbeatHandler(handler) // as raft.NewRaft does
		all = append(all, trans)
	}
	return all
}

// TestHeartbeatsWaitLikeEveryMessage is the core of row K1 (rule R1).
func TestHeartbeatsWaitLikeEveryMessage(t *testing.T) {
	t.Parallel()
	nodes := raftNodes(t, func(rpc raft.RPC) {
		t.Error("a heartbeat took the fast path")
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	for i, from := range nodes {
		to := nodes[(i+1)%len(nodes)]
		answered := make(chan error, 1)
		go func() {
			var got raft.AppendEntriesResponse
			err := from.AppendEntries("x", to.LocalAddr(), heartbeat(from.LocalAddr()), &got)
			if err == nil && got.Term != 8 {
				err = errors.New("the answer is not the main loop's")
			}
			answered <- err
		}()
		select {
		case rpc := <-to.Consumer():
			if got, ok := rpc.Command.(*raft.AppendEntriesRequest); !ok || got.Term != 7 {
				t.Errorf("received %#v", rpc.Command)
			}
			rpc.Respond(&raft.AppendEntriesResponse{Term: 8, Success: true}, nil)
		case err := <-answered:
			t.Fatalf("the heartbeat was answered past the main loop: %v", err)
		case <-time.After(wait):
			t.Fatal("the heartbeat did not arrive")
		}
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}

// TestTheLibraryAloneTakesTheFastPath shows that the wrapper is needed: when
// this fails, the library has changed, and rule R1 can be looked at again.
func TestTheLibraryAloneTakesTheFastPath(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	var bare []*raft.NetworkTransport
	for _, node := range []string{"n1", "n2"} {
		trans := raft.NewNetworkTransport(listen(t, cluster.config(t, node)).Raft(), 1, wait, io.Discard)
		t.Cleanup(func() { _ = trans.Close() })
		bare = append(bare, trans)
	}
	taken := make(chan raft.RPC, 1)
	bare[1].SetHeartbeatHandler(func(rpc raft.RPC) {
		taken <- rpc
		rpc.Respond(&raft.AppendEntriesResponse{Term: 9}, nil)
	})
	var got raft.AppendEntriesResponse
	if err := bare[0].AppendEntries("x", bare[1].LocalAddr(), heartbeat(bare[0].LocalAddr()), &got); err != nil {
		t.Fatal(err)
	}
	if len(taken) != 1 || got.Term != 9 {
		t.Error("the bare transport did not use the handler")
	}
	select {
	case <-bare[1].Consumer():
		t.Error("the bare transport queued the heartbeat too")
	default:
	}
}

// TestOptionalInterfacesSurvive asks as raft asks: on the interface value.
func TestOptionalInterfacesSurvive(t *testing.T) {
	t.Parallel()
	var trans raft.Transport = raftNodes(t, nil)[0]
	if _, ok := trans.(raft.WithPreVote); !ok {
		t.Error("raft would turn pre-vote off")
	}
	if _, ok := trans.(raft.WithClose); !ok {
		t.Error("raft would not close the transport")
	}
}

func TestSnapshotGoesThrough(t *testing.T) {
	t.Parallel()
	nodes := raftNodes(t, nil)
	data := bytes.Repeat([]byte("snapshot"), 100_000)
	received := make(chan []byte, 1)
	go func() {
		rpc := <-nodes[1].Consumer()
		b, err := io.ReadAll(rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{Success: true}, err)
		received <- b
	}()
	var got raft.InstallSnapshotResponse
	err := nodes[0].InstallSnapshot("x", nodes[1].LocalAddr(), &raft.InstallSnapshotRequest{
		RPCHeader: heartbeat(nodes[0].LocalAddr()).RPCHeader, Size: int64(len(data)),
	}, &got, bytes.NewReader(data))
	if err != nil || !got.Success {
		t.Fatalf("install: %+v, %v", got, err)
	}
	if !bytes.Equal(<-received, data) {
		t.Error("the snapshot changed on its way")
	}
}

// TestMalformedRaftFrames is row CLU-04 behind TLS: a member that sends rubbish
// loses its connection, and nothing else happens.
func TestMalformedRaftFrames(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, "c1")
	server := listen(t, cluster.config(t, "n1"))
	trans, err := transport.NewRaft(server.Raft(), transport.RaftConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = trans.Close() })
	peer := listen(t, cluster.config(t, "n2"))
	for name, frame := range map[string][]byte{
		"an unknown kind of message":   {99, 1, 2, 3},
		"a 4 GiB string":               {0, 0xdb, 0xff, 0xff, 0xff, 0xff, 'a'},
		"a 4 GiB byte string as field": {0, 0x81, 0xa4, 'T', 'e', 'r', 'm', 0xc6, 0xff, 0xff, 0xff, 0xff, 1},
		"a 4 GiB list of entries":      {0, 0x81, 0xa7, 'E', 'n', 't', 'r', 'i', 'e', 's', 0xdd, 0xff, 0xff, 0xff, 0xff, 1},
		"a map of 4 GiB keys":          {1, 0xdf, 0xff, 0xff, 0xff, 0xff},
		"a bomb of nested lists":       append([]byte{2, 0x81, 0xa1, 'x'}, bytes.Repeat([]byte{0x91}, 1<<20)...),
		"half a message":               {0, 0x82, 0xa4},
	} {
		c, err := peer.Raft().Dial(raft.ServerAddress(server.Addr().String()), wait)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(frame); err != nil && name != "a bomb of nested lists" {
			t.Fatalf("%s: %v", name, err)
		}
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		if b, err := io.ReadAll(c); len(b) != 0 {
			t.Errorf("%s: answered with %d bytes (%v)", name, len(b), err)
		} else if err != nil && errors.Is(err, io.ErrNoProgress) {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.Close()
	}
	select {
	case rpc := <-trans.Consumer():
		t.Errorf("rubbish reached raft as %#v", rpc.Command)
	default:
	}
}

func TestNewRaftRefuses(t *testing.T) {
	t.Parallel()
	if _, err := transport.NewRaft(nil, transport.RaftConfig{}); err == nil {
		t.Error("no stream layer is accepted")
	}
	layer := listen(t, newCluster(t, "c1").config(t, "n1")).Raft()
	for _, n := range []int{-1, 65} {
		if _, err := transport.NewRaft(layer, transport.RaftConfig{MaxPool: n}); err == nil {
			t.Errorf("a pool of %d is accepted", n)
		}
	}
}

// TestHeartbeatsWhileASnapshotIsInstalled (R1): the main loop is busy, and the same
// leader's heartbeats are answered all the same, one that came just before too;
// those of another term or leader wait.
func TestHeartbeatsWhileASnapshotIsInstalled(t *testing.T) {
	t.Parallel()
	nodes := raftNodes(t, func(raft.RPC) {})
	from, other, to := nodes[0], nodes[1], nodes[2]
	beat := func(by *raft.NetworkTransport, q *raft.AppendEntriesRequest) <-chan error {
		done := make(chan error, 1)
		go func() { done <- by.AppendEntries("x", to.LocalAddr(), q, &raft.AppendEntriesResponse{}) }()
		return done
	}
	installed := make(chan error, 1)
	go func() {
		q := &raft.InstallSnapshotRequest{RPCHeader: heartbeat(from.LocalAddr()).RPCHeader, Term: 7, Size: 3}
		installed <- from.InstallSnapshot("x", to.LocalAddr(), q, &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte("abc")))
	}()
	snapshot := receive(t, to)
	if _, ok := snapshot.Command.(*raft.InstallSnapshotRequest); !ok {
		t.Fatalf("received %T", snapshot.Command)
	}
	select {
	case err := <-beat(from.NetworkTransport, heartbeat(from.LocalAddr())):
		if err != nil {
			t.Errorf("the leader's heartbeat: %v", err)
		}
	case <-time.After(wait):
		t.Fatal("the leader's heartbeat waits for the snapshot")
	}
	later := heartbeat(from.LocalAddr())
	later.Term = 8
	strange := []<-chan error{beat(from.NetworkTransport, later), beat(other.NetworkTransport, heartbeat(other.LocalAddr()))}
	for range strange { // they reach the main loop, and only that answers them
		rpc := receive(t, to)
		if _, ok := rpc.Command.(*raft.AppendEntriesRequest); !ok {
			t.Errorf("received %T", rpc.Command)
		}
		rpc.Respond(&raft.AppendEntriesResponse{Term: 9}, nil)
	}
	for _, s := range strange {
		if err := <-s; err != nil {
			t.Error(err)
		}
	}
	if _, err := io.Copy(io.Discard, snapshot.Reader); err != nil {
		t.Error(err)
	}
	snapshot.Respond(&raft.InstallSnapshotResponse{Term: 7, Success: true}, nil)
	if err := <-installed; err != nil {
		t.Errorf("the snapshot: %v", err)
	}
	after := beat(from.NetworkTransport, heartbeat(from.LocalAddr()))
	rpc := receive(t, to) // as before: through the main loop
	rpc.Respond(&raft.AppendEntriesResponse{Term: 7, Success: true}, nil)
	if err := <-after; err != nil {
		t.Error(err)
	}
}

func receive(t *testing.T, at *transport.RaftTransport) raft.RPC {
	t.Helper()
	select {
	case rpc := <-at.Consumer():
		return rpc
	case <-time.After(wait):
		t.Fatal("no message came")
		return raft.RPC{}
	}
}
