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
	if err := v.many.same(fresh.many); err != nil {
		return err
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

// same compares row by row, key and value.
func (t rows) same(want rows) error {
	var all []string
	want.from(nil, func(row string) bool { all = append(all, row); return true })
	var err error
	t.from(nil, func(row string) bool {
		switch {
		case len(all) == 0:
			err = fmt.Errorf("memory goes on with key %q, the store has ended", rowKey(row))
		case row != all[0]:
			err = fmt.Errorf("memory has the row of key %q, where the store has that of key %q, or another value of it", rowKey(row), rowKey(all[0]))
		default:
			all = all[1:]
		}
		return err == nil
	})
	if err == nil && len(all) > 0 {
		err = fmt.Errorf("memory has ended, the store goes on with key %q", rowKey(all[0]))
	}
	return err
}

func sameRow(a, b any) bool {
	if m, ok := a.(proto.Message); ok {
		n, ok := b.(proto.Message)
		return ok && proto.Equal(m, n)
	}
	return a == b
}
