package logstore

import (
	"runtime"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// stable is the raft.StableStore (term and vote) under the latch.
type stable struct{ s *Store }

// Stable returns the stable store for raft. The error for an absent key has the
// text "not found", by which alone raft knows it.
func (s *Store) Stable() raft.StableStore { return stable{s} }

func (t stable) Set(key, value []byte) error {
	return t.s.hold(t.s.write("set", func() error { return t.s.engine.Set(key, value) }))
}

func (t stable) SetUint64(key []byte, value uint64) error {
	return t.s.hold(t.s.write("set", func() error { return t.s.engine.SetUint64(key, value) }))
}

func (t stable) Get(key []byte) (value []byte, err error) {
	err = t.s.read("get", func() (err error) {
		value, err = t.s.engine.Get(key)
		return err
	}, raftboltdb.ErrKeyNotFound)
	return value, err
}

// GetUint64 answers 0 and "not found" for an absent key.
func (t stable) GetUint64(key []byte) (value uint64, err error) {
	err = t.s.read("get", func() (err error) {
		value, err = t.s.engine.GetUint64(key)
		return err
	}, raftboltdb.ErrKeyNotFound)
	return value, err
}

// hold keeps a write of term or vote that a broken store refused from returning at
// once. Raft panics on such an error, which would end the process with a stack dump
// before Fatal has ended it with its own exit code and line (K20). If Fatal has not
// managed within haltWait, the panic is the last resort: the node must not vote
// again. A Close meanwhile, which in one process with other nodes stands for the
// end of the process, ends raft's main goroutine instead: nothing that could be
// returned here is safe, and raft's Shutdown counts it as ended.
func (s *Store) hold(err error) error {
	if err == nil || s.opts.Latch.Err() == nil {
		return err
	}
	wait := time.NewTimer(s.halt)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-s.end:
		runtime.Goexit()
	}
	return err
}
