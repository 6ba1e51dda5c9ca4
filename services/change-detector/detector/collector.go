package detector

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	// liveMetric is what the last collection found alive, in bytes.
	liveMetric = "/gc/heap/live:bytes"
	// smallHeap is up to what size the heap may grow before anything is collected.
	smallHeap = 212 << 20
	// spare is how many times what is alive the heap may grow to, beyond that.
	spare = 1.75
	// sparePercent is the collector's own limit; heapLimit is nearly always below it.
	sparePercent  = 400
	pacedEach     = 100 * time.Millisecond
	usualPercent  = 100
	usualMemLimit = math.MaxInt64
)

// heapLimit is how much memory the process should use while so much is alive.
//
// A full read leaves some gigabytes of garbage, all of it short-lived, beside a
// mirror that only grows. The collector's usual pace (twice what is alive) collects
// without need while the mirror is small, and what is read during a collection
// counts as alive, so that the heap overshoots when it is large.
func heapLimit(live uint64) int64 { return int64(max(smallHeap, spare*float64(live))) }

// paceCollector keeps the limit in step with what is alive until ctx ends. Who sets
// GOGC or GOMEMLIMIT knows better.
func paceCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(sparePercent)
	defer func() {
		debug.SetGCPercent(usualPercent)
		debug.SetMemoryLimit(usualMemLimit)
	}()
	sample := []runtimemetrics.Sample{{Name: liveMetric}}
	tick := time.NewTicker(pacedEach)
	defer tick.Stop()
	for last := int64(0); ; {
		runtimemetrics.Read(sample)
		if limit := heapLimit(sample[0].Value.Uint64()); limit != last {
			debug.SetMemoryLimit(limit)
			last = limit
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
