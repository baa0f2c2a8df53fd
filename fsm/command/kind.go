// Package command holds what may change the replicated state: the kinds, their
// payloads, the entry that carries many of them through the Raft log, and the
// results.
//
// An entry is a fixed header (leader's stamp, elapsed milliseconds, epoch) and
// the encoded commands, each in an envelope of fixed fields. A leader appends
// envelopes that were encoded elsewhere and never encodes them again.
//
// Everything here is a value; nothing is safe for concurrent change. No clock,
// no randomness, no map.
package command

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// Kind numbers a command in the log. The list only grows: a number is never
// used again, and a new one is proposed only when the cluster's feature level
// has reached the level in its comment.
type Kind uint16

// The kinds.
const (
	KindBootstrap        Kind = 1  // level 1
	KindTermStart        Kind = 2  // level 1
	KindClockAdvance     Kind = 3  // level 1
	KindSetFeatureLevel  Kind = 4  // level 1
	KindSetIssuer        Kind = 5  // level 1
	KindPutTenant        Kind = 6  // level 1
	KindPutClient        Kind = 7  // level 1
	KindDeleteClient     Kind = 8  // level 1
	KindIssueOpaque      Kind = 9  // level 1
	KindRevoke           Kind = 10 // level 1
	KindConsume          Kind = 11 // level 1
	KindPutSigningKey    Kind = 12 // level 1
	KindRotateSigningKey Kind = 13 // level 1
	KindDropSigningKey   Kind = 14 // level 1
	KindPutClusterKey    Kind = 15 // level 1
	KindPutJoinToken     Kind = 16 // level 1
	KindJoin             Kind = 17 // level 1
	KindPutNode          Kind = 18 // level 1
	KindRemoveNode       Kind = 19 // level 1
	KindPutGateway       Kind = 20 // level 1
	KindDeleteGateway    Kind = 21 // level 1
	KindPutAdminToken    Kind = 22 // level 1
	KindExpire           Kind = 23 // level 1

	KindPutUser          Kind = 30 // level 1
	KindDeleteUser       Kind = 31 // level 1
	KindRecordAttempt    Kind = 32 // level 1
	KindPutRole          Kind = 33 // level 1
	KindDeleteRole       Kind = 34 // level 1
	KindPutGroup         Kind = 35 // level 1
	KindDeleteGroup      Kind = 36 // level 1
	KindPutScope         Kind = 37 // level 1
	KindDeleteScope      Kind = 38 // level 1
	KindPutSession       Kind = 40 // level 1
	KindEndSession       Kind = 41 // level 1
	KindPutConsent       Kind = 42 // level 1
	KindDeleteConsent    Kind = 43 // level 1
	KindPutCredential    Kind = 44 // level 1
	KindDeleteCredential Kind = 45 // level 1
	KindUseCredential    Kind = 46 // level 1

	KindRedeem        Kind = 50 // level 1
	KindRotateRefresh Kind = 51 // level 1
	KindEndGrant      Kind = 52 // level 1

	KindStartDevice       Kind = 53 // level 1
	KindDecideDevice      Kind = 54 // level 1
	KindPollDevice        Kind = 55 // level 1
	KindStartBackchannel  Kind = 56 // level 1
	KindDecideBackchannel Kind = 57 // level 1
	KindPollBackchannel   Kind = 58 // level 1

	KindPutTrustedIssuer    Kind = 60 // level 1
	KindDeleteTrustedIssuer Kind = 61 // level 1

	KindPutInitialAccessToken    Kind = 65 // level 1
	KindRegisterClient           Kind = 66 // level 1
	KindDeleteInitialAccessToken Kind = 67 // level 1
	KindUseClient                Kind = 68 // level 1
)

// Level is the highest feature level that this binary understands.
const Level = 1

// Version is the payload version that this binary writes. Each kind has one so far.
const Version = 1

// Command is a payload that knows its kind.
type Command interface {
	proto.Message
	Kind() Kind
}

