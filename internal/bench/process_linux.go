package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ticks is how many there are in a second of /proc/PID/stat, on every architecture
// that Go runs on.
const ticks = 100

// read reads what the process has used so far.
func (p *Process) read() (sample, error) {
	var s sample
	// The clock of a process counts its CPU time in nanoseconds; its id is made of
	// the process's (clock_getcpuclockid(3)).
	const schedulerClock = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.PID<<3|schedulerClock), &ts); err != nil {
		return s, fmt.Errorf("read the CPU time of process %d: %w", p.PID, err)
	}
	s.cpu = time.Duration(ts.Nano())
	stat, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return s, err
	}
	// The name of the program, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3 // proc(5), counted from the state
	if len(fields) <= stime {
		return s, fmt.Errorf("%s can't be read", p.proc("stat"))
	}
	user, errU := strconv.ParseInt(fields[utime], 10, 64)
	system, errS := strconv.ParseInt(fields[stime], 10, 64)
	s.user, s.system = time.Duration(user)*time.Second/ticks, time.Duration(system)*time.Second/ticks
	status, errF := os.ReadFile(p.proc("status"))
	s.rss, s.peak = kibibytes(status, "VmRSS:"), kibibytes(status, "VmHWM:")
	return s, errors.Join(errU, errS, errF)
}

func (p *Process) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(p.PID), file)
}

// kibibytes finds a line such as "VmRSS:  1234 kB" and gives bytes.
func kibibytes(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		rest, found := bytes.CutPrefix(line, []byte(name))
		if !found {
			continue
		}
		if fields := strings.Fields(string(rest)); len(fields) > 0 {
			n, _ := strconv.ParseInt(fields[0], 10, 64) // 0 when it is none
			return n << 10
		}
	}
	return 0
}

// Pin makes all threads of the process run on these cores only. Threads that it starts
// later inherit that.
func (p *Process) Pin(cores ...int) error {
	var set unix.CPUSet
	for _, core := range cores {
		set.Set(core)
	}
	done := map[int]bool{}
	for { // until a look at the threads shows no new one
		tasks, err := os.ReadDir(p.proc("task"))
		if err != nil {
			return fmt.Errorf("pin process %d to cores %v: %w", p.PID, cores, err)
		}
		news := false
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[tid] {
				continue
			}
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin process %d to cores %v: %w", p.PID, cores, err)
			}
			done[tid], news = true, true
		}
		if !news {
			return nil
		}
	}
}

// Cores are the cores that this process may run on.
func Cores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("ask which cores there are: %w", err)
	}
	var cores []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	return cores, nil
}

// Machine describes this machine in a few words: cores, processor, system.
func Machine() string {
	model := ""
	info, err := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); err == nil && ok && strings.TrimSpace(name) == "model name" {
			model = " of " + strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d cores%s, %s/%s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// syncData makes what was written to a file last.
func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
