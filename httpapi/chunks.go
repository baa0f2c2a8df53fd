package httpapi

import (
	"bytes"
	"errors"
	"io"
	"math"

	"github.com/valyala/fasthttp"
)

// takeOver keeps the chunks of a body from fasthttp, whose decoder passes over chunk
// extensions of any length and lets white space follow a size: parsers that disagree
// there have been tricked into seeing two requests in one (HTT-04). The library is told
// of a body without end instead; it hands the raw bytes on, the first one read ahead,
// and chunks decodes them. Nothing after such a body is read as a request: the library
// closes a connection that has more of a body left than it drains.
func takeOver(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if h.ContentLength() != -1 { // not chunked
		return fasthttp.RequestConfig{}
	}
	h.SetContentLength(math.MaxInt)
	return fasthttp.RequestConfig{MaxRequestBodySize: 1}
}

const (
	maxSizeLine = 8 + 2   // bytes: up to 8 hex digits and CRLF
	maxTrailers = 1 << 10 // bytes, of all trailer lines
	chunkBuffer = 4 << 10 // bytes: more than a size line or the trailers
	freeChunks  = 1 << 10 // chunks that a body may have, however small they are
	usualChunk  = 16      // bytes: of data for each chunk beyond those
)

var (
	errChunks = errors.New("the chunks of the body are malformed: a size is up to 8 hex digits and CRLF, without an extension")
	errTiny   = errors.New("the chunks of the body are too many and too small")
)

// chunks decodes the chunked transfer coding (RFC 9112 §7.1), strictly: no extension,
// no white space, CRLF only, few tiny chunks. Trailer fields are dropped, but for those
// that would mean something as headers, which are refused. It may read beyond the end
// of the body, so the connection must end with it.
type chunks struct {
	raw     io.Reader
	buf     [chunkBuffer]byte
	at, end int   // buf[at:end] was read and not used
	left    int64 // of the chunk
	count   int64 // chunks so far
	total   int64 // bytes of data in them
	err     error // what every further Read says
}

// Read gives the next bytes of the body.
func (d *chunks) Read(p []byte) (int, error) {
	if len(p) == 0 || d.err != nil {
		return 0, d.err
	}
	if d.left == 0 {
		if d.err = d.next(); d.err != nil {
			return 0, d.err
		}
	}
	p = p[:min(int64(len(p)), d.left)]
	n := copy(p, d.buf[d.at:d.end])
	d.at += n
	if n == 0 {
		var err error
		if n, err = d.raw.Read(p); n == 0 && err != nil {
			d.err = whole(err)
			return 0, d.err
		}
	}
	d.left -= int64(n)
	return n, nil
}

// next goes to the next chunk; io.EOF after the last one.
func (d *chunks) next() error {
	if d.count > 0 {
		if line, err := d.line(2); err != nil || len(line) != 0 {
			return malformed(err)
		}
	}
	line, err := d.line(maxSizeLine)
	if err != nil || len(line) == 0 {
		return malformed(err)
	}
	for _, b := range line {
		if !hexByte(b) {
			return errChunks
		}
		d.left = d.left<<4 | int64(unhex(b))
	}
	if d.left == 0 {
		return d.trailers()
	}
	d.count++
	d.total += d.left
	if d.count > freeChunks+d.total/usualChunk {
		return errTiny
	}
	return nil
}

// trailers reads what follows the last chunk, up to the empty line.
func (d *chunks) trailers() error {
	var f facts
	for size := 0; ; {
		line, err := d.line(maxTrailers - size)
		if err != nil {
			return malformed(err)
		}
		if len(line) == 0 {
			return io.EOF
		}
		if v := checkHeaderLine(line, &f); v.status != 0 || f.seen != 0 {
			return errChunks
		}
		size += len(line) + 2
	}
}

// line reads one line, without its CRLF. It is valid until the next read.
func (d *chunks) line(limit int) ([]byte, error) {
	for {
		have := d.buf[d.at:d.end]
		if i := bytes.IndexByte(have[:min(len(have), max(limit, 0))], '\n'); i >= 0 {
			if i == 0 || have[i-1] != '\r' {
				return nil, errChunks
			}
			d.at += i + 1
			return have[:i-1], nil
		}
		if len(have) >= limit {
			return nil, errChunks
		}
		if d.at > 0 {
			d.at, d.end = 0, copy(d.buf[:], have)
		}
		n, err := d.raw.Read(d.buf[d.end:])
		if d.end += n; n == 0 && err != nil {
			return nil, whole(err)
		}
	}
}

func malformed(err error) error {
	if err == nil {
		return errChunks
	}
	return err
}

// whole is err for a body that is not at its end.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// bodyOf is what of the body is not read yet; nil when there is none.
func (r *request) bodyOf(c *fasthttp.RequestCtx) io.Reader {
	switch stream := c.RequestBodyStream(); {
	case stream == nil:
		return nil
	case !r.facts.chunked:
		return stream
	case r.chunks == nil:
		r.chunks = &chunks{raw: stream}
	}
	return r.chunks
}

// Body is the body of a Stream route's request, of any size. It ends with the handler.
func Body(c *fasthttp.RequestCtx) io.Reader {
	if r := of(c); r != nil {
		if body := r.bodyOf(c); body != nil {
			return body
		}
	}
	return bytes.NewReader(c.PostBody())
}
