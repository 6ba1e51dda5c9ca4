package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
)

// status is what `rollcall status -o json` prints.
type status struct {
	Sources     []sourceStatus     `json:"sources"`
	Connections []connectionStatus `json:"connections"`
}

type sourceStatus struct {
	Name     string         `json:"name"`
	Detector string         `json:"detector"` // who holds the lease; empty: nobody
	LastPass *detector.Pass `json:"last_pass,omitempty"`
	Held     int            `json:"held"` // waits for a person
}

type connectionStatus struct {
	Name       string `json:"name"`
	Generation int    `json:"generation"`
	// FirstRun says that nothing is disabled or deleted yet without approval.
	FirstRun bool `json:"first_run,omitempty"`
	// Refused says why the configuration cannot become current.
	Refused  string             `json:"refused,omitempty"`
	Paused   *pauseStatus       `json:"paused,omitempty"`
	Users    *worker.Summary    `json:"users"`
	Groups   *worker.Summary    `json:"groups,omitempty"`
	Problems []worker.ProblemOf `json:"problems,omitempty"`
	// Drift are the last comparisons of the target with what was applied.
	Drift []*worker.DriftReport `json:"drift,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show sources, connections, backlogs and what is parked or blocked",
		Args:  cobra.NoArgs,
		RunE: a.attached(func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
			s, err := readStatus(ctx, cfg, b)
			if err != nil {
				return err
			}
			return a.print(s, s.print)
		}),
	}
}

func readStatus(ctx context.Context, cfg *connection.Config, b *bus.Bus) (*status, error) {
	s := &status{}
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		one := sourceStatus{Name: name}
		var err error
		if one.Detector, err = detector.Holder(ctx, b, name); err != nil && !errors.Is(err, bus.ErrNotFound) {
			return nil, err
		}
		pass, err := detector.LastPass(ctx, b, name)
		if err == nil {
			one.LastPass = &pass
		} else if !errors.Is(err, bus.ErrNotFound) {
			return nil, err
		}
		items, err := held.OfSource(b, name).List(ctx)
		if err != nil {
			return nil, err
		}
		one.Held = len(items)
		s.Sources = append(s.Sources, one)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Connections)) {
		one, err := readConnection(ctx, cfg, b, name)
		if err != nil {
			return nil, err
		}
		s.Connections = append(s.Connections, *one)
	}
	return s, nil
}

func readConnection(ctx context.Context, cfg *connection.Config, b *bus.Bus, name string) (*connectionStatus, error) {
	one := &connectionStatus{Name: name}
	generation, err := worker.CurrentGeneration(ctx, b, name)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, err
	}
	one.Generation = generation.Number
	if one.FirstRun, err = worker.InFirstRun(ctx, b, name); err != nil {
		return nil, err
	}
	if refused := worker.Refused(ctx, b, worker.PlanOf(cfg, name), generation); refused != nil {
		one.Refused = refused.Error()
	}
	pause, err := worker.Paused(ctx, b, name)
	if err != nil {
		return nil, err
	}
	one.Paused = statusOf(pause)
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

func (s *status) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	p := &printer{w: t}
	p.line("SOURCE\tDETECTOR\tLAST FULL READ\tUSERS\tGROUPS\tHELD")
	for _, one := range s.Sources {
		holder := one.Detector
		if holder == "" {
			holder = "none: nobody watches"
		}
		if one.LastPass == nil {
			p.line("%s\t%s\tnever\t-\t-\t%d", one.Name, holder, one.Held)
			continue
		}
		l := one.LastPass
		p.line("%s\t%s\t%s\t%d\t%d\t%d", one.Name, holder, l.At.Local().Format(time.DateTime), l.Users, l.Groups, one.Held)
		if l.HeldReason != "" {
			p.line("  held: %s", l.HeldReason)
		}
	}
	p.line("")
	p.line("CONNECTION\tKIND\tACTIVE\tDISABLED\tREMOVED\tBACKLOG\tHELD\tPARKED\tBLOCKED\tRETRYING")
	for _, one := range s.Connections {
		p.summary(one.Name, "users", one.Users)
		p.summary(one.Name, "groups", one.Groups)
		if one.FirstRun {
			p.line("  first run: nothing is disabled or deleted without approval until all entries were looked at")
		}
		if one.Refused != "" {
			p.line("  refused: %s", one.Refused)
		}
		if one.Paused != nil {
			p.line("  %s", one.Paused.line())
		}
		for _, r := range one.Drift {
			p.line("  %s", driftLine(r))
		}
	}
	p.problems(s)
	if p.err != nil {
		return p.err
	}
	return t.Flush()
}

// printer keeps the first error of many lines.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) summary(connection, kind string, s *worker.Summary) {
	if s != nil {
		p.line("%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", connection, kind, s.Active, s.Disabled, s.Removed, s.Backlog, s.Held, s.Parked, s.Blocked, s.Retrying)
	}
}

func (p *printer) problems(s *status) {
	said := false
	for _, one := range s.Connections {
		for _, problem := range one.Problems {
			if !said {
				p.line("")
				p.line("CONNECTION\tKIND\tENTRY\tSTATE\tREASON")
				said = true
			}
			p.line("%s\t%s\t%s\t%s\t%s", one.Name, problem.Kind, problem.Entry, problem.State, problem.Message)
		}
	}
}
