package tokens

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	// TopicProofs is what nodes ask each other of DPoP proofs.
	TopicProofs = "dpop-proofs"
	// NonceLifetime is how long a nonce is good, in seconds.
	NonceLifetime = 300

	// askLimit bounds the wait for the giver of a nonce: a client is better off with
	// another nonce than waiting for a node that is gone.
	askLimit = 2 * time.Second
)

// nonceLabel keeps a nonce to its tenant, and from passing for another kind of sealed
// value.
func nonceLabel(tenant string) string { return "DPoP nonce\x00" + tenant }

// ProofsConfig is what Proofs are made of. Limit is optional.
type ProofsConfig struct {
	Node   string // id of this node
	Shared *ClusterKeys
	Now    func() time.Time
	// Ask puts a question of topic TopicProofs to another node.
	Ask   func(ctx context.Context, node, topic string, body []byte) ([]byte, error)
	Limit int // proofs that are remembered at once; 0: verify.DefaultReplays
}

// Proofs take each DPoP proof once (RFC 9449 §11.1), in the whole cluster and without a
// write. A proof must hold a nonce, which is sealed and names the node and the start of
// it that gave it; that node alone remembers which proofs with its nonces were used, in
// memory. Another node that gets the proof asks it, and gives a nonce of its own when it
// can't. A node that starts again has forgotten, so its earlier nonces are void. Thus
// there is one memory for a proof, and what is not in it was never taken.
type Proofs struct {
	cfg   ProofsConfig
	boxes *Boxes
	start [8]byte // of this process
	used  *verify.Replays
}

// NewProofs makes the proofs of a node that has just started.
func NewProofs(cfg ProofsConfig) (*Proofs, error) {
	if cfg.Node == "" || cfg.Shared == nil || cfg.Now == nil || cfg.Ask == nil {
		return nil, errors.New("tokens: ProofsConfig needs Node, Shared, Now and Ask")
	}
	p := &Proofs{cfg: cfg, boxes: NewBoxes(cfg.Shared, KeyNonce), used: verify.NewReplays(cfg.Limit)}
	rand.Read(p.start[:]) // never fails: crypto/rand ends the process instead
	return p, nil
}

// nonce is what stands in one: 8 bytes of seconds, the start, the id of the node.
type nonce struct {
	given int64
	start [8]byte
	node  string
}

// Nonce gives a nonce for proofs that are shown to the tenant.
func (p *Proofs) Nonce(v *state.View, tenant string) (string, error) {
	var buf [96]byte
	plain := binary.BigEndian.AppendUint64(buf[:0], uint64(p.cfg.Now().Unix()))
	plain = append(append(plain, p.start[:]...), p.cfg.Node...)
	return p.boxes.Seal(v, nonceLabel(tenant), plain)
}

func (p *Proofs) openNonce(v *state.View, tenant, value string) (n nonce, err error) {
	plain, ok, err := p.boxes.Open(v, nonceLabel(tenant), value)
	if err != nil {
		return n, err
	}
	if !ok || len(plain) < 17 {
		return n, errNonce
	}
	n = nonce{int64(binary.BigEndian.Uint64(plain)), [8]byte(plain[8:16]), string(plain[16:])}
	now := p.cfg.Now().Unix()
	if now >= n.given+NonceLifetime || n.given > now+verify.ProofAge {
		return n, errNonce
	}
	return n, nil
}

var (
	errNonce = oauth.UseDPoPNonce.With("make a new proof, with the nonce that comes in the header DPoP-Nonce")
	errFull  = oauth.TemporarilyUnavailable.With(verify.ErrFull.Error()).WithRetryAfter(1)
)

// Shown is a proof that is good for its request, if it was not used before: for Use.
type Shown struct {
	JKT string // thumbprint of its key; "" when there is no proof

	id    verify.ProofID
	until int64
	nonce nonce
}

// Read checks a proof for a request to the tenant, all but whether it was used before.
// Errors: invalid_dpop_proof, use_dpop_nonce.
func (p *Proofs) Read(v *state.View, tenant, proof string, e verify.ProofExpect) (Shown, error) {
	read, err := verify.ParseProof(proof)
	if err == nil {
		e.Now = p.cfg.Now().Unix()
		err = read.Check(e)
	}
	if err != nil {
		return Shown{}, oauth.InvalidDPoPProof.With(err.Error())
	}
	if read.Nonce == "" {
		return Shown{}, errNonce
	}
	n, err := p.openNonce(v, tenant, read.Nonce)
	if err != nil {
		return Shown{}, err
	}
	return Shown{read.Thumbprint, read.ID(), read.KeepUntil(), n}, nil
}

// Use takes the proof, once in the cluster. Errors: invalid_dpop_proof for one that was
// used, use_dpop_nonce when nobody can tell, temporarily_unavailable when too many are
// remembered.
func (p *Proofs) Use(ctx context.Context, s *Shown) error {
	verdict := byte(proofUnknown)
	if s.nonce.node == p.cfg.Node {
		verdict = p.use(s)
	} else {
		ctx, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		answer, err := p.cfg.Ask(ctx, s.nonce.node, TopicProofs, s.question())
		if err == nil && len(answer) == 1 { // else it is gone, or of another version: nobody can tell
			verdict = answer[0]
		}
	}
	switch verdict {
	case proofTaken:
		return nil
	case proofUsed:
		return oauth.InvalidDPoPProof.With(verify.ErrReplayed.Error())
	case proofFull:
		return errFull
	}
	return errNonce
}

// What the giver of a nonce says of a proof.
const (
	proofTaken   = 't'
	proofUsed    = 'u'
	proofFull    = 'f'
	proofUnknown = 'n' // its nonce is of an earlier start, or of another time
)

// use takes a proof whose nonce is of this node.
func (p *Proofs) use(s *Shown) byte {
	now := p.cfg.Now().Unix()
	switch {
	case s.nonce.start != p.start, now >= s.nonce.given+NonceLifetime:
		return proofUnknown
	case s.until > now+4*verify.ProofAge: // clocks of nodes that are far apart must not fill the memory
		return proofUnknown
	}
	err := p.used.Use(s.id, s.until, now)
	switch {
	case errors.Is(err, verify.ErrReplayed):
		return proofUsed
	case err != nil:
		return proofFull
	}
	return proofTaken
}

const questionSize = 1 + 8 + 8 + 8 + len(verify.ProofID{})

// question is the form of the question to the giver, and what it answers to.
const questionForm = 1

func (s *Shown) question() []byte {
	q := append(make([]byte, 0, questionSize), questionForm)
	q = append(q, s.nonce.start[:]...)
	q = binary.BigEndian.AppendUint64(q, uint64(s.nonce.given))
	q = binary.BigEndian.AppendUint64(q, uint64(s.until))
	return append(q, s.id[:]...)
}

// Answer is for the topic TopicProofs: whether a proof with a nonce of this node is
// taken, which it is then.
func (p *Proofs) Answer(_ context.Context, _ string, q []byte) ([]byte, error) {
	if len(q) != questionSize || q[0] != questionForm {
		return nil, fmt.Errorf("a question of %d bytes about a DPoP proof is of another version", len(q))
	}
	s := Shown{
		until: int64(binary.BigEndian.Uint64(q[17:])), id: verify.ProofID(q[25:]),
		nonce: nonce{int64(binary.BigEndian.Uint64(q[9:])), [8]byte(q[1:9]), p.cfg.Node},
	}
	return []byte{p.use(&s)}, nil
}

// Remembered is how many used proofs are remembered here.
func (p *Proofs) Remembered() int { return p.used.Len() }
