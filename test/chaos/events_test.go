package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// unreachable is a directory that is not there: the detector sets everything up and
// then waits for it, while the test publishes in its place.
const unreachable = `urls: ["ldap://127.0.0.1:1"]`

// TestRandomEvents publishes random events as the detector does, while
// two replicas of each worker are killed in turn, everything is delivered again in
// the middle of it, and random entries are asked for and published once more. In the
// end the target is what the model says, and to look at everything again costs
// nothing.
func TestRandomEvents(t *testing.T) {
	r, _ := random(t)
	b, nats := external(t)
	s := &storm{site: newSite(t, nats, unreachable), r: r, bus: b, crowd: newCrowd(r, 300, 30), events: *events, window: window, here: map[int]bool{}}
	s.SetLatency(time.Millisecond)
	s.settle(s.world, []int{0, 1, 2})
	s.deliverAgain()
	s.rage(replicas)
	s.again()
}

const (
	replicas = 2
	// kills and resets are how often it happens in one run.
	kills  = 12
	resets = 3
	// window is how many changes may wait before the next event is published, so
	// that most events are seen; more than a worker that is killed leaves behind.
	window = 160
)

// storm is the state of the test.
type storm struct {
	*site
	*crowd

	r       *rand.Rand
	bus     *bus.Bus
	fences  map[directoryv1.Kind]*bus.Fence
	workers []*running
	events  int
	window  uint64 // how many changes may wait before the next event
	kills   int
	tally   tally
	here    map[int]bool // who was in scope when last published
}

// tally counts what calls are allowed for.
type tally struct {
	changed int // entries that were published, each time, but for those as they were
	echoes  int // teams of a person who came or went: they have to follow
	asked   int // requests to look at an entry
}

// rage lets everything happen with so many replicas of each worker, until the target
// is equal.
func (s *storm) rage(replicas int) {
	s.t.Helper()
	for range replicas {
		s.workers = append(s.workers, s.start(userSync), s.start(groupSync))
	}
	start := time.Now()
	s.publish(s.all())
	if err := worker.FirstPass(s.t.Context(), s.bus, wiki); err != nil {
		s.t.Fatal(err)
	}
	s.converge(s.world) // the first run is over: from now on removals pass
	for i := range s.events {
		s.publish(s.event(s.r))
		s.disturb(i)
	}
	published := time.Since(start)
	s.converge(s.world)
	s.t.Logf("%d events in %v, equal after %v, %d requests, %d kills", s.events, published, time.Since(start), len(s.Requests()), s.kills)
}

// disturb does what the event with this number brings with it.
func (s *storm) disturb(i int) {
	s.t.Helper()
	every := func(times int) bool { return i%max(1, s.events/times) == 0 && i > 0 }
	switch {
	case every(kills):
		next := s.kills % len(s.workers)
		s.kills++
		s.workers[next].Kill()
		s.workers[next] = s.start(s.workers[next].name)
	case every(resets):
		s.deliverAgain()
	case i%50 == 0:
		s.publish([]entry{s.anything(s.r)}) // as it is
		s.tally.changed--
	case i%20 == 0:
		s.request(s.anything(s.r))
	case i%16 == 0:
		s.calm(s.window)
	}
}

// calm waits until no more than so many changes and requests wait.
func (s *storm) calm(limit uint64) {
	s.t.Helper()
	err := until(s.t.Context(), func(ctx context.Context) error {
		waiting, err := backlog(ctx, s.bus, s.cfg)
		if err == nil && waiting > limit {
			err = fmt.Errorf("%d changes and requests wait", waiting)
		}
		return err
	})
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.troubles())
	}
}

func (s *storm) request(e entry) {
	s.t.Helper()
	s.tally.asked++
	if err := s.bus.Request(s.t.Context(), e.kind, wiki, id(e.n), "chaos"); err != nil {
		s.t.Fatal(err)
	}
}

// deliverAgain makes the consumers anew, which begin with everything there is. A
// detector does it, so that the consumers are as it makes them; then it is killed.
func (s *storm) deliverAgain() {
	s.t.Helper()
	ctx := s.t.Context()
	for _, kind := range kinds {
		if err := s.bus.DeleteConsumer(ctx, kind.Stream(), s.consumer(kind)); err != nil {
			s.t.Fatal(err)
		}
	}
	p := s.start(detector)
	err := until(ctx, func(ctx context.Context) error {
		for _, kind := range kinds {
			names, err := s.bus.Consumers(ctx, kind.Stream())
			if err != nil {
				return err
			}
			if !slices.Contains(names, s.consumer(kind)) {
				return fmt.Errorf("the consumers of %s are %v", kind.Stream(), names)
			}
		}
		_, err := worker.CurrentGeneration(ctx, s.bus, wiki)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	p.Kill()
	s.takeFences()
}

func (s *storm) consumer(kind directoryv1.Kind) string {
	return worker.ChangesConsumer(kind, wiki, s.cfg.Hash(wiki))
}

// takeFences makes the test the one that may publish.
func (s *storm) takeFences() {
	s.t.Helper()
	if err := worker.StoreAttributeSet(s.t.Context(), s.bus, source, s.cfg.AttributeSet(source)); err != nil {
		s.t.Fatal(err)
	}
	s.fences = map[directoryv1.Kind]*bus.Fence{}
	for _, kind := range kinds {
		fence, err := s.bus.TakeFence(s.t.Context(), kind, source, "chaos")
		if err != nil {
			s.t.Fatal(err)
		}
		s.fences[kind] = fence
	}
}

// publish publishes entries as they are now, each kind in one batch.
func (s *storm) publish(entries []entry) {
	s.t.Helper()
	for _, e := range entries {
		s.count(e)
	}
	for _, kind := range kinds {
		var messages []bus.Message
		for _, e := range entries {
			if e.kind == kind {
				messages = append(messages, s.messages(s.t, e, s.cfg.AttributeSet(source).ID())...)
			}
		}
		if _, err := s.fences[kind].Publish(s.t.Context(), messages); err != nil {
			s.t.Fatal(err)
		}
	}
}

// count notes that an entry is published.
func (s *storm) count(e entry) {
	s.tally.changed++
	p := s.people[e.n]
	here := p != nil && !p.out
	if e.kind != directoryv1.Kind_KIND_USER || s.here[e.n] == here {
		return
	}
	s.here[e.n] = here
	for _, t := range s.teams {
		if t.members[e.n] {
			s.tally.echoes++
		}
	}
}

// again lets everything be delivered and asked for once more: nothing is written.
func (s *storm) again() {
	s.t.Helper()
	last := 0
	for _, r := range s.Requests() {
		last = r.Seq
	}
	s.deliverAgain()
	for _, e := range s.all() {
		s.request(e)
	}
	s.converge(s.world)
	writes := slices.DeleteFunc(s.RequestsAfter(last), func(r scimtest.Request) bool { return !r.Writes() })
	for _, w := range writes {
		s.t.Errorf("everything was as it should be, and yet: %s %s %s", w.Method, w.Path, w.Body)
	}
}
