package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	dialTimeout = 10 * time.Second
	// mostAnswer bounds what is read of one answer, in bytes.
	mostAnswer = 1 << 20
	// idleBefore is how long a connection must have been idle for its end to be
	// nobody's mistake: servers close idle connections.
	idleBefore = time.Second
)

// server is one of those under load.
type server struct {
	addr string // host:port
	host string // for the Host header
	path string // that all others are below
	tls  *tls.Config
}

func parseServer(text string, conf *tls.Config) (server, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return server{}, fmt.Errorf("bench: %q is not a URL with http or https", text)
	}
	s := server{addr: u.Host, host: u.Host, path: u.EscapedPath()}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
		if conf == nil {
			conf = new(tls.Config)
		}
		s.tls = conf.Clone()
		s.tls.NextProtos = []string{"http/1.1"}
		if s.tls.ServerName == "" {
			s.tls.ServerName = u.Hostname()
		}
	}
	if u.Port() == "" {
		s.addr = net.JoinHostPort(u.Hostname(), port)
	}
	return s, nil
}

// endpoint is a request's head for each server: up to and with "Content-Length: " where
// forms are posted to it, else whole.
type endpoint [][]byte

func newEndpoint(servers []server, path, authorization string) endpoint {
	e := make(endpoint, len(servers))
	for i, s := range servers {
		head := "POST " + s.path + path + " HTTP/1.1\r\nHost: " + s.host + "\r\nAccept: application/json\r\n"
		if authorization != "" {
			head += "Authorization: " + authorization + "\r\n"
		}
		e[i] = []byte(head + "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: ")
	}
	return e
}

// newPage is a path that is fetched as a browser with these cookies does.
func newPage(servers []server, path, cookies string) endpoint {
	e := make(endpoint, len(servers))
	for i, s := range servers {
		e[i] = []byte("GET " + s.path + path + " HTTP/1.1\r\nHost: " + s.host + "\r\nAccept: text/html\r\nCookie: " + cookies + "\r\n\r\n")
	}
	return e
}

// conn is one keep-alive connection, by hand: one write and, as a rule, one read a
// request. When its server does not answer it goes on to the next one.
type conn struct {
	servers []server
	timeout time.Duration // of one request
	at      int           // the server in use

	in      *bufio.Reader
	readErr error // of the connection: the parser's own errors hide it
	out     []byte
	resp    fasthttp.Response
	last    time.Time // end of the last request

	mu     sync.Mutex // guards what Close touches
	net    net.Conn   // nil: there is none
	closed bool
}

func newConn(servers []server, first int, timeout time.Duration) *conn {
	return &conn{servers: servers, at: first % len(servers), timeout: timeout, in: bufio.NewReaderSize(nil, 16<<10)}
}

// Close ends the connection for good; a request under way fails.
func (c *conn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.net != nil {
		_ = c.net.Close() // whoever uses it notices
	}
}

// dial connects to the server in use.
func (c *conn) dial(ctx context.Context) error {
	s := c.servers[c.at]
	ctx, cancel := context.WithTimeout(ctx, min(dialTimeout, c.timeout))
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	if s.tls != nil {
		secure := tls.Client(nc, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = nc.Close() // the error is the handshake's
			return err
		}
		nc = secure
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = nc.Close()
		return net.ErrClosed
	}
	c.net, c.readErr = nc, nil
	c.in.Reset(reader{c})
	return nil
}

// reader reads the connection and keeps the error.
type reader struct{ *conn }

func (r reader) Read(b []byte) (n int, err error) {
	n, err = r.net.Read(b)
	if err != nil {
		r.readErr = err
	}
	return n, err
}

// drop forgets the connection.
func (c *conn) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.net != nil {
		_ = c.net.Close()
	}
	c.net = nil
}

// next gives the server up for the one after it.
func (c *conn) next() {
	c.drop()
	c.at = (c.at + 1) % len(c.servers)
}

// post sends a form, or fetches when form is nil, and reads the answer, which is valid
// until the next call. kind says why there is none.
func (c *conn) post(e endpoint, form []byte) (status int, answer []byte, kind string) {
	idle := c.net != nil && time.Since(c.last) >= idleBefore
	status, answer, kind = c.once(e, form)
	if idle && kind == KindBroken {
		status, answer, kind = c.once(e, form)
	}
	if kind != "" {
		c.next()
	}
	c.last = time.Now()
	return status, answer, kind
}

func (c *conn) once(e endpoint, form []byte) (status int, answer []byte, kind string) {
	if c.net == nil {
		if err := c.dial(context.Background()); err != nil {
			return 0, nil, KindConnect
		}
	}
	c.out = append(c.out[:0], e[c.at]...)
	if form != nil {
		c.out = strconv.AppendInt(c.out, int64(len(form)), 10)
		c.out = append(append(c.out, "\r\n\r\n"...), form...)
	}
	err := c.net.SetDeadline(time.Now().Add(c.timeout))
	if err == nil {
		_, err = c.net.Write(c.out)
	}
	if err != nil {
		c.drop()
		return 0, nil, kindOf(err)
	}
	c.resp.Reset()
	if err := c.resp.ReadLimitBody(c.in, mostAnswer); err != nil {
		kind := KindBad
		if c.readErr != nil {
			kind = kindOf(c.readErr)
		}
		c.drop()
		return 0, nil, kind
	}
	if c.resp.ConnectionClose() {
		c.drop()
	}
	return c.resp.StatusCode(), c.resp.Body(), ""
}

// kindOf says what an error of a connection is.
func kindOf(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return KindTimeout
	}
	return KindBroken
}
