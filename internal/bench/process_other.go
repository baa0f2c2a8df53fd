//go:build !linux

package bench

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// read knows Linux's /proc only.
func (p *Process) read() (sample, error) {
	return sample{}, errors.New("the CPU time of another process is known on Linux only")
}

// Pin makes all threads of the process run on these cores only.
func (p *Process) Pin(...int) error { return errors.New("pinning to a core works on Linux only") }

// Cores are the cores that this process may run on.
func Cores() ([]int, error) {
	cores := make([]int, runtime.NumCPU())
	for i := range cores {
		cores[i] = i
	}
	return cores, nil
}

// Machine describes this machine in a few words: cores, system.
func Machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// syncData makes what was written to a file last.
func syncData(f *os.File) error { return f.Sync() }
