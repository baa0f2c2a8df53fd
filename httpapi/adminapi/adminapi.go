// Package adminapi serves the operators: clients, revocations with their receipts,
// gateways, signing keys, tenants, and the cluster itself. One file a group of
// endpoints; each handler decodes, asks the room that decides, and encodes.
//
// Who asks shows an admin token, or an access token of the scope keyraft:admin, as
// bearer token in the Authorization header and nowhere else (RFC 6750 §2.1). A token
// of one tenant is good for that tenant's paths; another tenant's are not found.
//
// Reads are linearizable. ?consistency=stale, where offered, answers from what this
// node has applied; X-Keyraft-Applied-Index says how far that is. The state of the
// cluster (status, members, checksum) needs no leader.
//
// A change under an Idempotency-Key (RFC draft; 1 to 255 visible characters) that is
// repeated gets the answer of the first one, a secret included: its scope is tenant,
// principal, method, path and key, and another body under it is refused. The query
// doesn't count: it says what is waited for and told, not what is done.
//
// Answers are JSON, lists {items, next_cursor} by ?limit= and ?cursor=. Instants are
// seconds since 1970 UTC; durations are taken as seconds or as Go writes them. Errors
// are problem documents (RFC 9457) that name the field; an unknown member or query
// parameter is an error. Handlers are safe for concurrent use.
package adminapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/tokens"
)

// Deps are the rooms that decide. All are needed but those with a default.
type Deps struct {
	View    func(ctx context.Context, f state.Freshness) (*state.View, error)
	Propose command.Propose
	Clients *clients.Registry
	Users   *identity.Users
	// What users have left behind by signing in.
	Sessions *identity.Sessions
	Consents *identity.Consents
	Factors  *identity.Factors
	Resets   *identity.Resets
	// ResetPath is where a reset link leads, below a tenant's issuer.
	ResetPath string
	// Absent tells the error of a row that is not there from that of a broken store.
	Absent       func(error) bool
	Revoker      *tokens.Revoker
	Introspector *tokens.Introspector
	Signing      *tokens.SigningKeys
	Shared       *tokens.ClusterKeys
	Proofs       *tokens.Proofs
	// Rotation is how the leader's key job is set up; its Propose is replaced by one
	// that keeps apart the several proposals of one Idempotency-Key.
	Rotation tokens.KeyJobConfig
	Now      func() time.Time
	Cluster  Cluster
	Gateways Gateways

	// OutboundURL judges a URL that this server is to fetch from.
	OutboundURL func(url string) error

	// WriteTimeout bounds a write, its view included; 0: 5 s.
	WriteTimeout time.Duration
}

// Cluster is what the node does for its operators. Errors are *member.RefusedError,
// command.ErrUnavailable or command.ErrOutcomeUnknown, wrapped or not.
type Cluster struct {
	Status    func() member.Status
	Members   func(ctx context.Context) ([]member.Node, error)
	Remove    func(ctx context.Context, id string, force bool) error
	Promote   func(ctx context.Context, id string) error
	Transfer  func(ctx context.Context, id string) error // "": the best voter
	JoinToken func(ctx context.Context, ttl time.Duration, nonVoter bool) (token string, expires time.Time, err error)
	Checksum  func() (index uint64, sum [32]byte, err error)
	// Backup writes the whole state; it has proved its freshness before the first byte.
	Backup  func(ctx context.Context, w io.Writer) error
	Restore func(ctx context.Context, r io.Reader, foreign bool) (member.Restored, error)
	// RotateGossipKey gives a pool ("nodes" or "gateways") a new key.
	RotateGossipKey  func(ctx context.Context, pool string) error
	GatewayGossipKey func() ([]byte, error)
}

// Gateways is what the nodes know of the gateways that poll them.
type Gateways struct {
	Instances func(ctx context.Context) []Instance
	// Receipt waits, at most for timeout, until every live gateway has acknowledged.
	Receipt func(ctx context.Context, r Revocation, timeout time.Duration) (receipt []Confirmation, complete bool)
}

// What receipts are made of.
type (
	Instance     = wire.Instance
	Revocation   = wire.Revocation
	Confirmation = wire.Confirmation
)

func (d *Deps) check() error {
	switch {
	case d.View == nil || d.Propose == nil || d.Clients == nil || d.Revoker == nil || d.Introspector == nil ||
		d.Signing == nil || d.Shared == nil || d.Proofs == nil || d.Now == nil || d.Users == nil || d.Sessions == nil || d.Consents == nil ||
		d.Factors == nil || d.Resets == nil || d.ResetPath == "" || d.Absent == nil:
		return errors.New("adminapi: Deps needs View, Propose, Clients, Revoker, Introspector, Signing, Shared, Proofs, Now, Users, Sessions, Consents, Factors, Resets, ResetPath and Absent")
	case d.OutboundURL == nil:
		return errors.New("adminapi: Deps needs OutboundURL")
	case d.Gateways.Instances == nil || d.Gateways.Receipt == nil:
		return errors.New("adminapi: Deps.Gateways needs Instances and Receipt")
	case d.WriteTimeout < 0:
		return errors.New("adminapi: WriteTimeout is negative; leave it 0 for its default")
	}
	c := &d.Cluster
	if c.Status == nil || c.Members == nil || c.Remove == nil || c.Promote == nil || c.Transfer == nil || c.JoinToken == nil ||
		c.Checksum == nil || c.Backup == nil || c.Restore == nil || c.RotateGossipKey == nil || c.GatewayGossipKey == nil {
		return errors.New("adminapi: every member of Deps.Cluster is needed")
	}
	if d.WriteTimeout == 0 {
		d.WriteTimeout = 5 * time.Second
	}
	return nil
}

// api is what the handlers share.
type api struct {
	Deps
	keys    *tokens.KeyJob
	backups chan struct{} // a slot for each backup at once
}

// Routes are the endpoints' lines of the routing table.
func Routes(d Deps) ([]httpapi.Route, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	d.Rotation.Propose = apart(d.Propose)
	job, err := tokens.NewKeyJob(d.Rotation)
	if err != nil {
		return nil, fmt.Errorf("adminapi: %w", err)
	}
	a := &api{Deps: d, keys: job, backups: make(chan struct{}, maxBackups)}
	var routes []httpapi.Route
	for _, group := range [][]endpoint{
		a.clientEndpoints(), a.userEndpoints(), a.userLoginEndpoints(), a.resetEndpoints(), a.revocationEndpoints(), a.gatewayEndpoints(), a.keyEndpoints(), a.tenantEndpoints(), a.registryEndpoints(),
		a.registrationEndpoints(), a.issuerEndpoints(),
		a.clusterEndpoints(), a.snapshotEndpoints(),
	} {
		for _, e := range group {
			routes = append(routes, a.route(e))
		}
	}
	return routes, nil
}
