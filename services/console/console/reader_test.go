package console

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/status"
)

// However many people look on, NATS is asked once in a while, and longer breaks
// follow longer readings.
func TestManyWhoAskAreOneReading(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		took, fresh time.Duration
	}{
		{0, freshFor},
		{time.Second, restFactor * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			readings := 0
			r := newReader(func(context.Context) (*status.Status, error) {
				readings++
				time.Sleep(test.took) //nolint:forbidigo // of the bubble: what a reading takes
				return &status.Status{}, nil
			})
			ask := func(n int) {
				var all sync.WaitGroup
				for range n {
					all.Go(func() {
						if _, err := r.get(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
			}
			ask(100)
			time.Sleep(test.fresh - time.Millisecond) //nolint:forbidigo // of the bubble
			ask(100)
			if readings != 1 {
				t.Errorf("%d readings within %s, want 1", readings, test.fresh)
			}
			time.Sleep(time.Millisecond) //nolint:forbidigo // of the bubble
			ask(100)
			if readings != 2 {
				t.Errorf("%d readings after %s, want 2", readings, test.fresh)
			}
		})
	}
}

// Who goes away neither waits nor spoils the reading of the others.
func TestWhoGoesAwaySpoilsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReader(func(ctx context.Context) (*status.Status, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Minute / 4):
				return &status.Status{}, nil
			}
		})
		gone, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := r.get(gone); err != nil {
				t.Errorf("the reading that goes on: %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := r.get(gone); !errors.Is(err, context.Canceled) {
				t.Errorf("who waits and goes away: %v", err)
			}
		})
		all.Go(func() {
			if _, err := r.get(t.Context()); err != nil {
				t.Errorf("who stays: %v", err)
			}
		})
		synctest.Wait()
		leave()
		all.Wait()
	})
}
