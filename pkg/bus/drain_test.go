package bus_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

func TestConsumeLetsARunningHandlerFinish(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
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
	t.Parallel()
	const messages, window = 24, 24
	b := bustest.Start(t)
	spec := bus.ConsumerSpec{Stream: directoryv1.StreamUsers, Name: "users-wiki", Filter: directoryv1.EntryFilter(users, "corp"), Window: window}
	if err := b.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(i), Data: []byte("a")}); err != nil {
			t.Fatal(err)
		}
	}
	const concurrency = 4
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
	first.Go(func() {
		err := b.Consume(ctx, spec.Stream, spec.Name, bus.ConsumeOptions{Concurrency: concurrency}, func(_ context.Context, d *bus.Delivery) error {
			<-finish
			count(d)
			return nil
		})
		if err != nil {
			t.Errorf("consume: %v", err)
		}
	})
	await(t, b, spec, func(g bus.Backlog) bool { return g.InFlight > concurrency }) // more is fetched than begun
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
