package bus_test

import (
	"context"
	"sync"
	"testing"

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
	for { // the server takes the acknowledgement in its own time; the test's deadline bounds this
		backlog, err := b.Backlog(t.Context(), spec.Stream, spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		if backlog.Total() == 0 {
			return
		}
	}
}
