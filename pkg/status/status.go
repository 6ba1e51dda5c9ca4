// Package status says where every source and connection stands: who watches, what
// is applied, what waits and why. It is what `rollcall status` prints and what the
// console shows, read from NATS without changing anything. Entries are named by their
// ids; what a target answered stands in reasons as it said it, and may hold personal
// data.
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/recovery"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Status is where everything stands, sources and connections by name.
type Status struct {
	// Errors say what NATS does not do, each with the remedy: it cannot be reached, or it
	// stores nothing.
	Errors      []string     `json:"errors,omitempty"`
	Sources     []Source     `json:"sources"`
	Connections []Connection `json:"connections"`
}

// Source is where a source stands.
type Source struct {
	Name     string `json:"name"`
	Detector string `json:"detector"`            // who holds the lease; empty: nobody
	LastPass *Pass  `json:"last_pass,omitempty"` // nil: it was never read
	Overdue  bool   `json:"overdue,omitempty"`   // the last full read is older than it may become
	Held     int    `json:"held"`                // waits for a person
	// Outage is why the source is not followed; nil while it is.
	Outage *Outage `json:"outage"`
	// Warnings say what is probably wrong, each with the key and the remedy.
	Warnings []string `json:"warnings,omitempty"`
	// Error says what could not be read; the rest is as it was read.
	Error string `json:"error,omitempty"`
}

// Connection is where a connection stands.
type Connection struct {
	Name       string `json:"name"`
	Generation int    `json:"generation"`
	// DryRun says that nothing is sent.
	DryRun bool `json:"dry_run,omitempty"`
	// FirstRun says that nothing is disabled or deleted yet without approval.
	FirstRun bool `json:"first_run,omitempty"`
	// Recovery says since when and why the target is being compared with the directory,
	// because links may be missing or old; nil where it is not.
	Recovery *Recovery `json:"recovery,omitempty"`
	// Warnings say what is probably wrong, each with the key and the remedy.
	Warnings []string `json:"warnings,omitempty"`
	// Refused says why the configuration cannot become current.
	Refused  string             `json:"refused,omitempty"`
	Paused   *Pause             `json:"paused,omitempty"`
	Users    *worker.Summary    `json:"users"`            // nil: they could not be read
	Groups   *worker.Summary    `json:"groups,omitempty"` // nil: groups are not synchronized
	Problems []worker.ProblemOf `json:"problems,omitempty"`
	// Drift are the last comparisons of the target with what was applied.
	Drift []*worker.DriftReport `json:"drift,omitempty"`
	// Error says what could not be read; the rest is as it was read.
	Error string `json:"error,omitempty"`
}

