package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyraft/keyraft/keymanagers/match"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	maxOpaque       = 512             // bytes of an opaque token
	maxFlights      = 64              // introspections at once
	introspectLimit = 3 * time.Second // one introspection, all nodes together
)

// errInactive is the answer of a node that calls the token not active.
var errInactive = errors.New("the token is not active")

// flights lets callers with the same token share one introspection, and bounds
// how many run.
type flights struct {
	mu    sync.Mutex
	byID  map[digest]*flight
	slots chan struct{}
}

type flight struct {
	token   string
	done    chan struct{}
	entry   *entry
	refusal *Refusal
}

func (f *flights) init() {
	f.byID, f.slots = make(map[digest]*flight), make(chan struct{}, maxFlights)
}

// opaque asks a node about a token that only the cluster can read, and keeps the
// answer for Config.OpaqueTTL, held against revocations like a JWT's claims.
func (g *Gateway) opaque(ctx context.Context, id digest, token string, now time.Time) (*entry, *view, *Refusal) {
	if len(token) > maxOpaque || strings.Trim(token, base64URL) != "" {
		return nil, nil, refuse(Malformed)
	}
	f := &g.flights
	f.mu.Lock()
	call, shared := f.byID[id]
	if !shared || call.token != token {
		shared = false
		call = &flight{token: strings.Clone(token), done: make(chan struct{}), refusal: refuse(Internal)}
		f.byID[id] = call
	}
	f.mu.Unlock()
	if !shared {
		// The others must not fail because this caller gave up.
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), introspectLimit)
		defer cancel()
		defer func() {
			f.mu.Lock()
			if f.byID[id] == call {
				delete(f.byID, id)
			}
			f.mu.Unlock()
			close(call.done)
		}()
		call.entry, call.refusal = g.introspect(own, id, call.token, now)
		return call.entry, g.view.Load(), call.refusal
	}
	select {
	case <-call.done:
		return call.entry, g.view.Load(), call.refusal
	case <-ctx.Done():
		return nil, nil, refuse(Unreachable)
	}
}

const base64URL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func (g *Gateway) introspect(ctx context.Context, id digest, token string, now time.Time) (*entry, *Refusal) {
	select {
	case g.flights.slots <- struct{}{}:
		defer func() { <-g.flights.slots }()
	case <-ctx.Done():
		return nil, refuse(Unreachable)
	}
	g.counts.introspections.Add(1)
	path := "/oauth2/introspect"
	if g.cfg.Tenant != defaultTenant {
		path = "/t/" + g.cfg.Tenant + path
	}
	var answer *introspection
	err := errors.New("no node")
	for _, n := range g.nodes.order(3) {
		if answer, err = g.client.introspect(ctx, n, path, token); err == nil || errors.Is(err, errInactive) {
			break
		}
		g.cfg.Logger.Warn("introspection failed", "node", n, "error", err)
	}
	if errors.Is(err, errInactive) {
		return nil, refuse(Inactive)
	}
	if err != nil {
		return nil, refuse(Unreachable)
	}
	c := answer.claims()
	if c.Expires == 0 || now.Unix() >= c.Expires+g.skew {
		return nil, refuse(Expired)
	}
	if c.NotBefore > now.Unix()+g.skew {
		return nil, refuse(NotYetValid)
	}
	v := g.view.Load() // after the answer: what it did not know yet is in here or comes
	if c.Issuer == "" {
		c.Issuer = v.keys.resident(g.cfg.Tenant)
	} else if x := v.keys.issuers[c.Issuer]; x == nil || !x.manager.Own || x.manager.Tenant != g.cfg.Tenant {
		return nil, refuse(UnknownIssuer) // a node tells of every tenant's that this gateway may see
	}
	m := match.Manager{Tenant: g.cfg.Tenant, Name: match.Resident, Issuer: c.Issuer, Own: true}
	e := g.newEntry(id, token, c, m)
	e.who.Opaque = true
	e.until = now.Add(g.cfg.OpaqueTTL).Unix()
	e.gen.Store(v.gen)
	if v.revoked(e) {
		return nil, refuse(Revoked)
	}
	g.cache.put(e)
	return e, nil
}

// introspection is the answer of RFC 7662 §2.2, with our own members.
type introspection struct {
	Active      *bool           `json:"active"`
	Scope       string          `json:"scope"`
	ClientID    string          `json:"client_id"`
	Subject     string          `json:"sub"`
	Issuer      string          `json:"iss"`
	JTI         string          `json:"jti"`
	Grant       string          `json:"gid"`
	Root        string          `json:"root"`
	RootClient  string          `json:"root_client"`
	Application string          `json:"app"`
	Event       string          `json:"ev"` // "epoch.head" of the view on which it was decided
	Audience    json.RawMessage `json:"aud"`
	Expires     int64           `json:"exp"`
	NotBefore   int64           `json:"nbf"`
	IssuedAt    int64           `json:"iat"`
	Bound       json.RawMessage `json:"cnf"`
	audience    []string
}

func parseIntrospection(body []byte) (*introspection, error) {
	in := new(introspection)
	if err := json.Unmarshal(body, in); err != nil {
		return nil, errors.New("the answer is not the JSON of RFC 7662")
	}
	if in.Active == nil {
		return nil, errors.New("the answer does not say whether the token is active")
	}
	if !*in.Active {
		return nil, errInactive
	}
	if len(in.Audience) > 0 {
		var one string
		if json.Unmarshal(in.Audience, &one) == nil && one != "" {
			in.audience = []string{one}
		} else if err := json.Unmarshal(in.Audience, &in.audience); err != nil {
			return nil, errors.New("aud of the answer is neither a string nor a list")
		}
	}
	return in, nil
}

// claims are the members as a token's claims. Without ev every live revocation
// that names the token covers it, whenever it was issued: the safe reading.
func (in *introspection) claims() verify.Claims {
	c := verify.Claims{
		Issuer: in.Issuer, Subject: in.Subject, ClientID: in.ClientID, JTI: in.JTI, Audience: in.audience,
		Scope: in.Scope, IssuedAt: in.IssuedAt, NotBefore: in.NotBefore, Expires: in.Expires,
		Bound: len(in.Bound) > 0 && string(in.Bound) != "null",
		Grant: in.Grant, Root: in.Root, RootClient: in.RootClient, Application: in.Application,
	}
	var keys struct {
		JKT string `json:"jkt"`
		X5T string `json:"x5t#S256"`
	}
	if c.Bound && json.Unmarshal(in.Bound, &keys) == nil { // else it is bound to what nobody can show
		c.JKT, c.X5T = keys.JKT, keys.X5T
	}
	epoch, head, found := strings.Cut(in.Event, ".")
	e, errE := strconv.ParseUint(epoch, 10, 64)
	h, errH := strconv.ParseUint(head, 10, 64)
	if found && errE == nil && errH == nil {
		c.Own, c.Epoch, c.Head = true, e, h
	}
	return c
}
