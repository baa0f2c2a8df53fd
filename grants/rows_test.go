package grants_test

import (
	"testing"
	"time"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/internal/oauth"
)

// TestJWT21AnAssertionOfBeforeARestore: the backup may have forgotten that it was used, so
// none of before the restore counts; one of after it does.
func TestJWT21AnAssertionOfBeforeARestore(t *testing.T) {
	t.Parallel()
	w := vouchedWorld(t)
	backup := w.Backup(t)
	used, unused := w.assertion(), w.assertion("jti", "unused")
	w.good(w.bears(used))
	w.Restore(t, backup)
	for what, text := range map[string]string{"that was used since": used, "that was not": unused} {
		out, err := w.bears(text)
		w.refused("an assertion "+what, out, err, oauth.InvalidGrant)
	}
	w.Pass(2 * time.Second)
	w.good(w.bears(w.assertion("jti", "later")))
}

// TestTOK43AnIDTokenIsItsClients: whoever may exchange tokens that are meant for a client
// may not exchange that client's ID tokens.
func TestTOK43AnIDTokenIsItsClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.client("app", func(*clients.Registration) {})
	w.client("front", func(r *clients.Registration) { r.ExchangeSubjects = []string{"app", api} })
	w.consented("app")
	w.consented("front")
	got := w.login("app", "openid read")
	out, err := w.ask("front", exchange, "subject_token", string(got.ID), "subject_token_type", idToken, "scope", "read")
	w.refused("an ID token of another client", out, err, oauth.InvalidRequest)
	w.good(w.ask("app", exchange, "subject_token", string(got.ID), "subject_token_type", idToken, "scope", "read"))
}
