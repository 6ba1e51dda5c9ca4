package simulation

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds    = flag.Int("seeds", 500, "how many seeds are played")
	seed     = flag.Uint64("seed", 0, "play this seed only, and print its history also where nothing fails")
	tries    = flag.Int("tries", 20, "how often the seed of -seed is played, until it fails")
	progress = flag.Bool("progress", false, "say every ten seconds how far it is")
)

// TestMain lets garbage gather: a world is small and soon over.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	m.Run()
}

// mostFailures is how many seeds may fail before no others are played.
const mostFailures = 5

// TestSimulation plays seeds, on all cores. Each that fails is named; the history of the
// first one is printed.
func TestSimulation(t *testing.T) {
	if *seed > 0 {
		again(t)
		return
	}
	var played, failed atomic.Int64
	if *progress {
		defer report(&played)()
	}
	shards := runtime.GOMAXPROCS(0)
	t.Run("seeds", func(t *testing.T) {
		for shard := range shards {
			t.Run(strconv.Itoa(shard), func(t *testing.T) {
				t.Parallel()
				for s := uint64(shard + 1); s <= uint64(*seeds) && failed.Load() < mostFailures; s += uint64(shards) {
					if w := simulate(t, s, nil); len(w.failures) > 0 {
						if failed.Add(1) == 1 {
							t.Error(w.text())
						} else {
							t.Errorf("seed %d: %v", s, w.failures)
						}
					}
					played.Add(1)
				}
			})
		}
	})
	t.Logf("%d seeds were played", played.Load())
}

// again plays one seed until it fails. What a seed chooses is the same each time, but not
// the order in which the Go scheduler runs what happens in the same nanosecond.
func again(t *testing.T) {
	t.Helper()
	for try := 1; ; try++ {
		w := simulate(t, *seed, nil)
		if len(w.failures) > 0 {
			t.Fatalf("try %d: %s", try, w.text())
		}
		if try == *tries {
			t.Log(w.text())
			return
		}
	}
}

// simulate plays a seed in a bubble, in which time passes when nobody has anything to do.
func simulate(t *testing.T, seed uint64, m *mistake) (w *world) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { w = play(context.Background(), seed, m) })
	return w
}

// report prints how far it is, until the function that it returns is called.
func report(played *atomic.Int64) (stop func()) {
	began, ticker, done := time.Now(), time.NewTicker(10*time.Second), make(chan struct{})
	go func() {
		for {
			select {
			case <-ticker.C:
				n := played.Load()
				fmt.Fprintf(os.Stderr, "%d seeds in %s, %.0f per second\n", n, time.Since(began).Round(time.Second), float64(n)/time.Since(began).Seconds())
			case <-done:
				return
			}
		}
	}()
	return func() { ticker.Stop(); close(done) }
}
