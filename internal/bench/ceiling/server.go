package main

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/internal/seal"
)

// server holds what a request needs, all of it in memory.
type server struct {
	id, secret string // of the client that the ready line names
	opaque     bool
	minter     *minter
	key        seal.Key
	clients    map[string][32]byte // what is kept of the secret, by client id
	bare       []byte
	pool       sync.Pool // *work

	mu     sync.RWMutex
	tokens map[[32]byte]int64 // expiry of an opaque token, by what is kept of it
	ring   [kept][32]byte     // the newest ones
	next   int
}

// kept is how many opaque tokens are remembered: enough for a load to ask about.
const kept = 1 << 16

func newServer(s signer, opaque bool, clients int) (*server, error) {
	if clients < 1 {
		return nil, errors.New("-clients must be at least 1")
	}
	// It reads like a token, so that the same load can ask for it.
	sv := &server{
		opaque: opaque, minter: newMinter(s), key: seal.Generate(), secret: rand.Text() + rand.Text(),
		clients: make(map[string][32]byte, clients), tokens: make(map[[32]byte]int64, kept),
		bare: []byte(`{"access_token":"` + string(bytes.Repeat([]byte("x"), 281)) + `"}`),
	}
	sv.pool.New = func() any { return new(work) }
	hash := seal.Hash(&sv.key, []byte(sv.secret))
	for i := range clients {
		sv.clients["client-"+strconv.Itoa(i)] = hash
	}
	sv.id = "client-" + strconv.Itoa(clients/2)
	return sv, nil
}

func (s *server) handle(c *fasthttp.RequestCtx) {
	c.SetContentType("application/json")
	switch string(c.Path()) {
	case "/bare":
		c.SetBody(s.bare)
		return
	case "/oauth2/token", "/oauth2/introspect":
	default:
		c.Error(`{"error":"not_found"}`, fasthttp.StatusNotFound)
		return
	}
	c.Response.Header.Set("Cache-Control", "no-store")
	form := c.PostArgs()
	id, ok := s.authenticate(c, form)
	if !ok {
		c.Error(`{"error":"invalid_client"}`, fasthttp.StatusUnauthorized)
		return
	}
	w := s.pool.Get().(*work)
	defer s.pool.Put(w)
	switch {
	case string(c.Path()) == "/oauth2/introspect":
		s.introspect(c, w, form.Peek("token"))
	case string(form.Peek("grant_type")) != "client_credentials":
		c.Error(`{"error":"unsupported_grant_type"}`, fasthttp.StatusBadRequest)
	default:
		s.issue(c, w, id)
	}
}

// authenticate takes client_secret_basic and client_secret_post.
func (s *server) authenticate(c *fasthttp.RequestCtx, form *fasthttp.Args) (id []byte, ok bool) {
	id, secret := form.Peek("client_id"), form.Peek("client_secret")
	if encoded, basic := bytes.CutPrefix(c.Request.Header.Peek("Authorization"), []byte("Basic ")); basic {
		pair, err := base64.StdEncoding.AppendDecode(make([]byte, 0, 128), encoded)
		if err != nil {
			return nil, false
		}
		id, secret, ok = bytes.Cut(pair, []byte(":"))
		if bytes.ContainsAny(pair, "%+") && ok {
			i, errI := url.QueryUnescape(string(id))
			sec, errS := url.QueryUnescape(string(secret))
			if errI != nil || errS != nil {
				return nil, false
			}
			id, secret = []byte(i), []byte(sec)
		}
	}
	want, known := s.clients[string(id)]
	got := seal.Hash(&s.key, secret)
	return id, known && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

func (s *server) issue(c *fasthttp.RequestCtx, w *work, id []byte) {
	now := time.Now()
	if s.opaque {
		var random [32]byte
		_, _ = rand.Read(random[:]) // never fails
		w.token = append(w.token[:0], "c1_"...)
		w.token = base64.RawURLEncoding.AppendEncode(w.token, random[:])
		s.keep(seal.Hash(&s.key, w.token), now.Unix()+3600)
	} else if err := s.minter.mint(w, id, now); err != nil {
		c.Error(`{"error":"server_error"}`, fasthttp.StatusInternalServerError)
		return
	}
	w.body = append(append(w.body[:0], `{"access_token":"`...), w.token...)
	w.body = append(w.body, `","token_type":"Bearer","expires_in":3600,"scope":"read write"}`...)
	c.SetBody(w.body)
}

func (s *server) keep(hash [32]byte, expires int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, s.ring[s.next])
	s.ring[s.next], s.next = hash, (s.next+1)%kept
	s.tokens[hash] = expires
}

func (s *server) introspect(c *fasthttp.RequestCtx, w *work, token []byte) {
	s.mu.RLock()
	expires, known := s.tokens[seal.Hash(&s.key, token)]
	s.mu.RUnlock()
	if !known || expires <= time.Now().Unix() {
		c.SetBodyString(`{"active":false}`)
		return
	}
	w.body = append(w.body[:0], `{"active":true,"iss":"https://ceiling.example","aud":"https://ceiling.example/api","scope":"read write","token_type":"Bearer","exp":`...)
	w.body = strconv.AppendInt(w.body, expires, 10)
	c.SetBody(append(w.body, '}'))
}
