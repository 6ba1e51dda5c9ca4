package worker

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// wallClock is the clock of NATS as replicas see it: the server's, set by some time.
type wallClock struct{ set atomic.Int64 }

// limited is a client of a new replica's that is limited by a clock, and its limiter.
func (w *wallClock) limited(t *testing.T, s *site, url string, all scim.Rate) (*scim.Client, *limiter) {
	t.Helper()
	p := s.replica()
	l := newLimiter(p, "wiki", all, scim.Rates{})
	ask := l.ask
	l.ask = func(ctx context.Context) (bus.Clock, error) {
		c, err := ask(ctx)
		return c.Ahead(time.Duration(w.set.Load())), err
	}
	l.start()
	t.Cleanup(l.close)
	c, err := scim.New(scim.Config{URL: url, Limiter: l, Concurrency: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, l
}

// The clock of NATS is set an hour forward, the target asks to wait for a second, and the
// clock is set right again. Nobody waits for longer than the target and the rate asked for:
// neither who was there, nor who has not noticed yet, nor who starts afterwards.
func TestAClockThatIsSetBlocksNobody(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{})
	s := newSite(t, 16, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 4}})
	rate := scim.Rate{RequestsPerSecond: 50, Burst: 1}
	var clock wallClock
	first, firstLimiter := clock.limited(t, s, target.URL(), rate)
	second, _ := clock.limited(t, s, target.URL(), rate)
	call := func(who string, c *scim.Client) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := c.Get(ctx, scim.KindUser, "nobody"); !scim.IsNotFound(err) {
			t.Fatalf("%s: %v, want the target's own answer", who, err)
		}
	}
	call("before", first)
	call("before", second)

	clock.set.Store(int64(time.Hour))
	firstLimiter.setClock() // the second one asks within a minute
	var asked atomic.Bool
	target.SetFault(func(scimtest.Request) *scimtest.Fault {
		if asked.Swap(true) {
			return nil
		}
		return &scimtest.Fault{Status: http.StatusTooManyRequests, RetryAfter: time.Second}
	})
	if _, err := first.Get(t.Context(), scim.KindUser, "nobody"); !scim.IsNotFound(err) && scim.RetryAfter(err) > time.Second {
		t.Fatalf("the target asked to wait for a second, and the answer is %v", err)
	}
	call("while it is an hour later", first)
	call("not yet noticed that it is an hour later", second)

	clock.set.Store(0)
	call("not yet noticed that it is right again", first)
	firstLimiter.setClock()
	call("right again", first)
	call("right again", second)
	third, _ := clock.limited(t, s, target.URL(), rate)
	call("new", third)

	longest := time.Now().Add(2 * time.Second).UnixNano()
	lane, _, err := firstLimiter.all.bucket.Get(t.Context(), firstLimiter.all.key)
	if err != nil || lane.GetNext() > longest || lane.GetChanged() > longest {
		t.Errorf("the rate's state lies ahead: %v (%v)", lane, err)
	}
	until(t, "the stored closure is put right", func() bool {
		c, _, err := firstLimiter.closures.Get(t.Context(), provisioningv1.ClosureKey("wiki"))
		return err == nil && c.GetUntil() <= longest
	})
}

// until waits until a condition holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never comes to be that %s", what)
		}
	}
}

// States of a version that did not say when it wrote them are put right, too.
func TestStatesFromTheFutureAreNotBelieved(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	at := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
	rate := scim.Rate{RequestsPerSecond: 100, Burst: 1}
	lanes := []struct {
		name      string
		state     *provisioningv1.Lane
		next, put time.Duration
	}{
		{"of now", &provisioningv1.Lane{Next: at(time.Second), Written: at(0)}, time.Second, 0},
		{"of a clock that differs a little", &provisioningv1.Lane{Next: at(3 * time.Second), Written: at(time.Second)}, 3 * time.Second, 0},
		{"of a clock that was an hour ahead", &provisioningv1.Lane{Next: at(time.Hour + time.Second), Written: at(time.Hour), Changed: at(time.Hour)}, time.Second, time.Hour},
		{"of an older version", &provisioningv1.Lane{Next: at(time.Hour)}, 0, time.Hour},
		{"of long ago", &provisioningv1.Lane{Next: at(-time.Hour), Written: at(-time.Hour)}, -time.Hour, 0},
	}
	for _, c := range lanes {
		t.Run("rate "+c.name, func(t *testing.T) {
			t.Parallel()
			state, ahead := timely(c.state, rate, now)
			if next := time.Unix(0, state.GetNext()).Sub(now); next != c.next || ahead != c.put {
				t.Errorf("next in %s, put right by %s; want %s and %s", next, ahead, c.next, c.put)
			}
			if state.GetChanged() > now.UnixNano() {
				t.Errorf("the rate was taken from in %s", time.Unix(0, state.GetChanged()).Sub(now))
			}
		})
	}
	closures := []struct {
		name  string
		state *provisioningv1.Closure
		wait  time.Duration
		meant bool
	}{
		{"none", &provisioningv1.Closure{}, -now.Sub(time.Unix(0, 0)), true},
		{"of now", &provisioningv1.Closure{Until: at(time.Minute), Written: at(0)}, time.Minute, true},
		{"of a minute ago", &provisioningv1.Closure{Until: at(time.Minute), Written: at(-time.Minute)}, time.Minute, true},
		{"of a clock that was an hour ahead", &provisioningv1.Closure{Until: at(time.Hour + time.Second), Written: at(time.Hour)}, time.Second, false},
		{"of a clock that was a minute ahead", &provisioningv1.Closure{Until: at(61 * time.Second), Written: at(time.Minute)}, time.Second, false},
		{"of an older version", &provisioningv1.Closure{Until: at(time.Minute)}, time.Minute, true},
		{"of an older version and a day ahead", &provisioningv1.Closure{Until: at(24 * time.Hour)}, scim.MaxRetryAfter, false},
	}
	for _, c := range closures {
		t.Run("closure "+c.name, func(t *testing.T) {
			t.Parallel()
			if wait, meant := waitOf(c.state, now); wait != c.wait || meant != c.meant {
				t.Errorf("holds for %s, meant %v; want %s and %v", wait, meant, c.wait, c.meant)
			}
		})
	}
}
