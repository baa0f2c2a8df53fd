package state

import (
	"bytes"

	"github.com/keyraft/keyraft/storage"
)

// Counted is a table whose rows end by themselves, or go with one that does.
type Counted struct {
	Name  string
	table byte
}

// Ending are the tables of rows that end, by the names that operators know them under:
// their sizes rise and fall with use, and a size that only rises means that nothing is
// expired any more. The last is the queue of what waits for its end.
func Ending() []Counted {
	return []Counted{
		{"opaque_tokens", tableOpaque}, {"consumed", tableConsumed}, {"sessions", tableSessions}, {"session_clients", tableSessionClients},
		{"refresh_families", tableFamilies}, {"device_requests", tableDevices}, {"backchannel_requests", tableBackchannel}, {"attempts", tableAttempts},
		{"revocations", tableRevocations}, {"events", tableEvents}, {"kept_answers", tableAnswered}, {"join_tokens", tableJoinTokens},
		{"initial_access_tokens", tableInitialAccessTokens}, {"expiry_queue", tableExpiry},
	}
}

// Count counts rows of a table behind the key after (nil: from its start), at most limit
// of them, and tells the last; nil when the table is at its end. It reads the store as it
// is now, so a count of several calls is as of no one moment.
func (v *View) Count(t Counted, after []byte, limit int) (n int, last []byte, err error) {
	lower := []byte{t.table}
	if after != nil {
		lower = append(bytes.Clone(after), 0)
	}
	err = v.db.Scan(lower, []byte{t.table + 1}, func(key, _ []byte) error {
		if n == limit {
			return storage.ErrStop
		}
		if n++; n == limit {
			last = bytes.Clone(key)
		}
		return nil
	})
	return n, last, err
}
