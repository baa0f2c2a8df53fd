package gatewayapi

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/gateway/wire"
	"github.com/keyraft/keyraft/httpapi"
)

// question is one poll, as it was asked.
type question struct {
	since    uint64
	wait     time.Duration
	epoch    uint64
	hasEpoch bool
	instance string
	kinds    string // sorted, joined by commas; "": the endpoint's own
	proto    bool
	failOpen bool
	declared bool // the gateway said how it fails
	bound    time.Duration
}

// revocationKinds are the kinds of revocations; allKinds those of the log besides.
const (
	revocationKinds = "apikey,application,client,grant,key,keymanager,root,subject,token"
	keysKind        = wire.KindKeys
)

func parseQuestion(c *fasthttp.RequestCtx) (*question, error) {
	values, err := httpapi.Query(c)
	if err != nil {
		return nil, err
	}
	q := &question{instance: values.Get("instance")}
	if q.since, err = parsePosition("since", values.Get("since")); err != nil {
		return nil, err
	}
	if text := values.Get("epoch"); text != "" {
		q.hasEpoch = true
		if q.epoch, err = parsePosition("epoch", text); err != nil {
			return nil, err
		}
	}
	if q.wait, err = parseWait(values.Get("wait")); err != nil {
		return nil, err
	}
	if q.kinds, err = parseKinds(values.Get("kinds")); err != nil {
		return nil, err
	}
	if !instanceName(q.instance) {
		return nil, bad("instance", "up to 64 letters, digits, '-', '_' and '.'")
	}
	q.proto = prefersProto(string(bytes.Join(c.Request.Header.PeekAll(fasthttp.HeaderAccept), []byte(","))))
	return q, q.failure(string(c.Request.Header.Peek(wire.HeaderFailMode)), string(c.Request.Header.Peek(wire.HeaderBound)))
}

func bad(field, detail string) error {
	return httpapi.Problem(fasthttp.StatusBadRequest, "invalid_request", field, detail)
}

// parsePosition reads a position in the log: decimal digits, one spelling a number,
// below 2^63 (GW-02).
func parsePosition(field, text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || text != strconv.FormatUint(n, 10) {
		return 0, bad(field, "a whole number from 0 to 2^63-1 is needed, in digits alone; give 0 the first time")
	}
	return n, nil
}

// parseWait reads how long a poll may wait, as seconds or as Go writes a duration. It
// is brought within 0 and a minute.
func parseWait(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	if digits := strings.TrimPrefix(text, "-"); digits != "" && strings.Trim(digits, "0123456789") == "" {
		text += "s"
		if len(digits) > 9 { // centuries
			text = text[:len(text)-len(digits)-1] + "999999999s"
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || len(text) > 64 {
		return 0, bad("wait", "a duration is needed, in seconds or such as 30s")
	}
	return min(max(d, 0), maxWait), nil
}

// parseKinds reads a list of kinds and puts it into one order.
func parseKinds(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	const known = revocationKinds + "," + keysKind
	var kept []string
	asked := strings.Split(text, ",")
	for _, k := range strings.Split(known, ",") {
		for i, a := range asked {
			if a == k {
				kept = append(kept, k)
				asked[i] = ""
			}
		}
	}
	for _, a := range asked {
		if a != "" {
			return "", bad("kinds", "a list of "+strings.ReplaceAll(known, ",", ", ")+", separated by commas")
		}
	}
	if len(kept) == 0 {
		return "", bad("kinds", "name at least one kind, or leave it out")
	}
	return strings.Join(kept, ","), nil
}

func instanceName(s string) bool {
	return len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// prefersProto tells whether Accept (RFC 9110 §12.5.1) ranks the compact form above
// JSON; of two that it ranks alike the one that is named first is taken, and JSON
// where neither is named. Only the whole name of a type counts for the compact form:
// who says no more than "anything" gets JSON.
func prefersProto(accept string) bool {
	proto, plain := -1, -1
	first := false // the compact form is named before JSON
	for part := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.Trim(name, " \t")) {
		case wire.TypeProto:
			proto, first = httpapi.Weight(params), plain < 0
		case wire.TypeJSON:
			plain = httpapi.Weight(params)
		}
	}
	return proto > 0 && (proto > plain || proto == plain && first)
}

// failure reads what the gateway does when its head grows old. One that doesn't say
// is taken for one that fails open.
func (q *question) failure(mode, bound string) error {
	q.failOpen, q.bound = true, defaultBound
	if mode == "" && bound == "" {
		return nil
	}
	ms, err := strconv.ParseUint(bound, 10, 32)
	if err != nil || ms == 0 || mode != "closed" && mode != "open" {
		return bad("", wire.HeaderFailMode+" must be closed or open, and "+wire.HeaderBound+" a number of milliseconds")
	}
	q.declared, q.failOpen, q.bound = true, mode == "open", min(time.Duration(ms)*time.Millisecond, 24*time.Hour)
	return nil
}

// acknowledges tells whether a poll says how far the gateway knows every revocation.
func (q *question) acknowledges() bool {
	if q.kinds == "" {
		return true
	}
	for _, k := range strings.Split(revocationKinds, ",") {
		if !strings.Contains(","+q.kinds+",", ","+k+",") {
			return false
		}
	}
	return true
}
