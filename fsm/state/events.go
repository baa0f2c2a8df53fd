package state

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/storage"
)

// Events calls fn for each live event with seq greater than since and not above
// the view's head, in order, until fn says false. An event that was replaced
// after this view is missing, and its successor lies above the head: whoever
// must hear of everything uses Changes.
func (v *View) Events(since uint64, fn func(*Event) bool) error {
	if since >= v.counters.Head {
		return nil
	}
	return v.db.Scan(eventKey(since+1), eventKey(v.counters.Head+1), eachEvent(fn))
}

// Changes calls fn for each live event with seq greater than since, in order,
// until fn says false, and returns the epoch and head to which that is whole. They
// may be newer than this view's. A delta is made of it.
func (v *View) Changes(since uint64, fn func(*Event) bool) (epoch, head uint64, err error) {
	l, err := v.Log()
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	return l.Epoch, l.Head, l.After(since, fn)
}

// Log is the event log as it was at one moment, whole up to its head. It holds disk
// space until it is closed. Safe for concurrent use.
type Log struct {
	Epoch, Head uint64
	Clock       int64 // cluster time then, in milliseconds
	rows        *storage.Snapshot
}

// Log takes the event log as it is now: perhaps newer than this view, never older.
func (v *View) Log() (*Log, error) {
	now, err := v.db.Snapshot()
	if err != nil {
		return nil, err
	}
	l := &Log{rows: now}
	raw, err := now.Get(keyCounters)
	if errors.Is(err, storage.ErrNotFound) {
		return l, nil
	}
	var c Counters
	if err == nil {
		c, err = decodeCounters(raw)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("read the counters: %w", err)
	}
	l.Epoch, l.Head, l.Clock = c.Epoch, c.Head, c.Clock
	return l, nil
}

// After calls fn for each event with seq greater than since, in order, until fn says
// false.
func (l *Log) After(since uint64, fn func(*Event) bool) error {
	if since >= l.Head {
		return nil
	}
	return l.rows.Scan(eventKey(since+1), eventKey(l.Head+1), eachEvent(fn))
}

// Close lets the store forget this moment.
func (l *Log) Close() { _ = l.rows.Close() }

func eachEvent(fn func(*Event) bool) func(key, value []byte) error {
	return func(_, value []byte) error {
		e := &Event{}
		if err := proto.Unmarshal(value, e); err != nil {
			return fmt.Errorf("event row: %w", err)
		}
		if !fn(e) {
			return storage.ErrStop
		}
		return nil
	}
}

// Revocations calls fn for each row of the index by target in key order, as the
// event that made it. It reads memory alone, so it is whole at this view's head.
func (v *View) Revocations(fn func(*Event)) (err error) {
	v.many.prefixed([]byte{tableRevocations}, func(row string) bool {
		var e *Event
		if e, err = eventOf([]byte(rowKey(row))[1:], revocationOf(row)); err == nil {
			fn(e)
		}
		return err == nil
	})
	return err
}

func eventOf(key []byte, r Revocation) (*Event, error) {
	var part [4]string
	for i := range part {
		var ok bool
		if part[i], key, ok = storage.CutString(key); !ok {
			return nil, errors.New("key of a revocation is cut short: the store is damaged")
		}
	}
	return &Event{
		Seq: r.Seq, Tenant: part[0], Issuer: part[1], Kind: part[2], Target: part[3],
		IssuedBefore: r.IssuedBefore, ExpiresAt: r.ExpiresAt, DecidedAfter: r.DecidedAfter, IssuedAfter: r.IssuedAfter,
	}, nil
}
