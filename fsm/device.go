package fsm

import (
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
)

// Bounds of requests that wait for a user at another device.
const (
	maxWaiting     = 3600     // seconds that one may wait
	maxInterval    = 60       // seconds: the interval between polls grows no further
	slower         = 5        // seconds that it grows by (RFC 8628 §3.5)
	pollSlack      = 1        // seconds that a poll may be early, for the network's sake
	maxWaitingText = 16 << 10 // bytes of what is asked for
	maxUserCode    = 32
	maxOpen        = 16 // CIBA requests that wait for one user
)

// starts holds what every such request needs against its client.
func (s step) starts(tenant, client string, generation uint64, hash []byte, expiresAt, interval int64, texts ...string) command.Reject {
	if tenant == "" || client == "" || !keyable(tenant, client) || len(hash) != 32 || interval <= 0 || interval > maxInterval ||
		expiresAt <= 0 || expiresAt > s.now/1000+maxWaiting {
		return command.Invalid
	}
	size := 0
	for _, text := range texts {
		size += len(text)
	}
	if size > maxWaitingText {
		return command.Invalid
	}
	t, there := s.Tenant(tenant)
	c, known := s.Client(tenant, client)
	switch {
	case !there || !known:
		return command.NotFound
	case t.GetDisabled() || c.GetDisabled():
		return command.Disabled
	case c.GetGeneration() != generation:
		return command.Stale
	case s.over(expiresAt):
		return command.AlreadyExpired
	}
	return command.Accepted
}

// startDevice makes a device request. A user code that another one waits by is Conflict:
// whoever proposes draws another.
func (s step) startDevice(c *command.StartDevice) (command.Result, error) {
	d := c.GetRequest()
	if d.GetUserCode() == "" || len(d.GetUserCode()) > maxUserCode || d.GetAuthorization() != nil {
		return reject(command.Invalid)
	}
	verdict := s.starts(d.GetTenant(), d.GetClientId(), d.GetClientGeneration(), c.GetHash(), d.GetExpiresAt(), d.GetInterval(),
		append([]string{d.GetScope(), d.GetJkt(), d.GetAddress(), string(d.GetDetails())}, d.GetResources()...)...)
	if verdict != command.Accepted {
		return reject(verdict)
	}
	old, err := s.Device(d.GetTenant(), c.GetHash())
	if err != nil {
		return command.Result{}, err
	}
	if old != nil {
		if old.GetUserCode() == d.GetUserCode() {
			return command.Result{Generation: old.GetGeneration()}, nil // this proposal, tried again
		}
		return reject(command.Exists)
	}
	taken, err := s.DeviceByUserCode(d.GetTenant(), d.GetUserCode())
	if err != nil || taken != "" {
		return command.Result{Reject: command.Conflict}, err
	}
	d.Status, d.CreatedAt, d.DecidedAt, d.PolledAt, d.PolledBy = state.StatusPending, s.now, 0, 0, ""
	d.Epoch, d.Generation = s.Epoch(), s.index
	s.PutDevice(nil, d, c.GetHash())
	return command.Result{Generation: s.index}, nil
}

// waiting is a request that waits for its user, of either kind.
type waiting interface {
	comparable
	GetTenant() string
	GetClientId() string
	GetStatus() string
	GetExpiresAt() int64
	GetInterval() int64
	GetPolledAt() int64
	GetGeneration() uint64
	GetAuthorization() *state.Authorization
}

// decide keeps what a user says to the request that get finds. Once is enough: the same
// again is the first one's retry, another is AlreadyUsed. may judges who says it.
func decide[T waiting](s step, c interface {
	GetTenant() string
	GetHash() []byte
	GetAuthorization() *state.Authorization
}, get func(tenant string, hash []byte) (T, error), may func(old T) bool, keep func(old T, status string)) (command.Result, error) {
	if c.GetTenant() == "" || !keyable(c.GetTenant()) || len(c.GetHash()) != 32 {
		return reject(command.Invalid)
	}
	var none T
	old, err := get(c.GetTenant(), c.GetHash())
	if err != nil || old == none {
		return command.Result{Reject: command.NotFound}, err
	}
	if !may(old) {
		return reject(command.Conflict)
	}
	status, verdict, err := s.decided(c.GetAuthorization(), old.GetTenant(), old.GetClientId(), old.GetExpiresAt(), old.GetStatus(), old.GetAuthorization())
	if err != nil || verdict != command.Accepted || status == "" {
		return command.Result{Reject: verdict}, err
	}
	keep(old, status)
	return command.Result{Generation: s.index}, nil
}

