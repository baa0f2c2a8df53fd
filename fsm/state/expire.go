package state

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/storage"
)

// Expire removes what has ended at upTo (milliseconds of cluster time): opaque
// tokens by one range, whatever is in the queue by row, at most limit of them.
// It reports how many rows of the queue it took.
func (b *Batch) Expire(upTo int64, limit int) (int, error) {
	minute := uint64(max(upTo, 0)) / 60_000 // whole minutes that are over
	end := storage.AppendUint64([]byte{tableOpaque}, minute+1)
	b.deleteRange([]byte{tableOpaque}, end)

	var due [][]byte
	err := b.w.Scan([]byte{tableExpiry}, storage.AppendUint64([]byte{tableExpiry}, minute+1), func(key, _ []byte) error {
		if len(due) == limit {
			return storage.ErrStop
		}
		due = append(due, bytes.Clone(key))
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read the expiry queue: %w", err)
	}
	for _, key := range due {
		if err := b.expireRow(key[9:], upTo/1000); err != nil {
			return 0, err
		}
		b.delete(key)
	}
	return len(due), nil
}

// expireRow removes the row unless it was given a later end after it was queued.
func (b *Batch) expireRow(key []byte, now int64) error {
	raw, err := b.w.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	end, err := endOf(key[0], raw)
	if err != nil {
		return err
	}
	if end > now {
		return nil
	}
	if key[0] == tableEvents {
		seq, _, _ := storage.CutUint64(key[1:])
		b.counters.Floor = max(b.counters.Floor, seq)
	}
	if key[0] == tableFamilies { // its indexes go with it
		f := &RefreshFamily{}
		if err := proto.Unmarshal(raw, f); err != nil {
			return fmt.Errorf("row of table %#x: %w: the store is damaged", key[0], err)
		}
		b.DeleteFamily(f)
		return nil
	}
	if key[0] == tableSessions { // so do those of a session, and its clients
		m := &Session{}
		if err := proto.Unmarshal(raw, m); err != nil {
			return fmt.Errorf("row of table %#x: %w: the store is damaged", key[0], err)
		}
		b.DeleteSession(m)
		return nil
	}
	if key[0] == tableClients { // its tenant has room for another
		c := &Client{}
		if err := proto.Unmarshal(raw, c); err != nil {
			return fmt.Errorf("row of table %#x: %w: the store is damaged", key[0], err)
		}
		b.DeleteClient(c.GetTenant(), c.GetId())
		if n := b.Registrations(c.GetTenant()); c.GetSelfRegistered() && n > 0 {
			b.PutRegistrations(c.GetTenant(), &Registrations{Clients: n - 1})
		}
		return nil
	}
	if key[0] == tableDevices || key[0] == tableBackchannel { // so do those of a request that waits
		return b.expireWaiting(key, raw)
	}
	b.delete(key)
	return nil
}

// wholeSeconds is the first whole second at which an end in milliseconds is over.
func wholeSeconds(ms int64) int64 {
	if ms > 0 && ms%1000 != 0 {
		return ms/1000 + 1
	}
	return ms / 1000
}

// endOf reads when a queued row is over, in seconds.
func endOf(table byte, raw []byte) (int64, error) {
	var err error
	switch table {
	case tableRevocations:
		r, err := decodeRevocation(raw)
		return r.ExpiresAt, err
	case tableEvents:
		e := &Event{}
		err = proto.Unmarshal(raw, e)
		return e.GetExpiresAt(), err
	case tableConsumed:
		c := &Consumed{}
		err = proto.Unmarshal(raw, c)
		return c.GetExpiresAt(), err
	case tableAnswered:
		a := &Answered{}
		err = proto.Unmarshal(raw, a)
		return wholeSeconds(a.GetExpiresAt()), err
	case tableJoinTokens:
		t := &JoinToken{}
		err = proto.Unmarshal(raw, t)
		return wholeSeconds(t.GetExpiresAt()), err
	case tableAttempts:
		a := &Attempts{}
		err = proto.Unmarshal(raw, a)
		return a.GetExpiresAt(), err
	case tableClients:
		c := &Client{}
		if err = proto.Unmarshal(raw, c); c.GetUnusedUntil() == 0 {
			return math.MaxInt64, err
		}
		return c.GetUnusedUntil(), err
	case tableInitialAccessTokens:
		t := &InitialAccessToken{}
		err = proto.Unmarshal(raw, t)
		return t.GetExpiresAt(), err
	case tableFamilies:
		f := &RefreshFamily{}
		err = proto.Unmarshal(raw, f)
		return f.GetExpiresAt(), err
	case tableSessions:
		m := &Session{}
		err = proto.Unmarshal(raw, m)
		return m.GetExpiresAt(), err
	case tableDevices, tableBackchannel:
		return endOfWaiting(table, raw)
	default:
		return 0, fmt.Errorf("table %#x has no end: the expiry queue is damaged", table)
	}
}
