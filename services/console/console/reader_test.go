package console

import (
	"context"
	"errors"
	"log/slog"
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
		err         error
	}{
		{0, freshFor, nil},
		{time.Second, restFactor * time.Second, nil},
		{time.Minute / 4, maxRest, nil},
		{time.Minute / 4, freshFor, errSlow}, // what may be over is not kept
	} {
		synctest.Test(t, func(t *testing.T) {
			readings := 0
			r := newReader(func() (*status.Status, error) {
				readings++
				time.Sleep(test.took) //nolint:forbidigo // of the bubble: what a reading takes
				return &status.Status{}, test.err
			})
			ask := func(n int) {
				var all sync.WaitGroup
				for range n {
					all.Go(func() {
						if _, err := r.get(t.Context()); !errors.Is(err, test.err) {
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

// A directory that is lost is shown within five seconds, also where a reading of all
// links takes long and is kept for a minute.
func TestSourcesAreReadSoonerThanLinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		readings := 0
		r := newReader(func() (*status.Status, error) {
			readings++
			time.Sleep(time.Minute / 4) //nolint:forbidigo // of the bubble: what a reading takes
			return &status.Status{Sources: []status.Source{{Name: "corp"}}}, nil
		})
		r.sources = func() ([]status.Source, error) {
			return []status.Source{{Name: "corp", Outage: &status.Outage{Reason: status.OutageUnreachable}}}, nil
		}
		get := func() *status.Outage {
			t.Helper()
			got, err := r.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return got.Status.Sources[0].Outage
		}
		if o := get(); o != nil {
			t.Fatalf("%+v, want no outage", o)
		}
		time.Sleep(freshFor) //nolint:forbidigo // of the bubble
		if o := get(); o == nil || readings != 1 {
			t.Errorf("outage %+v after %d readings, want one after the first", o, readings)
		}
		r.sources = func() ([]status.Source, error) { return nil, errSlow }
		time.Sleep(freshFor) //nolint:forbidigo // of the bubble
		if o := get(); o == nil {
			t.Error("sources that cannot be read do not stay as they were")
		}
	})
}

// Who goes away neither waits nor spoils the reading of the others.
func TestWhoGoesAwaySpoilsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReader(func() (*status.Status, error) {
			<-time.After(time.Minute / 4)
			return &status.Status{}, nil
		})
		gone, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		ask := func(ctx context.Context, want error) {
			all.Go(func() {
				if _, err := r.get(ctx); !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			})
			synctest.Wait()
		}
		ask(gone, nil) // it reads already
		ask(gone, context.Canceled)
		ask(t.Context(), nil)
		leave()
		all.Wait()
	})
}

// A NATS that does not answer, and the end of the service, end a reading.
func TestReadingsAreBounded(t *testing.T) {
	t.Parallel()
	silent := func(ctx context.Context) (*status.Status, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := bounded(t.Context(), slog.New(slog.DiscardHandler), silent)()
		if took := time.Since(began); !errors.Is(err, errSlow) || took != readTimeout {
			t.Errorf("%v after %s", err, took)
		}
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		began = time.Now()
		_, err = bounded(ctx, slog.New(slog.DiscardHandler), silent)()
		if took := time.Since(began); !errors.Is(err, context.Canceled) || took != time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}