// New returns an empty payload of kind k, or an error that names both what came
// and what this binary understands: the caller halts, since a skipped command
// would make replicas part.
func New(k Kind, version uint8) (Command, error) {
	if version != Version {
		return nil, fmt.Errorf("command kind %d version %d is unknown to this binary (feature level %d): start a newer one", k, version, Level)
	}
	switch k {
	case KindBootstrap:
		return &Bootstrap{}, nil
	case KindTermStart:
		return &TermStart{}, nil
	case KindClockAdvance:
		return &ClockAdvance{}, nil
	case KindSetFeatureLevel:
		return &SetFeatureLevel{}, nil
	case KindSetIssuer:
		return &SetIssuer{}, nil
	case KindPutTenant:
		return &PutTenant{}, nil
	case KindPutClient:
		return &PutClient{}, nil
	case KindDeleteClient:
		return &DeleteClient{}, nil
	case KindIssueOpaque:
		return &IssueOpaque{}, nil
	case KindRevoke:
		return &Revoke{}, nil
	case KindConsume:
		return &Consume{}, nil
	case KindPutSigningKey:
		return &PutSigningKey{}, nil
	case KindRotateSigningKey:
		return &RotateSigningKey{}, nil
	case KindDropSigningKey:
		return &DropSigningKey{}, nil
	case KindPutClusterKey:
		return &PutClusterKey{}, nil
	case KindPutJoinToken:
		return &PutJoinToken{}, nil
	case KindJoin:
		return &Join{}, nil
	case KindPutNode:
		return &PutNode{}, nil
	case KindRemoveNode:
		return &RemoveNode{}, nil
	case KindPutGateway:
		return &PutGateway{}, nil
	case KindDeleteGateway:
		return &DeleteGateway{}, nil
	case KindPutAdminToken:
		return &PutAdminToken{}, nil
	case KindExpire:
		return &Expire{}, nil
	case KindPutUser:
		return &PutUser{}, nil
	case KindDeleteUser:
		return &DeleteUser{}, nil
	case KindRecordAttempt:
		return &RecordAttempt{}, nil
	case KindPutRole:
		return &PutRole{}, nil
	case KindDeleteRole:
		return &DeleteRole{}, nil
	case KindPutGroup:
		return &PutGroup{}, nil
	case KindDeleteGroup:
		return &DeleteGroup{}, nil
	case KindPutScope:
		return &PutScope{}, nil
	case KindDeleteScope:
		return &DeleteScope{}, nil
	case KindPutSession:
		return &PutSession{}, nil
	case KindEndSession:
		return &EndSession{}, nil
	case KindPutConsent:
		return &PutConsent{}, nil
	case KindDeleteConsent:
		return &DeleteConsent{}, nil
	case KindPutCredential:
		return &PutCredential{}, nil
	case KindDeleteCredential:
		return &DeleteCredential{}, nil
	case KindUseCredential:
		return &UseCredential{}, nil
	case KindRedeem:
		return &Redeem{}, nil
	case KindRotateRefresh:
		return &RotateRefresh{}, nil
	case KindEndGrant:
		return &EndGrant{}, nil
	case KindStartDevice:
		return &StartDevice{}, nil
	case KindDecideDevice:
		return &DecideDevice{}, nil
	case KindPollDevice:
		return &PollDevice{}, nil
	case KindStartBackchannel:
		return &StartBackchannel{}, nil
	case KindDecideBackchannel:
		return &DecideBackchannel{}, nil
	case KindPollBackchannel:
		return &PollBackchannel{}, nil
	case KindPutTrustedIssuer:
		return &PutTrustedIssuer{}, nil
	case KindDeleteTrustedIssuer:
		return &DeleteTrustedIssuer{}, nil
	case KindPutInitialAccessToken:
		return &PutInitialAccessToken{}, nil
	case KindRegisterClient:
		return &RegisterClient{}, nil
	case KindDeleteInitialAccessToken:
		return &DeleteInitialAccessToken{}, nil
	case KindUseClient:
		return &UseClient{}, nil
	default:
		return nil, fmt.Errorf("command kind %d is unknown to this binary (feature level %d): start a newer one", k, Level)
	}
}

// Kind implements Command; the numbers are the list above.

