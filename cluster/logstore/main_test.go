package logstore

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also serves as the second process of TestK26: with this variable set it
// opens the log of that name, says so, and holds it until its input ends.
const holdEnv = "KEYRAFT_TEST_HOLD_LOG"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		os.Exit(holdLog(path))
	}
	goleak.VerifyTestMain(m)
}

func holdLog(path string) int {
	s, err := Open(path, Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	_ = s.Close()
	return 0
}
