// Package chaos tries to break what Rollcall promises, by kill -9: no change is
// lost, no entry has two resources, nothing that is not ours is touched, the newest
// state wins, and what is unchanged costs nothing. The directory is a real OpenLDAP,
// the target the strict SCIM server, the services are their own binaries.
//
// The binaries are built with `-tags failpoint` and so can be killed at an exact
// step; what others wait for after a crash is shrunk by -scale (see pkg/failpoint).
// Every test is random, prints its seed and runs again with it:
//
//	CHAOS_SEED=42 go test ./test/chaos -run TestKillDuringFirstSync -v
//
// They are short: each victim once at each moment of a creation, before or after the
// first occurrence of each step and at some other points, 3,000 events. `make kills`
// does the long form, and with production's waits and every point it is
//
//	go test ./test/chaos -timeout 6h -scale 1 -runs 100 -points 0 -events 100000
package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random choices; 0: CHAOS_SEED, or a new one")
	scaleFlag = flag.Float64("scale", 0.1, "factor of what others wait for after a crash")
	runsFlag  = flag.Int("runs", everyKill, "kills during a first synchronization")
	firstFlag = flag.Int("first", 1, "occurrences of each fail point that are tried")
	bothFlag  = flag.Bool("both", false, "kill before and after each of them, instead of at one of the two")
	sample    = flag.Int("points", 10, "fail points beyond those; 0: all")
	events    = flag.Int("events", 3000, "random events")
)

// sideBySide is how many runs share the processors: each mostly waits for a claim
// or a lease of the process that was killed.
const sideBySide = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", sideBySide); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if programs != "" {
		_ = os.RemoveAll(programs)
	}
	os.Exit(code)
}

// random is a test's own source of choices, with the seed that repeats it.
func random(t *testing.T) (r *rand.Rand, seed uint64) {
	t.Helper()
	seed = *seedFlag
	if text := os.Getenv("CHAOS_SEED"); seed == 0 && text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("CHAOS_SEED: %v", err)
		}
	}
	if seed == 0 {
		seed = rand.Uint64() >> 32
	}
	t.Logf("seed %d: again with CHAOS_SEED=%d", seed, seed)
	return rand.New(rand.NewPCG(seed, 0)), seed
}

// patience bounds every wait for other processes.
func patience() time.Duration {
	return 40*time.Second + time.Duration(*scaleFlag*float64(3*time.Minute))
}

const poll = 25 * time.Millisecond

// until looks at other processes again and again until there is nothing to object
// to; the last objection is the error. The look is to be cheap: the targets, of which
// many are looked at side by side, share the processors with it.
func until(ctx context.Context, look func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience())
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := look(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}
