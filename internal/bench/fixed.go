package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Fixed posts one of a few forms again and again, to any server: where Target knows
// too little of it. The forms take turns.
type Fixed struct {
	URL           string // whole
	Authorization string // header; empty: none
	Forms         [][]byte
	// Active asks that each answer says "active":true; else it holds an access token.
	Active bool
}

// String names the server, and nothing of what is sent.
func (f Fixed) String() string { return f.URL }

// GoString likewise.
func (f Fixed) GoString() string { return f.URL }

// Workers opens so many connections. Their one operation is Ops's first.
func (f Fixed) Workers(ctx context.Context, connections int) ([]Worker, error) {
	u, err := url.Parse(f.URL)
	if err != nil || connections < 1 || len(f.Forms) == 0 {
		return nil, errors.Join(errors.New("bench: a URL, a form and a connection are needed"), err)
	}
	path := u.RequestURI()
	u.Path, u.RawPath, u.RawQuery = "", "", ""
	s, err := parseServer(u.String(), nil)
	if err != nil {
		return nil, err
	}
	at := newEndpoint([]server{s}, path, f.Authorization)
	var workers []Worker
	for i := range connections {
		w := &fixedWorker{Fixed: f, at: at, conn: newConn([]server{s}, i, 10*time.Second)}
		if err := w.conn.dial(ctx); err != nil {
			closeAll(workers)
			return nil, fmt.Errorf("connect to %s: %w", s.addr, err)
		}
		workers = append(workers, w)
	}
	return workers, nil
}

type fixedWorker struct {
	Fixed
	at   endpoint
	conn *conn
}

// Close ends the connection.
func (w *fixedWorker) Close() { w.conn.Close() }

// Do posts the nth form.
func (w *fixedWorker) Do(n uint64) Outcome {
	status, answer, kind := w.conn.post(w.at, w.Forms[n%uint64(len(w.Forms))])
	kind = refusal(status, answer, kind)
	switch {
	case kind != "":
	case w.Active && !active(answer):
		kind = KindInactive
	case !w.Active && !bytes.Contains(answer, []byte(`"access_token"`)):
		kind = KindNoToken
	}
	return Outcome{opIssue, kind}
}
