package cluster

import (
	"context"
	"crypto/sha256"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/keyraft/keyraft/cluster/transport"
)

// A node that was removed while it could not hear of it is refused by its peers
// before it can say anything. So it asks them on the part of the port that needs
// no certificate, and verifies them by the authority that it knows.
const (
	askRemovedEvery = 2 * time.Second
	askRemovedTime  = 2 * time.Second
)

// watchRemoved asks the others whether this node was removed, whenever it can't
// prove its state fresh.
func (n *Node) watchRemoved(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(askRemovedEvery):
		}
		if at := n.provedAt.Load(); n.removed.Load() || at != 0 && n.progress.since()-time.Duration(at) < askRemovedEvery {
			continue
		}
		for _, addr := range n.others() {
			if n.saysRemoved(ctx, addr) {
				n.noteRemoved()
				return
			}
		}
	}
}

// noteRemoved makes the removal durable, however this node has learnt of it, so that the
// next start knows it too, and tells the owner once, who ends the node.
func (n *Node) noteRemoved() {
	if !n.removed.CompareAndSwap(false, true) {
		return
	}
	n.spawn(func() {
		if err := writeFile(filepath.Join(n.cfg.DataDir, removedFile), []byte(n.serial())); err != nil {
			n.log.Warn("this node was removed; that could not be kept for its next start", "error", err)
		}
		go n.cfg.Removed() // it may call Close, which waits for this
	})
}

// removedFile of the data folder names the certificate of a node that was removed.
const removedFile = "removed"

// knowsRemoved tells at a start whether this node was removed.
func (n *Node) knowsRemoved() bool {
	kept, err := os.ReadFile(filepath.Join(n.cfg.DataDir, removedFile))
	if err == nil && n.serial() != "" && string(kept) == n.serial() {
		return true
	}
	row, ok := n.fsm.View().Node(n.id.NodeID)
	return ok && row.GetRemoved() && holds(row, n.serial())
}

// saysRemoved asks one member. No answer is no.
func (n *Node) saysRemoved(ctx context.Context, addr string) bool {
	if addr == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askRemovedTime)
	defer cancel()
	conn, err := transport.DialJoin(ctx, addr, sha256.Sum256(n.id.CA))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	return askRemoved(conn, n.id.NodeID, n.serial())
}

func askRemoved(conn net.Conn, node, serial string) bool {
	_ = conn.SetDeadline(time.Now().Add(askRemovedTime))
	if err := writeMessage(conn, joinRequest{NodeID: node, MemberSerial: serial}); err != nil {
		return false
	}
	var a joinAnswer
	return readMessage(conn, &a) == nil && a.Removed
}

// membership answers whether the holder of a certificate was removed.
func (n *Node) membership(q joinRequest) *joinAnswer {
	row, ok := n.fsm.View().Node(q.NodeID)
	return &joinAnswer{Removed: ok && row.GetRemoved() && holds(row, q.MemberSerial)}
}