func (*Bootstrap) Kind() Kind        { return KindBootstrap }
func (*TermStart) Kind() Kind        { return KindTermStart }
func (*ClockAdvance) Kind() Kind     { return KindClockAdvance }
func (*SetFeatureLevel) Kind() Kind  { return KindSetFeatureLevel }
func (*SetIssuer) Kind() Kind        { return KindSetIssuer }
func (*PutTenant) Kind() Kind        { return KindPutTenant }
func (*PutClient) Kind() Kind        { return KindPutClient }
func (*DeleteClient) Kind() Kind     { return KindDeleteClient }
func (*IssueOpaque) Kind() Kind      { return KindIssueOpaque }
func (*Revoke) Kind() Kind           { return KindRevoke }
func (*Consume) Kind() Kind          { return KindConsume }
func (*PutSigningKey) Kind() Kind    { return KindPutSigningKey }
func (*RotateSigningKey) Kind() Kind { return KindRotateSigningKey }
func (*DropSigningKey) Kind() Kind   { return KindDropSigningKey }
func (*PutClusterKey) Kind() Kind    { return KindPutClusterKey }
func (*PutJoinToken) Kind() Kind     { return KindPutJoinToken }
func (*Join) Kind() Kind             { return KindJoin }
func (*PutNode) Kind() Kind          { return KindPutNode }
func (*RemoveNode) Kind() Kind       { return KindRemoveNode }
func (*PutGateway) Kind() Kind       { return KindPutGateway }
func (*DeleteGateway) Kind() Kind    { return KindDeleteGateway }
func (*PutAdminToken) Kind() Kind    { return KindPutAdminToken }
func (*Expire) Kind() Kind           { return KindExpire }

func (*PutUser) Kind() Kind          { return KindPutUser }
func (*DeleteUser) Kind() Kind       { return KindDeleteUser }
func (*RecordAttempt) Kind() Kind    { return KindRecordAttempt }
func (*PutRole) Kind() Kind          { return KindPutRole }
func (*DeleteRole) Kind() Kind       { return KindDeleteRole }
func (*PutGroup) Kind() Kind         { return KindPutGroup }
func (*DeleteGroup) Kind() Kind      { return KindDeleteGroup }
func (*PutScope) Kind() Kind         { return KindPutScope }
func (*DeleteScope) Kind() Kind      { return KindDeleteScope }
func (*PutSession) Kind() Kind       { return KindPutSession }
func (*EndSession) Kind() Kind       { return KindEndSession }
func (*PutConsent) Kind() Kind       { return KindPutConsent }
func (*DeleteConsent) Kind() Kind    { return KindDeleteConsent }
func (*PutCredential) Kind() Kind    { return KindPutCredential }
func (*DeleteCredential) Kind() Kind { return KindDeleteCredential }
func (*UseCredential) Kind() Kind    { return KindUseCredential }

func (*Redeem) Kind() Kind        { return KindRedeem }
func (*RotateRefresh) Kind() Kind { return KindRotateRefresh }
func (*EndGrant) Kind() Kind      { return KindEndGrant }

func (*StartDevice) Kind() Kind       { return KindStartDevice }
func (*DecideDevice) Kind() Kind      { return KindDecideDevice }
func (*PollDevice) Kind() Kind        { return KindPollDevice }
func (*StartBackchannel) Kind() Kind  { return KindStartBackchannel }
func (*DecideBackchannel) Kind() Kind { return KindDecideBackchannel }
func (*PollBackchannel) Kind() Kind   { return KindPollBackchannel }

func (*PutTrustedIssuer) Kind() Kind    { return KindPutTrustedIssuer }
func (*DeleteTrustedIssuer) Kind() Kind { return KindDeleteTrustedIssuer }

func (*PutInitialAccessToken) Kind() Kind    { return KindPutInitialAccessToken }
func (*RegisterClient) Kind() Kind           { return KindRegisterClient }
func (*DeleteInitialAccessToken) Kind() Kind { return KindDeleteInitialAccessToken }
func (*UseClient) Kind() Kind                { return KindUseClient }
