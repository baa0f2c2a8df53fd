package gateway

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is the time since the machine started, with the time that it was
// suspended: Go's monotonic clock stands still then (P6).
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Duration(time.Now().UnixNano()) // only a kernel before 2.6.39 lacks it
	}
	return time.Duration(ts.Nano())
}