// decideDevice: whoever has the user code decides.
func (s step) decideDevice(c *command.DecideDevice) (command.Result, error) {
	return decide(s, c, s.Device, func(*state.DeviceRequest) bool { return true }, func(old *state.DeviceRequest, status string) {
		next := cloneOf(old)
		next.Status, next.Authorization, next.DecidedAt, next.Generation = status, c.GetAuthorization(), s.now, s.index
		s.PutDevice(old, next, c.GetHash())
	})
}

// decideBackchannel: the user who was asked decides, and for nobody else.
func (s step) decideBackchannel(c *command.DecideBackchannel) (command.Result, error) {
	may := func(old *state.BackchannelRequest) bool {
		return old.GetUser() == c.GetUser() && (c.GetAuthorization() == nil || c.GetAuthorization().GetUser() == c.GetUser())
	}
	return decide(s, c, s.Backchannel, may, func(old *state.BackchannelRequest, status string) {
		next := cloneOf(old)
		next.Status, next.Authorization, next.DecidedAt, next.Generation = status, c.GetAuthorization(), s.now, s.index
		s.PutBackchannel(old, next, c.GetHash())
	})
}

// decided judges an answer to a request: the status that it leads to, or "" where it is
// the one that was given before. Who allows something is signed in at this moment.
func (s step) decided(a *state.Authorization, tenant, client string, expiresAt int64, status string, before *state.Authorization) (string, command.Reject, error) {
	next := state.StatusDenied
	if a != nil {
		next = state.StatusApproved
		if !validAuthorization(a) || a.GetTenant() != tenant || a.GetClientId() != client || a.GetUser() == "" || a.GetSession() == "" {
			return "", command.Invalid, nil
		}
	}
	switch {
	case s.over(expiresAt):
		return "", command.AlreadyExpired, nil
	case status == next && before.GetUser() == a.GetUser():
		return "", command.Accepted, nil
	case status != state.StatusPending:
		return "", command.AlreadyUsed, nil
	}
	if a != nil {
		if is, err := s.signedIn(a); err != nil || !is {
			return "", command.Stale, err
		}
	}
	return next, command.Accepted, nil
}

// signedIn reports whether the session that a names is its user's and counts still. No
// generation of the user was seen by who proposes, so the moment from which on their
// sessions count is looked at here.
func (s step) signedIn(a *state.Authorization) (bool, error) {
	if stands, err := s.sessionStands(a, false); err != nil || !stands {
		return false, err
	}
	user, err := s.User(a.GetTenant(), a.GetUser())
	if err != nil || user == nil || user.GetDisabled() {
		return false, err
	}
	session, err := s.Session(a.GetTenant(), a.GetSession())
	return session.GetCreatedAt() > user.GetSessionsAfter(), err
}

// poll keeps who knows of a client's polls for the request that get finds, and lengthens
// its interval where it polls too quickly. That is NotReady, and a change: the answer is
// slow_down.
func poll[T waiting](s step, c interface {
	GetTenant() string
	GetHash() []byte
	GetNode() string
	GetQuick() bool
}, get func(tenant string, hash []byte) (T, error), keep func(old T, interval int64)) (command.Result, error) {
	if c.GetTenant() == "" || !keyable(c.GetTenant(), c.GetNode()) || len(c.GetHash()) != 32 {
		return reject(command.Invalid)
	}
	var none T
	old, err := get(c.GetTenant(), c.GetHash())
	if err != nil || old == none {
		return command.Result{Reject: command.NotFound}, err
	}
	interval, verdict := s.paced(c.GetQuick(), old.GetStatus(), old.GetExpiresAt(), old.GetInterval(), old.GetPolledAt())
	if interval != 0 {
		keep(old, interval)
	}
	return command.Result{Reject: verdict, Generation: old.GetGeneration()}, nil
}

