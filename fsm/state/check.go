package state

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// CheckMemory builds the tables in memory anew from the store and reports the
// first row in which this view differs (R20). Nothing may be applied meanwhile. It
// reads all of these tables: for tests and for looking into a fault.
func (v *View) CheckMemory() error {
	fresh, err := Load(v.db)
	if err != nil {
		return err
	}
	if fresh.applied != v.applied || fresh.counters != v.counters {
		return fmt.Errorf("the view is at %+v, the store at %+v", v.counters, fresh.counters)
	}
	here, there := v.tree.Root().Iterator(), fresh.tree.Root().Iterator()
	for {
		key, mem, more := here.Next()
		want, row, moreRows := there.Next()
		switch {
		case more != moreRows || !bytes.Equal(key, want):
			return fmt.Errorf("memory goes on with key %q, the store with %q", key, want)
		case !more:
			return nil
		case !sameRow(mem, row):
			return fmt.Errorf("the row of key %q differs in memory and in the store", key)
		}
	}
}

func sameRow(a, b any) bool {
	if m, ok := a.(proto.Message); ok {
		n, ok := b.(proto.Message)
		return ok && proto.Equal(m, n)
	}
	return a == b
}
