package member_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/cluster/member"
)

func sample() member.Info {
	return member.Info{ID: "n1", Kind: member.KindNode, APIAddr: "10.0.0.1:8443", ClusterAddr: "10.0.0.1:8444",
		Level: 3, Epoch: 2, Head: 77, Instance: math.MaxUint64}
}

func TestEncodeGolden(t *testing.T) {
	t.Parallel()
	got, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	// Members of an older version read this form: it never changes.
	want := "0101000000030000000000000002000000000000004dffffffffffffffff026e310d31302e302e302e313a383434330d31302e302e302e313a38343434"
	if hex.EncodeToString(got) != want {
		t.Errorf("encoded %x, want %s", got, want)
	}
	back, err := member.Decode(got)
	if err != nil || back != sample() {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*member.Info)
	}{
		{"a record of 200 bytes, long before memberlist panics", func(i *member.Info) {
			i.APIAddr = strings.Repeat("a", 200-33-len(i.ID)-len(i.ClusterAddr))
		}},
		{"an address longer than its length byte", func(i *member.Info) { i.APIAddr = strings.Repeat("a", 300) }},
		{"an empty id", func(i *member.Info) { i.ID = "" }},
		{"an id of 65 bytes", func(i *member.Info) { i.ID = strings.Repeat("a", 65); i.APIAddr = "" }},
		{"a kind that nobody knows", func(i *member.Info) { i.Kind = "voter" }},
		{"a line end in an address", func(i *member.Info) { i.ClusterAddr = "a\nb" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := sample()
			tt.change(&i)
			if b, err := i.Encode(); err == nil {
				t.Errorf("encoded to %d bytes, want a refusal", len(b))
			}
		})
	}
	longest := sample()
	longest.APIAddr = strings.Repeat("a", 199-33-len(longest.ID)-len(longest.ClusterAddr))
	if b, err := longest.Encode(); err != nil || len(b) != member.MaxEncoded {
		t.Errorf("the longest allowed record: %d bytes, %v", len(b), err)
	}
}

func TestNewer(t *testing.T) {
	t.Parallel()
	i := member.Info{Epoch: 2, Head: 5}
	for _, tt := range []struct {
		name        string
		epoch, head uint64
		want        bool
	}{
		{"a higher head in the same epoch", 2, 4, true},
		{"the same place", 2, 5, false},
		{"a lower head of a later epoch", 1, 99, true},
		{"an older epoch", 3, 0, false},
	} {
		if got := i.Newer(tt.epoch, tt.head); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	whole, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(bytes.Clone(whole), 0))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 199))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := member.Decode(b)
		if err != nil {
			return
		}
		again, err := i.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x decodes to %+v, which encodes to %x (%v)", b, i, again, err)
		}
	})
}
