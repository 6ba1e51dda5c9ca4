package worker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// limiter bounds the calls to one target over all replicas of all workers. Who wants
// to call takes a place in time from a lane, which is one key in the bucket of the
// targets; a Retry-After is another key, which every replica watches.
//
//	lane     <connection>.lane.all, and one for each class of calls that has a rate
//	closure  <connection>.closed
//
// Times in them are those of NATS, so that the replicas' clocks need not agree. What is
// waited for is a duration by our own monotonic clock. The clock of NATS may be set, see
// clockset.go.
type limiter struct {
	connection string
	bus        *bus.Bus
	ask        func(ctx context.Context) (bus.Clock, error) // what time it is
	log        *slog.Logger
	pool       func(ctx context.Context) (leave func(), err error)
	closures   *bus.Bucket[provisioningv1.Closure, *provisioningv1.Closure]
	all        *lane // nil: no limit
	classes    map[scim.CallClass]*lane

	mu       sync.Mutex
	clock    bus.Clock
	asked    bool      // for the time
	until    time.Time // closed before, by our own clock
	ready    chan struct{}
	isReady  bool
	tell     chan struct{}   // there is a closure that others do not know of
	ctx      context.Context //nolint:containedctx // what goes on between calls ends with close
	stop     context.CancelFunc
	underway sync.WaitGroup
}

// newLimiter makes a limiter; start begins to share it.
func newLimiter(p *Process, connection string, all scim.Rate, classes scim.Rates) *limiter {
	l := &limiter{
		connection: connection, bus: p.bus, log: p.log.With("connection", connection),
		closures: bus.OpenBucket[provisioningv1.Closure](p.bus, provisioningv1.BucketTargets),
		classes:  map[scim.CallClass]*lane{}, ready: make(chan struct{}), tell: make(chan struct{}, 1),
		pool: func(ctx context.Context) (func(), error) { return p.pool.acquire(ctx, connection) },
		ask: func(ctx context.Context) (bus.Clock, error) {
			return p.bus.Clock(ctx, "KV_"+provisioningv1.BucketTargets)
		},
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	if all.RequestsPerSecond > 0 {
		l.all = newLane(l, "all", all)
	}
	for _, class := range scim.CallClasses {
		if r := classes.Of(class); r.RequestsPerSecond > 0 {
			l.classes[class] = newLane(l, string(class), r)
		}
	}
	return l
}

func (l *limiter) start() {
	l.underway.Go(l.follow)
	l.underway.Go(l.spread)
	l.underway.Go(l.synchronize)
}

func (l *limiter) close() {
	l.stop()
	l.underway.Wait()
}

// Queue waits for the rate of the class.
func (l *limiter) Queue(ctx context.Context, class scim.CallClass) error {
	if own := l.classes[class]; own != nil {
		return own.take(ctx)
	}
	return nil
}

// Enter waits for the rate of all calls, for a place in the process, and until the
// target wants to be called.
func (l *limiter) Enter(ctx context.Context) (leave func(), err error) {
	for {
		if l.all != nil {
			err = l.all.take(ctx)
		} else {
			err = l.open(ctx)
		}
		if err != nil {
			return nil, err
		}
		if leave, err = l.pool(ctx); err != nil {
			return nil, err
		}
		if l.closedFor() <= 0 {
			return leave, nil
		}
		leave()
	}
}

// Answered closes the target for all replicas when it said for how long, and takes
// some of the rate away when it said that there were too many calls.
func (l *limiter) Answered(class scim.CallClass, status int, retryAfter time.Duration) {
	if retryAfter > 0 {
		l.closeUntil(time.Now().Add(retryAfter))
		l.share()
	}
	if status != http.StatusTooManyRequests {
		return
	}
	if own := l.classes[class]; own != nil {
		own.slower()
	} else if l.all != nil {
		l.all.slower()
	}
}

// share makes the others know of our closure.
func (l *limiter) share() {
	select {
	case l.tell <- struct{}{}:
	default: // it is being told, and will be again
	}
}

// open waits until the target wants to be called.
func (l *limiter) open(ctx context.Context) error {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		d := l.closedFor()
		switch {
		case d <= 0:
			return nil
		case d > scim.Patience:
			return &scim.PostponedError{For: d}
		}
		if err := sleepFor(ctx, d); err != nil {
			return err
		}
	}
}

