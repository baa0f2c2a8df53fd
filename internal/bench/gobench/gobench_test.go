package gobench

import (
	"crypto/sha256"
	"os"
	"testing"
	"time"
)

// TestCPU: what is done in the loop is counted, what was done before it is not.
func TestCPU(t *testing.T) {
	burn := func(long time.Duration) {
		begun, known := used()
		if !known {
			if os.Getenv("KEYRAFT_REQUIRE") == "all" {
				t.Fatal("the CPU time of a process is not known on this system")
			}
			t.Skip("the CPU time of a process is not known on this system")
		}
		for sum := [32]byte{}; ; sum = sha256.Sum256(sum[:]) {
			if now, _ := used(); now-begun >= long {
				return
			}
		}
	}
	r := testing.Benchmark(func(b *testing.B) {
		burn(20 * time.Millisecond)
		end := CPU(b)
		for b.Loop() {
			burn(2 * time.Millisecond)
		}
		end(2)
	})
	if got := time.Duration(r.Extra["cpu-ns/op"]); got < time.Millisecond || got > 10*time.Millisecond {
		t.Errorf("%s an operation, want a millisecond or little more", got)
	}
}
