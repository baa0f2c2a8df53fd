package gateway

import "errors"

// Reason says in one word why a token was refused. The list is closed, so it may
// label a metric.
type Reason string

// The reasons, in the order of the checks.
const (
	NoToken            Reason = "no_token"
	BadScheme          Reason = "bad_scheme"
	NotSynced          Reason = "not_synced" // no contact with the cluster yet
	Stale              Reason = "stale"      // head older than the bound
	Malformed          Reason = "malformed"
	UnknownAPI         Reason = "unknown_api"
	UnknownIssuer      Reason = "unknown_issuer"
	KeyManagerDisabled Reason = "key_manager_disabled"
	KeyManagerNotAtAPI Reason = "key_manager_not_at_api"
	UnknownKey         Reason = "unknown_key"
	BadSignature       Reason = "bad_signature"
	WrongType          Reason = "wrong_type"
	Expired            Reason = "expired"
	NotYetValid        Reason = "not_yet_valid"
	WrongAudience      Reason = "wrong_audience"
	Inactive           Reason = "inactive" // an opaque token that a node does not call active
	Revoked            Reason = "revoked"
	Bound              Reason = "bound_token"   // what it is bound to did not come with it
	Unbound            Reason = "unbound_token" // sent with the scheme DPoP, but bound to no key
	BadProof           Reason = "bad_proof"     // DPoP, for this request and this token
	ProofUsed          Reason = "proof_used"    // DPoP, a second time
	ProofsFull         Reason = "proofs_full"   // no more used proofs can be remembered
	InsufficientScope  Reason = "insufficient_scope"
	Unreachable        Reason = "unreachable" // an opaque token, and no node answered
	Internal           Reason = "internal"
)

// Refusal is the error of Validate. Values are shared and must not be changed.
type Refusal struct {
	Reason  Reason
	Status  int    // HTTP status for the caller: 401 or 403
	Code    string // OAuth error code (RFC 6750 §3.1), empty when no token came
	Scope   string // with insufficient_scope: what is needed
	Scheme  string // of the challenge: DPoP for a token that is bound to a key, else empty: Bearer
	Message string // what to do, without any part of the token
}

// Error is the reason and what to do about it.
func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Message }

// ReasonOf is the reason of an error of Validate; any other error is Internal.
func ReasonOf(err error) Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return Internal
}

const (
	codeInvalidToken      = "invalid_token"
	codeInsufficientScope = "insufficient_scope"
	codeInvalidRequest    = "invalid_request"
	codeInvalidProof      = "invalid_dpop_proof"
	codeUnavailable       = "temporarily_unavailable"
)

// reasons lists every reason, for counting.
func reasons() []Reason {
	return []Reason{NoToken, BadScheme, NotSynced, Stale, Malformed, UnknownAPI, UnknownIssuer, KeyManagerDisabled,
		KeyManagerNotAtAPI, UnknownKey, BadSignature, WrongType, Expired, NotYetValid, WrongAudience, Inactive, Revoked,
		Bound, Unbound, BadProof, ProofUsed, ProofsFull, InsufficientScope, Unreachable, Internal}
}

// refuse gives the refusal of a reason: no allocation that an attacker could
// make us pay for beyond the value itself.
func refuse(reason Reason) *Refusal {
	r := &Refusal{Reason: reason, Status: 401, Code: codeInvalidToken}
	switch reason {
	case NoToken:
		r.Code, r.Message = "", "send an access token in the Authorization header"
	case BadScheme:
		r.Code, r.Message = codeInvalidRequest, "use the scheme Bearer, or DPoP for a token that is bound to a key"
	case NotSynced:
		r.Status, r.Code, r.Message = 403, codeUnavailable, "the gateway has not reached the cluster yet; try again soon"
	case Stale:
		r.Status, r.Code, r.Message = 403, codeUnavailable, "the gateway has lost the cluster for longer than its bound; try again later"
	case Malformed:
		r.Message = "the access token is not well-formed"
	case UnknownAPI:
		r.Status, r.Code, r.Message = 403, codeInvalidRequest, "the gateway knows no API of this name"
	case UnknownIssuer:
		r.Message = "no key manager vouches for the token's issuer"
	case KeyManagerDisabled:
		r.Message = "the token's key manager is disabled"
	case KeyManagerNotAtAPI:
		r.Status, r.Message = 403, "the token's key manager may not be used at this API"
	case UnknownKey:
		r.Message = "the token's signing key is not published"
	case BadSignature:
		r.Message = "the token's signature does not match"
	case WrongType:
		r.Message = "this is not an access token"
	case Expired:
		r.Message = "the access token has expired; get a new one"
	case NotYetValid:
		r.Message = "the access token is not valid yet; check the clocks"
	case WrongAudience:
		r.Message = "the access token is meant for another audience"
	case Inactive:
		r.Message = "the access token is not active; get a new one"
	case Revoked:
		r.Message = "the access token was revoked; get a new one"
	case Bound:
		r.Message = "the access token is bound to a key or certificate; send it with that: by the scheme DPoP with a proof, or over a connection with the certificate"
	case Unbound:
		r.Message = "the access token is bound to no DPoP key; send it with the scheme Bearer"
	case BadProof:
		r.Code, r.Scheme, r.Message = codeInvalidProof, schemeDPoP, "the DPoP proof is not good for this request and this token"
	case ProofUsed:
		r.Code, r.Scheme, r.Message = codeInvalidProof, schemeDPoP, "the DPoP proof was used before; make a new one for each request"
	case ProofsFull:
		r.Status, r.Code, r.Message = 403, codeUnavailable, "too many DPoP proofs are remembered at once; try again shortly"
	case InsufficientScope:
		r.Status, r.Code, r.Message = 403, codeInsufficientScope, "the access token lacks a scope that this API needs"
	case Unreachable:
		r.Status, r.Code, r.Message = 403, codeUnavailable, "no node could be asked about this token; try again soon"
	default:
		r.Reason, r.Status, r.Code, r.Message = Internal, 403, codeUnavailable, "the gateway failed inside; its log says why"
	}
	return r
}
