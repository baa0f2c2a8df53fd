package bench

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUsageOfAProcess reads this process: what burns CPU time shows it, split by
// operations, and memory is there.
func TestUsageOfAProcess(t *testing.T) {
	self := &Process{PID: os.Getpid()}
	begun, err := self.read()
	if err != nil {
		t.Fatal(err)
	}
	ended := begun
	for digest := [32]byte{}; ended.cpu < begun.cpu+5*time.Millisecond; digest = sha256.Sum256(digest[:]) {
		if ended, err = self.read(); err != nil {
			t.Fatal(err)
		}
	}
	u := ended.since(begun, 10)
	if u.CPU < 5*time.Millisecond || u.PerOp() != u.CPU/10 || u.RSS < 1<<20 || u.Peak < u.RSS {
		t.Errorf("usage %+v", u)
	}
	w := newWorker(func(uint64) Outcome { return Outcome{} })
	r := mustRun(t, Load{Ops: []string{"x"}, Workers: []Worker{w}, Warmup: 10 * time.Millisecond, Duration: 100 * time.Millisecond, Server: self})
	if r.Usage == nil || r.Usage.CPU <= 0 || r.Usage.RSS < 1<<20 {
		t.Fatalf("usage %+v", r.Usage)
	}
	if f := r.Figures(); f["cpu_us"] != us(r.Usage.PerOp()) || f["rss_bytes"] != float64(r.Usage.RSS) || f["rate"] != r.Rate {
		t.Errorf("figures %v", f)
	}
	if cpu, err := self.CPU(); err != nil || cpu < ended.cpu {
		t.Errorf("%s of CPU time, %s before, %v", cpu, ended.cpu, err)
	}
	if rss, peak, err := self.Memory(); err != nil || rss < 1<<20 || peak < rss {
		t.Errorf("%d bytes, %d at most, %v", rss, peak, err)
	}
	// All that this test's own time was spent on is user and system time of ours.
	if s := ended; s.user+s.system > s.cpu+time.Second || s.user+s.system < s.cpu-time.Second {
		t.Errorf("the clock says %s, /proc %s and %s", s.cpu, s.user, s.system)
	}
	if _, err := (&Process{PID: 1 << 22}).read(); err == nil {
		t.Error("a process that is not there was read")
	}
	// With names others that count as one with it.
	twice := &Process{PID: os.Getpid(), With: []int{os.Getpid()}}
	if both, err := twice.readAll(); err != nil || both.cpu < 2*ended.cpu || both.rss < ended.rss || both.own < ended.cpu || both.own > both.cpu-ended.cpu {
		t.Errorf("%+v, %v, where one has used %+v", both, err, ended)
	}
	if u := (sample{cpu: 9, own: 5}).since(sample{cpu: 2, own: 1}, 1); u.CPU != 7 || u.Own != 4 {
		t.Errorf("%+v", u)
	}
	for _, gone := range []*Process{{PID: os.Getpid(), With: []int{1 << 22, os.Getpid()}}, {PID: 1 << 22, With: []int{os.Getpid()}}} {
		if _, err := gone.readAll(); err == nil {
			t.Errorf("%+v was read, and one of them is not there", gone)
		}
	}
}

// TestFiguresWithoutAProcess: what was not read has no figure, not a zero.
func TestFiguresWithoutAProcess(t *testing.T) {
	t.Parallel()
	r := sampleResult()
	r.Usage = nil
	if _, ok := r.Figures()["cpu_us"]; ok || r.Usage.PerOp() != 0 || (Report{Result: r}).Sizes() != "" {
		t.Error("a figure of nothing")
	}
}

func TestKibibytes(t *testing.T) {
	t.Parallel()
	status := []byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nBad:\n")
	for name, want := range map[string]int64{"VmRSS:": 1 << 20, "VmHWM:": 2 << 20, "VmSwap:": 0, "Bad:": 0} {
		if got := kibibytes(status, name); got != want {
			t.Errorf("%s %d, want %d", name, got, want)
		}
	}
}

// TestSync: it writes, syncs and leaves nothing.
func TestSync(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := Sync(dir, 10*time.Millisecond)
	if err != nil || f["rate"] <= 0 || f["p50_us"] <= 0 {
		t.Errorf("%v, %v", f, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	if _, err := Sync(filepath.Join(dir, "nowhere"), time.Millisecond); err == nil {
		t.Error("a folder that is not there")
	}
}

// TestPin puts another process on one core, and on no other.
func TestPin(t *testing.T) {
	t.Parallel()
	cores, err := Cores()
	if err != nil || len(cores) == 0 {
		t.Fatalf("cores %v, %v", cores, err)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	p, last := Process{PID: cmd.Process.Pid}, cores[len(cores)-1]
	if err := p.Pin(last); err != nil {
		t.Fatal(err)
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(p.PID, &set); err != nil || set.Count() != 1 || !set.IsSet(last) {
		t.Errorf("it may run on %d cores, %v", set.Count(), err)
	}
	if err := (&Process{PID: 1 << 22}).Pin(last); err == nil {
		t.Error("a process that is not there was pinned")
	}
}
