package seal

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

var (
	// ErrBusy says that all slots work and the queue is full: answer 503 and let
	// the caller come back.
	ErrBusy = errors.New("too many passwords are being checked; try again shortly")
	// ErrPasswordHash says that a stored hash is not an argon2id PHC string within
	// the bounds.
	ErrPasswordHash = errors.New("the stored password hash is not a usable argon2id PHC string; set the password again")
	// ErrPassword says that a password cannot be stored: empty or over 1024 bytes.
	ErrPassword = errors.New("the password is empty or longer than 1024 bytes; choose another")
)

// New hashes: the floor of the OWASP cheat sheet, 19 MiB, two passes, one lane.
const (
	hashMemory  = 19 << 10 // KiB
	hashTime    = 2
	hashLanes   = 1
	saltSize    = 16
	hashSize    = 32
	maxPassword = 1024
)

// Bounds for hashes that another system made, so that no stored row can take a
// node down: a slot needs at most 64 MiB and ten passes over it.
const (
	maxMemory = 64 << 10 // KiB
	maxTime   = 10
	maxLanes  = 4
)

// Passwords hashes and verifies what people choose with argon2id (RFC 9106) in a
// bounded number of slots, some 40 ms and 19 MiB each. Safe for concurrent use.
type Passwords struct {
	slots chan struct{} // one token a running hash
	line  chan struct{} // one token a running or waiting caller
}

// NewPasswords makes a pool of slots hashes at once and queue waiting callers.
func NewPasswords(slots, queue int) (*Passwords, error) {
	if slots < 1 || queue < 0 {
		return nil, fmt.Errorf("%d password slots with a queue of %d: at least one slot and no negative queue", slots, queue)
	}
	return &Passwords{
		slots: make(chan struct{}, slots),
		line:  make(chan struct{}, slots+queue),
	}, nil
}

// Hash returns a PHC string to store. It waits for a slot as long as ctx allows;
// ErrBusy when the queue is full.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if password == "" || len(password) > maxPassword {
		return "", ErrPassword
	}
	h := phc{memory: hashMemory, time: hashTime, lanes: hashLanes, salt: make([]byte, saltSize)}
	rand.Read(h.salt) // never fails: crypto/rand ends the process instead
	done, err := p.enter(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	h.hash = h.derive(password, hashSize)
	return h.String(), nil
}

// Verify tells whether password is the one that stored was made of. It waits for a
// slot as long as ctx allows; ErrBusy when the queue is full, ErrPasswordHash when
// stored cannot be read.
func (p *Passwords) Verify(ctx context.Context, stored, password string) (bool, error) {
	h, err := parsePHC(stored)
	if err != nil {
		return false, err
	}
	if len(password) > maxPassword {
		return false, nil // Hash has never taken one so long
	}
	done, err := p.enter(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	got := h.derive(password, uint32(len(h.hash)))
	return subtle.ConstantTimeCompare(got, h.hash) == 1, nil
}

// enter takes a place in the line at once or not at all, then waits for a slot.
func (p *Passwords) enter(ctx context.Context) (done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("check a password: %w", err)
	}
	select {
	case p.line <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots; <-p.line }, nil
	case <-ctx.Done():
		<-p.line
		return nil, fmt.Errorf("wait for a password slot: %w", ctx.Err())
	}
}

// phc is a parsed $argon2id$v=19$m=…,t=…,p=…$salt$hash; memory in KiB.
type phc struct {
	memory, time uint32
	lanes        uint8
	salt, hash   []byte
}

func (h *phc) derive(password string, size uint32) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.lanes, size)
}

// String is the stored form.
func (h *phc) String() string {
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.memory, h.time, h.lanes, b.EncodeToString(h.salt), b.EncodeToString(h.hash))
}

// parsePHC reads exactly the form that String writes, within the bounds.
func parsePHC(s string) (*phc, error) {
	if len(s) > 256 {
		return nil, ErrPasswordHash
	}
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v=19" {
		return nil, ErrPasswordHash
	}
	param := strings.Split(part[3], ",")
	if len(param) != 3 {
		return nil, ErrPasswordHash
	}
	m, okM := number(param[0], "m=", 8, maxMemory)
	t, okT := number(param[1], "t=", 1, maxTime)
	l, okL := number(param[2], "p=", 1, maxLanes)
	salt, okS := rawBase64(part[4], 8, 64)
	hash, okH := rawBase64(part[5], 16, 64)
	if !okM || !okT || !okL || !okS || !okH || m < 8*l { // RFC 9106 §3.1: 8 KiB a lane
		return nil, ErrPasswordHash
	}
	return &phc{memory: m, time: t, lanes: uint8(l), salt: salt, hash: hash}, nil
}

// number reads name followed by a decimal in its one spelling, from low to high.
func number(s, name string, low, high uint32) (uint32, bool) {
	digits, ok := strings.CutPrefix(s, name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != digits {
		return 0, false
	}
	return uint32(n), uint32(n) >= low && uint32(n) <= high
}

func rawBase64(s string, low, high int) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") { // the decoder would skip them
		return nil, false
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	return b, err == nil && len(b) >= low && len(b) <= high
}
