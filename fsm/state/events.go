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
// may be newer than this view's. A delta or a gateway's snapshot is made of it.
func (v *View) Changes(since uint64, fn func(*Event) bool) (epoch, head uint64, err error) {
	now, err := v.db.Snapshot()
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = now.Close() }()
	raw, err := now.Get(keyCounters)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the counters: %w", err)
	}
	c, err := decodeCounters(raw)
	if err != nil || since >= c.Head {
		return c.Epoch, c.Head, err
	}
	return c.Epoch, c.Head, now.Scan(eventKey(since+1), eventKey(c.Head+1), eachEvent(fn))
}

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
