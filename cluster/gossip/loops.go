package gossip

import (
	"math/rand/v2"
	"time"
)

// rejoinAtOnce bounds how many missing members one round calls.
const rejoinAtOnce = 3

// announceLoop spreads this member's record when it has changed.
func (p *Pool) announceLoop() {
	for {
		select {
		case <-p.announce:
		case <-p.done:
			return
		}
		meta, err := p.cfg.Info().Encode()
		if err != nil {
			p.cfg.Logger.Warn("this member's record can't be spread by gossip; the others keep the last one", "err", err)
		} else if p.seen.setMeta(meta) {
			// The wait in UpdateNode is for the end of the spreading, which would
			// hold up the next head: a newer record replaces an older in the queue.
			// Its only error is that this wait is over.
			_ = p.list.UpdateNode(time.Nanosecond)
		}
		if !p.pause(p.pace.announce) {
			return
		}
	}
}

// headLoop hands on what was heard of the event log.
func (p *Pool) headLoop() {
	var last place
	for {
		select {
		case <-p.seen.heard:
		case <-p.done:
			return
		}
		// Heard is compared with what this member knows, not with the highest
		// ever heard: one forged head of 2^63 would else silence all true ones.
		heard, own := p.seen.take(), p.cfg.Info()
		if p.cfg.OnHead == nil || heard == last || !heard.beyond(place{own.Epoch, own.Head}) {
			continue
		}
		last = heard
		p.cfg.OnHead(heard.epoch, heard.head)
		if !p.pause(p.pace.heads) {
			return
		}
	}
}

// noteLoop logs what the delegates saw and may not log themselves.
func (p *Pool) noteLoop() {
	for {
		select {
		case n := <-p.seen.notes:
			p.cfg.Logger.Warn(n.message, n.args...)
		case <-p.done:
			return
		}
	}
}

// rejoinLoop calls members that should be here and are not (row K30).
func (p *Pool) rejoinLoop() {
	if p.cfg.Rejoin == nil {
		return
	}
	for p.pause(p.pace.rejoin + rand.N(p.pace.rejoinMore)) {
		if p.left.Load() {
			return
		}
		missing := p.missing(p.cfg.Rejoin())
		rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
		for _, addr := range missing[:min(len(missing), rejoinAtOnce)] {
			if p.isDone() {
				return
			}
			if err := p.call(addr); err != nil {
				p.cfg.Logger.Debug("a member could not be called back into gossip; trying again", "addr", addr, "err", err)
			}
		}
	}
}

// missing keeps the addresses at which no member is alive. A host name is
// always kept: calling one who is there costs one exchange of states.
func (p *Pool) missing(addrs []string) []string {
	here := p.seen.addresses()
	var missing []string
	for _, addr := range addrs {
		if !here[addr] && addr != p.addr {
			missing = append(missing, addr)
		}
	}
	return missing
}

func (p *Pool) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// pause waits for d; false means that the pool was closed.
func (p *Pool) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.done:
		return false
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