func (l *limiter) closedFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.until)
}

func (l *limiter) closeUntil(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.After(l.until) {
		l.until = t
	}
}

// now is the time of NATS.
func (l *limiter) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.Now()
}

// local is our own time at a time of NATS.
func (l *limiter) local(t time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.Local(t)
}

const (
	clockInterval = time.Minute
	troubleDelay  = 100 * time.Millisecond
)

// follow learns of closures that other replicas met. Nothing is sent before it knows
// the time and what was closed before.
func (l *limiter) follow() {
	for l.ctx.Err() == nil && !l.setClock() {
		pause(l.ctx, troubleDelay)
	}
	Follow(l.ctx, l.log, "a target that asks to wait", troubleDelay, func(ctx context.Context) error {
		return l.closures.Watch(ctx, provisioningv1.ClosureKey(l.connection), l.begin, func(e bus.Entry[provisioningv1.Closure, *provisioningv1.Closure]) error {
			l.learn(e.Value)
			return nil
		})
	})
}

// learn takes a closure that the key holds. One that cannot be meant is put right.
func (l *limiter) learn(c *provisioningv1.Closure) {
	wait, meant := waitOf(c, l.now())
	if !meant && l.setClock() { // ours may be the wrong one
		wait, meant = waitOf(c, l.now())
	}
	if wait > 0 {
		l.closeUntil(time.Now().Add(wait))
	}
	if !meant {
		l.share()
	}
}

func (l *limiter) begin() {
	if !l.isReady { // only follow calls it
		l.isReady = true
		close(l.ready)
	}
}

func (l *limiter) setClock() bool {
	clock, err := l.ask(l.ctx)
	if err != nil {
		if l.ctx.Err() == nil {
			l.log.WarnContext(l.ctx, "ask NATS for the time", "error", err)
		}
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if by := clock.Now().Sub(l.clock.Now()); l.asked && by.Abs() > clockSlack {
		l.log.WarnContext(l.ctx, "the clock of NATS was set", "by", by.Round(time.Millisecond).String())
	}
	l.clock, l.asked = clock, true
	return true
}

// synchronize asks for the time again and again: clocks drift.
func (l *limiter) synchronize() {
	for {
		pause(l.ctx, clockInterval)
		if l.ctx.Err() != nil {
			return
		}
		l.setClock()
	}
}

// spread tells the other replicas of closures.
func (l *limiter) spread() {
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.tell:
		}
		for l.ctx.Err() == nil {
			err := l.spreadOnce()
			if err == nil {
				break
			}
			if !errors.Is(err, bus.ErrConflict) {
				l.log.Log(l.ctx, bus.LevelOf(err), "tell other replicas that the target asks to wait", "error", err)
				pause(l.ctx, troubleDelay)
			}
		}
	}
}

// spreadOnce moves the closure that everybody knows of to ours, where ours is later, or
// where that one cannot be meant.
func (l *limiter) spreadOnce() error {
	key := provisioningv1.ClosureKey(l.connection)
	current, revision, err := l.closures.Get(l.ctx, key)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	now, closed := l.now(), max(0, l.closedFor())
	wait, meant := waitOf(current, now)
	if meant && closed <= max(0, wait) {
		return nil
	}
	_, err = l.closures.Put(l.ctx, key, &provisioningv1.Closure{Until: now.Add(closed).UnixNano(), Written: now.UnixNano()}, revision)
	if err == nil && !meant {
		l.log.WarnContext(l.ctx, "a stored time until which the target wanted to be left alone was later than it had asked for, and is put right: the clock of NATS was set back",
			"ahead", time.Unix(0, current.GetUntil()).Sub(now).Round(time.Millisecond).String(), "wait", closed.Round(time.Millisecond).String())
	}
	return err
}

func sleepFor(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
