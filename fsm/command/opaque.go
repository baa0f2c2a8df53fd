package command

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/keyraft/keyraft/fsm/state"
)

// Fields of IssueOpaque, which is written and read by hand (state.AppendOpaque says
// why).
const (
	issueHash             protowire.Number = 1
	issueToken            protowire.Number = 2
	issueClientGeneration protowire.Number = 3
	issueTenantGeneration protowire.Number = 4
)

// opaqueRoom is the usual size of an IssueOpaque.
const opaqueRoom = 384

// appendIssueOpaque appends c as proto.Marshal encodes it; false, and dst, when that
// is for proto.Marshal to do.
func appendIssueOpaque(dst []byte, c *IssueOpaque) ([]byte, bool) {
	if len(c.unknownFields) != 0 || c.Token == nil {
		return dst, false
	}
	out := dst
	if len(c.Hash) != 0 {
		out = protowire.AppendBytes(protowire.AppendTag(out, issueHash, protowire.BytesType), c.Hash)
	}
	out = protowire.AppendTag(out, issueToken, protowire.BytesType)
	const guess = 2 // bytes of the token's length
	start := len(out) + guess
	out, ok := state.AppendOpaque(append(out, make([]byte, guess)...), c.Token)
	size := len(out) - start
	if !ok || protowire.SizeVarint(uint64(size)) != guess {
		return dst, false
	}
	protowire.AppendVarint(out[start-guess:start-guess], uint64(size))
	if c.ClientGeneration != 0 {
		out = protowire.AppendVarint(protowire.AppendTag(out, issueClientGeneration, protowire.VarintType), c.ClientGeneration)
	}
	if c.TenantGeneration != 0 {
		out = protowire.AppendVarint(protowire.AppendTag(out, issueTenantGeneration, protowire.VarintType), c.TenantGeneration)
	}
	return out, true
}

// parseIssueOpaque reads a payload; nil when it is for proto.Unmarshal to judge. Its
// bytes point into the payload.
func parseIssueOpaque(raw []byte) *IssueOpaque {
	both := &struct {
		command IssueOpaque
		token   state.OpaqueToken
	}{}
	c := &both.command
	for len(raw) > 0 {
		number, wire, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return nil
		}
		raw = raw[n:]
		switch wire {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(raw)
			if n < 0 {
				return nil
			}
			raw = raw[n:]
			switch number {
			case issueClientGeneration:
				c.ClientGeneration = v
			case issueTenantGeneration:
				c.TenantGeneration = v
			default:
				return nil
			}
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(raw)
			if n < 0 {
				return nil
			}
			raw = raw[n:]
			switch {
			case number == issueHash:
				c.Hash = v[:len(v):len(v)]
			case number == issueToken && c.Token == nil && state.ParseOpaque(v, &both.token):
				c.Token = &both.token
			default:
				return nil
			}
		default:
			return nil
		}
	}
	return c
}
