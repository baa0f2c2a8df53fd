// Package identity knows the people of a tenant: users of the built-in store, their
// passwords and how often somebody may guess them, sessions, consents, second factors.
//
// A user's id is random and never changes; it is the public subject of tokens. The user
// name is folded by RFC 8265, so that what looks alike is one account. Passwords are
// hashed with argon2id in a bounded pool. Guesses are counted over all nodes; those of each
// browser that the user is known at are counted apart, so neither a stranger nor who has
// the use of one of them can lock the owner out of the others.
//
// Every refusal of a login reads the same and costs the same, whoever it is about.
//
// Units: instants in records are milliseconds or seconds, as their fields say. Errors:
// *FieldError names a member that is wrong; refusals are *oauth.Error; command.Reject and
// the errors of a proposal are passed on wrapped. Everything here is safe for concurrent
// use.
//
// Sources: RFC 8265, 9106; NIST SP 800-63B; OpenID Connect Core §5.1.
package identity

import "fmt"

// FieldError says which member is wrong, and what to do.
type FieldError struct {
	Field, Detail string
	Rule          Rule // of passwords; "" for any other member
}

// Error names the member.
func (e *FieldError) Error() string { return e.Field + ": " + e.Detail }

func bad(field, format string, args ...any) error {
	return &FieldError{Field: field, Detail: fmt.Sprintf(format, args...)}
}
