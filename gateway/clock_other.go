//go:build !linux

package gateway

import "time"

// bootTime is the wall clock where no clock that counts suspension can be had.
// clock.since takes the larger of it and the monotonic clock.
func bootTime() time.Duration { return time.Duration(time.Now().UnixNano()) }
