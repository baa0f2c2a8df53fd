package grants

import (
	"encoding/json"
	"errors"

	"github.com/keyraft/keyraft/internal/oauth"
)

// maxActors bounds the chain of those who act one for another (TOK-44).
const maxActors = 8

// actor is one of an act claim (RFC 8693 §4.1), and who acted through it before.
type actor struct {
	Issuer   string `json:"iss,omitempty"` // of another server; "": ours
	Subject  string `json:"sub,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	Act      *actor `json:"act,omitempty"`
}

var errChain = errors.New("the act claim is not of the form of RFC 8693 §4.1, or too many act one for another")

// chain is the act claim of the token that is made: the actor token's subject, or the
// client itself, in front of those who acted before. Nobody is added where the client
// shows its own token, or may impersonate. may_act names who may (§4.4).
func chain(in *Input, s, a *shown) ([]byte, error) {
	bad := func(err error) error { return oauth.InvalidRequest.With("subject_token: " + err.Error()) }
	before, depth, err := parseActor(s.act, s.issuer, 0)
	if err != nil {
		return nil, bad(err)
	}
	next := &actor{Subject: in.Client.GetId(), Act: before}
	if a != nil {
		if a.act != nil {
			return nil, oauth.InvalidRequest.With("actor_token is a delegated token itself; show one of the actor's own")
		}
		next = &actor{Issuer: a.issuer, Subject: a.subject, Act: before}
	}
	if err := permitted(in, s, next, a); err != nil {
		return nil, err
	}
	if a == nil && (in.Client.GetExchangeImpersonation() || s.client == in.Client.GetId()) {
		next = before
		depth--
	}
	switch {
	case next == nil:
		return nil, nil
	case depth >= maxActors:
		return nil, bad(errChain)
	}
	return json.Marshal(next)
}

// permitted holds who is to act against the subject token's may_act.
func permitted(in *Input, s *shown, next *actor, a *shown) error {
	refused := oauth.InvalidRequest.With("subject_token names in may_act another one who may act for its subject")
	raw, err := member(s.raw, "may_act")
	if err != nil {
		return refused
	}
	if raw == nil {
		return nil
	}
	named := map[string]json.RawMessage{}
	if json.Unmarshal(raw, &named) != nil || len(named) == 0 {
		return refused
	}
	issuer, client := next.Issuer, in.Client.GetId()
	if issuer == "" {
		issuer = in.Issuer
	}
	if a != nil {
		client = a.client
	}
	for name, value := range named {
		var want string
		is, known := map[string]string{"sub": next.Subject, "iss": issuer, "client_id": client}[name]
		if !known || json.Unmarshal(value, &want) != nil || want == "" || want != is {
			return refused // what can't be held against anything names nobody
		}
	}
	return nil
}

// parseActor reads an act claim; issuer is that of the token which has it. Members that
// say nothing of who it is are left out.
func parseActor(raw []byte, issuer string, depth int) (*actor, int, error) {
	if raw == nil {
		return nil, depth, nil
	}
	if depth >= maxActors {
		return nil, 0, errChain
	}
	said := map[string]json.RawMessage{}
	if json.Unmarshal(raw, &said) != nil {
		return nil, 0, errChain
	}
	a := &actor{Issuer: issuer}
	for name, to := range map[string]*string{"iss": &a.Issuer, "sub": &a.Subject, "client_id": &a.ClientID} {
		if value, ok := said[name]; ok && json.Unmarshal(value, to) != nil {
			return nil, 0, errChain
		}
	}
	if a.Subject == "" && a.ClientID == "" || len(a.Subject) > maxSubject || len(a.ClientID) > maxSubject || len(a.Issuer) > maxIssuer {
		return nil, 0, errChain
	}
	var err error
	a.Act, depth, err = parseActor(said["act"], issuer, depth+1)
	return a, depth, err
}

// member is one member of a JSON object; nil where it has none, or there is no object.
func member(object, name string) (json.RawMessage, error) {
	if object == "" {
		return nil, nil
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(object), &all); err != nil {
		return nil, err
	}
	return all[name], nil
}
