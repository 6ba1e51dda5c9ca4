package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/service"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

// detectorCommand runs the change-detector alone, in a process of its own whose
// memory is measured, against the NATS that this program runs.
const detectorCommand = "detector"

func runDetector(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(detectorCommand, flag.ContinueOnError)
	file := flags.String("config", "", "configuration file")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	cfg, err := connection.Load(*file)
	if err != nil {
		return fmt.Errorf("load the configuration: %w", err)
	}
	return service.Run(ctx, "change-detector", cfg, func(ctx context.Context, env *service.Env) error {
		b, err := allinone.Attach(ctx, env.Config)
		if err != nil {
			return err
		}
		defer b.Close()
		return detector.Run(ctx, env.Config, b, env.Log)
	})
}

// passage is one full pass by a detector that was just started.
type passage struct {
	status.Pass
	what      string
	bare      float64 // seconds of a bare read just before
	start     float64 // seconds from the start of the process to the end of the pass
	now, peak float64 // resident memory, bytes
}

// fullPass is the figure of size: one big directory, read whole.
//
//  1. a directory, and NATS in this process
//  2. a detector with an empty stream: reads, compares, publishes everything
//  3. a detector started again: nothing has changed, and nothing is published
func (b *bench) fullPass(ctx context.Context) (err error) {
	dir, s := filepath.Join(b.scratch, "full-pass"), b.opts.large
	b.say("full pass: loading %s", s)
	directory, err := b.directory(ctx, "full-pass", s) // 1
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	data := filepath.Join(dir, "data")
	file, cfg, err := writeConfig(dir, directory, setting{mode: "snapshot", target: "http://127.0.0.1:9/scim/v2", concurrency: inFlight, data: data})
	if err != nil {
		return err
	}
	events, stop, err := startBus(ctx, data, cfg)
	if err != nil {
		return err
	}
	defer stop()
	var passes []passage
	for _, what := range []string{"first, publishes all", "nothing changed"} { // 2, 3
		b.say("full pass: %s", what)
		p, err := b.pass(ctx, dir, file, cfg, events, func(context.Context) error { return nil })
		if err != nil {
			return fmt.Errorf("full pass: %w", err)
		}
		p.what = what
		passes = append(passes, p)
	}
	b.reportPass(s, passes[0], passes[1])
	return nil
}

// startBus runs NATS in this process until stop is called, and sets it up.
func startBus(ctx context.Context, data string, cfg *connection.Config) (events *bus.Bus, stop func(), err error) {
	nats, err := embedded.Start(embedded.Config{DataDir: data, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, fmt.Errorf("start NATS: %w", err)
	}
	if events, err = allinone.Attach(ctx, cfg); err != nil {
		nats.Close()
		return nil, nil, fmt.Errorf("attach to NATS: %w", err)
	}
	stop = func() {
		events.Close()
		nats.Close()
	}
	if err := events.Setup(ctx); err != nil {
		stop()
		return nil, nil, fmt.Errorf("set NATS up: %w", err)
	}
	return events, stop, nil
}

const mebibyte = 1 << 20

// Limits of a full pass.
const (
	// passTimes is how many times of a bare read it may take where nothing changed.
	passTimes = 1.3
	// smallDirectory is how many users 250 MiB must be enough for; 2 GiB must be for
	// ten times as many.
	smallDirectory = 100_000
	smallMemory    = 250
	largeMemory    = 2048
)

// passMemory is how much memory a full pass may take, in MiB.
func passMemory(users int) float64 {
	if users <= smallDirectory {
		return smallMemory
	}
	return smallMemory + (largeMemory-smallMemory)*float64(users-smallDirectory)/(9*smallDirectory)
}

func (b *bench) reportPass(s shape, first, second passage) {
	b.report.add(figure{Name: "full pass of " + s.String(), Value: float64(first.Entries), Unit: "entries"})
	for _, p := range []passage{first, second} {
		seconds, limit := float64(p.TookMillis)/1000, 0.0
		if p.Published == 0 {
			limit = 1 / passTimes // what publishing takes is NATS's time
		}
		b.report.ratio(figure{
			Name: "full pass: " + p.what, Value: seconds, Unit: "s",
			Baseline: &baseline{"bare read", p.bare}, Ratio: p.bare / seconds,
		}, limit)
		b.report.add(figure{Name: "full pass: " + p.what + ": from the start of the process", Value: p.start, Unit: "s"})
		if p.peak == 0 {
			continue // this system does not say
		}
		b.report.atMost(figure{Name: "full pass: " + p.what + ": resident memory, peak", Value: p.peak / mebibyte, Unit: "MiB"}, passMemory(s.users))
		b.report.add(figure{Name: "full pass: " + p.what + ": resident memory, after it", Value: p.now / mebibyte, Unit: "MiB"})
	}
	b.report.atMost(figure{Name: "full pass: changes missing from the first", Value: float64(s.users + s.groups - first.Published), Unit: "changes"}, 0)
	b.report.atMost(figure{Name: "full pass: published though nothing changed", Value: float64(second.Published), Unit: "changes"}, 0)
}

// pass starts a detector, waits for its first full pass, does what comes then, and
// ends it. A bare read before it warms the directory's caches and another one is its
// baseline.
func (b *bench) pass(ctx context.Context, dir, file string, cfg *connection.Config, events *bus.Bus, then func(context.Context) error) (p passage, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience*time.Duration(1+b.opts.large.users/smallDirectory), errPatience)
	defer cancel()
	for range 2 {
		if p.bare, err = bareRead(ctx, cfg); err != nil {
			return p, err
		}
	}
	c, err := start(filepath.Join(dir, "detector.log"), b.self, detectorCommand, "-config", file)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	err = until(ctx, look/4, func() (bool, error) {
		last, err := status.LastPass(ctx, events, sourceName)
		if errors.Is(err, bus.ErrNotFound) || (err == nil && last.At.Before(c.started)) {
			return false, c.alive()
		}
		p.Pass = last
		return true, err
	})
	if err != nil {
		return p, err
	}
	p.start = p.At.Sub(c.started).Seconds()
	p.now, p.peak = c.memory()
	return p, then(ctx)
}

// bareRead reads the source as the detector does and throws everything away.
func bareRead(ctx context.Context, cfg *connection.Config) (seconds float64, err error) {
	source, err := openSource(cfg)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sink := &discard{complete: cancel}
	if err := source.Watch(ctx, sink); !errors.Is(err, context.Canceled) {
		return 0, fmt.Errorf("read the directory: %w", err)
	}
	return sink.took.Seconds(), nil
}

// discard is a consumer of the directory that reads it once.
type discard struct {
	began    time.Time
	took     time.Duration
	complete func()
}

var _ ldapsource.Sink = (*discard)(nil)

// Begin starts the clock.
func (d *discard) Begin() { d.began = time.Now() }

// Put does nothing.
func (d *discard) Put(*ldapsource.Entry) {}

// Gone does nothing.
func (d *discard) Gone(ldapsource.ID) {}

// Link does nothing.
func (d *discard) Link(ldapsource.ID, []string, []string) {}

// Complete stops the clock, and the session.
func (d *discard) Complete(ldapsource.Proof) {
	d.took = time.Since(d.began)
	d.complete()
}

// Settled does nothing.
func (d *discard) Settled(context.Context) error { return nil }

// Wake never does.
func (d *discard) Wake() <-chan struct{} { return nil }
