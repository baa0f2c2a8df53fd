// Package clients knows who the OAuth clients are: the rules of their registration
// (RFC 7591), their secrets, and how a client proves who it is.
//
// Registration is what the admin API reads and writes; Registry proposes it.
// Authenticator checks the credentials of a request, with one file a method. The
// method is the registration's, never the request's choice.
//
// A secret is made here, 256 bits, and only its keyed hash is stored; that of
// client_secret_jwt is stored sealed besides. A client has
// up to two live ones, so that a rotation needs no window. Under a caller's
// Idempotency-Key id and secret are derived from it and a cluster key, so that a
// retry gets the same ones and nothing is kept.
//
// Units: lifetimes are seconds, instants in records milliseconds since 1970 UTC.
//
// Errors: *FieldError names a member of a registration that is wrong; a refused
// client is *oauth.Error with one text for all causes; command.Reject and the
// errors of a proposal are passed on wrapped. No error holds a secret or an
// assertion.
//
// Registry and Authenticator are safe for concurrent use.
//
// Sources: RFC 6749 §2.3, RFC 7521, RFC 7523 with draft-ietf-oauth-rfc7523bis,
// RFC 7591, RFC 7592, RFC 7617, RFC 8252, RFC 8705, RFC 8707, RFC 9700; OpenID Connect
// Core §9, OpenID Connect Registration.
package clients

import (
	"errors"
	"fmt"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
)

// Keys gives the versions of the cluster's hash key. *tokens.ClusterKeys, asked for
// that key, is one; this room knows no more of it.
type Keys struct {
	// Newest is the version that hashes now.
	Newest func(v *state.View) (*seal.Key, uint32, error)
	// Version is one that hashed before.
	Version func(v *state.View, version uint32) (*seal.Key, error)
	// Seal and Open are those of *tokens.Boxes: for the secrets of client_secret_jwt,
	// which are needed as they are. nil: no client is registered for that method.
	Seal func(v *state.View, label string, plain []byte) (string, error)
	Open func(v *state.View, label, value string) (plain []byte, ok bool, err error)
}

func (k Keys) usable() bool { return k.Newest != nil && k.Version != nil }

// FieldError says which member of a registration is wrong, and what to do.
type FieldError struct{ Field, Detail string }

// Error names the member.
func (e *FieldError) Error() string { return e.Field + ": " + e.Detail }

// NoView makes the answer of an error for which a second look at the state could not
// be had: temporarily_unavailable, with the cause wrapped. An error that is an answer
// already stays as it is. The first look of a request is the server's, which answers
// the same.
func NoView(err error) error {
	var answer *oauth.Error
	if err == nil || errors.As(err, &answer) {
		return err
	}
	return fmt.Errorf("%w: %w", oauth.TemporarilyUnavailable.With("this node cannot prove that its state is fresh; try again, or another node").WithRetryAfter(1), err)
}
