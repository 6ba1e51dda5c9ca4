package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
	"github.com/rollcall-scim/rollcall/services/rollcall/bench/recording"
)

const (
	targetLatency = 10 * time.Millisecond
	inFlight      = 32
	// spareRequests is what a first sync may send beside one request for each
	// resource: look-ups and listings.
	spareRequests = 9
)

// synced is one first sync, and the same requests sent by bare.
type synced struct {
	requests          int
	wait, took, begun float64 // seconds: from the start to the first request, to the last from the first, and from the start
	bare              float64
}

// firstSync is the figure of pushing: everything into an empty target.
//
//  1. a directory, once
//  2. a target and `rollcall run`, anew for each run, until all is there
//  3. what the target got, recorded, and sent by bare to a target of its own
//  4. the fastest of the runs
func (b *bench) firstSync(ctx context.Context) (err error) {
	s := b.opts.small
	directory, err := b.directory(ctx, "first-sync", s) // 1
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	var runs []synced
	for n := range b.opts.runs {
		b.say("first sync of %s: run %d of %d", s, n+1, b.opts.runs)
		one, err := b.syncOnce(ctx, filepath.Join(b.scratch, "first-sync", "run"+strconv.Itoa(n)), directory, s, targetLatency, "") // 2, 3
		if err != nil {
			return fmt.Errorf("first sync: %w", err)
		}
		runs = append(runs, one)
	}
	b.reportSync(runs, s) // 4
	return nil
}

// syncOnce is one run at a target of some latency, with more keys of the telemetry.
func (b *bench) syncOnce(
	ctx context.Context, dir string, directory *ldaptest.Server, s shape, latency time.Duration, telemetry string,
) (one synced, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return one, fmt.Errorf("make a directory: %w", err)
	}
	t, err := b.startTarget(ctx, dir, latency)
	if err != nil {
		return one, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	how := setting{mode: "auto", target: t.url, concurrency: inFlight, data: filepath.Join(dir, "data"), telemetry: telemetry}
	if one, err = b.sync(ctx, dir, directory, t, s, how, nil); err != nil {
		return one, err
	}
	recorded, err := record(ctx, t)
	if err != nil {
		return one, err
	}
	one.bare, err = b.bare(ctx, dir, recorded, latency)
	return one, err
}

// sync runs rollcall until the target holds the directory, and then perhaps does
// something more.
func (b *bench) sync(
	ctx context.Context, dir string, directory *ldaptest.Server, t *target, s shape, how setting, then func(cfg *connection.Config, rollcall *child) error,
) (one synced, err error) {
	file, cfg, err := writeConfig(dir, directory, how)
	if err != nil {
		return one, err
	}
	rollcall, err := start(filepath.Join(dir, "rollcall.log"), b.program("rollcall"), "run", "--config", file)
	if err != nil {
		return one, err
	}
	defer func() { err = errors.Join(err, rollcall.stop()) }()
	err = settled(ctx, cfg, rollcall, func() (int, error) {
		c, err := t.counts(ctx)
		return c.Requests, err
	}, func() (bool, error) { return t.holds(ctx, s) })
	if err != nil {
		return one, err
	}
	all, err := t.requests(ctx, 0)
	if err != nil {
		return one, err
	}
	if then != nil {
		if err := then(cfg, rollcall); err != nil {
			return one, err
		}
	}
	first, last := all[0].At, all[0].At
	for _, r := range all {
		if end := r.At.Add(r.Duration); end.After(last) {
			last = end
		}
	}
	return synced{
		requests: len(all), wait: first.Sub(rollcall.started).Seconds(), took: last.Sub(first).Seconds(), begun: last.Sub(rollcall.started).Seconds(),
	}, nil
}

// record takes the writes out of the target's log, with the ids that it gave.
func record(ctx context.Context, t *target) (recording.Recording, error) {
	all, err := t.requests(ctx, 0)
	if err != nil {
		return recording.Recording{}, err
	}
	users, err := t.ids(ctx, scim.KindUser, "userName")
	if err != nil {
		return recording.Recording{}, err
	}
	groups, err := t.ids(ctx, scim.KindGroup, "displayName")
	if err != nil {
		return recording.Recording{}, err
	}
	var writes []recording.Request
	for _, r := range all {
		if !r.Writes() {
			continue
		}
		w := recording.Request{Method: r.Method, Path: r.Path, Body: r.Body}
		if r.Method == http.MethodPost && r.Status == http.StatusCreated {
			var names struct {
				User  string `json:"userName"`
				Group string `json:"displayName"`
			}
			if err := json.Unmarshal([]byte(r.Body), &names); err != nil {
				return recording.Recording{}, fmt.Errorf("read a recorded body: %w", err)
			}
			if w.Creates = users[names.User]; r.Path == "/Groups" {
				w.Creates = groups[names.Group]
			}
		}
		writes = append(writes, w)
	}
	return recording.New(writes), nil
}

// bare sends a recording to a target of its own and returns the seconds.
func (b *bench) bare(ctx context.Context, dir string, recorded recording.Recording, latency time.Duration) (seconds float64, err error) {
	dir = filepath.Join(dir, "bare")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("make a directory: %w", err)
	}
	file := filepath.Join(dir, "recording.json")
	if err := recorded.Save(file); err != nil {
		return 0, err
	}
	t, err := b.startTarget(ctx, dir, latency)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	out, err := exec.CommandContext(ctx, b.program("bare"), //nolint:gosec // our own program
		"-url", t.url, "-token", token, "-concurrency", strconv.Itoa(inFlight), "-recording", file).Output()
	if err != nil {
		return 0, fmt.Errorf("run bare: %w", describe(err))
	}
	var result struct {
		Requests int     `json:"requests"`
		Seconds  float64 `json:"seconds"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, fmt.Errorf("read what bare says: %w", err)
	}
	if result.Requests != recorded.Count() {
		return 0, fmt.Errorf("bare sent %d of %d requests", result.Requests, recorded.Count())
	}
	return result.Seconds, nil
}

// describe adds what a program said before it failed.
func describe(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}

// reportSync counts the fastest run, because everything else on the machine only
// slows one down, with the bare that followed it; of requests it counts the most.
func (b *bench) reportSync(runs []synced, s shape) {
	most := slices.MaxFunc(runs, func(x, y synced) int { return cmp.Compare(x.requests, y.requests) })
	best := slices.MinFunc(runs, func(x, y synced) int { return cmp.Compare(x.took, y.took) })
	b.report.atMost(figure{Name: "first sync of " + s.String(), Value: float64(most.requests), Unit: "requests"},
		float64(s.users+s.groups+spareRequests))
	b.report.ratio(figure{
		Name: "first sync: first request to last", Value: best.took, Unit: "s",
		Baseline: &baseline{"bare", best.bare}, Ratio: best.bare / best.took,
	}, b.opts.minRatio)
	b.report.add(figure{Name: "first sync: start of rollcall to first request", Value: best.wait, Unit: "s"})
	b.report.add(figure{Name: "first sync: start of rollcall to last request", Value: best.begun, Unit: "s"})
}
