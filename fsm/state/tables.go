package state

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/storage"
)

// The tables. Key = one byte of table, then the parts: strings length-prefixed
// (two bytes, so that no id can forge a boundary), numbers as eight big-endian
// bytes. A number is never used again.
//
//	0x00 meta:              name → fixed binary
//	0x01 cluster:           (nothing) → Cluster
//	0x02 tenants:           tenant → Tenant
//	0x03 clients:           tenant | client id → Client
//	0x04 signing keys:      tenant | kid → SigningKey
//	0x05 cluster keys:      name | version → ClusterKey
//	0x06 nodes:             node id → Node
//	0x07 join tokens:       hash → JoinToken
//	0x08 gateways:          gateway id → Gateway
//	0x09 gateways by credential: hash → gateway id
//	0x0a admin tokens:      hash → AdminToken
//	0x0b revocations by target: tenant | issuer | kind | target | class → Revocation, fixed binary
//	0x0c events:            seq → Event
//	0x0d opaque tokens:     expiry minute | hash → OpaqueToken
//	0x0e consumed values:   tenant | kind | id → Consumed
//	0x0f kept answers:      idempotency key → Answered
//	0x10 expiry queue:      minute | key of the row → (empty)
//	0x11 users:             tenant | user id → User
//	0x12 users by name:     tenant | folded name → user id
//	0x13 sessions:          tenant | sid → Session
//	0x14 sessions by user:  tenant | user id | sid → (empty)
//	0x15 clients of a session: tenant | sid | client id → (empty)
//	0x16 consents:          tenant | user id | client id → Consent
//	0x17 refresh families:  tenant | family → RefreshFamily
//	0x18 families by user:  tenant | user id | family → (empty)
//	0x19 families by session: tenant | sid | family → (empty)
//	0x1a sectors of a user: tenant | user id | sector → pairwise subject
//	0x1e users by pairwise subject: tenant | subject → user id
//	0x1b attempts:          tenant | user id | class → Attempts
//	0x20 device requests:   tenant | hash of the device code → DeviceRequest
//	0x21 device requests by user code: tenant | user code → hash of the device code; while it is pending
//	0x22 CIBA requests:     tenant | hash of auth_req_id → BackchannelRequest
//	0x23 CIBA requests by user: tenant | user id | id → hash of auth_req_id; while it is pending
//	0x40 scopes:            tenant | name → Scope
//	0x41 roles:             tenant | name → Role
//	0x42 groups:            tenant | name → Group
//	0x43 trusted issuers:   tenant | iss → TrustedIssuer
//	0x44 initial access tokens: tenant | id → InitialAccessToken
//	0x45 registrations:     tenant → Registrations
//	0x1c credentials:       tenant | user id | credential id → Credential
//	0x1d credentials by passkey: tenant | passkey's id → user id
const (
	tableMeta           byte = 0x00
	tableCluster        byte = 0x01
	tableTenants        byte = 0x02
	tableClients        byte = 0x03
	tableSigningKeys    byte = 0x04
	tableClusterKeys    byte = 0x05
	tableNodes          byte = 0x06
	tableJoinTokens     byte = 0x07
	tableGateways       byte = 0x08
	tableGatewaysByCred byte = 0x09
	tableAdminTokens    byte = 0x0a
	tableRevocations    byte = 0x0b
	tableEvents         byte = 0x0c
	tableOpaque         byte = 0x0d
	tableConsumed       byte = 0x0e
	tableAnswered       byte = 0x0f
	tableExpiry         byte = 0x10

	tableUsers             byte = 0x11
	tableUsersByName       byte = 0x12
	tableSessions          byte = 0x13
	tableSessionsByUser    byte = 0x14
	tableSessionClients    byte = 0x15
	tableConsents          byte = 0x16
	tableFamilies          byte = 0x17
	tableFamiliesByUser    byte = 0x18
	tableFamiliesBySession byte = 0x19
	tableSectors           byte = 0x1a
	tableAttempts          byte = 0x1b
	tablePairwise          byte = 0x1e

	tableDevices            byte = 0x20
	tableDevicesByUserCode  byte = 0x21
	tableBackchannel        byte = 0x22
	tableBackchannelsByUser byte = 0x23

	tableScopes               byte = 0x40
	tableRoles                byte = 0x41
	tableGroups               byte = 0x42
	tableTrustedIssuers       byte = 0x43
	tableInitialAccessTokens  byte = 0x44
	tableRegistrations        byte = 0x45
	tableCredentials          byte = 0x1c
	tableCredentialsByPasskey byte = 0x1d

	// lastTable is the highest number: what a snapshot holds ends behind it.
	lastTable = lastInMemory2
)

