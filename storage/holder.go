package storage

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// LockHolder returns the process that holds a lock (flock or fcntl) on the file at
// path, for the error that a second process gets (K26). It is 0 when that can't be
// told: nobody holds one, the holder is in another PID namespace, or the system
// has no /proc/locks. It never opens the file: closing it would drop a lock of
// fcntl that this process holds itself.
func LockHolder(path string) int {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer func() { _ = locks.Close() }()
	dev := uint64(stat.Dev) //nolint:unconvert // its type differs between systems
	return lockHolder(locks, fmt.Sprintf("%02x:%02x:%d", unix.Major(dev), unix.Minor(dev), stat.Ino))
}

// lockHolder finds the line of file, given as major:minor:inode, in the form of
// proc(5): "1: FLOCK ADVISORY WRITE 4242 08:01:1234 0 EOF". A waiting process has
// "->" after the number and holds nothing.
func lockHolder(locks io.Reader, file string) int {
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] == "->" || f[5] != file {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			return pid
		}
	}
	return 0
}
