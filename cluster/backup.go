package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/cluster/peer"
	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

// snapshotEvery is how often the size of the log is looked at.
const snapshotEvery = 10 * time.Second

// snapshotLoop takes a snapshot when enough log has gathered, measured in bytes,
// so that a big state is not rewritten every few minutes (R5).
func (n *Node) snapshotLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(snapshotEvery):
		}
		if n.adapter.bytes.Load() < max(n.cfg.SnapshotLog, int64(n.fsm.Stats().DiskBytes)/2) {
			continue
		}
		if err := n.Snapshot(); err != nil {
			n.log.Warn("a snapshot failed; the log grows until one succeeds", "error", err)
		}
	}
}

// Snapshot takes a raft snapshot now, which lets the log be cut.
func (n *Node) Snapshot() error {
	for until := time.Now().Add(changeTime); ; {
		err := n.raft.Snapshot().Error()
		switch {
		case errors.Is(err, raft.ErrNothingNewToSnapshot):
			return nil
		case err == nil, !strings.Contains(err.Error(), "cannot take snapshot now"), time.Now().After(until):
			return err
		}
		select { // a configuration is being committed
		case <-n.ctx.Done():
			return errStopped
		case <-time.After(retryPause):
		}
	}
}

// Backup streams the whole state, as fresh as a read index makes it, and returns
// what it holds. Apply goes on meanwhile.
func (n *Node) Backup(ctx context.Context, w io.Writer) (fsm.Header, error) {
	h, err := n.backup(ctx, w)
	result := resultOK
	if err != nil {
		result = resultFailed
	}
	n.metrics.backups.WithLabelValues(result).Inc()
	return h, err
}

func (n *Node) backup(ctx context.Context, w io.Writer) (fsm.Header, error) {
	if err := n.prove(ctx); err != nil {
		return fsm.Header{}, err
	}
	s, err := n.fsm.Snapshot(n.cfg.Now().UnixMilli())
	if err != nil {
		return fsm.Header{}, err
	}
	defer s.Release()
	_, err = s.WriteTo(w)
	return s.Header, err
}

// restoreTime bounds a restore after its stream has arrived.
const restoreTime = 10 * time.Minute

// chunkSize is how a stream travels to the leader.
const chunkSize = 256 << 10

// Restore replaces the state of the whole cluster by a backup, at the leader. The
// stream is verified before anything changes, and what raft is given was
// rewritten first (R15). size is only for progress.
func (n *Node) Restore(ctx context.Context, r io.Reader, foreign bool) (member.Restored, error) {
	if n.isLeader() {
		return n.restoreHere(ctx, r, foreign)
	}
	id, addr := n.leader()
	if id == "" {
		return member.Restored{}, command.ErrUnavailable
	}
	client, err := n.peers.client(id, addr)
	if err != nil {
		return member.Restored{}, err
	}
	stream, err := client.Restore(ctx)
	if err != nil {
		return member.Restored{}, fmt.Errorf("%w: %v", command.ErrUnavailable, err)
	}
	// A first message in any case: an empty backup is judged too.
	if err := stream.Send(&peer.Chunk{Foreign: foreign}); err != nil {
		return member.Restored{}, fmt.Errorf("%w: %v", command.ErrUnavailable, err)
	}
	buf := make([]byte, chunkSize)
	for {
		m, err := io.ReadFull(r, buf)
		if m > 0 {
			if sendErr := stream.Send(&peer.Chunk{Data: buf[:m], Foreign: foreign}); sendErr != nil {
				break // the answer says why
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return member.Restored{}, err
			}
			break
		}
	}
	a, err := stream.CloseAndRecv()
	if status.Code(err) == codes.FailedPrecondition { // it was not the leader any more
		return member.Restored{}, fmt.Errorf("%w: %w", command.ErrUnavailable, err)
	}
	if err != nil {
		return member.Restored{}, fmt.Errorf("%w: %v", command.ErrOutcomeUnknown, err)
	}
	if a.GetCode() != 0 {
		return member.Restored{}, &member.RefusedError{Status: int(a.GetCode()), Code: a.GetMachineCode(), Reason: a.GetReason()}
	}
	got := member.Restored{Epoch: a.GetEpoch(), Index: a.GetIndex(), Head: a.GetHead()}
	return got, n.awaitEpoch(ctx, got.Epoch)
}

// awaitEpoch waits until this node has the restored state.
func (n *Node) awaitEpoch(ctx context.Context, epoch uint64) error {
	for {
		moved := n.HeadMoved()
		if n.fsm.View().Epoch() >= epoch {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-moved:
		}
	}
}

