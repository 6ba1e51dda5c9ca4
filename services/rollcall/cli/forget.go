package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

func (a *app) forgetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forget CONNECTION",
		Short: "Drop everything that is remembered of a connection that was removed",
		Long: "Drop the links, held removals, requests, schedules, consumers and everything else\n" +
			"that is kept under a connection's name. Nothing is sent to its target: accounts and\n" +
			"groups stay as they are. Under the same name everything is matched again.\n\n" +
			"The connection must not be in use: remove it from the file first, or change what\n" +
			"`rollcall run` refuses (its source, its target), and stop the services. Where NATS\n" +
			"runs inside `rollcall run`, the command opens nats.data_dir by itself.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.offline(func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
				return a.forget(ctx, cfg, b, args[0])
			})(cmd, args)
		},
	}
}

func (a *app) forget(ctx context.Context, cfg *connection.Config, b *bus.Bus, name string) error {
	if !directoryv1.ValidName(name) {
		return fmt.Errorf("%q is no name of a connection: use 1 to 32 of a-z, 0-9 and hyphen", name) //nolint:err113 // said once, to a person
	}
	if cfg.Connections[name] != nil {
		current, err := worker.CurrentGeneration(ctx, b, name)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		if refused := worker.Refused(ctx, b, worker.PlanOf(cfg, name), current); !errors.Is(refused, worker.ErrRefused) {
			return fmt.Errorf("forget %s: %w: it is in %s; remove it there first", name, worker.ErrInUse, a.file)
		}
	}
	links, err := worker.Forget(ctx, b, name)
	if err != nil {
		return err
	}
	return a.print(map[string]any{"connection": name, "links": links}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s is forgotten: %d links dropped, nothing sent to its target\n", name, links)
		return err
	})
}
