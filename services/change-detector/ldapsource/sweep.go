package ldapsource

import (
	"context"
	"fmt"
	"time"
)

func (f *follower) scheduleSweep() {
	f.sweepAt = time.Time{}
	if every := f.source.cfg.Detection.SweepInterval; every > 0 {
		f.sweepAt = time.Now().Add(every)
	}
}

// sweepSoon asks for a sweep out of turn, not so often that it becomes a load.
func (f *follower) sweepSoon() {
	at := time.Now()
	if rested := f.sweptLast.Add(sweepRest * f.sweptIn); rested.After(at) {
		at = rested
	}
	if f.sweepAt.IsZero() || at.Before(f.sweepAt) {
		f.sweepAt = at
	}
}

func (f *follower) sweepTimer() *time.Timer {
	if f.sweepAt.IsZero() {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return timer
	}
	return time.NewTimer(time.Until(f.sweepAt))
}

// sweep reads everything again on a connection of its own, and repairs whatever
// the feeds did not report. Their events wait meanwhile.
func (f *follower) sweep(ctx context.Context) error {
	started := time.Now()
	c, err := f.source.dial(ctx, f.server.endpoint)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	defer c.close()
	known := make(map[ID]holder, len(f.known))
	err = f.source.pass(ctx, c, f.server, f.sink, func(base int, e *Entry, c container) {
		known[e.ID] = holder{base: int32(base), container: c.holds()} //nolint:gosec // a handful of bases
	})
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	f.known, f.changed = known, true
	f.sweptLast, f.sweptIn = time.Now(), time.Since(started)
	f.scheduleSweep()
	return nil
}
