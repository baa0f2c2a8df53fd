package state

import (
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
)

// clientSlots bounds the decoded clients that are kept beside their rows; each
// takes about 1 KiB.
const clientSlots = 32768

// clientCache keeps the decoded form of clients that were asked for of late. It
// is no promise about anything: what is found must be of the very row that the
// caller's view holds. Safe for concurrent use; two that share a slot take turns.
type clientCache struct {
	slots    [clientSlots]atomic.Pointer[decodedClient]
	patterns sync.Map // tenant → *tenantPatterns
}

type decodedClient struct {
	row    string
	client Client
}

// client is the record of a row.
func (c *clientCache) client(row string) *Client {
	slot := &c.slots[slotOf(rowKey(row))]
	if d := slot.Load(); d != nil && d.row == row { // of equal strings the same one, most often: no byte is compared
		return &d.client
	}
	d := &decodedClient{row: row}
	decodeInto(&d.client, row)
	slot.Store(d)
	return &d.client
}

// slotOf is FNV-1a.
func slotOf(key string) uint32 {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return h % clientSlots
}

func decodeClient(row string) *Client {
	c := &Client{}
	decodeInto(c, row)
	return c
}

// decodeInto reads a row that was checked when it was loaded, or made by encode.
func decodeInto(c *Client, row string) {
	if err := proto.Unmarshal([]byte(rowValue(row)), c); err != nil {
		panic(fmt.Sprintf("the row of a client can't be decoded, though it could before: %v", err))
	}
}
