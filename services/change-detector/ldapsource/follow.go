package ldapsource

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// eventBuffer is how many messages wait for the sink before the servers do.
	eventBuffer = 1024
	// maxGather is how many messages are taken before they are settled.
	maxGather = 1000
	// sweepAfterStart is when 389 DS is read once more: it may keep to itself what is
	// deleted in the first moments of a session.
	sweepAfterStart = 10 * time.Second
	// sweepRest keeps sweeps that events ask for to a tenth of the time.
	sweepRest = 10
)

// event is one piece of news from the directory, in the order of its base.
type event struct {
	base    int
	put     *Entry
	holds   container
	live    bool // after the full read
	gone    []ID
	present []ID // there, content not sent
	changed []ID // there or not, to be read
	left    []ID // deleted, or no longer under a base
	links   []link
	done    bool // the refresh is proved to be complete
	skipped int  // entries without a readable id
	refs    int  // search references
	err     error
}

// link is what the member attribute of a group gained and lost.
type link struct {
	id             ID
	added, removed []string
}

// tracker finds out what changed, at a server that does not tell it by itself.
type tracker interface {
	// mark remembers where the server is.
	mark(ctx context.Context, c *conn) error
	// changes emits what changed since the mark and moves it on, once all of that was
	// read and the read was proved to be complete.
	changes(ctx context.Context, c *conn, emit func(event) error) error
	// blind reports whether deletions, or moves out of the bases, are not among that.
	blind(ctx context.Context, c *conn) (bool, error)
}

// follow is every mode but snapshot: a full read, then the changes: from one feed
// for each base, or asked for again and again on a connection of their own. One
// connection serves the heartbeat and look-ups. Only this goroutine calls the sink.
func (s *Source) follow(ctx context.Context, server *Server, sink Sink) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(context.Canceled)
	control, err := s.join(ctx)
	if err != nil {
		return err
	}
	defer control.close()
	f := newFollower(s, server, control, sink)
	h := &heartbeat{source: s, server: server, control: control}
	if server.tracker != nil {
		if f.conn, err = s.join(ctx); err != nil {
			return err
		}
		defer f.conn.close()
		f.track(server.tracker)
	} else if h.feeds, err = f.feed(ctx, &running); err != nil {
		return err
	}
	running.Go(func() { h.run(ctx, cancel) })
	err = f.run(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx) // what broke because of it says nothing
	}
	return err
}

// holder is what the follower remembers of an entry: which base it was last seen
// in, whether it may have entries below it, and, where changes are asked for, what
// it looked like.
type holder struct {
	print     fingerprint
	base      int32
	container bool
}

// follower turns events into calls of the sink.
type follower struct {
	source  *Source
	server  *Server
	control *conn
	sink    Sink
	events  chan event // of the feeds
	tracker tracker    // instead of feeds, with its connection
	conn    *conn

	known   map[ID]holder
	pending map[ID]bool // seems to be gone, or changed: to be looked up
	missing map[ID]bool // reported present without content
	links   []link
	done    []bool // by base: its refresh is proved
	proof   Proof
	unsaid  bool // the sink has not settled since something changed

	read                        func(context.Context) error // the full one of the beginning
	sweeping, polling, counting duty
	sweptIn                     time.Duration
	sweptLast                   time.Time
}

func newFollower(s *Source, server *Server, control *conn, sink Sink) *follower {
	f := &follower{
		source: s, server: server, control: control, sink: sink, events: make(chan event, eventBuffer),
		known: map[ID]holder{}, pending: map[ID]bool{}, missing: map[ID]bool{},
		done:  make([]bool, len(s.bases)),
		proof: Proof{Mode: server.Mode, Server: server.name(), Bases: len(s.bases)},
	}
	f.read = f.refresh
	f.sweeping.do = f.sweep
	return f
}

// run is the session: the full read, then changes as they come, and sweeps when
// they are due.
func (f *follower) run(ctx context.Context) error {
	if err := f.read(ctx); err != nil {
		return err
	}
	f.scheduleSweep()
	if f.tracker == nil && dialectOf(f.server.Vendor) == Dialect389 {
		f.sweeping.at = time.Now().Add(sweepAfterStart)
	}
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
	if !f.unsaid {
		return nil
	}
	f.unsaid = false
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
	f.source.report(ctx, &f.proof)
	f.sink.Complete(f.proof)
	f.unsaid = true
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
	next := earliest(&f.sweeping, &f.polling, &f.counting)
	timer := next.timer()
	defer timer.Stop()
	select {
	case ev := <-f.events:
		return f.gather(ctx, ev)
	case <-timer.C:
		return next.do(ctx)
	case <-f.sink.Wake():
		f.unsaid = true
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
	for _, id := range ev.changed {
		f.changed(id)
	}
	for _, id := range ev.left {
		if _, ok := f.known[id]; ok {
			f.pending[id] = true
		}
	}
	f.links = append(f.links, ev.links...)
	f.done[ev.base] = f.done[ev.base] || ev.done
	f.proof.WithoutID += ev.skipped
	f.proof.Referrals += ev.refs
	return nil
}

// changed has an entry read; if it is not there, it is gone.
func (f *follower) changed(id ID) { f.pending[id] = true }

// put takes an entry. Who asks for changes is told many things twice.
func (f *follower) put(ev event) {
	e := ev.put
	h := holder{base: int32(ev.base), container: ev.holds.holds()} //nolint:gosec // a handful of bases
	was, known := f.known[e.ID]
	delete(f.pending, e.ID)
	delete(f.missing, e.ID)
	if f.tracker != nil {
		if h.print = fingerprintOf(e); known && was == h {
			return
		}
	}
	if ev.live && !known && ev.holds.brings() {
		f.sweepSoon() // what came along with a container is not reported
	}
	f.known[e.ID] = h
	f.sink.Put(e)
	f.unsaid = true
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
	f.unsaid = true
}

// resolve looks for the entries of which not enough was said, and passes links on:
// after that, because an entry that a group lost may have got another name just now.
func (f *follower) resolve(ctx context.Context) error {
	f.whole()
	ids := make([]ID, 0, len(f.pending)+len(f.missing))
	for id := range f.pending {
		ids = append(ids, id)
	}
	for id := range f.missing {
		ids = append(ids, id)
	}
	live := f.refreshed()
	err := f.source.lookup(ctx, f.control, ids, func(ev event) {
		ev.live = live
		f.put(ev)
	})
	if err != nil {
		return err
	}
	for id := range f.pending {
		f.drop(id)
	}
	clear(f.pending)
	clear(f.missing)
	f.link()
	return nil
}

// whole has the groups read of which more than the members changed, or which are
// not known; their links are in what is read.
func (f *follower) whole() {
	f.links = slices.DeleteFunc(f.links, func(l link) bool {
		if _, known := f.known[l.id]; !known {
			f.changed(l.id)
		}
		return f.pending[l.id]
	})
}

func (f *follower) link() {
	for _, l := range f.links {
		h := f.known[l.id]
		h.print = linked
		f.known[l.id] = h
		f.sink.Link(l.id, l.added, l.removed)
		f.unsaid = true
	}
	f.links = nil
}
