package command

import "context"

// Propose commits one command and answers with its result, once this node has
// applied it. A refusal of the state is in Result.Reject, not in the error. An
// error wraps ErrUnavailable (nothing was done: try again later) or
// ErrOutcomeUnknown (it may or may not have been done).
type Propose func(ctx context.Context, c Command) (Result, error)

type keyed struct {
	key  Key
	body [8]byte
}

type contextKey struct{}

// WithKey makes proposals under ctx use the caller's idempotency key: key from
// tenant, principal, route and the header's value, body from what was asked.
// One proposal a context.
func WithKey(ctx context.Context, key Key, body [8]byte) context.Context {
	return context.WithValue(ctx, contextKey{}, keyed{key, body})
}

// KeyFrom returns the idempotency key that WithKey put into ctx.
func KeyFrom(ctx context.Context) (key Key, body [8]byte, ok bool) {
	k, ok := ctx.Value(contextKey{}).(keyed)
	return k.key, k.body, ok
}
