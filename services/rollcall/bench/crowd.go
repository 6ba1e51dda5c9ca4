package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// crowd is the figure of pushing many users, at a target that takes its time and at one
// that takes none: the fastest of some runs, beside the fastest of the baseline.
func (b *bench) crowd(ctx context.Context) (err error) {
	s := shape{users: b.opts.crowd, groups: max(minGroups, b.opts.crowd/50)}
	directory, err := b.directory(ctx, "crowd", s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	for _, at := range []struct {
		latency time.Duration
		least   float64
	}{{targetLatency, 0.7}, {0, 0.2}} {
		latency, least := at.latency, at.least
		took, bare := math.Inf(1), math.Inf(1)
		for n := range b.opts.runs {
			b.say("first sync of %s at %s: run %d of %d", s, latency, n+1, b.opts.runs)
			one, err := b.syncOnce(ctx, filepath.Join(b.scratch, "crowd", latency.String(), strconv.Itoa(n)), directory, s, latency, "")
			if err != nil {
				return err
			}
			took, bare = min(took, one.took), min(bare, one.bare)
		}
		b.report.ratio(figure{
			Name: fmt.Sprintf("%s at %s: first request to last", s, latency), Value: took, Unit: "s",
			Baseline: &baseline{"bare", bare}, Ratio: bare / took,
		}, least)
	}
	return nil
}

// telemetry is the figure of what traces cost: a first sync with the usual share of
// them exported, beside one without any.
func (b *bench) telemetry(ctx context.Context) (err error) {
	s := shape{users: b.opts.crowd, groups: max(minGroups, b.opts.crowd/50)}
	directory, err := b.directory(ctx, "telemetry", s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer sink.Close()
	best := map[bool]float64{false: math.Inf(1), true: math.Inf(1)}
	for n := range 2 * b.opts.runs { // in turn, so that the machine's moods hit both
		on, more := n%2 == 1, ""
		if on {
			more = fmt.Sprintf(", otlp_endpoint: %q", sink.URL)
		}
		b.say("first sync of %s, telemetry %t", s, on)
		one, err := b.syncOnce(ctx, filepath.Join(b.scratch, "telemetry", "run"+strconv.Itoa(n)), directory, s, targetLatency, more)
		if err != nil {
			return err
		}
		best[on] = min(best[on], one.took)
	}
	b.report.ratio(figure{
		Name: fmt.Sprintf("%s with telemetry at the default sampling", s), Value: best[true], Unit: "s",
		Baseline: &baseline{"off", best[false]}, Ratio: best[false] / best[true],
	}, 0.95)
	return nil
}

const (
	throttleEvery = 50
	memberCap     = 100
	// smallBody bounds the body of a request that removes one member.
	smallBody = 300
)

// calls is the figure of what is sent: nothing where nothing changed, one request for
// one member, and little more where the target refuses some.
func (b *bench) calls(ctx context.Context) (err error) {
	s := b.opts.small
	directory, err := b.directory(ctx, "calls", s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()

	dir := filepath.Join(b.scratch, "calls")
	t, err := b.startTarget(ctx, dir, 0, "-throttle-every", strconv.Itoa(throttleEvery), "-max-members", strconv.Itoa(memberCap))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	how := setting{mode: "syncrepl", target: t.url, concurrency: inFlight, data: filepath.Join(dir, "data")}
	b.say("first sync of %s, each request of %d refused, %d members in a request", s, throttleEvery, memberCap)
	one, err := b.sync(ctx, dir, directory, t, s, how, nil)
	if err != nil {
		return err
	}
	b.report.atMost(figure{Name: fmt.Sprintf("%s, every %dth write refused", s, throttleEvery), Value: float64(one.requests), Unit: "requests"},
		1.05*float64(s.users+s.groups+spareRequests))

	before, err := t.requests(ctx, 0)
	if err != nil {
		return err
	}
	newest := before[len(before)-1].Seq
	b.say("a start without a change, and one member who leaves")
	return b.again(ctx, dir, func(cfg *connection.Config, rollcall *child) error {
		same, err := t.requests(ctx, newest)
		if err != nil {
			return err
		}
		b.report.atMost(figure{Name: "a start without a change", Value: float64(len(same)), Unit: "requests"}, 0)
		first := s.groupsFor(0)[0]
		ldif := fmt.Sprintf("dn: cn=g%04d,ou=groups,%s\nchangetype: modify\ndelete: member\nmember: %s\n", first, suffix, userDN(0))
		if err := directory.Apply(ctx, ldif); err != nil {
			return fmt.Errorf("take a member out: %w", err)
		}
		err = until(ctx, look, func() (bool, error) {
			same, err = t.requests(ctx, newest)
			return len(same) > 0, errors.Join(err, rollcall.alive())
		})
		if err != nil {
			return err
		}
		if err := idle(ctx, cfg, rollcall); err != nil {
			return err
		}
		if same, err = t.requests(ctx, newest); err != nil {
			return err
		}
		b.report.atMost(figure{Name: "one member removed", Value: float64(len(same)), Unit: "requests"}, 1)
		b.report.atMost(figure{Name: "one member removed: body", Value: float64(len(same[0].Body)), Unit: "bytes"}, smallBody)
		return nil
	})
}

// again runs rollcall once more on what it knows, until it has nothing to do, and then
// does something.
func (b *bench) again(ctx context.Context, dir string, then func(*connection.Config, *child) error) (err error) {
	file := filepath.Join(dir, "rollcall.yaml")
	cfg, err := connection.Load(file)
	if err != nil {
		return fmt.Errorf("load the configuration: %w", err)
	}
	rollcall, err := start(filepath.Join(dir, "again.log"), b.program("rollcall"), "run", "--config", file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rollcall.stop()) }()
	if err := idle(ctx, cfg, rollcall); err != nil {
		return err
	}
	return then(cfg, rollcall)
}

// idle waits until a directory was read and no worker has had anything to do for a
// while.
func idle(ctx context.Context, cfg *connection.Config, rollcall *child) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	since := time.Now()
	return until(ctx, look, func() (bool, error) {
		if err := rollcall.alive(); err != nil {
			return false, err
		}
		left, err := backlog(ctx, cfg)
		if err != nil || left > 0 {
			since = time.Now() // it may not listen yet
			return false, nil  //nolint:nilerr // it does in a moment
		}
		return time.Since(since) > 3*quiet, nil
	})
}
