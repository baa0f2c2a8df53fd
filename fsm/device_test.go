package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

func startDevice(name, code string) *command.StartDevice {
	return &command.StartDevice{Hash: digest(name), Request: &state.DeviceRequest{Tenant: "default", ClientId: "app", UserCode: code, Scope: "read",
		ExpiresAt: seconds(600), Interval: 5, ClientGeneration: 2, Address: "192.0.2.1"}}
}

func startBackchannel(name string) *command.StartBackchannel {
	return &command.StartBackchannel{Hash: digest(name), Request: &state.BackchannelRequest{Tenant: "default", ClientId: "app", User: "u1", Id: "id-" + name,
		Scope: "openid", BindingMessage: "W4SCT", ExpiresAt: seconds(300), Interval: 5, ClientGeneration: 2}}
}

// allowed is what u1, signed in by the session s1, allows the client "app".
func allowed(grant string) *state.Authorization {
	return &state.Authorization{Tenant: "default", ClientId: "app", User: "u1", Subject: "u1", Session: "s1", Scope: "read", Grant: grant}
}

// asking is a node with a client, a user who is signed in, a device request and a CIBA
// request.
func asking(t *testing.T) *node {
	t.Helper()
	n, generation := peopled(t)
	n.must(&command.PutSession{Session: session("s1", "first"), UserGeneration: generation})
	n.must(startDevice("d1", "BCDF"))
	n.must(startBackchannel("b1"))
	return n
}

