package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show sources, connections, backlogs and what is parked or blocked",
		Long: "Show sources, connections, backlogs and what is parked or blocked. What can be read\n" +
			"is always shown, and what cannot is named; then the exit code is 1. To see whether\n" +
			"NATS stores anything, one key is written that lives for a minute.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			s, err := readStatus(cmd.Context(), cfg)
			return errors.Join(a.print(s, func(w io.Writer) error { return printStatus(w, s) }), err)
		},
	}
}

// readStatus reads what can be read, and says what cannot.
func readStatus(ctx context.Context, cfg *connection.Config) (*status.Status, error) {
	b, err := allinone.Attach(ctx, cfg)
	if err != nil {
		return status.Unreachable(cfg, err), err
	}
	defer b.Close()
	s, err := status.Read(ctx, cfg, b)
	if err == nil {
		if err = b.Stores(ctx, provisioningv1.BucketTargets); err != nil {
			s.Errors = append(s.Errors, err.Error())
		}
	}
	return s, err
}

func printStatus(w io.Writer, s *status.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	p := &printer{w: t}
	for _, e := range s.Errors {
		p.line("ERROR: %s", e)
	}
	p.line("SOURCE\tDETECTOR\tLAST FULL READ\tUSERS\tGROUPS\tHELD")
	for _, one := range s.Sources {
		holder := one.Detector
		switch {
		case holder == "" && one.Error != "":
			holder = "not read"
		case holder == "":
			holder = "none: nobody watches"
		}
		if one.LastPass == nil && one.Error != "" {
			p.line("%s\t%s\t-\t-\t-\t-", one.Name, holder)
			p.unread(one.Error)
			continue
		}
		if one.LastPass == nil {
			p.line("%s\t%s\tnever\t-\t-\t%d", one.Name, holder, one.Held)
			p.outage(one.Outage)
			p.warnings(one.Warnings)
			continue
		}
		l := one.LastPass
		p.line("%s\t%s\t%s\t%d\t%d\t%d", one.Name, holder, l.At.Local().Format(time.DateTime), l.Users, l.Groups, one.Held)
		p.outage(one.Outage)
		if one.Overdue && one.Outage == nil {
			p.line("  overdue: no full read since; `rollcall check` says whether the directory answers")
		}
		if l.HeldReason != "" {
			p.line("  held: %s", l.HeldReason)
		}
		p.warnings(one.Warnings)
		p.unread(one.Error)
	}
	p.line("")
	p.line("CONNECTION\tKIND\tACTIVE\tDISABLED\tREMOVED\tBACKLOG\tHELD\tPARKED\tBLOCKED\tRETRYING")
	for _, one := range s.Connections {
		if one.Users == nil {
			p.line("%s\tusers\t-\t-\t-\t-\t-\t-\t-\t-", one.Name)
		}
		p.summary(one.Name, "users", one.Users)
		p.summary(one.Name, "groups", one.Groups)
		p.unread(one.Error)
		if one.DryRun {
			p.line("  dry run: nothing is sent")
		}
		if one.FirstRun {
			p.line("  first run: nothing is disabled or deleted without approval until all entries were looked at")
		}
		if r := one.Recovery; r != nil {
			p.line("  recovery since %s: %s; the target is compared, and nothing is removed before that", r.Since.Local().Format(time.DateTime), r.Reason)
		}
		p.warnings(one.Warnings)
		if one.Refused != "" {
			p.line("  refused: %s", one.Refused)
		}
		if one.Paused != nil {
			p.line("  %s", pauseLine(one.Paused))
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

func (p *printer) outage(o *status.Outage) {
	if o != nil {
		p.line("  NOT FOLLOWED (%s) since %s: %s", o.Reason, o.Since.Local().Format(time.DateTime), o.Error)
	}
}

func (p *printer) unread(why string) {
	if why != "" {
		p.line("  NOT READ: %s", why)
	}
}

func (p *printer) warnings(warnings []string) {
	for _, w := range warnings {
		p.line("  WARNING: %s", w)
	}
}

func (p *printer) summary(connection, kind string, s *worker.Summary) {
	if s != nil {
		p.line("%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", connection, kind, s.Active, s.Disabled, s.Removed, s.Backlog, s.Held, s.Parked, s.Blocked, s.Retrying)
	}
}

func (p *printer) problems(s *status.Status) {
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