// Tables whose rows are also held in memory (R20): two ranges of numbers.
const (
	firstInMemory  = tableCluster
	lastInMemory   = tableRevocations
	firstInMemory2 = 0x40
	lastInMemory2  = 0x4f
)

func inMemory(key []byte) bool {
	return key[0] >= firstInMemory && key[0] <= lastInMemory || key[0] >= firstInMemory2 && key[0] <= lastInMemory2
}

// ofMany tells the tables in memory that may hold millions of rows: these are held
// encoded.
func ofMany(key []byte) bool { return key[0] == tableClients || key[0] == tableRevocations }

var (
	keyApplied  = storage.Key(tableMeta, "applied")
	keyCounters = storage.Key(tableMeta, "counters")
	keyCluster  = []byte{tableCluster}
)

// Applied is the FSM's own position. Its form never changes (U4).
type Applied struct {
	Index, Term uint64
	Chain       [32]byte // over every entry's changes, in order (I4)
}

const appliedSize = 8 + 8 + 32

func (a Applied) encode() []byte {
	out := make([]byte, 0, appliedSize)
	out = binary.BigEndian.AppendUint64(out, a.Index)
	out = binary.BigEndian.AppendUint64(out, a.Term)
	return append(out, a.Chain[:]...)
}

func decodeApplied(data []byte) (Applied, error) {
	if len(data) != appliedSize {
		return Applied{}, fmt.Errorf("applied row has %d bytes, want %d: the store is damaged", len(data), appliedSize)
	}
	return Applied{
		Index: binary.BigEndian.Uint64(data), Term: binary.BigEndian.Uint64(data[8:]),
		Chain: [32]byte(data[16:]),
	}, nil
}

// Counters move with the entries and belong to no table.
type Counters struct {
	Clock   int64  // cluster time, milliseconds since 1970 UTC; never goes back (R14)
	Epoch   uint64 // changes when history was replaced (R15)
	Head    uint64 // highest event seq
	Floor   uint64 // highest seq of an event that was dropped
	Level   uint64 // feature level of the cluster
	Clamped uint64 // how often an entry's stamp was cut to the allowed step
}

const countersSize = 6 * 8

func (c Counters) encode() []byte {
	out := make([]byte, 0, countersSize)
	for _, n := range [...]uint64{uint64(c.Clock), c.Epoch, c.Head, c.Floor, c.Level, c.Clamped} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	return out
}

func decodeCounters(data []byte) (Counters, error) {
	if len(data) < countersSize {
		return Counters{}, fmt.Errorf("counters row has %d bytes, want %d: the store is damaged", len(data), countersSize)
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(data[8*i:]) }
	return Counters{Clock: int64(n(0)), Epoch: n(1), Head: n(2), Floor: n(3), Level: n(4), Clamped: n(5)}, nil
}

// Revocation is one row of the index by target: what a token is held against.
type Revocation struct {
	Seq          uint64
	IssuedBefore int64 // seconds; 0: everything decided before Seq
	ExpiresAt    int64 // seconds
	// With IssuedAfter set, only what was decided above DecidedAfter or issued
	// after IssuedAfter (seconds) is covered: what a restore takes back (R15).
	DecidedAfter uint64
	IssuedAfter  int64
}

const revocationSize = 40

func (r Revocation) encode() []byte {
	out := make([]byte, 0, revocationSize)
	out = binary.BigEndian.AppendUint64(out, r.Seq)
	out = binary.BigEndian.AppendUint64(out, uint64(r.IssuedBefore))
	out = binary.BigEndian.AppendUint64(out, uint64(r.ExpiresAt))
	out = binary.BigEndian.AppendUint64(out, r.DecidedAfter)
	return binary.BigEndian.AppendUint64(out, uint64(r.IssuedAfter))
}

