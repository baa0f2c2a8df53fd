package command

import "errors"

// What may befall a proposal besides a result (R11).
var (
	// ErrUnavailable says that the command was not done: no leader in reach, or
	// too much is queued. The caller may try again later.
	ErrUnavailable = errors.New("no leader in reach, nothing was changed; try again shortly")
	// ErrOutcomeUnknown says that the command may or may not have been done, and
	// that trying under the same key did not tell within the bound.
	ErrOutcomeUnknown = errors.New("the outcome is unknown; ask for the state or retry with the same Idempotency-Key")
)

// Remembered reports whether results of this kind are kept under their key.
// The other kinds tell a retry by their own rows, or may be repeated.
func Remembered(k Kind) bool {
	switch k {
	case KindIssueOpaque, KindConsume, KindRevoke, KindTermStart, KindClockAdvance, KindExpire, KindJoin, KindSetFeatureLevel,
		KindPutSession, KindEndSession, KindDeleteConsent, KindRedeem, KindRotateRefresh, KindEndGrant, KindRecordAttempt,
		KindStartDevice, KindDecideDevice, KindPollDevice, KindStartBackchannel, KindDecideBackchannel, KindPollBackchannel, KindUseClient:
		return false
	}
	return true
}
