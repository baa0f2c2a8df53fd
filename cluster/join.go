package cluster

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/cluster/transport"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/seal"
)

// The join exchange, over the cluster port: one question and one answer, each a
// JSON document behind its length (four bytes). The joiner has verified the
// cluster by the token's fingerprint before it says anything; this side learns
// who asks by the token alone.
const (
	maxJoinMessage = 64 << 10
	joinTime       = 20 * time.Second
)

type joinRequest struct {
	Secret       []byte `json:"secret"`
	CSR          []byte `json:"csr"`
	NodeID       string `json:"node_id"`
	NonVoter     bool   `json:"non_voter"`
	APIAddr      string `json:"api_addr"`
	FeatureLevel uint32 `json:"feature_level"`
	Version      string `json:"version"`
	WantSealKeys bool   `json:"want_seal_keys"`          // the operator configured none there
	MemberSerial string `json:"member_serial,omitempty"` // set: no join, but the question whether this member was removed
	SealCheck    []byte `json:"seal_check,omitempty"`    // check value of the joiner's own sealing key
}

type joinAnswer struct {
	Error      string `json:"error,omitempty"`
	Removed    bool   `json:"removed,omitempty"` // answers MemberSerial
	ClusterID  string `json:"cluster_id,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	CA         []byte `json:"ca,omitempty"`
	Cert       []byte `json:"certificate,omitempty"`
	NonVoter   bool   `json:"non_voter,omitempty"`
	SealKeys   string `json:"seal_keys,omitempty"`
	SealCheck  []byte `json:"seal_check,omitempty"`
	Index      uint64 `json:"index,omitempty"`   // of the entry that let it in
	NodeID     string `json:"node_id,omitempty"` // of the member that answers
	Addr       string `json:"addr,omitempty"`
}

// LogValue and Format keep the secret out of every log line.
func (joinRequest) String() string { return "join request (hidden)" }
func (joinAnswer) String() string  { return "join answer (hidden)" }

func writeMessage(w io.Writer, m any) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...))
	return err
}

func readMessage(r io.Reader, into any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > maxJoinMessage {
		return fmt.Errorf("a message of %d bytes", n)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// joined is what a node has after it was let in.
type joined struct {
	id       *identity
	keys     *seal.Keyring
	sealText string // the cluster's sealing keys, where this node had none
	index    uint64 // of the entry that let it in
}

// joinTries: an answer that was lost is asked for again with the same key pair,
// which the token lets through (M3).
const joinTries = 3

// requestJoin asks the cluster of a token to let this node in.
func requestJoin(ctx context.Context, cfg *Config, plan JoinPlan) (*joined, error) {
	token, err := ca.ParseJoinToken(plan.Token)
	if err != nil {
		return nil, err
	}
	key, csr, err := ca.NewRequest(cfg.NodeID)
	if err != nil {
		return nil, err
	}
	q := joinRequest{
		Secret: token.Secret[:], CSR: csr, NodeID: cfg.NodeID, NonVoter: cfg.NonVoter, APIAddr: cfg.APIAddr,
		FeatureLevel: command.Level, Version: cfg.Version, WantSealKeys: cfg.Keyring == nil,
	}
	if cfg.Keyring != nil {
		q.SealCheck = cfg.Keyring.CheckValue()
	}
	var a joinAnswer
	for try := range joinTries {
		if a, err = askToJoin(ctx, token, q); err == nil {
			break
		}
		if plan.Find != nil {
			if addr, findErr := plan.Find(ctx, token.Fingerprint); findErr == nil {
				token.Addr = addr
			} else {
				err = fmt.Errorf("%w; %w", err, findErr)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(try+1) * 200 * time.Millisecond):
		}
	}
	if err != nil {
		return nil, fmt.Errorf("no member answers: %w. The node that made the token must run and its cluster port be in reach from here, or --join name another member", err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return acceptJoin(cfg, a, key)
}

func askToJoin(ctx context.Context, token ca.JoinToken, q joinRequest) (joinAnswer, error) {
	var a joinAnswer
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	conn, err := transport.DialJoin(ctx, token.Addr, token.Fingerprint)
	if err != nil {
		return a, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(joinTime))
	if err := writeMessage(conn, q); err != nil {
		return a, fmt.Errorf("ask to join: %w", err)
	}
	if err := readMessage(conn, &a); err != nil {
		return a, fmt.Errorf("read the cluster's answer to the join: %w", err)
	}
	return a, nil
}

func acceptJoin(cfg *Config, a joinAnswer, key []byte) (*joined, error) {
	keys, text := cfg.Keyring, ""
	if keys == nil {
		var err error
		text = a.SealKeys
		if keys, err = seal.ParseKeyring([]byte(text)); err != nil {
			return nil, fmt.Errorf("the cluster's sealing key: %w", err)
		}
	}
	if err := keys.Check(a.SealCheck); err != nil {
		return nil, err
	}
	sealed, err := keys.Seal(nodeKeyLabel(a.ClusterID, cfg.NodeID), key)
	if err != nil {
		return nil, err
	}
	id := &identity{
		ClusterID: a.ClusterID, NodeID: cfg.NodeID, Generation: a.Generation, NonVoter: a.NonVoter,
		CA: a.CA, Cert: a.Cert, SealedKey: sealed, IntroducerID: a.NodeID, IntroducerAddr: a.Addr,
	}
	return &joined{id: id, keys: keys, sealText: text, index: a.Index}, id.open(keys)
}

// acceptJoins answers joiners until the listener ends.
func (n *Node) acceptJoins(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		n.wg.Go(func() {
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(joinTime))
			var q joinRequest
			if err := readMessage(conn, &q); err != nil {
				return // not a joiner; nothing to say to it
			}
			ctx, cancel := context.WithTimeout(n.ctx, joinTime)
			defer cancel()
			if q.MemberSerial != "" {
				_ = writeMessage(conn, n.membership(q))
				return
			}
			a, err := n.letIn(ctx, q)
			if err != nil {
				n.log.Warn("a node was not let in", "node", q.NodeID, "from", conn.RemoteAddr().String(), "reason", err)
				a = &joinAnswer{Error: err.Error()}
			}
			_ = writeMessage(conn, a)
		})
	}
}

// letIn checks the token through Apply, which consumes it, and issues the
// certificate from our own template.
func (n *Node) letIn(ctx context.Context, q joinRequest) (*joinAnswer, error) {
	if q.FeatureLevel < uint32(n.fsm.View().Counters().Level) {
		return nil, fmt.Errorf("the cluster is at feature level %d, that binary understands %d: start a newer one", n.fsm.View().Counters().Level, q.FeatureLevel)
	}
	if err := ca.ValidID(q.NodeID); err != nil {
		return nil, fmt.Errorf("node id: %w", err)
	}
	if err := n.prove(ctx); err != nil {
		return nil, err
	}
	v := n.fsm.View()
	cluster, _ := v.Cluster()
	if len(q.SealCheck) > 0 { // before the token is used up
		if err := n.keys.Check(q.SealCheck); err != nil {
			return nil, fmt.Errorf("the joining node seals under key %s, this cluster under %s: give that node the cluster's sealing key (seal.key_file, seal.key_env or seal.key_exec) and start it with the same token",
				seal.KeyIDOf(q.SealCheck), strings.Join(n.keys.KeyIDs(), ", "))
		}
	}
	authority, err := n.authority(v)
	if err != nil {
		return nil, err
	}
	request, err := x509.ParseCertificateRequest(q.CSR)
	if err != nil {
		return nil, errors.New("the certificate request is damaged")
	}
	cert, serial, err := issue(authority, q.CSR, ca.Identity{ClusterID: cluster.GetId(), NodeID: q.NodeID, Generation: cluster.GetGeneration()}, n.cfg.Now())
	if err != nil {
		return nil, err
	}
	hash, err := n.hashSecret(v, q.Secret)
	if err != nil {
		return nil, err
	}
	if err := n.clearHalfJoined(ctx, v, q.NodeID); err != nil {
		return nil, err
	}
	token, known := v.JoinToken(hash)
	public := sha256.Sum256(request.RawSubjectPublicKeyInfo)
	nonVoter := q.NonVoter || token.GetNonVoter()
	if known && q.WantSealKeys && n.cfg.ShareSealKeys == "" {
		return nil, errors.New("this cluster's sealing key comes from its operator: configure the same one (seal.key_file, seal.key_env or seal.key_exec) at the joining node, then start it with the same token")
	}
	r := command.Result{Reject: command.NotFound}
	if known {
		r, err = n.Propose(ctx, &command.Join{Hash: hash[:], Node: &state.Node{
			Id: q.NodeID, ApiAddr: q.APIAddr, NonVoter: nonVoter, Generation: cluster.GetGeneration(),
			PublicKey: public[:], Serial: serial, FeatureLevel: q.FeatureLevel, Version: q.Version,
		}})
		if err != nil {
			return nil, err
		}
	}
	if err := joinRefusal(r.Reject, q.NodeID); err != nil {
		return nil, err
	}
	a := &joinAnswer{
		ClusterID: cluster.GetId(), Generation: cluster.GetGeneration(), CA: authority.CertDER(), Cert: cert,
		NonVoter: nonVoter, SealCheck: cluster.GetSealCheck(), Index: r.Index,
		NodeID: n.id.NodeID, Addr: n.mux.Addr().String(),
	}
	if q.WantSealKeys {
		a.SealKeys = n.cfg.ShareSealKeys
	}
	n.log.Info("a node was let in", "node", q.NodeID)
	return a, nil
}

// clearHalfJoined frees the id of a node that was let in but never reached the
// leader: its answer was lost with its key.
func (n *Node) clearHalfJoined(ctx context.Context, v *state.View, id string) error {
	row, ok := v.Node(id)
	if !ok || row.GetRemoved() {
		return nil
	}
	s, err := n.serverOf(id)
	if err != nil || s != nil {
		return err
	}
	if n.cfg.Now().UnixMilli()-row.GetJoinedAt() < joinTime.Milliseconds() {
		return nil // it may be about to
	}
	_, err = n.Propose(ctx, &command.RemoveNode{Id: id})
	return err
}

func joinRefusal(r command.Reject, node string) error {
	switch r {
	case command.Accepted:
		return nil
	case command.NotFound:
		return errors.New("the join token is unknown to this cluster: make a new one with keyraft operator join-token")
	case command.AlreadyExpired:
		return errors.New("the join token has expired: make a new one with keyraft operator join-token")
	case command.AlreadyUsed:
		return errors.New("the join token was used already: make a new one with keyraft operator join-token")
	case command.Exists:
		return fmt.Errorf("node id %q is taken by a member: choose another --node-id, or remove that member first", node)
	case command.Conflict:
		return errors.New("the join token is for a non-voter: start with --non-voter, or make a token for a voter")
	default:
		return fmt.Errorf("the join was refused: %w", r)
	}
}

// authority opens the newest CA key.
func (n *Node) authority(v *state.View) (*ca.Authority, error) {
	keys := v.ClusterKeys(keyCA)
	if len(keys) == 0 {
		return nil, errors.New("this node's state holds no cluster authority yet: try another member")
	}
	k := keys[len(keys)-1]
	plain, err := n.keys.Open(keyLabel(k.GetName(), k.GetVersion()), k.GetSealed())
	if err != nil {
		return nil, err
	}
	return ca.Load(k.GetPublicPart(), plain)
}

// derive makes a secret of a caller's idempotency key, which only nodes of this
// cluster can.
func (n *Node) derive(v *state.View, purpose string, key []byte) (ca.Secret, error) {
	under, err := n.hashKey(v)
	if err != nil {
		return ca.Secret{}, err
	}
	mac := hmac.New(sha256.New, under[:])
	mac.Write([]byte("keyraft " + purpose + "\x00"))
	mac.Write(key)
	return ca.Secret(mac.Sum(nil)), nil
}

// hashSecret is the stored form of a generated secret under the newest hash key.
func (n *Node) hashSecret(v *state.View, secret []byte) ([32]byte, error) {
	key, err := n.hashKey(v)
	if err != nil {
		return [32]byte{}, err
	}
	return seal.Hash(key, secret), nil
}

// hashKey opens the newest key of stored secrets.
func (n *Node) hashKey(v *state.View) (*seal.Key, error) {
	keys := v.ClusterKeys(keyHash)
	if len(keys) == 0 {
		return nil, errors.New("this node's state holds no hash key yet: try another member")
	}
	k := keys[len(keys)-1]
	plain, err := n.keys.Open(keyLabel(k.GetName(), k.GetVersion()), k.GetSealed())
	if err != nil {
		return nil, err
	}
	if len(plain) != 32 {
		return nil, fmt.Errorf("the hash key has %d bytes, want 32", len(plain))
	}
	key := seal.Key(plain)
	return &key, nil
}

// JoinToken makes a single-use token by which one node may join within ttl.
func (n *Node) JoinToken(ctx context.Context, ttl time.Duration, nonVoter bool) (token string, expires time.Time, err error) {
	v := n.fsm.View()
	authority, err := n.authority(v)
	if err != nil {
		return "", time.Time{}, err
	}
	t, err := ca.NewJoinToken(authority.Fingerprint(), n.mux.Addr().String())
	if err != nil {
		return "", time.Time{}, err
	}
	if key, _, ok := command.KeyFrom(ctx); ok { // the same request again gets the same token
		if t.Secret, err = n.derive(v, "join token", key[:]); err != nil {
			return "", time.Time{}, err
		}
	}
	hash, err := n.hashSecret(v, t.Secret[:])
	if err != nil {
		return "", time.Time{}, err
	}
	expires = n.cfg.Now().Add(ttl)
	r, err := n.Propose(ctx, &command.PutJoinToken{Hash: hash[:], Token: &state.JoinToken{
		ExpiresAt: expires.UnixMilli(), NonVoter: nonVoter, CreatedAt: n.cfg.Now().UnixMilli(),
	}})
	if err != nil {
		return "", time.Time{}, err
	}
	switch r.Reject {
	case command.Accepted:
	case command.KeyReused:
		return "", time.Time{}, refuse(http.StatusUnprocessableEntity, "idempotency_key_reused", "the Idempotency-Key was used for another request; use a new one")
	default:
		return "", time.Time{}, refuse(http.StatusConflict, "refused", "the join token was refused: %s", r.Reject)
	}
	if row, ok := n.fsm.View().JoinToken(hash); ok {
		expires = time.UnixMilli(row.GetExpiresAt())
	}
	return t.Encode(), expires, nil
}
