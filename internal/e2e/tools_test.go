package e2e

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(io.LimitReader(r, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// freePort finds an address that nothing listens on, below the range from which
// the system takes ports for outgoing connections, so that it stays free.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(15000+rand.IntN(15000)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", addr)
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return addr
		}
	}
	t.Fatal("no free port was found in 100 tries")
	return ""
}

func dial(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }

func port(a net.Addr) int { return a.(*net.TCPAddr).Port }

// flipBit copies a file with one bit in its middle turned round.
func flipBit(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	bad := file + ".bad"
	if err := os.WriteFile(bad, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return bad
}
