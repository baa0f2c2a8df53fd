package fsm

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/storage"
)

// HeadMargin is how far a restore moves the event seq beyond the highest head
// that anyone reported, so that no seq is ever given twice (I5).
const HeadMargin = 1 << 32

// Plan is what a restore into a living cluster changes in a backup before raft
// sees it (R15).
type Plan struct {
	Now     *state.View // the state that is replaced
	Head    uint64      // the highest head that any node or gateway reported
	Index   uint64      // behind the log's last index: no node has any other state at it
	Clock   int64       // milliseconds
	Foreign bool        // let a backup of another cluster in
	// SealCheck, when set, tells whether this cluster's sealing keys open what the
	// backup holds sealed.
	SealCheck func(value []byte) error
	// Reseal seals a shared key of this cluster anew under another version: beside a
	// foreign backup's keys, what was hashed under this cluster's stays good. It is
	// needed with Foreign.
	Reseal func(k *state.ClusterKey, version uint32) (*state.ClusterKey, error)
}

// ErrForeign says that a backup belongs to another cluster.
var ErrForeign = errors.New("the backup belongs to another cluster")

// Rewrite makes, from the backup in r, the stream to restore, and returns its
// size in bytes: a new epoch, seqs above every known head, this cluster's own
// name, nodes and keys between nodes, no join tokens; revocations of the state
// that is replaced are carried over, and whatever was issued after the backup is
// revoked, since that state is forgotten. The backup is verified whole before
// anything is written to w. dir is a scratch folder, removed again.
func Rewrite(r io.Reader, w io.Writer, dir string, o storage.Options, p Plan) (int64, error) {
	in, err := newReader(r)
	if err != nil {
		return 0, err
	}
	cluster, _ := p.Now.Cluster()
	if in.Header.Cluster != cluster.GetId() && !p.Foreign {
		return 0, fmt.Errorf("%w: it says %q, this is %q; restore it with --foreign (?foreign=true) if that is meant", ErrForeign, in.Header.Cluster, cluster.GetId())
	}
	if in.Header.FeatureLevel > command.Level {
		return 0, fmt.Errorf("the backup has feature level %d, this binary understands %d: start a newer one", in.Header.FeatureLevel, command.Level)
	}
	path := filepath.Join(dir, "scratch")
	db, backup, err := build(path, o, in)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("read the backup: %w", err), remove(dir, o))
	}
	size, err := rewrite(w, db, backup, in.Header, p)
	return size, errors.Join(err, db.CloseDirty(), remove(dir, o))
}

func rewrite(w io.Writer, db *storage.DB, backup *state.View, header Header, p Plan) (int64, error) {
	s := step{Batch: state.NewBatch(backup), index: p.Index, now: max(p.Clock, backup.Clock(), p.Now.Clock())}
	defer s.Close()
	s.SetClock(s.now)
	s.SetEpoch(max(backup.Epoch(), p.Now.Epoch()) + 1)
	s.SkipTo(max(backup.Head(), p.Now.Head(), p.Head) + HeadMargin)
	s.SetLevel(uint32(p.Now.Counters().Level))
	if backed, _ := backup.Cluster(); p.SealCheck != nil {
		if err := p.SealCheck(backed.GetSealCheck()); err != nil {
			return 0, fmt.Errorf("what the backup holds sealed can't be opened here: %w; add its sealing key behind this cluster's own", err)
		}
	}
	if err := s.keepCluster(p); err != nil {
		return 0, err
	}
	if err := s.keepRevocations(backup, p.Now); err != nil {
		return 0, err
	}
	for _, t := range s.Tenants() {
		lifetime := max(longestOf(backup, t.GetId()), longestOf(p.Now, t.GetId()))
		s.record(&state.Event{
			Tenant: t.GetId(), Kind: "keymanager", Target: "resident",
			// The backup's own second counts as after it: iat has no milliseconds.
			DecidedAfter: header.Head, IssuedAfter: max(header.TakenAt/1000-1, 1),
			ExpiresAt: s.now/1000 + lifetime + skew,
		})
		s.keysChanged(t.GetId())
	}
	v, err := s.Commit(p.Index, p.Now.Applied().Term)
	if err != nil {
		return 0, err
	}
	rows, err := db.Snapshot()
	if err != nil {
		return 0, err
	}
	flushed := make(chan struct{})
	close(flushed) // the scratch store need not outlive this call
	out := Snapshot{Header: headerOf(v), rows: rows, db: db, flushed: flushed}
	out.Header.TakenAt = p.Clock
	defer out.Release()
	return out.WriteTo(w)
}

