package oauth

import (
	"fmt"
	"net/http"
)

// Code is an error code of the protocol. It is itself an error, so that
// errors.Is(err, oauth.InvalidGrant) tells what a refusal was about.
type Code string

// Codes of RFC 6749 §4.1.2.1 and §5.2 and of those that extend them.
const (
	InvalidRequest          Code = "invalid_request"
	InvalidClient           Code = "invalid_client"
	InvalidGrant            Code = "invalid_grant"
	UnauthorizedClient      Code = "unauthorized_client"
	UnsupportedGrantType    Code = "unsupported_grant_type"
	UnsupportedResponseType Code = "unsupported_response_type"
	InvalidScope            Code = "invalid_scope"
	AccessDenied            Code = "access_denied"
	ServerError             Code = "server_error"
	TemporarilyUnavailable  Code = "temporarily_unavailable"

	InvalidToken      Code = "invalid_token"      // RFC 6750 §3.1
	InsufficientScope Code = "insufficient_scope" // RFC 6750 §3.1

	UnsupportedTokenType        Code = "unsupported_token_type"        // RFC 7009 §2.2.1
	InvalidTarget               Code = "invalid_target"                // RFC 8707 §2
	InvalidAuthorizationDetails Code = "invalid_authorization_details" // RFC 9396 §5
	InvalidDPoPProof            Code = "invalid_dpop_proof"            // RFC 9449 §5
	UseDPoPNonce                Code = "use_dpop_nonce"                // RFC 9449 §8

	AuthorizationPending Code = "authorization_pending" // RFC 8628 §3.5
	SlowDown             Code = "slow_down"             // RFC 8628 §3.5
	ExpiredToken         Code = "expired_token"         // RFC 8628 §3.5

	UnknownUserID         Code = "unknown_user_id"         // OpenID Connect CIBA Core §13
	InvalidBindingMessage Code = "invalid_binding_message" // OpenID Connect CIBA Core §13

	InvalidRedirectURI    Code = "invalid_redirect_uri"    // RFC 7591 §3.2.2
	InvalidClientMetadata Code = "invalid_client_metadata" // RFC 7591 §3.2.2

	InvalidSoftwareStatement    Code = "invalid_software_statement"    // RFC 7591 §3.2.2
	UnapprovedSoftwareStatement Code = "unapproved_software_statement" // RFC 7591 §3.2.2

	LoginRequired        Code = "login_required"       // OpenID Connect Core §3.1.2.6
	InteractionRequired  Code = "interaction_required" // OpenID Connect Core §3.1.2.6
	ConsentRequired      Code = "consent_required"     // OpenID Connect Core §3.1.2.6
	InvalidRequestURI    Code = "invalid_request_uri"  // OpenID Connect Core §3.1.2.6
	InvalidRequestObj    Code = "invalid_request_object"
	InvalidRequestObject Code = "invalid_request_object" // RFC 9101 §6, OpenID Connect Core §3.1.2.6
	RequestNotSupported  Code = "request_not_supported"  // OpenID Connect Core §3.1.2.6

	// OutcomeUnknown is our own: the write was proposed, and whether it was
	// committed could not be learned in time. Ask again with the same
	// Idempotency-Key, or read.
	OutcomeUnknown Code = "outcome_unknown"
)

// Error is the code itself, as it stands on the wire.
func (c Code) Error() string { return string(c) }

// With makes an error of this code. description is one sentence that says what
// to do; it is sent to the client, so it must hold no secret and no token.
// Characters that RFC 6749 §5.2 does not allow there are replaced.
func (c Code) With(description string) *Error {
	return &Error{code: c, description: clean(description)}
}

// Withf is With with a format.
func (c Code) Withf(format string, args ...any) *Error {
	return c.With(fmt.Sprintf(format, args...))
}

// status is the answer that the code's RFC names; 400 where it names none.
func (c Code) status() int {
	switch c {
	case InvalidClient, InvalidToken:
		return http.StatusUnauthorized
	case InsufficientScope:
		return http.StatusForbidden
	case ServerError:
		return http.StatusInternalServerError
	case TemporarilyUnavailable, OutcomeUnknown:
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadRequest
	}
}
