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
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/crash"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
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
	for _, d := range detectors {
		unobserve, err := d.metrics.observeOutage(b, d.name)
		if err != nil {
			return err
		}
		defer unobserve()
	}
	var running sync.WaitGroup
	running.Go(func() { paceCollector(ctx) })
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
	Holders(ctx context.Context, dns []string) ([]*ldapsource.Entry, error)
	CheckAttributes(ctx context.Context) error
}

// detector watches one source.
type detector struct {
	name        string
	owner       string
	cfg         *connection.Config
	generation  string // of the source's part of the configuration
	rules       *rules
	scopes      []connectionScope
	directory   directory
	generations *generations
	limits      guard.Limits
	bus         *bus.Bus
	metrics     *metrics
	log         *slog.Logger
}

func newDetector(cfg *connection.Config, name string, b *bus.Bus, log *slog.Logger) (*detector, error) {
	source := cfg.Sources[name]
	owner, err := worker.OwnerName()
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(name)
	if err != nil {
		return nil, err
	}
	d := &detector{
		name: name, owner: owner, cfg: cfg, generation: cfg.SourceHash(name), bus: b, metrics: metrics, log: log.With("source", name),
		limits: guard.Limits{MaxRemovals: source.Guard.MaxRemovals, MaxRemovalPercent: source.Guard.MaxRemovalPercent, Window: source.Guard.Window},
	}
	return d, d.prepare(cfg.AttributeSet(name)) // a fault of the configuration shows at once
}

// prepare makes the rules and the reader for an attribute set.
func (d *detector) prepare(set mapping.Set) error {
	compiled, err := d.cfg.Compile()
	if err != nil {
		return fmt.Errorf("compile configuration: %w", err)
	}
	rules, err := newRules(d.cfg.Sources[d.name], compiled.Sources[d.name].Enabled, set, d.log)
	if err != nil {
		return err
	}
	rules.references = d.cfg.References(d.name)
	directory, err := open(d.cfg, d.name, set, d.log)
	if err != nil {
		return err
	}
	d.rules, d.scopes, d.directory = rules, scopesOf(d.cfg, compiled, d.name), directory
	return nil
}

// open makes the reader of a source, for an attribute set: what the configuration
// needs, and what was read before.
func open(cfg *connection.Config, name string, set mapping.Set, log *slog.Logger) (*ldapsource.Source, error) {
	source := cfg.Sources[name]
	needed := cfg.AttributeSet(name)
	deps := ldapsource.Deps{
		Log:    log,
		Former: slices.DeleteFunc(set.Attributes(), needed.Contains),
		Keys:   func(attribute string) []string { return cfg.Readers(name, attribute) },
	}
	if !source.LDAP.BindPassword.IsZero() {
		deps.Password = func(context.Context) (string, error) { return source.LDAP.BindPassword.Resolve() }
	}
	wanted := append(set.Attributes(), source.Groups.Members)
	if source.Users.MemberOf != "" {
		wanted = append(wanted, source.Users.MemberOf)
	}
	if source.Users.PrimaryGroup != "" {
		wanted = append(wanted, source.Users.PrimaryGroup, sidAttribute)
	}
	if source.Groups.MemberValues == connection.MemberUID {
		wanted = append(wanted, "uid")
	}
	return ldapsource.New(source, wanted, deps)
}

// run works whenever this detector holds the source's lease.
func (d *detector) run(ctx context.Context) {
	d.metrics.begin(ctx)
	again(ctx, func(worked func()) error {
		return d.bus.WithLease(ctx, provisioningv1.BucketSources, provisioningv1.LeaseKey(d.name), d.owner, failpoint.Scale(leaseTTL), func(ctx context.Context) error {
			d.metrics.holds(ctx, 1)
			defer d.metrics.holds(context.WithoutCancel(ctx), 0)
			err := crash.Catch(ctx, d.log, crash.Detector, func() error { return d.hold(ctx, worked) })
			if _, crashed := errors.AsType[*crash.Error](err); crashed {
				d.interrupted(ctx, err)
			}
			return err
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
//  1. refuse a configuration that names attributes which the directory does not know;
//     choose the attribute set, and store it, so that workers know what was read
//  2. make the configuration of the connections current that need no more than what
//     was published before; the others follow the first full pass
//  3. take the fences, so that a former holder cannot publish any more, and
//     remember what was published: the streams are the memory
//  4. learn what is held and what people say of it
//  5. watch the directory: read it whole, prove that, compare, publish; then follow
//  6. when the connection breaks, wait and watch again; the mirror is kept
func (d *detector) hold(ctx context.Context, worked func()) error {
	if err := d.checkSchema(ctx); err != nil { // 1
		d.interrupted(ctx, err)
		return err
	}
	former, known, err := d.readSet(ctx)
	if err != nil {
		return fmt.Errorf("choose the attribute set: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	d.generations = newGenerations(d, former, known)
	d.generations.advance(ctx) // 2
	running.Go(func() {
		cancel(crash.Catch(ctx, d.log, crash.Detector, func() error { d.generations.run(ctx); return nil }))
	})
	publisher, err := newPublisher(ctx, d) // 3
	if err != nil {
		return err
	}
	retry := backoff.WithContext(patience(), ctx)
	s := openSession(d, publisher, func() { retry.Reset(); worked() })
	defer s.close()
	if err := s.attend(ctx, &running, cancel); err != nil { // 4
		return err
	}
	return backoff.RetryNotify(func() error {
		s.mirror.reconnect()
		err := d.directory.Watch(ctx, s) // 5
		if errors.Is(err, bus.ErrFenced) || ctx.Err() != nil {
			return backoff.Permanent(err)
		}
		return err
	}, retry, func(err error, wait time.Duration) { // 6
		d.metrics.sessionFailed(ctx)
		s.interrupted(ctx, err)
		d.log.ErrorContext(ctx, "directory session ended, reading again", "error", err, "wait", wait.Round(time.Millisecond).String())
	})
}
