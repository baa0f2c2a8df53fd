package adminapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/oauth"
)

const (
	// snapshotTime bounds the saving or the restoring of a snapshot.
	snapshotTime = time.Hour
	// maxBackups run at once: each holds the store's files as they were at its start.
	maxBackups = 2

	octets = "application/octet-stream"
)

func (a *api) snapshotEndpoints() []endpoint {
	return []endpoint{
		{method: "GET", path: clusterPath + "/snapshot", stream: true, timeout: snapshotTime, serve: a.saveSnapshot},
		{method: "POST", path: clusterPath + "/snapshot", stream: true, timeout: snapshotTime, query: []string{"foreign"}, serve: a.restoreSnapshot},
	}
}

// saveSnapshot streams the whole state. The stream ends with its own checksum; one
// that breaks off ends without its last chunk, so nobody takes it for whole.
func (a *api) saveSnapshot(r *request) error {
	r.SetContentType(octets)
	r.SetStatusCode(fasthttp.StatusOK)
	if r.IsHead() {
		return nil
	}
	select {
	case a.backups <- struct{}{}:
	default:
		return oauth.Code("too_many_requests").With("other snapshots are being saved; try again when they are done").
			WithStatus(fasthttp.StatusTooManyRequests).WithRetryAfter(5)
	}
	// The body is written after this handler has returned, when its context is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), snapshotTime)
	out, in := io.Pipe()
	s := &backup{in: bufio.NewReaderSize(out, 64<<10), pipe: out, cancel: cancel, done: make(chan struct{})}
	go func() { // ends when the backup does, or when Close takes the reader away
		defer close(s.done)
		defer func() { <-a.backups }()
		_ = in.CloseWithError(a.Cluster.Backup(ctx, in))
	}()
	if _, err := s.in.Peek(1); err != nil { // it proves its freshness before the first byte
		_ = s.Close()
		if errors.Is(err, io.EOF) {
			return errors.New("the backup is empty")
		}
		return err
	}
	r.SetBodyStream(s, -1)
	return nil
}

// backup is the reading end of a backup that is written beside. The server closes it
// when the answer was sent or broke off.
type backup struct {
	in     *bufio.Reader
	pipe   *io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// Read gives the next bytes of the stream.
func (s *backup) Read(p []byte) (int, error) { return s.in.Read(p) }

// Close ends the writer and waits for its end.
func (s *backup) Close() error {
	s.cancel()
	err := s.pipe.Close()
	<-s.done
	return err
}

// restoreSnapshot puts the whole cluster back to a saved state, which is verified
// before anything changes. ?foreign=true lets one of another cluster in.
func (a *api) restoreSnapshot(r *request) error {
	foreign, err := r.flag("foreign")
	if err != nil {
		return err
	}
	media, _, _ := bytes.Cut(r.Request.Header.ContentType(), []byte(";"))
	if string(bytes.TrimSpace(media)) != octets {
		return httpapi.Problem(fasthttp.StatusUnsupportedMediaType, "unsupported_media_type", "", "send the snapshot as "+octets)
	}
	stream := &upload{in: httpapi.Body(r.RequestCtx)}
	restored, err := a.Cluster.Restore(r.ctx, stream, foreign)
	if stream.failed != nil && err != nil {
		return invalid("", "the snapshot did not arrive whole; nothing was changed, send it again")
	}
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, restored)
}

// upload remembers that the request itself broke off.
type upload struct {
	in     io.Reader
	failed error
}

// Read gives the next bytes of the request.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		u.failed = err
	}
	return n, err
}
