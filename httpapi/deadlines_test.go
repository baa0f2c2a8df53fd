package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// lazyPair is a connection over the kernel with lazy deadlines, and its peer.
func lazyPair(t *testing.T) (c *lazyConn, peer *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := lazyListener{ln}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return accepted.(*lazyConn), dialled.(*net.TCPConn)
}

// counted counts how often a timer is moved.
func counted(d *lazyDeadline) *int {
	arm, n := d.arm, new(int)
	d.arm = func(t time.Time) error { *n++; return arm(t) }
	return n
}

func TestABusyConnectionMovesNoTimer(t *testing.T) {
	t.Parallel()
	c, peer := lazyPair(t)
	reads, writes := counted(&c.read), counted(&c.write)
	buf := make([]byte, 1)
	for range 1000 {
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{
			c.SetReadDeadline(time.Now().Add(time.Hour)), c.SetReadDeadline(time.Now().Add(2 * time.Hour)), c.SetWriteDeadline(time.Now().Add(time.Hour)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	if *reads != 1 || *writes != 1 {
		t.Errorf("moved %d and %d times in 1000 requests", *reads, *writes)
	}
}

func TestALazyDeadlineEndsNeitherEarlyNorNever(t *testing.T) {
	t.Parallel()
	buf := make([]byte, 1)
	t.Run("put off", func(t *testing.T) {
		t.Parallel()
		c, _ := lazyPair(t)
		moved := counted(&c.read)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		until := time.Now().Add(200 * time.Millisecond)
		_ = c.SetReadDeadline(until)
		_, err := c.Read(buf)
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().Before(until) || *moved != 2 {
			t.Errorf("%v, %v before its time, timer moved %d times", err, time.Until(until), *moved)
		}
		if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the next read: %v", err)
		}
	})
	t.Run("brought forward while somebody waits", func(t *testing.T) {
		t.Parallel()
		c, _ := lazyPair(t)
		_ = c.SetReadDeadline(time.Now().Add(time.Hour))
		got := make(chan error)
		go func() { _, err := c.Read(buf); got <- err }()
		_ = c.SetReadDeadline(time.Unix(1, 0))
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("taken away", func(t *testing.T) {
		t.Parallel()
		c, peer := lazyPair(t)
		_ = c.SetDeadline(time.Now().Add(20 * time.Millisecond))
		_ = c.SetDeadline(time.Time{})
		timer := time.AfterFunc(100*time.Millisecond, func() { _, _ = peer.Write([]byte("x")) })
		defer timer.Stop()
		if _, err := c.Read(buf); err != nil {
			t.Error(err)
		}
	})
	t.Run("of a past that is over", func(t *testing.T) {
		t.Parallel()
		c, peer := lazyPair(t)
		_ = c.SetDeadline(time.Unix(1, 0))
		if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Hour))
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			t.Error(err)
		}
	})
	t.Run("the peer has gone", func(t *testing.T) {
		t.Parallel()
		c, peer := lazyPair(t)
		_ = c.SetDeadline(time.Now().Add(time.Hour))
		peer.Close()
		if _, err := c.Read(buf); err != io.EOF {
			t.Error(err)
		}
	})
}

// A write that is part done when the timer comes goes on where it was: no byte is lost
// and none sent twice.
func TestAWriteGoesOnWhereTheEarlyTimerStoppedIt(t *testing.T) {
	t.Parallel()
	c, peer := lazyPair(t)
	moved := counted(&c.write)
	sent := make([]byte, 16<<20) // more than the kernel's buffers hold
	for i := range sent {
		sent[i] = byte(i >> 3)
	}
	armed := time.Now().Add(50 * time.Millisecond)
	_ = c.SetWriteDeadline(armed)
	_ = c.SetWriteDeadline(time.Now().Add(time.Hour))
	done := make(chan error)
	go func() {
		n, err := c.Write(sent)
		if n != len(sent) {
			err = errors.Join(err, io.ErrShortWrite)
		}
		c.Close()
		done <- err
	}()
	timer := time.NewTimer(time.Until(armed) + 50*time.Millisecond) // the peer reads nothing until then
	defer timer.Stop()
	<-timer.C
	got, err := io.ReadAll(peer)
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came of %d, or others", len(got), len(sent))
	}
	if *moved != 2 {
		t.Errorf("the timer was moved %d times: the early one has not stopped the write", *moved)
	}
}
