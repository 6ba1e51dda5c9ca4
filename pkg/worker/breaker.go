package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// BreakerTimes are a breaker's limits. The zero value of a field means what production
// uses.
type BreakerTimes struct {
	// Failures is how many in a row, without a success between them, make the
	// target suspect.
	Failures int
	// Again is how soon after a probe that succeeded as many failures in a row make the
	// target suspect again.
	Again time.Duration
	// Quiet is how long after it a single failure does not, of those of which one is
	// enough.
	Quiet time.Duration
	// First and Longest bound the time between two probes of a paused target.
	First, Longest time.Duration
	// Repair is the time between two looks at whether key and consumers agree.
	Repair time.Duration
	// Lease is for how long one replica probes; another one takes over after it.
	Lease time.Duration
}

// orDefault fills in what production uses.
func (t BreakerTimes) orDefault() BreakerTimes {
	return BreakerTimes{
		Failures: cmp.Or(t.Failures, 5), Again: cmp.Or(t.Again, time.Second), Quiet: cmp.Or(t.Quiet, 30*time.Second),
		First: cmp.Or(t.First, time.Second), Longest: cmp.Or(t.Longest, 30*time.Second),
		Repair: cmp.Or(t.Repair, 15*time.Second), Lease: cmp.Or(t.Lease, 10*time.Second),
	}
}

// pausedDelay is how soon a delivery comes back that a pause caught in flight. Its
// consumer is paused, so that this is right after the resume.
const pausedDelay = 200 * time.Millisecond

// errPaused is what is returned instead of a call to a target that is paused.
var errPaused = fmt.Errorf("%w: the connection is paused", scim.ErrWait)

// Breaker watches the calls to one connection's target for all workers of a
// process. When they fail as if the target and not the entries were at fault, one
// probe decides, and a target that does not answer it pauses the connection for all
// replicas. While it is paused one replica probes on and resumes it.
//
//	5 failures in a row, or refused credentials,
//	or a 503 for a while                          suspect: probe, calls wait for it
//	the probe succeeds                            entries are at fault; the next probe a
//	                                              second later at the earliest, and only
//	                                              after as many failures in a row
//	the probe fails                               paused: calls are refused unsent, deliveries
//	                                              come back after the resume and never count
//	paused, and a probe succeeds                  resumed
//
// The probe is a search for a user who cannot exist. It takes the way of every
// other call, past authentication and down to the target's database, and changes
// nothing; ServiceProviderConfig is often served without either.
type Breaker struct {
	connection string
	owner      string
	bus        *bus.Bus
	log        *slog.Logger
	times      BreakerTimes
	probe      func(context.Context) error

	mu        sync.Mutex
	failures  int
	quiet     time.Time // not suspected before by a single failure
	answered  time.Time // when a probe last succeeded
	pause     *provisioningv1.Pause
	revision  uint64        // of the pause
	news      chan struct{} // closed when pause changes
	examining chan struct{} // closed when the probe that decides has ended; nil without one
	suspicion chan struct{}
	ended     chan struct{}
	stop      context.CancelFunc // nil before Start
}

