package cluster

import (
	"bytes"
	"testing"
)

// FuzzJoinMessage: whatever a stranger sends on the join part of the port is
// refused or read, within the bound of a message, and never panics.
func FuzzJoinMessage(f *testing.F) {
	var good bytes.Buffer
	if err := writeMessage(&good, joinRequest{NodeID: "n2", Secret: make([]byte, 32), CSR: []byte{1}}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, '{'})
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte("\x00\x00\x00\x10{\"secret\":\"!!!\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var q joinRequest
		if err := readMessage(bytes.NewReader(data), &q); err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeMessage(&again, q); err != nil {
			t.Fatalf("what was read can't be written: %v", err)
		}
		if again.Len() > 4+2*maxJoinMessage {
			t.Errorf("a message of %d bytes came from %d", again.Len(), len(data))
		}
	})
}
