package worker

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	// batchTime is how much of a rate one replica takes at once, at most.
	batchTime = 100 * time.Millisecond
	// staleTime is after how long a place in time that was taken is given up: calls
	// that were allowed long ago must not all come now.
	staleTime = 250 * time.Millisecond
	// slowdown is what is left of a rate after a 429, and leastFactor the least part of
	// the configured one; regained is which part of it comes back in each second.
	slowdown, leastFactor, regained = 0.7, 0.05, 0.01
	// slowdownRest is how soon after a 429 the next one counts: calls that were in
	// flight together are refused together.
	slowdownRest = time.Second
)

// lane is one rate, shared by all replicas: a generic cell rate. A replica takes
// places in time for the calls that wait here, at most 100 ms worth, and takes the next
// ones while it uses these.
type lane struct {
	limiter *limiter
	name    string
	key     string
	rate    scim.Rate
	bucket  *bus.Bucket[provisioningv1.Lane, *provisioningv1.Lane]
	waiting atomic.Int64
	slowing atomic.Bool

	turn   chan struct{}    // who holds it takes the next place; the fields below are theirs
	places []time.Time      // by our own clock
	coming chan []time.Time // places that are being taken; nil: none are

	// what the key held last; it belongs to who takes places.
	state    *provisioningv1.Lane
	revision uint64
	written  time.Time // of the newest state that was seen
}

var errLimiterClosed = errors.New("the process ends")

func newLane(l *limiter, name string, r scim.Rate) *lane {
	return &lane{
		limiter: l, name: name, key: provisioningv1.LaneKey(l.connection, name), rate: r, turn: make(chan struct{}, 1),
		bucket: bus.OpenBucket[provisioningv1.Lane](l.bus, provisioningv1.BucketTargets),
	}
}

// take waits for a place in time. Callers take turns, in the order in which they came.
func (n *lane) take(ctx context.Context) error {
	ahead := n.waiting.Add(1) - int64(max(1, n.rate.Burst)) // a burst may be there for the others
	defer n.waiting.Add(-1)
	if wait := time.Duration(float64(ahead) / n.rate.RequestsPerSecond * float64(time.Second)); tooLong(ctx, wait) {
		return &scim.PostponedError{For: wait}
	}
	select {
	case n.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-n.turn }()
	for {
		if err := n.limiter.open(ctx); err != nil {
			return err
		}
		at, err := n.place(ctx)
		if err != nil {
			return err
		}
		if wait := time.Until(at); tooLong(ctx, wait) {
			n.places = append([]time.Time{at}, n.places...)
			return &scim.PostponedError{For: wait}
		}
		if err := sleepFor(ctx, time.Until(at)); err != nil {
			return err
		}
		if n.limiter.closedFor() <= 0 {
			return nil
		}
	}
}

// tooLong says whether a wait would outlive the call.
func tooLong(ctx context.Context, wait time.Duration) bool {
	deadline, has := ctx.Deadline()
	return has && time.Until(deadline) < wait
}

// place is the next place in time that is ours.
func (n *lane) place(ctx context.Context) (time.Time, error) {
	for {
		for len(n.places) > 0 && time.Since(n.places[0]) > staleTime {
			n.places = n.places[1:]
		}
		if len(n.places) > 0 {
			break
		}
		n.fetch()
		select {
		case n.places = <-n.coming:
			n.coming = nil
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		case <-n.limiter.ctx.Done():
			return time.Time{}, errLimiterClosed
		}
	}
	at := n.places[0]
	n.places = n.places[1:]
	if n.waiting.Load() > 1 && time.Until(n.last(at)) < batchTime/2 {
		n.fetch()
	}
	return at, nil
}

// last is the latest place that is ours.
func (n *lane) last(at time.Time) time.Time {
	if len(n.places) > 0 {
		return n.places[len(n.places)-1]
	}
	return at
}

// fetch begins to take places for those who wait, unless that is under way.
func (n *lane) fetch() {
	if n.coming != nil {
		return
	}
	coming := make(chan []time.Time, 1)
	n.coming = coming
	n.limiter.underway.Go(func() {
		for n.limiter.ctx.Err() == nil {
			places, err := n.reserve(n.limiter.ctx)
			if err == nil {
				coming <- places
				return
			}
			if !errors.Is(err, bus.ErrConflict) && n.limiter.ctx.Err() == nil {
				n.limiter.log.Log(n.limiter.ctx, bus.LevelOf(err), "take a part of the target's rate", "error", err)
				pause(n.limiter.ctx, troubleDelay)
			}
			n.state = nil
			pause(n.limiter.ctx, rand.N(2*time.Millisecond)) //nolint:gosec // spreading tries needs no secrecy
		}
	})
}

