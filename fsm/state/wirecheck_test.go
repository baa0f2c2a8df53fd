package state

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

func someClient() *Client {
	return &Client{
		Tenant: "default", Id: "app", Name: "Ein Käufer", AuthMethod: "client_secret_basic", Scopes: []string{"read", "write"},
		Secrets:    []*SecretHash{{Id: "s1", Hash: []byte(strings.Repeat("h", 32)), KeyVersion: 3}},
		Generation: 1 << 60, AccessTokenLifetime: -1, Disabled: true, Jwks: []byte{0xff},
	}
}

// TestARowThatCantBeDecodedIsFoundAtStart: by the check, without decoding it.
func TestARowThatCantBeDecodedIsFoundAtStart(t *testing.T) {
	whole := encode(someClient())
	key := []byte{tableClients}
	if err := checkRow(key, whole); err != nil {
		t.Errorf("a whole row: %v", err)
	}
	for name, raw := range map[string][]byte{
		"cut short":            whole[:len(whole)-1],
		"not UTF-8":            []byte(strings.Replace(string(whole), "Käufer", "K\xffufer", 1)),
		"a length beyond it":   {0x0a, 0x7f, 'x'},
		"a field number of 0":  {0x00, 0x00},
		"an end without begin": {0x0c},
		"a cut secret":         {0x32, 0x02, 0x0a, 0x05},
	} {
		if err := checkRow(key, raw); err == nil {
			t.Errorf("%s: taken for a client", name)
		}
		if err := proto.Unmarshal(raw, &Client{}); err == nil {
			t.Errorf("%s: can be decoded, so the row of this test is wrong", name)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = checkRow(key, whole) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzCheckMessage: what passes can be decoded, and what can be decoded passes.
func FuzzCheckMessage(f *testing.F) {
	f.Add(encode(someClient()))
	f.Add([]byte{0x80, 0xc2, 0xf2, 0xbc, 0x30, 0xb7}) // a number that is too large
	f.Add([]byte{0x08, 0x96, 0x01})                   // tenant as a number
	f.Add([]byte{0x20, 0x00, 0x22, 0x00, 0xfa, 0x3f}) // disabled, then as bytes
	f.Add([]byte{0x9b, 0x06, 0x9c, 0x06})             // a group that is not known
	f.Fuzz(func(t *testing.T, raw []byte) {
		passes, decodes := checkMessage(raw, clientFields()), proto.Unmarshal(raw, &Client{})
		if (passes == nil) != (decodes == nil) {
			t.Errorf("the check says %v, the decoder %v", passes, decodes)
		}
	})
}
