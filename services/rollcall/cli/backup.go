package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/backup"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/recovery"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup DIRECTORY",
		Short: "Write everything that is kept in NATS to a directory",
		Long: "Write everything that is kept in NATS to a directory, which must not exist: links,\n" +
			"what the directory held, held removals, schedules and the audit log. Services may\n" +
			"run meanwhile. The files hold personal data, and only their owner can read them.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.offline(func(ctx context.Context, _ *connection.Config, b *bus.Bus) error {
				saved, err := backup.Save(ctx, b, args[0])
				if err != nil {
					return err
				}
				return a.print(saved, func(w io.Writer) error { return streams(w, saved, "saved to "+args[0]) })
			})(cmd, args)
		},
	}
}

// quiet is how long no service may have written to NATS before a restore: a running one
// does every few seconds.
const quiet = 15 * time.Second

var errRunning = errors.New("services are running; stop them first, and wait for 15 s")

func (a *app) restoreCommand() *cobra.Command {
	var replace bool
	command := &cobra.Command{
		Use:   "restore DIRECTORY",
		Short: "Put what `rollcall backup` wrote in the place of what NATS holds",
		Long: "Put what `rollcall backup` wrote in the place of what NATS holds. Every service must\n" +
			"be stopped. The next start compares each target with the directory, because the\n" +
			"targets may be ahead of the backup: what differs is made right through the guard,\n" +
			"and nothing is removed before the comparison. `rollcall status` shows when it is over.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.connected(func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
				return a.restore(ctx, cfg, b, args[0], replace)
			}, allinone.OpenAlone)(cmd, args)
		},
	}
	command.Flags().BoolVar(&replace, "replace", false, "delete what NATS holds")
	return command
}

func (a *app) restore(ctx context.Context, cfg *connection.Config, b *bus.Bus, dir string, replace bool) error {
	if cfg.NATS.URL != "" { // otherwise the data directory is ours
		at, err := recovery.Renewed(ctx, b)
		if err != nil {
			return err
		}
		if since := time.Since(at); since < quiet {
			return fmt.Errorf("a service has written to NATS %s ago: %w", since.Round(time.Second), errRunning)
		}
	}
	restored, err := backup.Restore(ctx, b, dir, replace)
	switch {
	case errors.Is(err, backup.ErrHoldsData):
		return fmt.Errorf("%w; --replace deletes it", err)
	case err != nil:
		return err
	}
	if err := b.Setup(ctx); err != nil {
		return err
	}
	if err := recovery.Forget(ctx, b); err != nil {
		return err
	}
	return a.print(restored, func(w io.Writer) error {
		return streams(w, restored, "restored; the next start compares every target with the directory")
	})
}

func streams(w io.Writer, all []backup.Stream, conclusion string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	p := &printer{w: t}
	p.line("STREAM\tMESSAGES")
	for _, s := range all {
		p.line("%s\t%d", s.Name, s.Messages)
	}
	if p.err == nil {
		p.err = t.Flush()
	}
	p.w = w
	p.line("%s", conclusion)
	return p.err
}
