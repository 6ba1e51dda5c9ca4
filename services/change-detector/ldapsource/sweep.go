package ldapsource

import (
	"context"
	"fmt"
	"time"
)

// duty is what a follower does again and again; its next time is zero for never.
type duty struct {
	at time.Time
	do func(context.Context) error
}

// earliest is the duty that is due first.
func earliest(duties ...*duty) *duty {
	first := &duty{}
	for _, d := range duties {
		if !d.at.IsZero() && (first.at.IsZero() || d.at.Before(first.at)) {
			first = d
		}
	}
	return first
}

// timer fires when the duty is due.
func (d *duty) timer() *time.Timer {
	if d.at.IsZero() {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return timer
	}
	return time.NewTimer(time.Until(d.at))
}

func (f *follower) scheduleSweep() {
	f.sweeping.at = time.Time{}
	if every := f.source.cfg.Detection.SweepInterval; every > 0 {
		f.sweeping.at = time.Now().Add(every)
	}
}

// sweepSoon asks for a sweep out of turn, not so often that it becomes a load.
func (f *follower) sweepSoon() {
	at := time.Now()
	if rested := f.sweptLast.Add(sweepRest * f.sweptIn); rested.After(at) {
		at = rested
	}
	if f.sweeping.at.IsZero() || at.Before(f.sweeping.at) {
		f.sweeping.at = at
	}
}

// sweep reads everything again on a connection of its own, and repairs whatever
// was not reported. What is reported meanwhile waits.
func (f *follower) sweep(ctx context.Context) error {
	started := time.Now()
	c, err := f.source.join(ctx)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	defer c.close()
	known := make(map[ID]holder, len(f.known))
	err = f.source.pass(ctx, c, f.server, f.sink, func(base int, e *Entry, c container) {
		h := holder{base: int32(base), container: c.holds()} //nolint:gosec // a handful of bases
		if f.tracker != nil {
			h.print = fingerprintOf(e)
		}
		known[e.ID] = h
	})
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	f.known, f.unsaid = known, true
	f.sweptLast, f.sweptIn = time.Now(), time.Since(started)
	f.scheduleSweep()
	return nil
}