func (n *node) device(t *testing.T) *state.DeviceRequest {
	t.Helper()
	d, err := n.View().Device("default", digest("d1"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestARequestIsMadeForAClientAsItIs: of a client that is there, enabled, and was looked
// at as it is; bounded in time and size; under a code that nobody else waits by.
func TestARequestIsMadeForAClientAsItIs(t *testing.T) {
	t.Parallel()
	n, _ := peopled(t)
	refused := func(want command.Reject, change func(d *state.DeviceRequest)) {
		t.Helper()
		c := startDevice("d1", "BCDF")
		change(c.Request)
		n.refused(c, want)
	}
	refused(command.Invalid, func(d *state.DeviceRequest) { d.UserCode = "" })
	refused(command.Invalid, func(d *state.DeviceRequest) { d.UserCode = strings.Repeat("B", maxUserCode+1) })
	refused(command.Invalid, func(d *state.DeviceRequest) { d.ExpiresAt = seconds(maxWaiting + 1) })
	refused(command.Invalid, func(d *state.DeviceRequest) { d.Interval = 0 })
	refused(command.Invalid, func(d *state.DeviceRequest) { d.Scope = strings.Repeat("x", maxWaitingText+1) })
	refused(command.Invalid, func(d *state.DeviceRequest) { d.Authorization = allowed("g1") })
	refused(command.AlreadyExpired, func(d *state.DeviceRequest) { d.ExpiresAt = seconds(0) })
	refused(command.Stale, func(d *state.DeviceRequest) { d.ClientGeneration++ })
	refused(command.NotFound, func(d *state.DeviceRequest) { d.ClientId = "nobody" })
	n.must(startDevice("d1", "BCDF"))
	if r := n.must(startDevice("d1", "BCDF")); r.Generation == r.Index {
		t.Error("a retry made the request anew")
	}
	n.refused(startDevice("d1", "GHJK"), command.Exists)
	n.refused(startDevice("d2", "BCDF"), command.Conflict)

	unknown, other := startBackchannel("b1"), startBackchannel("b1")
	unknown.Request.User, other.Request.ClientGeneration = "nobody", 9
	n.refused(unknown, command.NotFound)
	n.refused(other, command.Stale)
	n.must(startBackchannel("b1"))
	n.must(startBackchannel("b1"))

	app := client("app")
	app.Disabled = true
	n.must(&command.PutClient{Client: app, Expect: 2})
	n.refused(startDevice("d3", "LMNP"), command.Disabled)
	n.refused(startBackchannel("b3"), command.Disabled)
}

// TestADecisionIsMadeOnce: by somebody who is signed in, for the client that asked, before
// its time is over; a user code finds nothing from then on (TOK-41).
func TestADecisionIsMadeOnce(t *testing.T) {
	t.Parallel()
	n := asking(t)
	decide := func(a *state.Authorization) *command.DecideDevice {
		return &command.DecideDevice{Tenant: "default", Hash: digest("d1"), Authorization: a}
	}
	for _, change := range []func(a *state.Authorization){
		func(a *state.Authorization) { a.ClientId = "other" }, func(a *state.Authorization) { a.Tenant = "t2" },
		func(a *state.Authorization) { a.User = "" }, func(a *state.Authorization) { a.Session = "" }, func(a *state.Authorization) { a.Grant = "" },
	} {
		a := allowed("g1")
		change(a)
		n.refused(decide(a), command.Invalid)
	}
	ended, another := allowed("g1"), allowed("g1")
	ended.Session, another.User = "s2", "u2"
	n.refused(decide(ended), command.Stale)
	n.refused(decide(another), command.Stale) // that session is not theirs
	n.refused(&command.DecideDevice{Tenant: "default", Hash: digest("unknown")}, command.NotFound)

	n.must(decide(allowed("g1")))
	n.must(decide(allowed("g2"))) // a second click
	n.refused(decide(nil), command.AlreadyUsed)
	if d := n.device(t); d.GetStatus() != state.StatusApproved || d.GetAuthorization().GetGrant() != "g1" || d.GetDecidedAt() == 0 {
		t.Errorf("request %v", d)
	}
	if _, err := n.View().DeviceByUserCode("default", "BCDF"); !gone(t, err) {
		t.Error("the user code of a decided request still finds it")
	}
	n.must(startDevice("d2", "BCDF"))
	n.must(&command.DecideDevice{Tenant: "default", Hash: digest("d2")})
	n.refused(&command.DecideDevice{Tenant: "default", Hash: digest("d2"), Authorization: allowed("g3")}, command.AlreadyUsed)

	back := func(user string, a *state.Authorization) *command.DecideBackchannel {
		return &command.DecideBackchannel{Tenant: "default", User: user, Hash: digest("b1"), Authorization: a}
	}
	n.refused(back("u2", nil), command.Conflict)
	n.refused(back("u1", another), command.Conflict)
	n.must(back("u1", allowed("g4")))
	n.must(back("u1", allowed("g4")))
	if ids, err := n.View().BackchannelsOf("default", "u1", "", 9); err != nil || len(ids) != 0 {
		t.Errorf("a decided request is still listed: %v %v", ids, err)
	}
	n.must(startDevice("d4", "GHJK"))
	n.now += 600_000
	n.refused(&command.DecideDevice{Tenant: "default", Hash: digest("d4"), Authorization: allowed("g5")}, command.AlreadyExpired)
}

// TestWhoseLoginsHaveEndedDecidesNothing: a session from before counts no more, though its
// row stays until its time is over.
func TestWhoseLoginsHaveEndedDecidesNothing(t *testing.T) {
	t.Parallel()
	for _, disabled := range []bool{false, true} {
		n := asking(t)
		alice, err := n.View().User("default", "u1")
		if err != nil {
			t.Fatal(err)
		}
		next := user("u1", "alice")
		next.Disabled = disabled
		n.now += 1000
		n.must(&command.PutUser{User: next, Expect: alice.GetGeneration(), EndLogins: !disabled, RevokeUntil: seconds(7200)})
		n.refused(&command.DecideDevice{Tenant: "default", Hash: digest("d1"), Authorization: allowed("g1")}, command.Stale)
		n.refused(&command.DecideBackchannel{Tenant: "default", User: "u1", Hash: digest("b1"), Authorization: allowed("g2")}, command.Stale)
		n.must(&command.DecideDevice{Tenant: "default", Hash: digest("d1")}) // no needs no login
	}
}

// TestPollsSlowDown is TOK-40 in the state: the interval grows by five seconds at each poll
// that comes too soon, at whichever node, and no further than a minute.
func TestPollsSlowDown(t *testing.T) {
	t.Parallel()
	n := asking(t)
	poll := func(node string, quick bool) command.Reject {
		return n.one(&command.PollDevice{Tenant: "default", Hash: digest("d1"), Node: node, Quick: quick}).Reject
	}
	if r := poll("n1", false); r != command.Accepted {
		t.Fatalf("first poll: %v", r)
	}
	n.now += 3_999
	if r := poll("n2", false); r != command.NotReady || n.device(t).GetInterval() != 10 || n.device(t).GetPolledBy() != "n2" {
		t.Errorf("a poll after less than the interval, at another node: %v, %v", r, n.device(t))
	}
	n.now += 9_000
	if r := poll("n1", false); r != command.Accepted {
		t.Errorf("a poll in time: %v", r)
	}
	for range 20 {
		if r := poll("n1", true); r != command.NotReady {
			t.Errorf("%v", r)
		}
	}
	if d := n.device(t); d.GetInterval() != maxInterval || d.GetGeneration() == n.index {
		t.Errorf("after twenty quick polls: %v", d)
	}
	n.must(&command.DecideDevice{Tenant: "default", Hash: digest("d1")})
	if r := poll("n1", true); r != command.Accepted {
		t.Errorf("a poll of a decided request: %v", r)
	}
	if r := n.one(&command.PollBackchannel{Tenant: "default", Hash: digest("b1"), Node: "n1"}); r.Reject != command.Accepted {
		t.Errorf("%v", r.Reject)
	}
	if r := n.one(&command.PollBackchannel{Tenant: "default", Hash: digest("b1"), Node: "n1"}); r.Reject != command.NotReady {
		t.Errorf("%v", r.Reject)
	}
	n.now += 600_000
	if r := poll("n1", false); r != command.AlreadyExpired {
		t.Errorf("%v", r)
	}
}

// TestNobodyIsAskedWithoutEnd: as many CIBA requests wait for a user as a list shows;
// those whose time is over make room.
func TestNobodyIsAskedWithoutEnd(t *testing.T) {
	t.Parallel()
	n := asking(t)
	for i := range maxOpen - 1 {
		n.must(startBackchannel(fmt.Sprintf("more%d", i)))
	}
	n.refused(startBackchannel("too many"), command.NotReady)
	n.must(&command.DecideBackchannel{Tenant: "default", User: "u1", Hash: digest("b1")})
	n.must(startBackchannel("again"))
	n.now += 300_000
	late := startBackchannel("late")
	late.Request.ExpiresAt = seconds(600)
	n.must(late)
	if ids, err := n.View().BackchannelsOf("default", "u1", "", 99); err != nil || len(ids) != 1 {
		t.Errorf("%d are listed after all but one were over, %v", len(ids), err)
	}
}

// TestRequestsExpire: with their indexes, some minutes after their end.
func TestRequestsExpire(t *testing.T) {
	t.Parallel()
	n := asking(t)
	n.must(startDevice("d2", "GHJK"))
	n.must(&command.DecideDevice{Tenant: "default", Hash: digest("d2")})
	later := startDevice("d3", "GHJK") // the code is free again
	later.Request.ExpiresAt = seconds(3000)
	n.must(later)
	n.now += 660_000
	n.must(&command.Expire{UpTo: n.now, Limit: 100})
	n.device(t) // whoever polls is still told that it is over
	n.now += 1_200_000
	n.must(&command.Expire{UpTo: n.now, Limit: 100})
	dump := n.dump()
	if !strings.Contains(dump, `device by user code "default" "GHJK"`) {
		t.Errorf("the code of another request went with one that had left it:\n%s", dump)
	}
	n.now += 3_600_000
	n.must(&command.Expire{UpTo: n.now, Limit: 100})
	for _, table := range []string{"device", "device by user code", "backchannel", "backchannel by user"} {
		if strings.Contains("\n"+n.dump(), "\n"+table+" ") {
			t.Errorf("rows of %s stay for ever", table)
		}
	}
}
