package tokens

import (
	"encoding/json"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/tokens/verify"
)

// idTokenType is the typ of ID tokens: what has another is for another use.
const idTokenType = "JWT"

// Hint is what an ID token of ours said when it was made.
type Hint struct{ Subject, ClientID, Session string }

// Hint reads an id_token_hint: an ID token that the tenant gave a client, expired or not
// (OpenID Connect Core §3.1.2.1, RP-Initiated Logout §2). False for any other text, and
// for one whose key is published no more. It proves nothing of who shows it.
func (s *SigningKeys) Hint(v *state.View, tenant, token string) (Hint, bool, error) {
	c, sid, err := s.ownIDToken(v, tenant, token)
	if c == nil || err != nil {
		return Hint{}, false, err
	}
	return Hint{c.Subject, c.Audience[0], sid}, true, nil
}

// ownIDToken reads an ID token that the tenant gave, and its sid; nil for any other text.
// Its scope is that of its login; none for one that does not tell.
// No other JWT of ours has its typ, a subject, one audience and an end together (JWT-24).
func (s *SigningKeys) ownIDToken(v *state.View, tenant, token string) (*verify.Claims, string, error) {
	set, err := s.of(v, tenant)
	if err != nil {
		return nil, "", err
	}
	t, err := verify.Parse(token)
	if err != nil {
		return nil, "", nil
	}
	key, ok := set.public.Lookup(t.Header.KeyID)
	if !ok || t.Verify(key) != nil {
		return nil, "", nil
	}
	c := &t.Claims
	// At the moment of its making it was good, or it never was.
	if t.Check(verify.Expect{Type: idTokenType, Issuer: set.issuer, Now: c.IssuedAt}) != nil || c.Subject == "" || len(c.Audience) != 1 {
		return nil, "", nil
	}
	var said map[string]json.RawMessage // no struct, which would take a user's "SID", too
	if json.Unmarshal([]byte(c.Raw), &said) != nil || said["events"] != nil {
		return nil, "", nil
	}
	var sid string
	c.Scope = ""
	if textOf(said["sid"], &sid) != nil || textOf(said[loginScope], &c.Scope) != nil {
		return nil, "", nil
	}
	return c, sid, nil
}

// textOf reads a claim that is text where it is there.
func textOf(claim json.RawMessage, to *string) error {
	if claim == nil {
		return nil
	}
	return json.Unmarshal(claim, to)
}
