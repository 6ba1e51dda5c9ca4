package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// site is a bus and targets that several processes share.
type site struct {
	t      *testing.T
	server *embedded.Server
	bus    *bus.Bus
	cfg    *connection.Config
}

// newSite has one connection for each target.
func newSite(t *testing.T, concurrency int, targets map[string]connection.Target) *site {
	t.Helper()
	s := &site{t: t, server: bustest.Server(t), cfg: &connection.Config{Connections: map[string]*connection.Connection{}}}
	s.bus = bustest.Connect(t, s.server)
	if err := s.bus.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.cfg.Workers.Concurrency = concurrency
	for name, target := range targets {
		target.Profile = "generic"
		s.cfg.Connections[name] = &connection.Connection{Name: name, Target: target}
	}
	return s
}

// replica is a process with its connection to the bus.
func (s *site) replica() *Process {
	s.t.Helper()
	p, err := NewProcess(bustest.Connect(s.t, s.server), s.cfg, slog.New(slog.NewTextHandler(s.t.Output(), nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Close)
	return p
}

func (s *site) client(p *Process, name string) *scim.Client {
	s.t.Helper()
	c, err := p.Target(s.cfg.Connections[name])
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// load calls the target from several goroutines until ctx ends.
func load(ctx context.Context, wg *sync.WaitGroup, c *scim.Client, callers int, call func(ctx context.Context, c *scim.Client)) {
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				call(ctx, c)
			}
		})
	}
}

func read(ctx context.Context, c *scim.Client) {
	_, _ = c.Get(ctx, scim.KindUser, "nobody") // what comes of it is not the matter
}

func TestReplicasKeepOneRateTogether(t *testing.T) {
	t.Parallel()
	const perSecond, replicas = 100, 4
	target := scimtest.NewServer(t, scimtest.Options{})
	s := newSite(t, 16, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 16, Rate: scim.Rate{RequestsPerSecond: perSecond, Burst: 1}}})
	ctx, stop := context.WithTimeout(t.Context(), 6*time.Second)
	defer stop()
	var wg sync.WaitGroup
	for range replicas {
		load(ctx, &wg, s.client(s.replica(), "wiki"), 8, read)
	}
	wg.Wait()
	all := target.Requests()
	first := all[0].At.Add(time.Second)
	n := 0
	for _, r := range all {
		if since := r.At.Sub(first); since >= 0 && since < 4*time.Second {
			n++
		}
	}
	// How near they come to it is a figure of bench: here others may use the machine.
	if got := float64(n) / 4; got > perSecond*1.02 || got < perSecond/2 {
		t.Errorf("%d replicas called %.1f times a second, want at most %d", replicas, got, perSecond)
	}
}

func TestBurstIsSharedToo(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{})
	s := newSite(t, 16, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 64, Rate: scim.Rate{RequestsPerSecond: 1, Burst: 20}}})
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var wg sync.WaitGroup
	for range 3 {
		load(ctx, &wg, s.client(s.replica(), "wiki"), 8, read)
	}
	wg.Wait()
	if n := len(target.Requests()); n < 20 || n > 23 {
		t.Errorf("%d calls in two seconds, want a burst of 20 and one a second", n)
	}
}

func TestRetryAfterStopsAllReplicas(t *testing.T) {
	t.Parallel()
	for _, limit := range []float64{0, 400} {
		t.Run(fmt.Sprintf("limit %g", limit), func(t *testing.T) {
			t.Parallel()
			target := scimtest.NewServer(t, scimtest.Options{Latency: 2 * time.Millisecond})
			s := newSite(t, 32, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 16, Rate: scim.Rate{RequestsPerSecond: limit, Burst: 1}}})
			var calls atomic.Int64
			var refused atomic.Pointer[time.Time]
			target.SetFault(func(scimtest.Request) *scimtest.Fault {
				if calls.Add(1) == 300 {
					refused.Store(new(time.Now()))
					return &scimtest.Fault{Status: http.StatusTooManyRequests, RetryAfter: time.Second}
				}
				return nil
			})
			ctx, stop := context.WithTimeout(t.Context(), 6*time.Second)
			defer stop()
			var wg sync.WaitGroup
			for range 4 {
				load(ctx, &wg, s.client(s.replica(), "wiki"), 8, func(ctx context.Context, c *scim.Client) {
					read(ctx, c)
					if at := refused.Load(); at != nil && time.Since(*at) > 1500*time.Millisecond {
						stop()
					}
				})
			}
			wg.Wait()
			at := refused.Load()
			if at == nil {
				t.Fatalf("only %d calls", calls.Load())
			}
			// How soon the last replica stops is a figure of bench: here others may use the
			// machine.
			late := 0
			for _, r := range target.Requests() {
				if since := r.At.Sub(*at); since > 500*time.Millisecond && since < 950*time.Millisecond {
					late++
				}
			}
			if late > 0 {
				t.Errorf("%d calls came more than half a second after the target asked to wait for one", late)
			}
		})
	}
}

// A replica that starts while the target wants to be left alone learns it before it
// calls.
func TestNewReplicaKnowsThatTheTargetAskedToWait(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{})
	s := newSite(t, 16, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 16}})
	target.SetFault(func(scimtest.Request) *scimtest.Fault {
		return &scimtest.Fault{Status: http.StatusServiceUnavailable, RetryAfter: time.Minute}
	})
	_, err := s.client(s.replica(), "wiki").Get(t.Context(), scim.KindUser, "nobody")
	if scim.RetryAfter(err) == 0 {
		t.Fatalf("the target's answer is %v", err)
	}
	closures := bus.OpenBucket[provisioningv1.Closure](s.bus, provisioningv1.BucketTargets)
	for {
		if _, _, err := closures.Get(t.Context(), provisioningv1.ClosureKey("wiki")); err == nil {
			break
		}
	}
	_, err = s.client(s.replica(), "wiki").Get(t.Context(), scim.KindUser, "nobody")
	if !errors.Is(err, scim.ErrWait) || scim.RetryAfter(err) < 50*time.Second {
		t.Errorf("a new replica got %v, want to wait for nearly a minute", err)
	}
	if n := len(target.Requests()); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

