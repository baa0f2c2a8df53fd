package adminapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/tokens"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	cursorLife   = 3600 // seconds
	maxCursor    = 4096 // bytes
)

// limit reads ?limit= and brings it within 1 and 1000.
func (r *request) limit() (int, error) {
	text := r.query.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, invalid("limit", "a whole number is needed; at most "+strconv.Itoa(maxLimit)+" items come at once")
	}
	n, err := strconv.Atoi(text)
	if err != nil { // beyond any int
		n = maxLimit
	}
	if digits != text {
		n = 1
	}
	return min(max(n, 1), maxLimit), nil
}

// cursorLabel binds a cursor to one list of one tenant.
func (r *request) cursorLabel(list string) string { return "admin cursor/" + list + "/" + r.tenant }

// ring seals cursors under a key of the cluster's, so that every node opens them and
// nobody makes one (ADM-05).
func ring(key *seal.Key) (*seal.Keyring, error) {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("keyraft admin cursors"))
	return seal.NewKeyring(seal.Key(mac.Sum(nil)))
}

// cursor makes the cursor of what follows id in a list.
func (a *api) cursor(r *request, list, id string) (string, error) {
	key, _, err := a.Shared.Newest(r.view, tokens.KeyHash)
	if err != nil {
		return "", err
	}
	keys, err := ring(key)
	if err != nil {
		return "", err
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(a.Now().Unix()))
	sealed, err := keys.Seal(r.cursorLabel(list), append(plain, id...))
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// after opens ?cursor=: the id after which the page begins, "" for the first page.
func (a *api) after(r *request, list string) (string, error) {
	text := r.query.Get("cursor")
	if text == "" {
		return "", nil
	}
	refused := invalid("cursor", "it is not a next_cursor of this list, or it is too old; begin again without it")
	var id string
	found := false
	err := a.Shared.Each(r.view, tokens.KeyHash, func(_ uint32, key *seal.Key) bool {
		id, found = openCursor(key, r.cursorLabel(list), text, a.Now().Unix())
		return !found
	})
	if err != nil {
		return "", err
	}
	if !found {
		return "", refused
	}
	return id, nil
}

// openCursor reads a cursor that was sealed under key for that label and is not too
// old at now (seconds).
func openCursor(key *seal.Key, label, text string, now int64) (id string, ok bool) {
	if len(text) > maxCursor || strings.ContainsAny(text, "\r\n") {
		return "", false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return "", false
	}
	keys, err := ring(key)
	if err != nil {
		return "", false
	}
	plain, err := keys.Open(label, sealed)
	if err != nil || len(plain) < 8 || now-int64(binary.BigEndian.Uint64(plain)) > cursorLife {
		return "", false
	}
	return string(plain[8:]), true
}

// page is the form of every list.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next_cursor,omitempty"`
}

// pageOf cuts a list that is whole in memory, and puts it into the order of its ids: the
// state's own is by their length first, in which what follows an id can't be told by it.
func pageOf[T any](a *api, r *request, list string, all []T, id func(*T) string) (page[T], error) {
	p := page[T]{Items: []T{}}
	limit, err := r.limit()
	if err != nil {
		return p, err
	}
	after, err := a.after(r, list)
	if err != nil {
		return p, err
	}
	slices.SortFunc(all, func(x, y T) int { return strings.Compare(id(&x), id(&y)) })
	for i := range all {
		if after != "" && id(&all[i]) <= after {
			continue
		}
		if len(p.Items) == limit {
			p.Next, err = a.cursor(r, list, id(&p.Items[limit-1]))
			return p, err
		}
		p.Items = append(p.Items, all[i])
	}
	return p, nil
}
