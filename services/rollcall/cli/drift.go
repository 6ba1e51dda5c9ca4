package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

func (a *app) driftCommand() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "drift <connection>",
		Short: "Compare a target with what was last applied to it",
		Long: "List a connection's target and report what is not as Rollcall left it: resources that\n" +
			"are gone, attributes, members and active or disabled users that somebody changed,\n" +
			"externalIds that two resources bear. Resources that are nobody's are reported and\n" +
			"never touched. The calls keep to the connection's rate, beside the running services.\n\n" +
			"With --repair the services are asked to make it right, through the guard as always.\n\n" +
			"Exits with 0 where all is as it was left, with 2 where something differs.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.attached(func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
				if err := known(cfg, args[0]); err != nil {
					return err
				}
				reports, err := compare(ctx, cfg, b, args[0], repair, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				if err := a.print(reports, func(w io.Writer) error { return printDrift(w, reports) }); err != nil {
					return err
				}
				for _, r := range reports {
					if r.Drifted() {
						return errChanges
					}
				}
				return nil
			})(cmd, args)
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "have what differs made right")
	return cmd
}

// compare compares both kinds, users first.
func compare(ctx context.Context, cfg *connection.Config, b *bus.Bus, name string, repair bool, progress io.Writer) ([]*worker.DriftReport, error) {
	c := cfg.Connections[name]
	if err := cfg.ResolveAll(); err != nil {
		return nil, err
	}
	compiled, err := cfg.Compile()
	if err != nil {
		return nil, fmt.Errorf("compile configuration: %w", err)
	}
	process, err := worker.NewProcess(b, cfg, slog.New(slog.DiscardHandler)) //nolint:contextcheck // its writers end with Close
	if err != nil {
		return nil, err
	}
	defer process.Close()
	key, err := process.HashKey(ctx)
	if err != nil {
		return nil, err
	}
	target, err := process.Target(c) //nolint:contextcheck // it ends with Close
	if err != nil {
		return nil, err
	}
	comparers := map[directoryv1.Kind]worker.Comparer{directoryv1.Kind_KIND_USER: usersync.NewComparer(c, compiled.Connections[name], target, key)}
	kinds := []directoryv1.Kind{directoryv1.Kind_KIND_USER}
	if c.Groups != nil {
		kinds = append(kinds, directoryv1.Kind_KIND_GROUP)
		comparers[directoryv1.Kind_KIND_GROUP] = groupsync.NewComparer(c, compiled.Connections[name], key)
	}
	var reports []*worker.DriftReport
	for _, kind := range kinds {
		d, err := process.Drift(kind, c, cfg.Hash(name), comparers[kind]) //nolint:contextcheck // it ends with Close
		if err != nil {
			return nil, err
		}
		d.Progress = func(done int) { _, _ = fmt.Fprintf(progress, "%s: %d looked at\n", kind.Token(), done) }
		r, err := d.Compare(ctx)
		if err != nil {
			return nil, err
		}
		if repair {
			if _, err := d.Repair(ctx, r); err != nil {
				return nil, err
			}
		}
		if err := d.Keep(ctx, r); err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

func printDrift(w io.Writer, reports []*worker.DriftReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	p := &printer{w: t}
	for _, r := range reports {
		p.line("%s %s: %d on the target, %d of them ours: %s", r.Connection, r.Kind, r.Listed, r.Compared, r.InWords())
		if r.Incomplete != "" {
			p.line("  the listing is not complete: %s", r.Incomplete)
		}
		if r.Unlisted > 0 {
			p.line("  %d were not in the listing, and were read one by one", r.Unlisted)
		}
		if r.Skipped > 0 {
			p.line("  %d were not compared", r.Skipped)
		}
		if r.Pending > 0 {
			p.line("  %d are being written or looked at again, and were not judged", r.Pending)
		}
		if r.Unread > 0 {
			p.line("  the members of %d groups cannot be read", r.Unread)
		}
		for _, f := range r.Findings {
			p.line("  %s\t%s\t%s\t%s\t%s", f.What, f.Name, f.Entry, f.ResourceID, driftDetail(f))
		}
	}
	if p.err != nil {
		return p.err
	}
	return t.Flush()
}

func driftDetail(f worker.Finding) string {
	var parts []string
	if len(f.Attributes) > 0 {
		parts = append(parts, strings.Join(f.Attributes, ", "))
	}
	parts = append(parts, f.Reasons...)
	if f.MembersMissing > 0 {
		parts = append(parts, fmt.Sprintf("%d missing", f.MembersMissing)+membersNamed(f, false))
	}
	if f.MembersExtra > 0 {
		parts = append(parts, fmt.Sprintf("%d too many", f.MembersExtra)+membersNamed(f, true))
	}
	if f.Repaired {
		parts = append(parts, "repair requested")
	}
	return strings.Join(parts, "; ")
}

// membersShown is how many members of a group one line names; `-o json` has more.
const membersShown = 5

// membersNamed are the first members that a group lacks, or has too many: name and id.
func membersNamed(f worker.Finding, extra bool) string {
	var named []string
	for _, m := range f.Members {
		if m.Extra == extra && len(named) < membersShown {
			named = append(named, strings.TrimSpace(m.Name+" "+cmp.Or(m.ResourceID, m.Entry)))
		}
	}
	if len(named) == 0 {
		return ""
	}
	return ": " + strings.Join(named, ", ")
}

// driftLine is the last comparison for `rollcall status`.
func driftLine(r *worker.DriftReport) string {
	return fmt.Sprintf("%s compared %s: %s", r.Kind, r.At.Local().Format(time.DateTime), r.InWords())
}