func (s step) pollDevice(c *command.PollDevice) (command.Result, error) {
	return poll(s, c, s.Device, func(old *state.DeviceRequest, interval int64) {
		next := cloneOf(old)
		next.Interval, next.PolledAt, next.PolledBy = interval, s.now, c.GetNode()
		s.PutDevice(old, next, c.GetHash())
	})
}

func (s step) pollBackchannel(c *command.PollBackchannel) (command.Result, error) {
	return poll(s, c, s.Backchannel, func(old *state.BackchannelRequest, interval int64) {
		next := cloneOf(old)
		next.Interval, next.PolledAt, next.PolledBy = interval, s.now, c.GetNode()
		s.PutBackchannel(old, next, c.GetHash())
	})
}

// paced judges a poll, and gives the interval from then on; 0 where nothing changes.
func (s step) paced(quick bool, status string, expiresAt, interval, polledAt int64) (int64, command.Reject) {
	switch {
	case s.over(expiresAt):
		return 0, command.AlreadyExpired
	case status != state.StatusPending:
		return 0, command.Accepted
	case quick || polledAt != 0 && s.now-polledAt < (interval-pollSlack)*1000:
		return min(interval+slower, maxInterval), command.NotReady
	}
	return interval, command.Accepted
}

// startBackchannel makes a CIBA request. NotReady says that too many wait for the user
// already: nobody is to be worn down by questions.
func (s step) startBackchannel(c *command.StartBackchannel) (command.Result, error) {
	r := c.GetRequest()
	if r.GetUser() == "" || r.GetId() == "" || !keyable(r.GetUser(), r.GetId()) || r.GetAuthorization() != nil {
		return reject(command.Invalid)
	}
	verdict := s.starts(r.GetTenant(), r.GetClientId(), r.GetClientGeneration(), c.GetHash(), r.GetExpiresAt(), r.GetInterval(),
		append([]string{r.GetScope(), r.GetBindingMessage(), r.GetAcrValues(), string(r.GetDetails())}, r.GetResources()...)...)
	if verdict != command.Accepted {
		return reject(verdict)
	}
	user, err := s.User(r.GetTenant(), r.GetUser())
	if err != nil || user == nil || user.GetDisabled() {
		return command.Result{Reject: command.NotFound}, err
	}
	old, err := s.Backchannel(r.GetTenant(), c.GetHash())
	if err != nil {
		return command.Result{}, err
	}
	if old != nil {
		if old.GetId() == r.GetId() {
			return command.Result{Generation: old.GetGeneration()}, nil // this proposal, tried again
		}
		return reject(command.Exists)
	}
	open, err := s.openBackchannels(r.GetTenant(), r.GetUser())
	if err != nil {
		return command.Result{}, err
	}
	if open == maxOpen {
		return reject(command.NotReady)
	}
	r.Status, r.CreatedAt, r.DecidedAt, r.PolledAt, r.PolledBy = state.StatusPending, s.now, 0, 0, ""
	r.Epoch, r.Generation = s.Epoch(), s.index
	s.PutBackchannel(nil, r, c.GetHash())
	return command.Result{Generation: s.index}, nil
}

// openBackchannels counts what waits for a user, and takes out of their list what is over
// and whose row is only kept to say so.
func (s step) openBackchannels(tenant, user string) (int, error) {
	ids, err := s.BackchannelsOf(tenant, user, maxOpen)
	if err != nil {
		return 0, err
	}
	open := 0
	for _, id := range ids {
		hash, err := s.BackchannelHash(tenant, user, id)
		if err != nil {
			return 0, err
		}
		r, err := s.Backchannel(tenant, []byte(hash))
		if err != nil {
			return 0, err
		}
		if r == nil || s.over(r.GetExpiresAt()) {
			s.UnlistBackchannel(tenant, user, id)
			continue
		}
		open++
	}
	return open, nil
}
