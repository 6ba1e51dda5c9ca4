package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

const pausable = "users-wiki-0"

// consumeEach consumes until the test ends and tells what comes.
func consumeEach(t *testing.T, b *bus.Bus, stream, consumer string, handle bus.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Consume(ctx, stream, consumer, bus.ConsumeOptions{Connection: "wiki", Concurrency: 4}, handle)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("consume: %v", err)
		}
	})
}

func comes(t *testing.T, delivered <-chan time.Time) time.Time {
	t.Helper()
	select {
	case at := <-delivered:
		return at
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is delivered")
		return time.Time{}
	}
}

func TestPausedConsumerDeliversNothingUntilItIsResumed(t *testing.T) {
	t.Parallel()
	for name, born := range map[string]bool{"born paused": true, "paused later": false} {
		onBothAs(t, name, func(t *testing.T, b *bus.Bus) {
			t.Helper()
			spec := bus.ConsumerSpec{Stream: directoryv1.StreamUsers, Name: pausable, Filter: directoryv1.EntryFilter(users, "corp"), Window: 10, Paused: born}
			if err := b.EnsureConsumer(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			delivered := make(chan time.Time, 10)
			consumeEach(t, b, spec.Stream, spec.Name, func(context.Context, *bus.Delivery) error {
				delivered <- time.Now()
				return nil
			})
			if !born {
				if err := b.PauseConsumer(t.Context(), spec.Stream, spec.Name); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte("a")}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-delivered:
				t.Fatal("a paused consumer delivers")
			case <-time.After(300 * time.Millisecond):
			}
			spec.Paused = false // an update of the consumer lifts no pause
			if err := b.EnsureConsumer(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			if g, err := b.Backlog(t.Context(), spec.Stream, spec.Name); err != nil || !g.Paused {
				t.Fatalf("backlog %+v, %v; want a paused consumer", g, err)
			}
			resumed := time.Now()
			if err := b.ResumeConsumer(t.Context(), spec.Stream, spec.Name); err != nil {
				t.Fatal(err)
			}
			if late := comes(t, delivered).Sub(resumed); late > time.Second {
				t.Errorf("delivered %s after the resume", late)
			}
		})
	}
}

func TestWhatIsHandedBackDuringAPauseComesAtTheResume(t *testing.T) {
	onBoth(t, testWhatIsHandedBackDuringAPauseComesAtTheResume)
}

func testWhatIsHandedBackDuringAPauseComesAtTheResume(t *testing.T, b *bus.Bus) {
	t.Helper()
	spec := bus.ConsumerSpec{Stream: directoryv1.StreamUsers, Name: pausable, Filter: directoryv1.EntryFilter(users, "corp"), Window: 10}
	if err := b.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	delivered := make(chan time.Time, 100)
	consumeEach(t, b, spec.Stream, spec.Name, func(ctx context.Context, d *bus.Delivery) error {
		delivered <- time.Now()
		if d.Attempt > 1 {
			return nil
		}
		if err := b.PauseConsumer(ctx, spec.Stream, spec.Name); err != nil {
			t.Error(err)
		}
		return bus.Later(50*time.Millisecond, errors.New("the target is down"))
	})
	if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	comes(t, delivered)
	select {
	case <-delivered:
		t.Fatal("a paused consumer delivers again")
	case <-time.After(300 * time.Millisecond):
	}
	resumed := time.Now()
	if err := b.ResumeConsumer(t.Context(), spec.Stream, spec.Name); err != nil {
		t.Fatal(err)
	}
	if late := comes(t, delivered).Sub(resumed); late > time.Second {
		t.Errorf("delivered again %s after the resume", late)
	}
}

func TestLongDelaysTakeNoPlaceInTheWindow(t *testing.T) {
	onBoth(t, testLongDelaysTakeNoPlaceInTheWindow)
}

func testLongDelaysTakeNoPlaceInTheWindow(t *testing.T, b *bus.Bus) {
	t.Helper()
	spec := bus.ConsumerSpec{Stream: directoryv1.StreamUsers, Name: pausable, Filter: directoryv1.EntryFilter(users, "corp"), Window: 2}
	if err := b.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	delivered := make(chan time.Time, 100)
	consumeEach(t, b, spec.Stream, spec.Name, func(context.Context, *bus.Delivery) error {
		delivered <- time.Now()
		return bus.Later(time.Minute, errors.New("fails for long"))
	})
	for n := range 6 {
		if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(n), Data: []byte("a")}); err != nil {
			t.Fatal(err)
		}
	}
	for range 6 {
		comes(t, delivered)
	}
}

func TestPauseOfAConsumerThatIsNotThere(t *testing.T) { onBoth(t, testPauseOfAConsumerThatIsNotThere) }

func testPauseOfAConsumerThatIsNotThere(t *testing.T, b *bus.Bus) {
	t.Helper()
	for name, act := range map[string]func(context.Context, string, string) error{"pause": b.PauseConsumer, "resume": b.ResumeConsumer} {
		if err := act(t.Context(), directoryv1.StreamUsers, "nobody"); !errors.Is(err, bus.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
}
