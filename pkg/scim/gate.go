package scim

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// CallClasses are all classes of calls.
var CallClasses = []CallClass{ClassUserCreate, ClassUserWrite, ClassUserDelete, ClassGroupPatch, ClassRead}

// Limiter bounds the rate of the calls to a target. It may be shared by many
// processes.
type Limiter interface {
	// Queue waits for the rate of the call's own class, before the call takes a place.
	Queue(ctx context.Context, class CallClass) error
	// Enter waits for the rate of all calls, and until the target wants to be called
	// again; the call has to be made at once, and leave be called after it. A wait that
	// is too long for a call is returned as a *PostponedError instead.
	Enter(ctx context.Context) (leave func(), err error)
	// Answered takes the answer to a call: its status, and how long the target does not
	// want to be called.
	Answered(class CallClass, status int, retryAfter time.Duration)
}

// Slots bounds how many calls to a target are in flight.
type Slots interface {
	// Acquire waits for a place; release gives it back.
	Acquire(ctx context.Context) (release func(), err error)
}

// PostponedError says that a call cannot be made for a while.
type PostponedError struct{ For time.Duration }

// Error says for how long.
func (p *PostponedError) Error() string { return fmt.Sprintf("%v for %s", ErrWait, p.For) }

// Unwrap makes it an ErrWait.
func (p *PostponedError) Unwrap() error { return ErrWait }

// Patience is the longest wait inside a call; a longer one is a PostponedError.
const Patience = maxPause

// admit waits until a request may be sent: the rate of its class, a free slot, the
// rate of all calls and the target's pause, and the caller's own word. The slot comes
// before the rate, so that whoever waits for a slow target keeps no part of the rate.
func (c *Client) admit(ctx context.Context, req *request) (release func(), err error) {
	class := c.classOf(req)
	if err := c.cfg.Limiter.Queue(ctx, class); err != nil {
		return nil, req.delayed("wait for the rate limit", err)
	}
	leave, err := c.cfg.Slots.Acquire(ctx)
	if err != nil {
		return nil, req.delayed("wait for a free connection", err)
	}
	out, err := c.cfg.Limiter.Enter(ctx)
	if err != nil {
		leave()
		return nil, req.delayed("wait for the rate limit", err)
	}
	release = func() { out(); leave() }
	if c.cfg.Admit == nil {
		return release, nil
	}
	if err := c.cfg.Admit(ctx); err != nil {
		release()
		return nil, req.newError(err)
	}
	return release, nil
}

// delayed is the error of a request that was not sent, because it would have had to
// wait for too long.
func (r *request) delayed(what string, err error) *Error {
	if p, ok := err.(*PostponedError); ok { //nolint:errorlint // the limiter's own word, not something inside another error
		e := r.newError(ErrWait)
		e.RetryAfter = p.For
		return e
	}
	return r.newError(fmt.Errorf("%s: %w", what, err))
}

// classOf is the class of a request.
func (c *Client) classOf(req *request) CallClass {
	user := strings.HasPrefix(req.route, "/"+strings.Trim(c.cfg.UsersPath, "/"))
	switch {
	case req.method == http.MethodGet:
		return ClassRead
	case user && req.method == http.MethodPost:
		return ClassUserCreate
	case user && req.method == http.MethodDelete:
		return ClassUserDelete
	case user:
		return ClassUserWrite
	default:
		return ClassGroupPatch
	}
}

// gate makes every caller wait when the target asked one of them to.
type gate struct {
	mu    sync.Mutex
	until time.Time
}

func (g *gate) closeFor(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until := time.Now().Add(d); until.After(g.until) {
		g.until = until
	}
}

func (g *gate) remaining() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Until(g.until)
}

// pass waits until the gate is open.
func (g *gate) pass(ctx context.Context) error {
	for {
		d := g.remaining()
		switch {
		case d <= 0:
			return nil
		case d > Patience:
			return &PostponedError{For: d}
		}
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
}

// ownLimiter is the limiter of a client that shares its target with nobody.
type ownLimiter struct {
	gate    gate
	all     *rate.Limiter
	classes map[CallClass]*rate.Limiter
}

func newOwnLimiter(all Rate, classes Rates) *ownLimiter {
	l := &ownLimiter{all: all.limiter(), classes: map[CallClass]*rate.Limiter{}}
	for _, class := range CallClasses {
		l.classes[class] = classes.Of(class).limiter()
	}
	return l
}

func (r Rate) limiter() *rate.Limiter {
	limit := rate.Inf
	if r.RequestsPerSecond > 0 {
		limit = rate.Limit(r.RequestsPerSecond)
	}
	return rate.NewLimiter(limit, max(r.Burst, 1))
}

// Queue waits for the rate of the class.
func (l *ownLimiter) Queue(ctx context.Context, class CallClass) error {
	return l.classes[class].Wait(ctx)
}

// Enter waits for the rate and the target's pause.
func (l *ownLimiter) Enter(ctx context.Context) (leave func(), err error) {
	for {
		if err := l.gate.pass(ctx); err != nil {
			return nil, err
		}
		if err := l.all.Wait(ctx); err != nil {
			return nil, err
		}
		if l.gate.remaining() <= 0 {
			return func() {}, nil
		}
	}
}

// Answered closes the gate for as long as the target asks.
func (l *ownLimiter) Answered(_ CallClass, _ int, retryAfter time.Duration) {
	l.gate.closeFor(retryAfter)
}

// ownSlots are the slots of a client that shares its target with nobody.
type ownSlots chan struct{}

// Acquire waits for a free slot.
func (s ownSlots) Acquire(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// MaxRetryAfter is the longest time that a target may ask for; one that asks for more is
// called again after it.
const MaxRetryAfter = time.Hour

// retryAfter reads the header: seconds or a date. now is the local time; the
// answer's own Date is used for a date, so that clocks need not agree.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	var d time.Duration
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 {
		d = time.Duration(min(seconds, MaxRetryAfter.Seconds()) * float64(time.Second))
	} else if at, err := http.ParseTime(value); err == nil {
		if date, err := http.ParseTime(header.Get("Date")); err == nil {
			now = date
		}
		d = at.Sub(now)
	}
	return min(max(d, 0), MaxRetryAfter)
}
