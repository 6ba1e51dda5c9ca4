package scim

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxRetryAfter bounds what a target may ask for.
const maxRetryAfter = time.Hour

// gate makes every caller of a client wait when the target asked one of them to.
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

// admit waits until a request may be sent: the target's pause, the rate, a free
// slot, and the caller's own word. A pause that is too long for a call is returned instead.
func (c *Client) admit(ctx context.Context, req *request) (release func(), err error) {
	for {
		d := c.gate.remaining()
		if d <= 0 {
			break
		}
		if d > maxPause {
			e := req.newError(ErrWait)
			e.RetryAfter = d
			return nil, e
		}
		if err := sleep(ctx, d); err != nil {
			return nil, req.newError(err)
		}
	}
	if err := c.limiter.Wait(ctx); err != nil {
		return nil, req.newError(fmt.Errorf("wait for the rate limit: %w", err))
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, req.newError(fmt.Errorf("wait for a free connection: %w", context.Cause(ctx)))
	}
	release = func() { <-c.slots }
	if c.cfg.Admit == nil {
		return release, nil
	}
	if err := c.cfg.Admit(ctx); err != nil {
		release()
		return nil, req.newError(err)
	}
	return release, nil
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

// retryAfter reads the header: seconds or a date. now is the local time; the
// answer's own Date is used for a date, so that clocks need not agree.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	var d time.Duration
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 {
		d = time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
	} else if at, err := http.ParseTime(value); err == nil {
		if date, err := http.ParseTime(header.Get("Date")); err == nil {
			now = date
		}
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
