package gateway

import "time"

// Hurry lets a test find out sooner that a node is silent.
func (c *Config) Hurry() { c.pace = pace{50 * time.Millisecond, 400 * time.Millisecond} }

// Sweep drops what has expired, as the syncer does once a minute.
func (g *Gateway) Sweep() { g.sweep() }
