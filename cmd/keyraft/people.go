package main

import (
	"errors"
	"time"

	"github.com/keyraft/keyraft/grants/logout"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/tokens"
)

// people is what knows users, their logins and what they allowed.
type people struct {
	users    *identity.Users
	sessions *identity.Sessions
	consents *identity.Consents
	resets   *identity.Resets
	factors  *identity.Factors
}

func (r *rooms) newPeople(users *identity.Users, boxes *tokens.Boxes, ended *logout.Notifier) (*people, error) {
	s := r.server
	sessions, err1 := identity.NewSessions(identity.SessionsConfig{
		Propose: s.propose, View: s.view, Now: time.Now, Absent: absent, Seal: boxes.Seal, Open: boxes.Open, Hashes: r.shared.Hashes,
		Ended: ended.Ended,
	})
	factors, err2 := identity.NewFactors(identity.FactorsConfig{
		Propose: s.propose, View: s.view, Now: time.Now, Users: users, Seal: boxes.Seal, Open: boxes.Open, Hashes: r.shared.Hashes, Issuer: r.signing.Issuer,
	})
	return &people{
		users: users, sessions: sessions, factors: factors,
		consents: &identity.Consents{Propose: s.propose, View: s.view, Absent: absent},
		resets:   &identity.Resets{Users: users, Hashes: r.shared.Hashes, Seal: boxes.Seal, Open: boxes.Open},
	}, errors.Join(err1, err2)
}
