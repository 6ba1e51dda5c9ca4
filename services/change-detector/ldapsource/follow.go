package ldapsource

import (
	"context"
	"sync"
	"time"
)

const (
	// eventBuffer is how many messages wait for the sink before the servers do.
	eventBuffer = 1024
	// maxGather is how many messages are taken before they are settled.
	maxGather = 1000
	// sweepRest keeps sweeps that events ask for to a tenth of the time.
	sweepRest = 10
)

// follow is the syncrepl mode: one feed for each base, one connection for the
// heartbeat and look-ups, and a sweep now and then. Only this goroutine calls the
// sink.
func (s *Source) follow(ctx context.Context, server *Server, sink Sink) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(context.Canceled)
	control, err := s.dial(ctx, server.endpoint)
	if err != nil {
		return err
	}
	defer control.close()
	events := make(chan event, eventBuffer)
	h := &heartbeat{source: s, server: server, control: control}
	for i := range s.bases {
		c, err := s.dial(ctx, server.endpoint)
		if err != nil {
			return err
		}
		f := &feed{source: s, conn: c, base: i, events: events}
		h.feeds = append(h.feeds, f)
		running.Go(func() {
			defer c.close()
			_ = f.send(ctx, event{err: f.run(ctx)}) // fails only when the session is over already
		})
	}
	running.Go(func() { h.run(ctx, cancel) })
	return newFollower(s, server, control, sink, events).run(ctx)
}

// holder is what the follower remembers of an entry: which base it was last seen
// in, and whether it may have entries below it.
type holder struct {
	base      int32
	container bool
}

// follower turns the feeds' events into calls of the sink.
type follower struct {
	source  *Source
	server  *Server
	control *conn
	sink    Sink
	events  <-chan event

	known   map[ID]holder
	pending map[ID]bool // reported gone by one of several bases
	missing map[ID]bool // reported present without content
	done    []bool      // by base: its refresh is proved
	proof   Proof
	changed bool // since the sink settled

	sweepAt   time.Time // when a sweep is due; zero for never
	sweptIn   time.Duration
	sweptLast time.Time
}

func newFollower(s *Source, server *Server, control *conn, sink Sink, events <-chan event) *follower {
	return &follower{
		source: s, server: server, control: control, sink: sink, events: events,
		known: map[ID]holder{}, pending: map[ID]bool{}, missing: map[ID]bool{},
		done:  make([]bool, len(s.bases)),
		proof: Proof{Mode: ModeSyncrepl, Bases: len(s.bases)},
	}
}

// run is the session: the refresh of every base, then its changes as they come,
// and sweeps when they are due.
func (f *follower) run(ctx context.Context) error {
	if err := f.refresh(ctx); err != nil {
		return err
	}
	f.scheduleSweep()
	for {
		if err := f.settle(ctx); err != nil {
			return err
		}
		if err := f.wait(ctx); err != nil {
			return err
		}
	}
}

// settle lets the sink act on what changed; many messages say only that something
// outside the bases did.
func (f *follower) settle(ctx context.Context) error {
	if !f.changed {
		return nil
	}
	f.changed = false
	return f.sink.Settled(ctx)
}

// refresh takes the full content. It is complete when every base said so.
func (f *follower) refresh(ctx context.Context) error {
	f.sink.Begin()
	for !f.refreshed() {
		select {
		case ev := <-f.events:
			if err := f.apply(ctx, ev); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := f.resolve(ctx); err != nil {
		return err
	}
	f.proof.Entries = len(f.known)
	f.source.reportNoID(ctx, f.proof.WithoutID)
	f.sink.Complete(f.proof)
	f.changed = true
	return nil
}

func (f *follower) refreshed() bool {
	for _, done := range f.done {
		if !done {
			return false
		}
	}
	return true
}

// wait takes whatever comes next, with all that is at hand then. The sink may ask
// to be settled.
func (f *follower) wait(ctx context.Context) error {
	timer := f.sweepTimer()
	defer timer.Stop()
	select {
	case ev := <-f.events:
		return f.gather(ctx, ev)
	case <-timer.C:
		return f.sweep(ctx)
	case <-f.sink.Wake():
		f.changed = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// gather applies an event and the ones that already wait behind it.
func (f *follower) gather(ctx context.Context, ev event) error {
	for range maxGather {
		if err := f.apply(ctx, ev); err != nil {
			return err
		}
		select {
		case ev = <-f.events:
			continue
		default:
		}
		return f.resolve(ctx)
	}
	if err := f.apply(ctx, ev); err != nil {
		return err
	}
	return f.resolve(ctx)
}

func (f *follower) apply(ctx context.Context, ev event) error {
	if ev.err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return ev.err
	}
	if ev.put != nil {
		f.put(ev)
	}
	for _, id := range ev.gone {
		f.gone(ev.base, id)
	}
	for _, id := range ev.present {
		if _, ok := f.known[id]; !ok {
			f.missing[id] = true
		}
	}
	f.done[ev.base] = f.done[ev.base] || ev.done
	f.proof.WithoutID += ev.skipped
	f.proof.Referrals += ev.refs
	return nil
}

func (f *follower) put(ev event) {
	e := ev.put
	if _, ok := f.known[e.ID]; ev.live && !ok && ev.holds.brings() {
		f.sweepSoon() // what came along with a container is not reported
	}
	f.known[e.ID] = holder{base: int32(ev.base), container: ev.holds.holds()} //nolint:gosec // a handful of bases
	delete(f.pending, e.ID)
	delete(f.missing, e.ID)
	f.sink.Put(e)
	f.changed = true
}

// gone takes a base's word that it lost an entry. Another base may have got it,
// and its feed may be behind, so that with several bases it is looked for first. The
// sink may know an entry of which the follower does not: one that was reported gone
// before and found when it was asked for.
func (f *follower) gone(base int, id ID) {
	h, ok := f.known[id]
	switch {
	case ok && int(h.base) != base:
		return
	case len(f.done) > 1:
		f.pending[id] = true
		return
	}
	f.drop(id)
}

func (f *follower) drop(id ID) {
	if f.known[id].container {
		f.sweepSoon() // what went along with a container is not reported
	}
	delete(f.known, id)
	f.sink.Gone(id)
	f.changed = true
}

// resolve looks for the entries of which the feeds did not say enough.
func (f *follower) resolve(ctx context.Context) error {
	if len(f.pending) == 0 && len(f.missing) == 0 {
		return nil
	}
	ids := make([]ID, 0, len(f.pending)+len(f.missing))
	for id := range f.pending {
		ids = append(ids, id)
	}
	for id := range f.missing {
		ids = append(ids, id)
	}
	err := f.source.lookup(ctx, f.control, ids, f.put)
	if err != nil {
		return err
	}
	for id := range f.pending {
		f.drop(id)
	}
	clear(f.pending)
	clear(f.missing)
	return nil
}
