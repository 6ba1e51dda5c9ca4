package bus_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

func TestConsumeLetsARunningHandlerFinish(t *testing.T) {
	onBoth(t, testConsumeLetsARunningHandlerFinish)
}

func testConsumeLetsARunningHandlerFinish(t *testing.T, b *bus.Bus) {
	t.Helper()
	spec := bus.ConsumerSpec{Stream: directoryv1.StreamUsers, Name: "users-wiki", Filter: directoryv1.EntryFilter(users, "corp"), Window: 1}
	if err := b.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	started, finish := make(chan struct{}), make(chan struct{})
	var handled error
	var wg sync.WaitGroup
	wg.Go(func() {
		err := b.Consume(ctx, spec.Stream, spec.Name, bus.ConsumeOptions{Concurrency: 1}, func(ctx context.Context, _ *bus.Delivery) error {
			close(started)
			<-finish
			handled = ctx.Err()
			return nil
		})
		if err != nil {
			t.Errorf("consume: %v", err)
		}
	})
	if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	<-started
	stop()
	close(finish)
	wg.Wait()
	if handled != nil {
		t.Errorf("the handler's context ended with the consumption: %v", handled)
	}
	await(t, b, spec, func(g bus.Backlog) bool { return g.Total() == 0 })
}

// A replica that ends hands back what it has fetched and not begun: nobody waits for
// the time after which the server would deliver it again.
func TestConsumeHandsBackWhatItHasNotBegun(t *testing.T) {
	onBoth(t, testConsumeHandsBackWhatItHasNotBegun)
}

func testConsumeHandsBackWhatItHasNotBegun(t *testing.T, b *bus.Bus) {
	t.Helper()
	const messages, window = 100, 100
	spec := backlogOf(t, b, messages, window)
	const concurrency = 32
	ctx, stop := context.WithCancel(t.Context())
	finish := make(chan struct{})
	var mu sync.Mutex
	handled := map[string]int{}
	count := func(d *bus.Delivery) {
		mu.Lock()
		defer mu.Unlock()
		handled[d.Subject]++
	}
	var first sync.WaitGroup
	var begun atomic.Int64
	first.Go(func() {
		err := b.Consume(ctx, spec.Stream, spec.Name, bus.ConsumeOptions{Concurrency: concurrency}, func(_ context.Context, d *bus.Delivery) error {
			begun.Add(1)
			<-finish
			count(d)
			return nil
		})
		if err != nil {
			t.Errorf("consume: %v", err)
		}
	})
	await(t, b, spec, func(g bus.Backlog) bool { return g.InFlight > concurrency && begun.Load() == concurrency }) // more is fetched than begun
	stop()
	stopped := time.Now()

	others, end := context.WithCancel(t.Context())
	var second sync.WaitGroup
	var latest time.Duration
	second.Go(func() {
		err := b.Consume(others, spec.Stream, spec.Name, bus.ConsumeOptions{Concurrency: concurrency}, func(_ context.Context, d *bus.Delivery) error {
			count(d)
			if d.Attempt > 1 {
				mu.Lock()
				defer mu.Unlock()
				latest = max(latest, time.Since(stopped))
			}
			return nil
		})
		if err != nil {
			t.Errorf("consume: %v", err)
		}
	})
	await(t, b, spec, func(g bus.Backlog) bool { return g.Total() == concurrency }) // those that were begun
	close(finish)
	first.Wait()
	await(t, b, spec, func(g bus.Backlog) bool { return g.Total() == 0 })
	end()
	second.Wait()
	if latest == 0 || latest > 2*time.Second {
		t.Errorf("the last message that was handed back came after %v", latest)
	}
	if len(handled) != messages {
		t.Errorf("%d messages were handled, want %d", len(handled), messages)
	}
	for subject, n := range handled {
		if n != 1 {
			t.Errorf("%s was handled %d times", subject, n)
		}
	}
}

// A replica holds no more than it has room for, so that the window is there for one that
// comes later; with more room it takes more.
func TestConsumeLeavesRoomForOthers(t *testing.T) { onBoth(t, testConsumeLeavesRoomForOthers) }

func testConsumeLeavesRoomForOthers(t *testing.T, b *bus.Bus) {
	t.Helper()
	const messages, window, concurrency = 80, 60, 64
	spec := backlogOf(t, b, messages, window)
	var room atomic.Int64
	room.Store(2)
	begun, finished := make(chan int, messages), make(chan struct{})
	finish := sync.OnceFunc(func() { close(finished) })
	ctx, stop := context.WithCancel(t.Context())
	var replicas sync.WaitGroup
	defer replicas.Wait()
	defer stop()
	defer finish()
	replica := func(name int, room func() int) {
		replicas.Go(func() {
			opts := bus.ConsumeOptions{Concurrency: concurrency, Room: room}
			err := b.Consume(ctx, spec.Stream, spec.Name, opts, func(context.Context, *bus.Delivery) error {
				begun <- name
				<-finished
				return nil
			})
			if err != nil {
				t.Errorf("consume: %v", err)
			}
		})
	}
	replica(1, func() int { return int(room.Load()) })
	await(t, b, spec, func(g bus.Backlog) bool { return g.InFlight > 2 }) // some are fetched ahead
	for range 2 {
		if name := <-begun; name != 1 {
			t.Fatalf("replica %d began, which is not there", name)
		}
	}
	replica(2, nil)
	if name := <-begun; name != 2 {
		t.Error("a replica began more than it has room for")
	}
	await(t, b, spec, func(g bus.Backlog) bool { return g.InFlight == window }) // nothing more comes to anybody
	room.Store(concurrency)
	for name := range begun {
		if name == 1 {
			break
		}
	}
	finish()
	await(t, b, spec, func(g bus.Backlog) bool { return g.Total() == 0 })
}

// backlogOf gives a bus so many messages and a consumer that has seen none of them.
func backlogOf(t *testing.T, b *bus.Bus, messages, window int) bus.ConsumerSpec {
	t.Helper()
	spec := bus.ConsumerSpec{Stream: directoryv1.StreamUsers, Name: "users-wiki", Filter: directoryv1.EntryFilter(users, "corp"), Window: window}
	if err := b.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(i), Data: []byte("a")}); err != nil {
			t.Fatal(err)
		}
	}
	return spec
}

// await asks the server until the consumer is as far as wanted; the test's deadline
// bounds it.
func await(t *testing.T, b *bus.Bus, spec bus.ConsumerSpec, reached func(bus.Backlog) bool) {
	t.Helper()
	for {
		backlog, err := b.Backlog(t.Context(), spec.Stream, spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		if reached(backlog) {
			return
		}
	}
}
