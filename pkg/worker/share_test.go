package worker

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func TestPartOfThePlaces(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		total  int
		busy   bool
		others map[string]bool
		want   int
	}{
		{"alone and idle", 16, false, nil, 16},
		{"alone and busy", 16, true, nil, 16},
		{"busy beside an idle one", 16, true, map[string]bool{"a": false}, 15},
		{"idle beside an idle one", 16, false, map[string]bool{"a": false}, 1},
		{"idle beside a busy one", 16, false, map[string]bool{"a": true}, 1},
		{"the first of three busy ones", 64, true, map[string]bool{"x": true, "y": true}, 22},
		{"the last of three busy ones", 64, true, map[string]bool{"a": true, "b": true}, 21},
		{"more replicas than places", 2, true, map[string]bool{"a": true, "b": true, "c": false}, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &share{owner: "m", total: c.total, busy: c.busy, others: c.others}
			if got := s.part(); got != c.want {
				t.Errorf("%d places, want %d", got, c.want)
			}
		})
	}
}

func TestRoomFollowsThePlaces(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		known  bool
		size   int
		others map[string]bool
		want   int
	}{
		{"before anybody is known", false, 1, nil, fewestPlaces},
		{"alone", true, 1, nil, 64 * slotFactor},
		{"one of four", true, 16, map[string]bool{"a": true, "b": true, "c": true}, 16 * slotFactor},
		{"one of many", true, 1, map[string]bool{"a": true, "b": false}, fewestPlaces},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &share{total: 64, known: c.known, size: c.size, others: c.others}
			if got := s.room(); got != c.want {
				t.Errorf("room for %d, want %d", got, c.want)
			}
		})
	}
}

// inFlight counts the calls that a target has at the same time.
type inFlight struct{ now, most atomic.Int64 }

func (f *inFlight) reset() { f.most.Store(f.now.Load()) }

// hold makes every call of a target take a while, and counts them.
func (f *inFlight) hold(target *scimtest.Server, d time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := f.now.Add(1)
		defer f.now.Add(-1)
		for {
			most := f.most.Load()
			if n <= most || f.most.CompareAndSwap(most, n) {
				break
			}
		}
		<-time.After(d)
		target.ServeHTTP(w, r)
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never comes to be that %s", what)
		}
	}
}

func TestReplicasShareTheConcurrencyOfATarget(t *testing.T) {
	t.Parallel()
	const places = 12
	var calls inFlight
	target := scimtest.New(scimtest.Options{})
	if err := target.Serve("127.0.0.1:0", calls.hold(target, 20*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	s := newSite(t, 100, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: places}})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var replicas []*Process
	parts := func() (all []int) {
		for _, p := range replicas {
			share := p.targets["wiki"].share
			share.mu.Lock()
			all = append(all, share.size)
			share.mu.Unlock()
		}
		return all
	}
	each := func(want int) func() bool {
		return func() bool {
			for _, n := range parts() {
				if n != want {
					return false
				}
			}
			return true
		}
	}
	join := func() (leave func()) {
		p := s.replica() //nolint:contextcheck // it ends with the test
		replicas = append(replicas, p)
		loadCtx, leave := context.WithCancel(ctx)
		load(loadCtx, &wg, s.client(p, "wiki"), places+2, read) //nolint:contextcheck // it ends with its process
		return leave
	}
	join()
	eventually(t, "one replica has all places", each(places))
	eventually(t, "they are used", func() bool { return calls.most.Load() == places })
	join()
	eventually(t, "two replicas have half of them each", each(places/2))
	leave := join()
	eventually(t, "three replicas have a third each", each(places/3))
	calls.reset()
	eventually(t, "all places are used by three", func() bool { return calls.most.Load() == places })
	<-time.After(200 * time.Millisecond) // more calls than places would show by now
	if n := calls.most.Load(); n > places {
		t.Errorf("%d calls were in flight, want at most %d", n, places)
	}

	// One is killed: what it said of itself dies out.
	leave()
	killed := replicas[2]
	replicas = replicas[:2]
	killed.bus.Close()
	eventually(t, "two replicas have half of them each again", each(places/2))
}

// A replica that has little to do leaves the places to one that has much.
func TestIdleReplicaLeavesItsPlaces(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{Latency: 10 * time.Millisecond})
	s := newSite(t, 100, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 16}})
	idler, worker := s.replica(), s.replica()
	s.client(idler, "wiki")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	load(ctx, &wg, s.client(worker, "wiki"), 20, read)
	size := func(p *Process) int {
		share := p.targets["wiki"].share
		share.mu.Lock()
		defer share.mu.Unlock()
		return share.size
	}
	eventually(t, "the busy one has all but one", func() bool { return size(worker) == 15 && size(idler) == 1 })
	load(ctx, &wg, s.client(idler, "wiki"), 20, read)
	eventually(t, "both have half", func() bool { return size(worker) == 8 && size(idler) == 8 })
}

// A dead target that takes every call and never answers, with ever so much to do,
// does not take another connection's places.
func TestDeadTargetStarvesNobody(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 8} {
		gone := make(chan struct{})
		dead := scimtest.New(scimtest.Options{})
		if err := dead.Serve("127.0.0.1:0", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-gone:
			case <-r.Context().Done():
			}
		})); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(dead.Close)
		t.Cleanup(func() { close(gone) })
		live := scimtest.NewServer(t, scimtest.Options{})
		s := newSite(t, concurrency, map[string]connection.Target{
			"dead": {URL: dead.URL(), Concurrency: 64}, "live": {URL: live.URL(), Concurrency: 64},
		})
		p := s.replica()
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		load(ctx, &wg, s.client(p, "dead"), 64, read)
		eventually(t, "the dead target has all that it can get", func() bool {
			p.pool.mu.Lock()
			defer p.pool.mu.Unlock()
			return p.pool.used["dead"] == p.pool.part+p.pool.rest
		})
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		for range 20 {
			if _, err := s.client(p, "live").Get(call, scim.KindUser, "nobody"); !scim.IsNotFound(err) {
				t.Errorf("workers.concurrency %d: the live target is not reached: %v", concurrency, err)
				break
			}
		}
		cancel()
		stop()
		wg.Wait()
	}
}

func TestPoolBoundsAProcess(t *testing.T) {
	t.Parallel()
	p := newPool(10, 2) // 2 for each of them, 6 for all
	ctx := t.Context()
	tired, cancel := context.WithCancel(ctx)
	cancel()
	take := func(name string, want int) []func() {
		t.Helper()
		var all []func()
		for {
			leave, err := p.acquire(tired, name)
			if err != nil {
				break
			}
			all = append(all, leave)
		}
		if len(all) != want {
			t.Fatalf("%s got %d places, want %d", name, len(all), want)
		}
		return all
	}
	a := take("a", 8)
	b := take("b", 2)
	a[0]()
	b = append(b, take("b", 1)...)
	for _, leave := range append(a[1:], b...) {
		leave()
	}
	take("b", 8)
	if p.spent != 6 || len(p.queue) != 0 {
		t.Errorf("%d of the rest are given away and %d wait", p.spent, len(p.queue))
	}
}
