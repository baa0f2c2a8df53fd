package state

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The rows and commands of opaque tokens are written and read by hand: there are
// thousands a second, and the library's way takes three times as long and an
// allocation a field. The schema is that of records.proto; the tests hold both ways
// against each other, field by field.

// Fields of OpaqueToken.
const (
	opaqueTenant protowire.Number = iota + 1
	opaqueID
	opaqueClientID
	opaqueSubject
	opaqueScope
	opaqueAudience
	opaqueIssuedAt
	opaqueExpiresAt
	opaqueEpoch
	opaqueHead
	opaqueGrant
	opaqueRoot
	opaqueApplication
	opaqueJkt
	opaqueProposal
	opaqueIssuer
	opaqueX5T
	opaqueAuthTime
	opaqueAcr
	opaqueAmr
	opaqueAct
	opaqueDetails
	opaqueUser
	opaqueUserinfoClaims
	opaqueClaims
	opaqueRootClient
)

// wireWriter appends fields of a message in the order of their numbers.
type wireWriter struct {
	out []byte
	bad bool // a string is not UTF-8
}

func (w *wireWriter) text(n protowire.Number, s string) {
	if s != "" {
		w.element(n, s)
	}
}

func (w *wireWriter) element(n protowire.Number, s string) {
	w.bad = w.bad || !utf8.ValidString(s)
	w.out = protowire.AppendString(protowire.AppendTag(w.out, n, protowire.BytesType), s)
}

func (w *wireWriter) bytes(n protowire.Number, v []byte) {
	if len(v) != 0 {
		w.out = protowire.AppendBytes(protowire.AppendTag(w.out, n, protowire.BytesType), v)
	}
}

func (w *wireWriter) number(n protowire.Number, v uint64) {
	if v != 0 {
		w.out = protowire.AppendVarint(protowire.AppendTag(w.out, n, protowire.VarintType), v)
	}
}

// AppendOpaque appends t as proto.Marshal encodes it; false when that is for
// proto.Marshal to do: it has unknown fields, or a string that is not UTF-8.
func AppendOpaque(dst []byte, t *OpaqueToken) ([]byte, bool) {
	w := wireWriter{out: dst}
	w.text(opaqueTenant, t.Tenant)
	w.text(opaqueID, t.Id)
	w.text(opaqueClientID, t.ClientId)
	w.text(opaqueSubject, t.Subject)
	w.text(opaqueScope, t.Scope)
	for _, a := range t.Audience {
		w.element(opaqueAudience, a)
	}
	w.number(opaqueIssuedAt, uint64(t.IssuedAt))
	w.number(opaqueExpiresAt, uint64(t.ExpiresAt))
	w.number(opaqueEpoch, t.Epoch)
	w.number(opaqueHead, t.Head)
	w.text(opaqueGrant, t.Grant)
	w.text(opaqueRoot, t.Root)
	w.text(opaqueApplication, t.Application)
	w.text(opaqueJkt, t.Jkt)
	w.bytes(opaqueProposal, t.Proposal)
	w.text(opaqueIssuer, t.Issuer)
	w.text(opaqueX5T, t.X5T)
	w.number(opaqueAuthTime, uint64(t.AuthTime))
	w.text(opaqueAcr, t.Acr)
	for _, a := range t.Amr {
		w.element(opaqueAmr, a)
	}
	w.bytes(opaqueAct, t.Act)
	w.bytes(opaqueDetails, t.Details)
	w.text(opaqueUser, t.User)
	for _, c := range t.UserinfoClaims {
		w.element(opaqueUserinfoClaims, c)
	}
	w.bytes(opaqueClaims, t.Claims)
	w.text(opaqueRootClient, t.RootClient)
	return w.out, !w.bad && len(t.unknownFields) == 0
}

// ParseOpaque reads raw into t, which is empty; false when raw is for
// proto.Unmarshal to judge: damage, an unknown field, a string that is not UTF-8. Then
// t is not to be used. Its strings share one allocation, its bytes point into raw.
func ParseOpaque(raw []byte, t *OpaqueToken) bool {
	all := string(raw)
	for at := 0; at < len(raw); {
		number, wire, n := protowire.ConsumeTag(raw[at:])
		if n < 0 {
			return false
		}
		at += n
		switch wire {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(raw[at:])
			if n < 0 || !t.setNumber(number, v) {
				return false
			}
			at += n
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(raw[at:])
			if n < 0 {
				return false
			}
			at += n
			if !t.setBytes(number, v[:len(v):len(v)]) && !t.setText(number, all[at-len(v):at]) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func (t *OpaqueToken) setNumber(n protowire.Number, v uint64) bool {
	switch n {
	case opaqueIssuedAt:
		t.IssuedAt = int64(v)
	case opaqueExpiresAt:
		t.ExpiresAt = int64(v)
	case opaqueEpoch:
		t.Epoch = v
	case opaqueHead:
		t.Head = v
	case opaqueAuthTime:
		t.AuthTime = int64(v)
	default:
		return false
	}
	return true
}

func (t *OpaqueToken) setBytes(n protowire.Number, v []byte) bool {
	switch n {
	case opaqueProposal:
		t.Proposal = v
	case opaqueAct:
		t.Act = v
	case opaqueDetails:
		t.Details = v
	case opaqueClaims:
		t.Claims = v
	default:
		return false
	}
	return true
}

func (t *OpaqueToken) setText(n protowire.Number, s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	switch n {
	case opaqueTenant:
		t.Tenant = s
	case opaqueID:
		t.Id = s
	case opaqueClientID:
		t.ClientId = s
	case opaqueSubject:
		t.Subject = s
	case opaqueScope:
		t.Scope = s
	case opaqueAudience:
		t.Audience = append(t.Audience, s)
	case opaqueGrant:
		t.Grant = s
	case opaqueRoot:
		t.Root = s
	case opaqueRootClient:
		t.RootClient = s
	case opaqueApplication:
		t.Application = s
	case opaqueJkt:
		t.Jkt = s
	case opaqueIssuer:
		t.Issuer = s
	case opaqueX5T:
		t.X5T = s
	case opaqueAcr:
		t.Acr = s
	case opaqueAmr:
		t.Amr = append(t.Amr, s)
	case opaqueUser:
		t.User = s
	case opaqueUserinfoClaims:
		t.UserinfoClaims = append(t.UserinfoClaims, s)
	default:
		return false
	}
	return true
}
