package wire

import "strconv"

// Why a node refuses a poll. None of them is an empty list.
const (
	Ahead     = "ahead"     // 409: since lies above the head
	Behind    = "behind"    // 409: this node has seen less than the asker; ask another
	Epoch     = "epoch"     // 409: the asker's epoch is not this node's; load the snapshot
	Compacted = "compacted" // 410: since lies below the floor; load the snapshot
)

// Refusal is the problem document (RFC 9457) of a 409 or 410, with the node's
// own epoch and head.
type Refusal struct {
	Status      int
	Code        string
	Detail      string
	Epoch, Head uint64
}

// AppendJSON appends the problem document; its media type is
// application/problem+json.
func (f *Refusal) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"type":"about:blank","status":`...)
	dst = strconv.AppendInt(dst, int64(f.Status), 10)
	dst = appendMember(dst, "code", f.Code)
	dst = appendMember(dst, "detail", f.Detail)
	dst = append(dst, `,"epoch":`...)
	dst = strconv.AppendUint(dst, f.Epoch, 10)
	dst = append(dst, `,"head":`...)
	dst = strconv.AppendUint(dst, f.Head, 10)
	return append(dst, '}')
}

// ParseRefusal reads the document; only code is required. The status is the
// HTTP answer's.
func ParseRefusal(data []byte) (*Refusal, error) {
	if len(data) > MaxRefusal {
		return nil, invalid("%d bytes, at most %d are allowed", len(data), MaxRefusal)
	}
	r, err := newReader(data)
	if err != nil {
		return nil, err
	}
	f, need := &Refusal{}, required{"code"}
	err = r.object(func(name string) error {
		need.met(name)
		switch name {
		case "code":
			return r.string(&f.Code, MaxName)
		case "detail":
			return r.string(&f.Detail, MaxText)
		case "epoch":
			return r.uint(&f.Epoch)
		case "head":
			return r.uint(&f.Head)
		}
		return r.skip()
	})
	if err == nil {
		err = r.end()
	}
	if err == nil {
		err = need.missing()
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}