func decodeRevocation(data []byte) (Revocation, error) {
	if len(data) != revocationSize {
		return Revocation{}, fmt.Errorf("revocation row has %d bytes, want %d: the store is damaged", len(data), revocationSize)
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(data[8*i:]) }
	return Revocation{Seq: n(0), IssuedBefore: int64(n(1)), ExpiresAt: int64(n(2)), DecidedAfter: n(3), IssuedAfter: int64(n(4))}, nil
}

// The two classes of a revocation of one target. They can't be merged: the one
// covers whatever was decided before its seq, the other only what was issued up
// to a moment as well.
const (
	classAll    = "a"
	classBefore = "b"
)

func appendRevocationKey(dst []byte, tenant, issuer, kind, target, class string) []byte {
	dst = appendKey(dst, tableRevocations, tenant, issuer)
	dst = storage.AppendString(dst, kind)
	dst = storage.AppendString(dst, target)
	return storage.AppendString(dst, class)
}

// appendKey is storage.Key into a caller's buffer, for the hot path.
func appendKey(dst []byte, table byte, a, b string) []byte {
	dst = append(dst, table)
	dst = storage.AppendString(dst, a)
	return storage.AppendString(dst, b)
}

func eventKey(seq uint64) []byte { return storage.AppendUint64([]byte{tableEvents}, seq) }

func opaqueKey(minute uint64, hash [32]byte) []byte {
	return appendOpaqueKey(make([]byte, 0, opaqueKeySize), minute, hash)
}

const opaqueKeySize = 1 + 8 + 32

func appendOpaqueKey(dst []byte, minute uint64, hash [32]byte) []byte {
	return append(storage.AppendUint64(append(dst, tableOpaque), minute), hash[:]...)
}

func expiryKey(minute uint64, row []byte) []byte {
	key := append(make([]byte, 0, 1+8+len(row)), tableExpiry)
	return append(storage.AppendUint64(key, minute), row...)
}

func clusterKeyKey(name string, version uint32) []byte {
	return storage.AppendUint64(storage.Key(tableClusterKeys, name), uint64(version))
}

// Minute is the expiry minute of an instant in seconds: the first whole minute
// at which it is over.
func Minute(seconds int64) uint64 {
	if seconds <= 0 {
		return 0
	}
	return (uint64(seconds) + 59) / 60
}

// encode is the one form of a record's bytes, the same on every node.
func encode(m proto.Message) []byte {
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("a record can't be encoded: %v", err)) // invalid UTF-8: refused before a command is made
	}
	return out
}

// checkRow tells whether a row of the tables that are held encoded can be decoded.
func checkRow(key, value []byte) error {
	if key[0] == tableRevocations {
		_, err := decodeRevocation(value)
		return err
	}
	if err := checkMessage(value, clientFields()); err != nil {
		return fmt.Errorf("row of table %#x: %w: the store is damaged", key[0], err)
	}
	return nil
}

// revocationOf reads a row that was checked, or made by encode.
func revocationOf(row string) Revocation {
	r, err := decodeRevocation([]byte(rowValue(row)))
	if err != nil {
		panic(err)
	}
	return r
}

// decodeInMemory makes the in-memory form of a row of the tables that are held
// decoded.
func decodeInMemory(key, value []byte) (any, error) {
	var m proto.Message
	switch key[0] {
	case tableCluster:
		m = &Cluster{}
	case tableTenants:
		m = &Tenant{}
	case tableSigningKeys:
		m = &SigningKey{}
	case tableClusterKeys:
		m = &ClusterKey{}
	case tableNodes:
		m = &Node{}
	case tableJoinTokens:
		m = &JoinToken{}
	case tableGateways:
		m = &Gateway{}
	case tableAdminTokens:
		m = &AdminToken{}
	case tableScopes:
		m = &Scope{}
	case tableRoles:
		m = &Role{}
	case tableGroups:
		m = &Group{}
	case tableTrustedIssuers:
		m = &TrustedIssuer{}
	case tableInitialAccessTokens:
		m = &InitialAccessToken{}
	case tableRegistrations:
		m = &Registrations{}
	case tableGatewaysByCred:
		return string(value), nil
	default:
		return nil, fmt.Errorf("table %#x is not held in memory", key[0])
	}
	if err := proto.Unmarshal(value, m); err != nil {
		return nil, fmt.Errorf("row of table %#x: %w: the store is damaged", key[0], err)
	}
	return m, nil
}
