package httpapi

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// fasthttp sets three deadlines a request, each a walk through the timers of the
// runtime, and nearly all are put off by the next request before they come. lazyConn
// remembers the deadline that was asked for and leaves an earlier one armed; when that
// comes, it is moved and the call goes on. So nothing ends early or late, and a busy
// connection moves a timer once in ReadTimeout instead of three times a request.

// lazyListener gives its connections lazy deadlines.
type lazyListener struct{ net.Listener }

// Accept implements net.Listener.
func (l lazyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &lazyConn{Conn: c}
	conn.read.arm, conn.write.arm = c.SetReadDeadline, c.SetWriteDeadline
	return conn, nil
}

// lazyConn is safe for concurrent use like every net.Conn.
type lazyConn struct {
	net.Conn
	read, write lazyDeadline
}

// Read implements net.Conn.
func (c *lazyConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err == nil || n > 0 || !c.read.early(err) {
			return n, err
		}
	}
}

// Write implements net.Conn.
func (c *lazyConn) Write(p []byte) (written int, err error) {
	for {
		n, err := c.Conn.Write(p[written:])
		written += n
		if err == nil || !c.write.early(err) {
			return written, err
		}
	}
}

// SetDeadline implements net.Conn.
func (c *lazyConn) SetDeadline(t time.Time) error {
	return errors.Join(c.read.set(t), c.write.set(t))
}

// SetReadDeadline implements net.Conn.
func (c *lazyConn) SetReadDeadline(t time.Time) error { return c.read.set(t) }

// SetWriteDeadline implements net.Conn.
func (c *lazyConn) SetWriteDeadline(t time.Time) error { return c.write.set(t) }

// lazyDeadline is one direction's. The zero time means none.
type lazyDeadline struct {
	arm func(time.Time) error

	mu            sync.Mutex
	wanted, armed time.Time // armed is never after wanted
}

func (d *lazyDeadline) set(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if !d.armed.IsZero() && (t.IsZero() || !t.Before(d.armed)) {
		return nil
	}
	d.armed = t
	return d.arm(t)
}

// early tells of a call's error whether an armed deadline came before the wanted one,
// and arms the latter: then the call is to be made again.
func (d *lazyDeadline) early(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted.IsZero() && !time.Now().Before(d.wanted) {
		return false
	}
	d.armed = d.wanted
	return d.arm(d.wanted) == nil
}