func TestClassesHaveTheirOwnRate(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{})
	s := newSite(t, 16, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 4}})
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	var wg sync.WaitGroup
	for range 2 {
		p := s.replica()
		l := newLimiter(p, "wiki", scim.Rate{}, scim.Rates{GroupPatch: scim.Rate{RequestsPerSecond: 5, Burst: 1}})
		l.start()
		t.Cleanup(l.close)
		c, err := scim.New(scim.Config{URL: target.URL(), Limiter: l, Concurrency: 4})
		if err != nil {
			t.Fatal(err)
		}
		load(ctx, &wg, c, 8, func(ctx context.Context, c *scim.Client) {
			_, _ = c.Patch(ctx, scim.KindGroup, "g", []scim.Operation{{Op: scim.OpReplace, Path: "displayName", Value: "x"}})
		})
		load(ctx, &wg, c, 1, func(ctx context.Context, c *scim.Client) {
			read(ctx, c)
			pause(ctx, 5*time.Millisecond)
		})
	}
	wg.Wait()
	counts := map[string]int{}
	for _, r := range target.Requests() {
		counts[r.Method]++
	}
	if n := counts[http.MethodPatch]; n < 11 || n > 16 {
		t.Errorf("%d changes of groups in three seconds, want 5 a second", n)
	}
	if n := counts[http.MethodGet]; n < 2*16 { // a thousand where the machine is free
		t.Errorf("%d reads: they waited for the changes of groups", n)
	}
}

func TestLaneAdvances(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	at := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
	cases := []struct {
		name        string
		state       *provisioningv1.Lane
		rate        scim.Rate
		wanted      int
		next        time.Duration
		first, last time.Duration
		places      int
	}{
		{"nothing before, one call", &provisioningv1.Lane{}, scim.Rate{RequestsPerSecond: 10, Burst: 1}, 1, 100 * time.Millisecond, 0, 0, 1},
		{"a burst comes at once", &provisioningv1.Lane{}, scim.Rate{RequestsPerSecond: 100, Burst: 6}, 6, 10 * time.Millisecond, -50 * time.Millisecond, 0, 6},
		{"never more than 100 ms worth", &provisioningv1.Lane{}, scim.Rate{RequestsPerSecond: 100, Burst: 1}, 50, 100 * time.Millisecond, 0, 90 * time.Millisecond, 10},
		{"behind what others took", &provisioningv1.Lane{Next: at(time.Second)}, scim.Rate{RequestsPerSecond: 100, Burst: 1}, 2, 1020 * time.Millisecond, time.Second, 1010 * time.Millisecond, 2},
		{"time that was not used does not add up", &provisioningv1.Lane{Next: at(-time.Hour)}, scim.Rate{RequestsPerSecond: 10, Burst: 2}, 1, 0, -100 * time.Millisecond, -100 * time.Millisecond, 1},
		{"half the rate after a 429", &provisioningv1.Lane{Factor: 0.5, Changed: at(0)}, scim.Rate{RequestsPerSecond: 10, Burst: 1}, 1, 200 * time.Millisecond, 0, 0, 1},
		{"and more of it later", &provisioningv1.Lane{Factor: 0.5, Changed: at(-30 * time.Second)}, scim.Rate{RequestsPerSecond: 10, Burst: 1}, 1, 125 * time.Millisecond, 0, 0, 1},
		{"and all of it in the end", &provisioningv1.Lane{Factor: 0.5, Changed: at(-time.Hour)}, scim.Rate{RequestsPerSecond: 10, Burst: 1}, 1, 100 * time.Millisecond, 0, 0, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			state, places := advance(c.state, c.rate, now, c.wanted)
			if got := time.Unix(0, state.GetNext()).Sub(now); got != c.next {
				t.Errorf("next in %s, want %s", got, c.next)
			}
			if len(places) != c.places {
				t.Fatalf("%d places, want %d", len(places), c.places)
			}
			if first, last := places[0].Sub(now), places[len(places)-1].Sub(now); first != c.first || last != c.last {
				t.Errorf("places from %s to %s, want %s to %s", first, last, c.first, c.last)
			}
		})
	}
}

func TestTooManyCallsTakeFromTheRateOnceAndForAll(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{})
	s := newSite(t, 16, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 16, Rate: scim.Rate{RequestsPerSecond: 50, Burst: 10}}})
	target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Seq > 2 {
			return nil
		}
		return &scimtest.Fault{Status: http.StatusTooManyRequests, Delay: 100 * time.Millisecond}
	})
	var wg sync.WaitGroup
	for range 2 {
		c := s.client(s.replica(), "wiki")
		wg.Go(func() { read(t.Context(), c) })
	}
	wg.Wait()
	lanes := bus.OpenBucket[provisioningv1.Lane](s.bus, provisioningv1.BucketTargets)
	for {
		state, _, err := lanes.Get(t.Context(), provisioningv1.LaneKey("wiki", "all"))
		if err != nil {
			t.Fatal(err)
		}
		if state.GetFactor() == 0 {
			continue
		}
		if f := state.GetFactor(); f != slowdown {
			t.Errorf("the rate was multiplied by %g, want %g: calls that are refused together count once", f, slowdown)
		}
		return
	}
}
