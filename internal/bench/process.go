package bench

import "time"

// Process is a process of this machine, such as the server under load. Linux only:
// elsewhere nothing of it can be read.
type Process struct {
	PID  int
	With []int // ids of further ones that count as one with it, such as a cluster's nodes
}

// readAll reads the process and those that count with it.
func (p *Process) readAll() (sample, error) {
	all, err := p.read()
	all.own = all.cpu
	for _, pid := range p.With {
		if err != nil {
			return sample{}, err
		}
		var one sample
		one, err = (&Process{PID: pid}).read()
		all = all.plus(one)
	}
	return all, err
}

// sample is what a process has used since its start.
type sample struct {
	cpu, user, system time.Duration
	own               time.Duration // CPU time of the process alone, without those that count with it
	rss, peak         int64
}

func (s sample) plus(o sample) sample {
	return sample{own: s.own, cpu: s.cpu + o.cpu, user: s.user + o.user, system: s.system + o.system, rss: s.rss + o.rss, peak: s.peak + o.peak}
}

// Usage is what a process used during a run.
type Usage struct {
	CPU    time.Duration // user and system, to the nanosecond
	Own    time.Duration // CPU of the process alone, where others count with it
	User   time.Duration // to 10 ms, as is System
	System time.Duration
	RSS    int64  // bytes at the end
	Peak   int64  // bytes, the most since its start
	Ops    uint64 // operations that succeeded meanwhile
}

// Memory says what the process holds now, and the most that it held since its start,
// in bytes.
func (p *Process) Memory() (rss, peak int64, err error) {
	s, err := p.read()
	return s.rss, s.peak, err
}

// CPU is the CPU time that the process has used since its start, user and system.
func (p *Process) CPU() (time.Duration, error) {
	s, err := p.read()
	return s.cpu, err
}

// PerOp is the CPU time of one operation.
func (u *Usage) PerOp() time.Duration {
	if u == nil || u.Ops == 0 {
		return 0
	}
	return u.CPU / time.Duration(u.Ops)
}

func (s sample) since(begun sample, ops uint64) *Usage {
	return &Usage{CPU: s.cpu - begun.cpu, Own: s.own - begun.own, User: s.user - begun.user, System: s.system - begun.system, RSS: s.rss, Peak: s.peak, Ops: ops}
}
