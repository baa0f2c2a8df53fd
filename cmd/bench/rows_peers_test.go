package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/internal/bench"
)

// TestPeersThatCantRunAreLeftOut: without their programs the run goes on without them
// and says so, unless everything is required.
func TestPeersThatCantRunAreLeftOut(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := &stage{o: options{peers: "all", data: t.TempDir(), only: regexp.MustCompile("^peer_")}, leftOut: map[string]string{}}
	t.Setenv("KEYRAFT_REQUIRE", "")
	makers := s.peerMakers()
	if len(makers) != 10 { // four of oidc-provider, three each of the others
		t.Errorf("%d rows", len(makers))
	}
	for _, m := range makers {
		if _, err := m.prepare(t.Context()); !errors.Is(err, errLeftOut) || !strings.Contains(err.Error(), "in PATH") {
			t.Errorf("%s: %v", m.row, err)
		}
	}
	t.Setenv("KEYRAFT_REQUIRE", "all")
	for _, m := range s.peerMakers() {
		if _, err := m.prepare(t.Context()); err == nil || errors.Is(err, errLeftOut) {
			t.Errorf("%s is required: %v", m.row, err)
		}
	}
	s.leftOut["peer_zitadel_es256"] = "left out: no go"
	d := s.document(&bench.Table{Rounds: []map[string]bench.Figures{{"jwt_client_credentials_es256": {"cpu_us": 50}}}}, "")
	if len(d.Results) != 0 || d.LeftOut["peer_zitadel_es256"] == "" {
		t.Errorf("%+v", d)
	}
}

// TestPeersThatAreAskedFor: Keycloak takes minutes, so it is asked for by name; each
// floor is one of a figure that there is.
func TestPeersThatAreAskedFor(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, f := range peerFigures(options{peers: "some"}) {
		names[f.name] = true
		if strings.HasPrefix(f.name, "peer_keycloak") {
			t.Errorf("%s was not asked for", f.name)
		}
		if strings.HasSuffix(f.name, "_rs256") && f.floor != 0 {
			t.Errorf("%s has a floor, and Keyraft loses there", f.name)
		}
	}
	for name := range peerFloors() {
		if !names[name] {
			t.Errorf("there is a floor for %s, and no figure", name)
		}
	}
	if got := peerFigures(options{peers: "none"}); len(got) != 0 {
		t.Errorf("%d figures", len(got))
	}
}
