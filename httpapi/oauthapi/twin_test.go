package oauthapi_test

import (
	"crypto/elliptic"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// otherS turns the (r, s) of an ES256 token into (r, n−s), which verifies as well.
func otherS(t *testing.T, token string) string {
	t.Helper()
	dot := strings.LastIndex(token, ".")
	sig, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err != nil || len(sig) != 64 {
		t.Fatalf("signature of %d bytes, %v", len(sig), err)
	}
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(sig[32:])
	return token[:dot+1] + base64.RawURLEncoding.EncodeToString(sig)
}

func addTenant(t *testing.T, n *node, id string) {
	t.Helper()
	n.must(t, &command.PutTenant{Tenant: &state.Tenant{Id: id}})
}