// reserve moves the lane on by the places that are wanted.
func (n *lane) reserve(ctx context.Context) ([]time.Time, error) {
	now, ahead, err := n.current(ctx)
	if err != nil {
		return nil, err
	}
	next, starts := advance(n.state, n.rate, now, placesFor(int(n.waiting.Load())))
	revision, err := n.bucket.Put(ctx, n.key, next, n.revision)
	if err != nil {
		return nil, err
	}
	n.state, n.revision, n.written = next, revision, now
	if ahead > 0 {
		n.limiter.log.WarnContext(ctx, "the stored state of a rate was from the future, and is put right: the clock of NATS was set back",
			"rate", n.name, "ahead", ahead.Round(time.Millisecond).String())
	}
	for i, at := range starts {
		starts[i] = n.limiter.local(at)
		if past := time.Now(); starts[i].Before(past) { // a burst
			starts[i] = past
		}
	}
	return starts, nil
}

// current makes the state the newest one that is known, put right where it is from the
// future, and says by how much it was.
func (n *lane) current(ctx context.Context) (now time.Time, ahead time.Duration, err error) {
	fresh := n.state == nil
	if fresh {
		if n.state, n.revision, err = n.read(ctx); err != nil {
			return now, 0, err
		}
	}
	now = n.limiter.now()
	state, ahead := timely(n.state, n.rate, now)
	back := fresh && n.state.GetWritten() > 0 && n.written.Sub(time.Unix(0, n.state.GetWritten())) > clockSlack
	if (ahead > 0 || back) && n.limiter.setClock() { // ours may be the wrong one
		now = n.limiter.now()
		state, ahead = timely(n.state, n.rate, now)
	}
	n.state = state
	return now, ahead, nil
}

// placesFor is how many places so many callers need: where several wait at the same time,
// they will be back before the next places are there.
func placesFor(waiting int) int {
	if waiting > 1 {
		return 2 * waiting
	}
	return 1
}

func (n *lane) read(ctx context.Context) (*provisioningv1.Lane, uint64, error) {
	state, revision, err := n.bucket.Get(ctx, n.key)
	if errors.Is(err, bus.ErrNotFound) {
		return &provisioningv1.Lane{}, revision, nil
	}
	return state, revision, err
}

// advance takes places for so many calls, at least one and at most 100 ms worth. Time
// that nobody used is left over for a burst, and no longer.
func advance(state *provisioningv1.Lane, r scim.Rate, now time.Time, wanted int) (*provisioningv1.Lane, []time.Time) {
	perSecond := r.RequestsPerSecond * factorOf(state, now)
	gap := time.Duration(float64(time.Second) / perSecond)
	count := min(max(1, wanted), max(1, int(perSecond*batchTime.Seconds())))
	at := time.Unix(0, state.GetNext())
	if earliest := now.Add(-time.Duration(max(0, r.Burst-1)) * gap); at.Before(earliest) {
		at = earliest
	}
	places := make([]time.Time, count)
	for i := range places {
		places[i] = at
		at = at.Add(gap)
	}
	next := proto.CloneOf(state)
	next.Next, next.Written = at.UnixNano(), now.UnixNano()
	return next, places
}

// factorOf is which part of the configured rate may be used.
func factorOf(state *provisioningv1.Lane, now time.Time) float64 {
	if state.GetFactor() == 0 {
		return 1
	}
	rested := now.Sub(time.Unix(0, state.GetChanged())).Seconds()
	return min(1, state.GetFactor()+regained*max(0, rested))
}

// slower takes a part of the rate away, for everybody, because the target said that
// there were too many calls. It comes back slowly.
func (n *lane) slower() {
	if !n.slowing.CompareAndSwap(false, true) {
		return
	}
	n.limiter.underway.Go(func() {
		defer n.slowing.Store(false)
		for n.limiter.ctx.Err() == nil {
			if err := n.slow(n.limiter.ctx); err == nil || !errors.Is(err, bus.ErrConflict) {
				return
			}
			pause(n.limiter.ctx, rand.N(2*time.Millisecond)) //nolint:gosec // spreading tries needs no secrecy
		}
	})
}

func (n *lane) slow(ctx context.Context) error {
	state, revision, err := n.read(ctx)
	if err != nil {
		return err
	}
	now := n.limiter.now()
	state, _ = timely(state, n.rate, now)
	if state.GetFactor() > 0 && now.Sub(time.Unix(0, state.GetChanged())) < slowdownRest {
		return nil
	}
	state.Factor = max(leastFactor, slowdown*factorOf(state, now))
	state.Changed, state.Written = now.UnixNano(), now.UnixNano()
	if _, err = n.bucket.Put(ctx, n.key, state, revision); err == nil {
		n.limiter.log.InfoContext(ctx, "the target refuses calls as too many: calling it less often for a while",
			"rate", n.name, "requests_per_second", math.Round(100*state.GetFactor()*n.rate.RequestsPerSecond)/100)
	}
	return err
}
