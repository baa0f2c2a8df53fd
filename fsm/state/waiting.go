package state

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/keyraft/keyraft/storage"
)

// Statuses of a request that waits for a user at another device.
const (
	StatusPending  = "pending"
	StatusApproved = "approved"
	StatusDenied   = "denied"
)

// waitingKept is how long a request is remembered beyond its end, in seconds, so that
// whoever polls on is told that it is over instead of that it never was.
const waitingKept = 600

// Device returns a device request by the keyed hash of its code.
func (v *View) Device(tenant string, hash []byte) (*DeviceRequest, error) {
	return rowAt(v, &DeviceRequest{}, tableDevices, tenant, string(hash))
}

// DeviceByUserCode returns the hash by which a pending device request is found.
func (v *View) DeviceByUserCode(tenant, code string) ([]byte, error) {
	return v.db.Get(storage.Key(tableDevicesByUserCode, tenant, code))
}

// Backchannel returns a CIBA request by the keyed hash of its auth_req_id.
func (v *View) Backchannel(tenant string, hash []byte) (*BackchannelRequest, error) {
	return rowAt(v, &BackchannelRequest{}, tableBackchannel, tenant, string(hash))
}

// BackchannelOf returns a CIBA request that waits for a user by its public id, and the
// hash that it is kept under.
func (v *View) BackchannelOf(tenant, user, id string) (*BackchannelRequest, []byte, error) {
	hash, err := v.db.Get(storage.Key(tableBackchannelsByUser, tenant, user, id))
	if err != nil {
		return nil, nil, err
	}
	r, err := v.Backchannel(tenant, hash)
	return r, hash, err
}

// BackchannelsOf lists the ids of the CIBA requests that wait for a user: see SessionsOf.
func (v *View) BackchannelsOf(tenant, user, after string, limit int) ([]string, error) {
	return v.lastParts(tableBackchannelsByUser, after, limit, tenant, user)
}

// Used tells whether a one-time value was used up.
func (v *View) Used(tenant, kind, id string) (bool, error) {
	_, err := v.db.Get(storage.Key(tableConsumed, tenant, kind, id))
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Device returns a device request as this entry has left it; nil when there is none.
func (b *Batch) Device(tenant string, hash []byte) (*DeviceRequest, error) {
	m := &DeviceRequest{}
	return found(m, b.read(storage.Key(tableDevices, tenant, string(hash)), m))
}

// DeviceByUserCode returns the hash under which a user code is taken; "" for none.
func (b *Batch) DeviceByUserCode(tenant, code string) (string, error) {
	return b.text(storage.Key(tableDevicesByUserCode, tenant, code))
}

// PutDevice writes a device request. Its user code finds it while it is pending, and may
// be another's from then on.
func (b *Batch) PutDevice(old, d *DeviceRequest, hash []byte) {
	key := storage.Key(tableDevices, d.GetTenant(), string(hash))
	b.set(key, encode(d), nil)
	code := storage.Key(tableDevicesByUserCode, d.GetTenant(), d.GetUserCode())
	switch {
	case old == nil:
		b.set(code, hash, nil)
		b.queue(d.GetExpiresAt()+waitingKept, key)
	case old.GetStatus() == StatusPending && d.GetStatus() != StatusPending:
		b.delete(code)
	}
}

// Backchannel returns a CIBA request as this entry has left it; nil when there is none.
func (b *Batch) Backchannel(tenant string, hash []byte) (*BackchannelRequest, error) {
	m := &BackchannelRequest{}
	return found(m, b.read(storage.Key(tableBackchannel, tenant, string(hash)), m))
}

// BackchannelHash returns the hash of a pending CIBA request of a user; "" for none.
func (b *Batch) BackchannelHash(tenant, user, id string) (string, error) {
	return b.text(storage.Key(tableBackchannelsByUser, tenant, user, id))
}

// BackchannelsOf lists the first CIBA requests that wait for a user.
func (b *Batch) BackchannelsOf(tenant, user string, limit int) ([]string, error) {
	return lastParts(b.w.Scan, tableBackchannelsByUser, "", limit, tenant, user)
}

// PutBackchannel writes a CIBA request. Its user's list has it while it is pending.
func (b *Batch) PutBackchannel(old, r *BackchannelRequest, hash []byte) {
	key := storage.Key(tableBackchannel, r.GetTenant(), string(hash))
	b.set(key, encode(r), nil)
	listed := storage.Key(tableBackchannelsByUser, r.GetTenant(), r.GetUser(), r.GetId())
	switch {
	case old == nil:
		b.set(listed, hash, nil)
		b.queue(r.GetExpiresAt()+waitingKept, key)
	case old.GetStatus() == StatusPending && r.GetStatus() != StatusPending:
		b.delete(listed)
	}
}

// UnlistBackchannel takes a CIBA request out of its user's list.
func (b *Batch) UnlistBackchannel(tenant, user, id string) {
	b.delete(storage.Key(tableBackchannelsByUser, tenant, user, id))
}

// expireWaiting removes a request whose row is over, and where it is found if it was
// never decided.
func (b *Batch) expireWaiting(key, raw []byte) error {
	b.delete(key)
	if key[0] == tableDevices {
		d := &DeviceRequest{}
		if err := proto.Unmarshal(raw, d); err != nil {
			return fmt.Errorf("row of table %#x: %w: the store is damaged", key[0], err)
		}
		if d.GetStatus() == StatusPending {
			b.delete(storage.Key(tableDevicesByUserCode, d.GetTenant(), d.GetUserCode()))
		}
		return nil
	}
	r := &BackchannelRequest{}
	if err := proto.Unmarshal(raw, r); err != nil {
		return fmt.Errorf("row of table %#x: %w: the store is damaged", key[0], err)
	}
	if r.GetStatus() == StatusPending {
		b.delete(storage.Key(tableBackchannelsByUser, r.GetTenant(), r.GetUser(), r.GetId()))
	}
	return nil
}

func endOfWaiting(table byte, raw []byte) (int64, error) {
	if table == tableDevices {
		d := &DeviceRequest{}
		err := proto.Unmarshal(raw, d)
		return d.GetExpiresAt() + waitingKept, err
	}
	r := &BackchannelRequest{}
	err := proto.Unmarshal(raw, r)
	return r.GetExpiresAt() + waitingKept, err
}
