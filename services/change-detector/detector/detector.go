// Package detector turns a directory into events: it mirrors a source in memory,
// evaluates scope and membership locally, compares the result with what the
// stream holds, and publishes what differs. Changes are derived from the mirror,
// never from the directory's messages, so that repeated and missing messages are
// harmless.
package detector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

const (
	leaseTTL     = 10 * time.Second
	firstRetry   = 500 * time.Millisecond
	longestRetry = time.Minute
)

// Run detects the changes of every source until ctx ends. Any number of
// detectors may run; one of them holds each source's lease and works.
func Run(ctx context.Context, cfg *connection.Config, b *bus.Bus, log *slog.Logger) error {
	detectors := make([]*detector, 0, len(cfg.Sources))
	for name := range cfg.Sources {
		d, err := newDetector(cfg, name, b, log)
		if err != nil {
			return fmt.Errorf("sources.%s: %w", name, err)
		}
		detectors = append(detectors, d)
	}
	var running sync.WaitGroup
	for _, d := range detectors {
		running.Go(func() { d.run(ctx) })
	}
	running.Wait()
	return nil
}

// directory is a source of entries; *ldapsource.Source is the one.
type directory interface {
	Watch(ctx context.Context, sink ldapsource.Sink) error
	Confirm(ctx context.Context, absent, canaries []ID) ([]*ldapsource.Entry, error)
}

// detector watches one source.
type detector struct {
	name      string
	owner     string
	cfg       *connection.Config
	rules     *rules
	directory directory
	limits    guard.Limits
	bus       *bus.Bus
	metrics   *metrics
	log       *slog.Logger
}

func newDetector(cfg *connection.Config, name string, b *bus.Bus, log *slog.Logger) (*detector, error) {
	source := cfg.Sources[name]
	log = log.With("source", name)
	compiled, err := cfg.Compile()
	if err != nil {
		return nil, fmt.Errorf("compile configuration: %w", err)
	}
	set := cfg.AttributeSet(name)
	rules, err := newRules(source, compiled.Sources[name].Enabled, set, log)
	if err != nil {
		return nil, err
	}
	rules.references = cfg.References(name)
	directory, err := open(cfg, name, log)
	if err != nil {
		return nil, err
	}
	owner, err := worker.OwnerName()
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(name)
	if err != nil {
		return nil, err
	}
	return &detector{
		name: name, owner: owner, cfg: cfg, rules: rules, directory: directory, bus: b, metrics: metrics, log: log,
		limits: guard.Limits{MaxRemovals: source.Guard.MaxRemovals, MaxRemovalPercent: source.Guard.MaxRemovalPercent, Window: source.Guard.Window},
	}, nil
}

// open makes the reader of a source, for the attributes that its connections need.
func open(cfg *connection.Config, name string, log *slog.Logger) (*ldapsource.Source, error) {
	source := cfg.Sources[name]
	deps := ldapsource.Deps{Log: log}
	if !source.LDAP.BindPassword.IsZero() {
		deps.Password = func(context.Context) (string, error) { return source.LDAP.BindPassword.Resolve() }
	}
	wanted := append(cfg.AttributeSet(name).Attributes(), source.Groups.Members)
	if source.Users.MemberOf != "" {
		wanted = append(wanted, source.Users.MemberOf)
	}
	if source.Groups.MemberValues == connection.MemberUID {
		wanted = append(wanted, "uid")
	}
	return ldapsource.New(source, wanted, deps)
}

// leaseKey is the key of the source's lease in the sources bucket.
func leaseKey(source string) string { return source + ".lease" }

// run works whenever this detector holds the source's lease.
func (d *detector) run(ctx context.Context) {
	again(ctx, func(worked func()) error {
		return d.bus.WithLease(ctx, provisioningv1.BucketSources, leaseKey(d.name), d.owner, failpoint.Scale(leaseTTL), func(ctx context.Context) error {
			return d.hold(ctx, worked)
		})
	}, func(err error, wait time.Duration) {
		d.log.WarnContext(ctx, "detection interrupted, waiting for the lease", "error", err, "wait", wait.Round(time.Millisecond).String())
	})
}

// again repeats work until ctx ends, and waits longer each time, until work says
// by calling worked that it got somewhere.
func again(ctx context.Context, work func(worked func()) error, notify backoff.Notify) {
	retry := patience()
	for {
		err := work(retry.Reset)
		if ctx.Err() != nil {
			return
		}
		wait := retry.NextBackOff()
		notify(err, wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// patience is how long to wait between tries: ever longer, jittered, for ever.
func patience() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(firstRetry),
		backoff.WithMaxInterval(longestRetry), backoff.WithMaxElapsedTime(0))
}

// hold is the table of contents of a detector that has the lease:
//
//  1. make the configuration of the source's connections current
//  2. store the attribute set, so that workers know what was read
//  3. take the fences, so that a former holder cannot publish any more
//  4. remember what was published: the streams are the memory
//  5. watch the directory: read it whole, prove that, compare, publish; then follow
//  6. when the connection breaks, wait and watch again; the mirror is kept
func (d *detector) hold(ctx context.Context, worked func()) error {
	if err := d.advance(ctx); err != nil { // 1
		return err
	}
	if err := worker.StoreAttributeSet(ctx, d.bus, d.name, d.rules.set); err != nil { // 2
		return fmt.Errorf("store the attribute set: %w", err)
	}
	publisher, err := newPublisher(ctx, d) // 3, 4
	if err != nil {
		return err
	}
	retry := backoff.WithContext(patience(), ctx)
	s := &session{detector: d, mirror: newMirror(d.rules), publisher: publisher, proven: func() { retry.Reset(); worked() }}
	return backoff.RetryNotify(func() error {
		s.mirror.reconnect()
		err := d.directory.Watch(ctx, s) // 5
		if errors.Is(err, bus.ErrFenced) || ctx.Err() != nil {
			return backoff.Permanent(err)
		}
		return err
	}, retry, func(err error, wait time.Duration) { // 6
		d.metrics.sessionFailed(ctx)
		d.log.ErrorContext(ctx, "directory session ended, reading again", "error", err, "wait", wait.Round(time.Millisecond).String())
	})
}

// advance makes the present configuration current for the connections of this
// source.
func (d *detector) advance(ctx context.Context) error {
	for name, c := range d.cfg.Connections {
		if c.Source != d.name {
			continue
		}
		if err := worker.Advance(ctx, d.bus, worker.PlanOf(d.cfg, name)); err != nil {
			return fmt.Errorf("make the configuration of %s current: %w", name, err)
		}
	}
	return nil
}

// firstPassDone tells the connections of this source that a full pass is published:
// their first run ends when they have reached it.
func (d *detector) firstPassDone(ctx context.Context) error {
	for name, c := range d.cfg.Connections {
		if c.Source != d.name {
			continue
		}
		if err := worker.FirstPass(ctx, d.bus, name); err != nil {
			return err
		}
	}
	return nil
}