func newBreaker(p *Process, connection string, probe func(context.Context) error) *Breaker {
	return &Breaker{
		connection: connection, owner: p.owner, bus: p.bus, log: p.log.With("connection", connection), times: p.times.orDefault(), probe: probe,
		news: make(chan struct{}), suspicion: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// Start begins to watch and to report, once, whoever asks; Close ends it.
func (b *Breaker) Start(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop != nil {
		return
	}
	unwatch, err := observePaused(b)
	if err != nil {
		b.log.WarnContext(ctx, "report pauses", "error", err)
		unwatch = func() {}
	}
	ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(b.ended)
		defer unwatch()
		var wg sync.WaitGroup
		wg.Go(func() { b.follow(ctx) })
		wg.Go(func() { b.repair(ctx) })
		b.tend(ctx)
		wg.Wait()
	}()
}

// Close ends what Start began.
func (b *Breaker) Close() {
	b.mu.Lock()
	stop := b.stop
	b.mu.Unlock()
	if stop != nil {
		stop()
		<-b.ended
	}
}

// fault is what a call's end says about the target.
type fault int

const (
	fine    fault = iota // it answers: what it refuses is the entry's matter
	busy                 // it said when to come again
	failing              // it does not do its work
	away                 // it says that it will not for a while
	refused              // it refuses the credentials
)

// longAbsence is the least Retry-After of a 503 that means that the target is away,
// and not just busy.
const longAbsence = 5 * time.Second

// faultOf is the table from the end of a call to what it says about the target.
func faultOf(err error) fault {
	switch scim.Classify(err) {
	case scim.Throttled:
		answer, called := errors.AsType[*scim.Error](err)
		switch {
		case !called:
			return busy
		case answer.Status == http.StatusServiceUnavailable && answer.RetryAfter > longAbsence:
			return away
		case answer.RetryAfter > 0, errors.Is(err, scim.ErrWait):
			return busy
		}
		return failing
	case scim.Canceled:
		return busy
	case scim.Unauthorized, scim.Forbidden:
		return refused
	case scim.Temporary, scim.Misrouted, scim.NoEndpoint, scim.Redirected, scim.Unproven, scim.NoID:
		return failing
	default:
		return fine
	}
}

// Observe takes the end of an HTTP request to the target.
func (b *Breaker) Observe(call scim.Call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch faultOf(call.Err) {
	case fine:
		b.failures = 0
	case failing:
		if b.failures++; b.severalInARow() {
			b.suspect()
		}
	case refused, away: // once is enough
		if b.failures++; b.severalInARow() || time.Now().After(b.quiet) {
			b.suspect()
		}
	case busy:
	}
}

// severalInARow says whether nothing but failures has come since the last probe, and
// enough of them; b.mu is held.
func (b *Breaker) severalInARow() bool {
	return b.failures >= b.times.Failures && time.Since(b.answered) > b.times.Again
}

// suspect asks for the probe that decides; b.mu is held.
func (b *Breaker) suspect() {
	if b.examining != nil || b.pause != nil || b.stop == nil {
		return
	}
	b.examining = make(chan struct{})
	b.suspicion <- struct{}{} // one at a time, so that there is room
}

// Admit waits while a probe decides, and refuses while the connection is paused.
func (b *Breaker) Admit(ctx context.Context) error {
	b.mu.Lock()
	examining := b.examining
	b.mu.Unlock()
	if examining != nil {
		select {
		case <-examining:
		case <-b.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if b.paused() != nil {
		return errPaused
	}
	return nil
}

// Blames says whether a failure is the target's and not the entry's: the
// connection is paused now. Before something final is done about the entry, the
// target has to answer first.
func (b *Breaker) Blames(ctx context.Context, err error, final bool) bool {
	f := faultOf(err)
	switch {
	case errors.Is(err, errPaused):
		return true
	case f == fine:
		return false
	}
	if final && f != busy {
		b.mu.Lock()
		if b.failures > 0 && time.Since(b.answered) > b.times.Again {
			b.suspect()
		}
		b.mu.Unlock()
	}
	return b.Admit(ctx) != nil
}

func (b *Breaker) paused() *provisioningv1.Pause {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pause
}

// see takes the pause as it is at a revision of its key; what is older than what is
// known is nothing new.
func (b *Breaker) see(p *provisioningv1.Pause, revision uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if revision < b.revision {
		return
	}
	before := b.pause
	b.pause, b.revision = p, revision
	if before.GetReason() == p.GetReason() {
		return
	}
	b.failures, b.quiet = 0, time.Time{}
	close(b.news)
	b.news = make(chan struct{})
	switch {
	case manual(p):
		b.log.Info("connection paused by a person", "message", p.GetMessage())
	case p == nil && manual(before):
		b.log.Info("connection resumed")
	}
}

// follow learns of pauses that others make and lift.
func (b *Breaker) follow(ctx context.Context) {
	Follow(ctx, b.log, "pauses", time.Second, func(ctx context.Context) error {
		return pauses(b.bus).Watch(ctx, provisioningv1.PauseKey(b.connection), nil, func(e bus.Entry[provisioningv1.Pause, *provisioningv1.Pause]) error {
			b.see(e.Value, e.Revision)
			return nil
		})
	})
}

// repair makes the consumers agree with the key, for those who died between the two.
func (b *Breaker) repair(ctx context.Context) {
	for ctx.Err() == nil {
		p, revision, err := agree(ctx, b.bus, b.connection)
		if err == nil {
			b.see(p, revision)
		} else if ctx.Err() == nil {
			b.log.WarnContext(ctx, "look at the connection's pause", "error", err)
		}
		pause(ctx, b.times.Repair)
	}
}