// Recovery is why a target is being compared with the directory.
type Recovery struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// Pause is why nothing is sent to a target.
type Pause struct {
	Reason  string    `json:"reason"` // manual, outage or credentials
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"since"`
}

// PauseOf is a pause in words, nil for none.
func PauseOf(p *provisioningv1.Pause) *Pause {
	if p == nil {
		return nil
	}
	return &Pause{Reason: worker.PauseReason(p.GetReason()), Message: p.GetMessage(), Since: p.GetSince().AsTime()}
}

// Read reads where the sources and connections of a configuration stand. It reads
// every link, so that it takes longer the more there are. What can be read is always
// returned; the error says what cannot.
func Read(ctx context.Context, cfg *connection.Config, b *bus.Bus) (*Status, error) {
	r := &reading{cfg: cfg, bus: b}
	s := &Status{Sources: r.sources(ctx)}
	for _, name := range slices.Sorted(maps.Keys(cfg.Connections)) {
		s.Connections = append(s.Connections, r.connection(ctx, name))
	}
	if err := b.Refusing(); err != nil {
		s.Errors = append(s.Errors, err.Error())
	}
	return s, errors.Join(r.errs...)
}

// Unreachable is the status where NATS cannot even be asked: the names, and why.
func Unreachable(cfg *connection.Config, err error) *Status {
	s := &Status{Errors: []string{err.Error()}}
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		s.Sources = append(s.Sources, Source{Name: name, Error: notAsked})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Connections)) {
		s.Connections = append(s.Connections, Connection{Name: name, DryRun: cfg.Connections[name].DryRun, Error: notAsked})
	}
	return s
}

// ReadSources reads where the sources of a configuration stand, by name. It reads no
// links, so that it is quick however many there are. What can be read is always returned.
func ReadSources(ctx context.Context, cfg *connection.Config, b *bus.Bus) ([]Source, error) {
	r := &reading{cfg: cfg, bus: b}
	sources := r.sources(ctx)
	return sources, errors.Join(r.errs...)
}

const notAsked = "not read: NATS does not answer"

// reading goes on where a part cannot be read, but asks a NATS that does not answer no
// more.
type reading struct {
	cfg  *connection.Config
	bus  *bus.Bus
	gone bool
	errs []error
}

// part reads one part; of those that cannot be read it returns why.
func (r *reading) part(of string, why string, read func() error) string {
	if r.gone {
		return cmp.Or(why, notAsked)
	}
	err := read()
	if err == nil {
		return why
	}
	r.gone = bus.Unavailable(err)
	r.errs = append(r.errs, fmt.Errorf("read the status of %s: %w", of, err))
	if why != "" {
		why += "; "
	}
	return why + err.Error()
}

// unlessAbsent is an error that does not mean that nothing is stored.
func unlessAbsent(err error) error {
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	return err
}

func (r *reading) sources(ctx context.Context) []Source {
	var sources []Source
	for _, name := range slices.Sorted(maps.Keys(r.cfg.Sources)) {
		sources = append(sources, r.source(ctx, r.cfg.Sources[name]))
	}
	return sources
}

func (r *reading) source(ctx context.Context, source *connection.Source) Source {
	one := Source{Name: source.Name}
	part := func(read func() error) { one.Error = r.part("source "+one.Name, one.Error, read) }
	part(func() (err error) {
		one.Detector, err = r.bus.Holder(ctx, provisioningv1.BucketSources, provisioningv1.LeaseKey(one.Name))
		return unlessAbsent(err)
	})
	part(func() error {
		pass, err := LastPass(ctx, r.bus, one.Name)
		if err != nil {
			return unlessAbsent(err)
		}
		one.Warnings, one.Outage = pass.Warnings, pass.Outage
		pass.Outage = nil // it is no part of the last full read
		if !pass.At.IsZero() {
			one.LastPass = &pass
			every := source.Detection.SweepInterval
			one.Overdue = every > 0 && time.Since(pass.At) > 2*every
		}
		return nil
	})
	part(func() error {
		items, err := held.OfSource(r.bus, one.Name).List(ctx)
		one.Held = len(items)
		return err
	})
	return one
}

func (r *reading) connection(ctx context.Context, name string) Connection {
	one := Connection{Name: name, DryRun: r.cfg.Connections[name].DryRun}
	part := func(read func() error) { one.Error = r.part("connection "+name, one.Error, read) }
	var generation worker.Generation
	part(func() (err error) {
		generation, err = worker.CurrentGeneration(ctx, r.bus, name)
		one.Generation = generation.Number
		return unlessAbsent(err)
	})
	part(func() (err error) {
		one.FirstRun, err = worker.InFirstRun(ctx, r.bus, name)
		return err
	})
	part(func() (err error) {
		one.Recovery, err = readRecovery(ctx, r.bus, name)
		return err
	})
	part(func() error {
		err := worker.Refused(ctx, r.bus, worker.PlanOf(r.cfg, name), generation)
		if errors.Is(err, worker.ErrRefused) {
			one.Refused = err.Error()
			return nil
		}
		return err
	})
	part(func() error {
		pause, err := worker.Paused(ctx, r.bus, name)
		one.Paused = PauseOf(pause)
		return err
	})
	part(func() (err error) {
		one.Warnings, err = worker.UnknownAttributes(ctx, r.bus, r.cfg.Connections[name])
		return err
	})
	part(func() (err error) {
		one.Drift, err = lastDrift(ctx, r.bus, name)
		return err
	})
	part(func() (err error) {
		one.Users, one.Problems, err = worker.Summarise(ctx, r.bus, name, directoryv1.Kind_KIND_USER, generation.Hash)
		return err
	})
	if r.cfg.Connections[name].Groups != nil {
		part(func() error {
			groups, problems, err := worker.Summarise(ctx, r.bus, name, directoryv1.Kind_KIND_GROUP, generation.Hash)
			one.Groups, one.Problems = groups, append(one.Problems, problems...)
			return err
		})
	}
	return one
}

func readRecovery(ctx context.Context, b *bus.Bus, name string) (*Recovery, error) {
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		if m, err := recovery.Marked(ctx, b, name, kind); err != nil || m != nil {
			if err != nil {
				return nil, err
			}
			return &Recovery{Reason: m.Reason, Since: m.Since}, nil
		}
	}
	return nil, nil //nolint:nilnil // none is no error
}

// lastDrift are the last comparisons of each kind, where there were any.
func lastDrift(ctx context.Context, b *bus.Bus, name string) (reports []*worker.DriftReport, err error) {
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		r, err := worker.LastDrift(ctx, b, name, kind)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return nil, err
		}
		if err == nil && r.Counts != nil { // otherwise it is only scheduled
			reports = append(reports, r)
		}
	}
	return reports, nil
}
