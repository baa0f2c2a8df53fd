package oauthapi_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/seal"
)

// TestTOK12AFullPoolSaysComeAgain: 503 with Retry-After.
func TestTOK12AFullPoolSaysComeAgain(t *testing.T) {
	t.Parallel()
	var refusal *oauth.Error
	if !errors.As(oauthapi.Translate(fmt.Errorf("check a password: %w", seal.ErrBusy)), &refusal) || refusal.Status() != 503 || refusal.RetryAfter() < 1 {
		t.Errorf("%v", refusal)
	}
}

// TestINT02ScanningFindsNothingAndWritesNothing: tokens that nobody was given are inactive
// by their form, their tag or their signature; none of them is written, remembered or
// looked up (tokens.TestOpaque… hold the last one).
func TestINT02ScanningFindsNothingAndWritesNothing(t *testing.T) {
	t.Parallel()
	n := start(t)
	r := orders
	r.AccessTokenFormat = "opaque"
	secret := n.client(t, r)
	real := n.token(t, "orders", secret, "")
	index := n.view().Index()
	n.propose = func(c command.Command) error { return fmt.Errorf("%T was proposed", c) }
	for i := range 600 {
		raw := make([]byte, 44)
		rand.Read(raw)
		text := base64.RawURLEncoding.EncodeToString(raw)
		for _, token := range []string{
			real[:len(real)-1-i%40] + text[:1+i%40],                    // of the right length, another end
			real[:strings.IndexByte(real, '_')+1] + text,               // of the right form
			"eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0." + text + "." + text, // a JWT by its looks
			text,
		} {
			if token == real {
				continue
			}
			n.introspect(t, "orders", secret, token).wantInactive(t)
		}
	}
	if n.view().Index() != index {
		t.Errorf("scanning has written %d entries", n.view().Index()-index)
	}
	if got := n.introspect(t, "orders", secret, real); got.json["active"] != true {
		t.Errorf("the real one is %s", got.text)
	}
}