// longestOf is the longest life of any token of a tenant that v knows, in seconds.
func longestOf(v *state.View, tenant string) int64 {
	t, _ := v.Tenant(tenant)
	seconds := longestLifetime(t, nil)
	for after := ""; ; {
		page := v.Clients(tenant, after, 1000)
		for _, c := range page {
			seconds = max(seconds, c.GetLongestLifetime())
			after = c.GetId()
		}
		if len(page) == 0 {
			return seconds
		}
	}
}

// keepCluster takes over what a backup must never bring: the cluster's name,
// its nodes, the keys that they speak to each other with, operators' tokens. Of
// the other shared keys, those that the cluster made or sealed anew since its own
// backup are kept too, for what was hashed under them.
func (s step) keepCluster(p Plan) error {
	now := p.Now
	c, _ := now.Cluster()
	c = cloneOf(c)
	c.RestoredAt = s.now
	s.PutCluster(c)
	for _, n := range s.Nodes() {
		s.DeleteNode(n.GetId())
	}
	for _, n := range now.Nodes() {
		s.PutNode(n)
	}
	for _, name := range []string{"ca", "gossip", "gateway-gossip"} {
		for _, k := range s.ClusterKeys(name) {
			s.DeleteClusterKey(name, k.GetVersion())
		}
		for _, k := range now.ClusterKeys(name) {
			s.PutClusterKey(k)
		}
	}
	for _, k := range now.AllClusterKeys() {
		switch k.GetName() {
		case "ca", "gossip", "gateway-gossip":
			continue
		}
		if p.Foreign {
			// The versions of two clusters are different keys. Ours come last, so
			// that they are the newest: operators' tokens are hashed under them.
			version := uint32(1)
			for _, theirs := range s.ClusterKeys(k.GetName()) {
				version = max(version, theirs.GetVersion()+1)
			}
			var err error
			if k, err = p.Reseal(k, version); err != nil {
				return fmt.Errorf("keep this cluster's key %q: %w", k.GetName(), err)
			}
		}
		s.PutClusterKey(k)
	}
	if !p.Foreign {
		s.keepKeysAndGateways(now)
	}
	s.DeleteAdminTokens()
	now.AdminTokens(func(hash [32]byte, t *state.AdminToken) { s.PutAdminToken(hash, t) })
	s.DeleteJoinTokens()
	s.DeleteInitialAccessTokens() // of which the backup doesn't know the uses since
	return nil
}

// keepKeysAndGateways takes over what was rotated or taken back since this cluster's
// own backup: of the backup, a signing key that leaked would sign again, and a
// gateway's credential that was deleted be good again. Today's keys verify all that
// the backup's would: one that is gone by now has no live token.
func (s step) keepKeysAndGateways(now *state.View) {
	for _, t := range s.Tenants() {
		if _, ok := now.Tenant(t.GetId()); !ok {
			continue
		}
		for _, k := range s.SigningKeys(t.GetId()) {
			s.DeleteSigningKey(k.GetTenant(), k.GetId())
		}
		for _, k := range now.SigningKeys(t.GetId()) {
			s.PutSigningKey(k)
		}
	}
	for _, g := range s.Gateways() {
		s.DeleteGateway(g)
	}
	for _, g := range now.Gateways() {
		s.PutGateway(nil, g)
	}
}

// keepRevocations carries over the revocations that the backup doesn't know.
func (s step) keepRevocations(backup, now *state.View) error {
	return now.Revocations(func(e *state.Event) {
		if revocable(e.GetKind()) && (e.GetSeq() > backup.Head() || now.Epoch() != backup.Epoch()) {
			s.record(e)
		}
	})
}
