package adminapi

import (
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/cluster/member"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

func invalid(field, detail string) error {
	return httpapi.Problem(fasthttp.StatusBadRequest, string(oauth.InvalidRequest), field, detail)
}

func notFound(detail string) error {
	return httpapi.Problem(fasthttp.StatusNotFound, "not_found", "", detail)
}

func conflict(code, field, detail string) error {
	return httpapi.Problem(fasthttp.StatusConflict, code, field, detail)
}

// retryAfter is what a client is told to wait, in seconds: an election takes about
// that long.
const retryAfter = 1

// answerOf turns what a room says into the answer for it; any other error, an answer
// already or the server's own to deal with, stays as it is.
func answerOf(err error) error {
	if answer := problemOf(err); answer != nil {
		return answer
	}
	return err
}

// problemOf is the answer for what the rooms below say; nil for any other error.
func problemOf(err error) error {
	var refused *member.RefusedError
	var field *clients.FieldError
	var ofUser *identity.FieldError
	var reject command.Reject
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		if refused.Status == fasthttp.StatusServiceUnavailable {
			return oauth.TemporarilyUnavailable.With(refused.Reason).WithRetryAfter(retryAfter)
		}
		field := ""
		if refused.Code == keyReused {
			field = "Idempotency-Key"
		}
		return httpapi.Problem(refused.Status, refused.Code, field, refused.Reason)
	case errors.As(err, &field):
		return httpapi.Problem(fasthttp.StatusBadRequest, string(oauth.InvalidClientMetadata), field.Field, field.Detail)
	case errors.As(err, &ofUser):
		return invalid(ofUser.Field, ofUser.Detail)
	case errors.Is(err, command.ErrOutcomeUnknown):
		return oauth.OutcomeUnknown.With(command.ErrOutcomeUnknown.Error()).WithRetryAfter(retryAfter)
	case errors.Is(err, command.ErrUnavailable):
		return oauth.TemporarilyUnavailable.With(command.ErrUnavailable.Error()).WithRetryAfter(retryAfter)
	case errors.As(err, &reject):
		return rejected(reject)
	}
	return nil
}

const keyReused = "idempotency_key_reused"

// rejected is the answer for a decision of the state.
func rejected(r command.Reject) error {
	switch r {
	case command.Exists:
		return conflict("exists", "", "it is there already; change it, or choose another id")
	case command.NotFound:
		return notFound("there is no such thing; it may have been deleted")
	case command.Stale:
		return conflict("conflict", "", "it was changed at the same moment; read it and try again")
	case command.KeyReused:
		return httpapi.Problem(fasthttp.StatusUnprocessableEntity, keyReused, "Idempotency-Key", "the key was used for another request; make a new key for each one")
	case command.EpochChanged:
		return oauth.TemporarilyUnavailable.With("the cluster was restored at this moment; try again").WithRetryAfter(retryAfter)
	case command.Conflict, command.NotReady, command.Disabled, command.AlreadyUsed, command.AlreadyExpired:
		return conflict("conflict", "", "the state refuses it: "+r.Error())
	default:
		return invalid("", "the state refuses it: "+r.Error())
	}
}
