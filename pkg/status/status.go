// Package status says where every source and connection stands: who watches, what
// is applied, what waits and why. It is what `rollcall status` prints and what the
// console shows, read from NATS without changing anything. Entries are named by their
// ids; what a target answered stands in reasons as it said it, and may hold personal
// data.
package status

import (
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
	Users    *worker.Summary    `json:"users"`
	Groups   *worker.Summary    `json:"groups,omitempty"` // nil: groups are not synchronized
	Problems []worker.ProblemOf `json:"problems,omitempty"`
	// Drift are the last comparisons of the target with what was applied.
	Drift []*worker.DriftReport `json:"drift,omitempty"`
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
// every link, so that it takes longer the more there are.
func Read(ctx context.Context, cfg *connection.Config, b *bus.Bus) (*Status, error) {
	sources, err := ReadSources(ctx, cfg, b)
	if err != nil {
		return nil, err
	}
	s := &Status{Sources: sources}
	for _, name := range slices.Sorted(maps.Keys(cfg.Connections)) {
		one, err := readConnection(ctx, cfg, b, name)
		if err != nil {
			return nil, fmt.Errorf("read the status of connection %s: %w", name, err)
		}
		s.Connections = append(s.Connections, *one)
	}
	return s, nil
}

// ReadSources reads where the sources of a configuration stand, by name. It reads no
// links, so that it is quick however many there are.
func ReadSources(ctx context.Context, cfg *connection.Config, b *bus.Bus) ([]Source, error) {
	var sources []Source
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		one, err := readSource(ctx, b, cfg.Sources[name])
		if err != nil {
			return nil, fmt.Errorf("read the status of source %s: %w", name, err)
		}
		sources = append(sources, *one)
	}
	return sources, nil
}

func readSource(ctx context.Context, b *bus.Bus, source *connection.Source) (*Source, error) {
	name := source.Name
	one := &Source{Name: name}
	var err error
	if one.Detector, err = b.Holder(ctx, provisioningv1.BucketSources, provisioningv1.LeaseKey(name)); err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, err
	}
	pass, err := LastPass(ctx, b, name)
	if err == nil {
		one.Warnings, one.Outage = pass.Warnings, pass.Outage
		pass.Outage = nil // it is no part of the last full read
		if !pass.At.IsZero() {
			one.LastPass = &pass
			every := source.Detection.SweepInterval
			one.Overdue = every > 0 && time.Since(pass.At) > 2*every
		}
	} else if !errors.Is(err, bus.ErrNotFound) {
		return nil, err
	}
	items, err := held.OfSource(b, name).List(ctx)
	one.Held = len(items)
	return one, err
}

func readConnection(ctx context.Context, cfg *connection.Config, b *bus.Bus, name string) (*Connection, error) {
	one := &Connection{Name: name, DryRun: cfg.Connections[name].DryRun}
	generation, err := worker.CurrentGeneration(ctx, b, name)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, err
	}
	one.Generation = generation.Number
	if one.FirstRun, err = worker.InFirstRun(ctx, b, name); err != nil {
		return nil, err
	}
	if one.Recovery, err = readRecovery(ctx, b, name); err != nil {
		return nil, err
	}
	if refused := worker.Refused(ctx, b, worker.PlanOf(cfg, name), generation); refused != nil {
		one.Refused = refused.Error()
	}
	pause, err := worker.Paused(ctx, b, name)
	if err != nil {
		return nil, err
	}
	one.Paused = PauseOf(pause)
	if one.Warnings, err = worker.UnknownAttributes(ctx, b, cfg.Connections[name]); err != nil {
		return nil, err
	}
	if one.Drift, err = lastDrift(ctx, b, name); err != nil {
		return nil, err
	}
	users, problems, err := worker.Summarise(ctx, b, name, directoryv1.Kind_KIND_USER, generation.Hash)
	if err != nil {
		return nil, err
	}
	one.Users, one.Problems = users, problems
	if cfg.Connections[name].Groups == nil {
		return one, nil
	}
	groups, more, err := worker.Summarise(ctx, b, name, directoryv1.Kind_KIND_GROUP, generation.Hash)
	one.Groups, one.Problems = groups, append(one.Problems, more...)
	return one, err
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