// Restore implements peer.PeerServer at the leader.
func (s *server) Restore(stream peer.Peer_RestoreServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if !s.node.isLeader() {
		return status.Error(codes.FailedPrecondition, "not the leader")
	}
	got, err := s.node.restoreHere(stream.Context(), &chunks{stream: stream, data: first.GetData()}, first.GetForeign())
	var refused *member.RefusedError
	switch {
	case errors.As(err, &refused):
		return stream.SendAndClose(&peer.RestoreAnswer{Code: uint32(refused.Status), Reason: refused.Reason, MachineCode: refused.Code})
	case errors.Is(err, command.ErrUnavailable):
		return status.Error(codes.FailedPrecondition, err.Error())
	case err != nil:
		return status.Error(codes.Unavailable, err.Error())
	}
	return stream.SendAndClose(&peer.RestoreAnswer{Epoch: got.Epoch, Index: got.Index, Head: got.Head})
}

// chunks reads a stream of chunks.
type chunks struct {
	stream peer.Peer_RestoreServer
	data   []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	for len(c.data) == 0 {
		m, err := c.stream.Recv()
		if err != nil {
			return 0, err
		}
		c.data = m.GetData()
	}
	k := copy(p, c.data)
	c.data = c.data[k:]
	return k, nil
}

func (n *Node) restoreHere(ctx context.Context, r io.Reader, foreign bool) (member.Restored, error) {
	if !n.restoring.TryLock() {
		return member.Restored{}, refuse(http.StatusConflict, "restore_running", "another restore is running; wait for it")
	}
	defer n.restoring.Unlock()
	if err := n.prove(ctx); err != nil {
		return member.Restored{}, err
	}
	dir := filepath.Join(n.cfg.DataDir, "restore")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return member.Restored{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file, err := os.OpenFile(filepath.Join(dir, "stream"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return member.Restored{}, err
	}
	defer func() { _ = file.Close() }()
	backup, err := spool(filepath.Join(dir, "backup"), r)
	if err != nil {
		return member.Restored{}, err
	}
	defer func() { _ = backup.Close() }()
	// A write that were acknowledged behind the rewriting would be lost, a
	// revocation above all: none is under way, and none begins.
	resume, err := n.batcher.pause(ctx)
	if err != nil {
		return member.Restored{}, fmt.Errorf("%w: %w", command.ErrUnavailable, err)
	}
	defer resume()
	if err := n.prove(ctx); err != nil {
		return member.Restored{}, err
	}
	size, err := fsm.Rewrite(backup, file, filepath.Join(dir, "scratch"), n.scratch(), fsm.Plan{
		Now: n.fsm.View(), Head: n.highestHead(ctx), Index: n.raft.LastIndex() + 1, Clock: n.cfg.Now().UnixMilli(), Foreign: foreign,
		SealCheck: n.keys.Check, Reseal: n.reseal,
	})
	if err != nil {
		n.log.Warn("a backup was refused", "error", err)
		why := err.Error()
		if _, cause, ok := strings.Cut(why, filepath.Join(dir, "scratch")); ok { // the caller need not know this node's paths
			if _, cause, ok = strings.Cut(cause, ": "); ok {
				why = cause
			}
		}
		return member.Restored{}, refuse(http.StatusUnprocessableEntity, "bad_snapshot", "nothing was changed: %s", why)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return member.Restored{}, err
	}
	if err := n.raft.Restore(&raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Size: size}, file, restoreTime); err != nil {
		return member.Restored{}, fmt.Errorf("%w: %w", command.ErrOutcomeUnknown, err)
	}
	v := n.fsm.View()
	n.log.Warn("the state of the cluster was restored from a backup", "epoch", v.Epoch(), "head", v.Head())
	return member.Restored{Epoch: v.Epoch(), Index: v.Index(), Head: v.Head()}, nil
}

// scratch are the options of a store that is thrown away: a full disk or a
// damaged backup breaks it alone, not the node.
func (n *Node) scratch() storage.Options {
	o := n.cfg.Storage
	o.Latch, o.Fatal, o.Logger = nil, nil, n.log
	return o
}

// spool keeps a stream in a file, to be read from its beginning.
func spool(path string, r io.Reader) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(f, r); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// highestHead is the highest head that any member, or a gateway of one, has
// reported: seqs go on above it (I5).
func (n *Node) highestHead(ctx context.Context) uint64 {
	head := n.fsm.View().Head()
	members, err := n.Members(ctx)
	if err != nil {
		return head
	}
	for _, m := range members {
		head = max(head, m.Head)
	}
	if n.cfg.ReportedHead != nil {
		head = max(head, n.cfg.ReportedHead(ctx))
	}
	return head
}

// reseal seals a shared key anew as another version, to which its label binds it.
func (n *Node) reseal(k *state.ClusterKey, version uint32) (*state.ClusterKey, error) {
	plain, err := n.keys.Open(keyLabel(k.GetName(), k.GetVersion()), k.GetSealed())
	if err != nil {
		return k, err
	}
	sealed, err := n.keys.Seal(keyLabel(k.GetName(), version), plain)
	return &state.ClusterKey{
		Name: k.GetName(), Version: version, Sealed: sealed, PublicPart: k.GetPublicPart(), Status: k.GetStatus(), CreatedAt: k.GetCreatedAt(),
	}, err
}
