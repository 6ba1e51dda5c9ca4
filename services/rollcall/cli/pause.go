package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// pauseLine is a pause for people.
func pauseLine(p *status.Pause) string {
	text := fmt.Sprintf("PAUSED (%s) since %s", p.Reason, p.Since.Local().Format(time.DateTime))
	if p.Message != "" {
		text += ": " + p.Message
	}
	return text
}

// pauseReport is what pause and resume print as JSON.
type pauseReport struct {
	Connection string        `json:"connection"`
	Paused     *status.Pause `json:"paused"`
	Former     *status.Pause `json:"former"`
}

func (a *app) pauseCommand() *cobra.Command {
	var reason string
	command := &cobra.Command{
		Use:   "pause <connection>",
		Short: "Send nothing to a connection's target until it is resumed",
		Long: "Send nothing to a connection's target until it is resumed, whatever restarts. Calls\n" +
			"that are under way end. Changes wait; of each entry only the newest one is kept.\n" +
			"A pause of a connection whose target is down keeps it paused when the target is\n" +
			"back. A second pause without --reason keeps the first one's reason.",
		Args: cobra.ExactArgs(1),
		RunE: a.attachedTo(func(ctx context.Context, b *bus.Bus, name string) error {
			pause := &provisioningv1.Pause{Reason: provisioningv1.PauseReason_PAUSE_REASON_MANUAL, Message: reason}
			former, err := worker.Pause(ctx, b, name, pause)
			if err != nil {
				return err
			}
			now, err := worker.Paused(ctx, b, name)
			if err != nil {
				return err
			}
			return a.print(pauseReport{name, status.PauseOf(now), status.PauseOf(former)}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is paused; `rollcall resume %s` resumes it\n", name, name)
				return err
			})
		}),
	}
	command.Flags().StringVar(&reason, "reason", "", "why, for `rollcall status`; without it, a second pause keeps the first one's reason")
	return command
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume <connection>",
		Short: "Resume a paused connection, whoever paused it",
		Long: "Resume a paused connection, whoever paused it. Where the target is still down, it\n" +
			"is paused again by itself.",
		Args: cobra.ExactArgs(1),
		RunE: a.attachedTo(func(ctx context.Context, b *bus.Bus, name string) error {
			former, err := worker.Resume(ctx, b, name)
			if err != nil {
				return err
			}
			return a.print(pauseReport{name, nil, status.PauseOf(former)}, func(w io.Writer) error {
				text := name + " is resumed\n"
				if former == nil {
					text = name + " was not paused\n"
				}
				_, err := io.WriteString(w, text)
				return err
			})
		}),
	}
}

// attachedTo makes a command about the connection that is its first argument.
func (a *app) attachedTo(run func(ctx context.Context, b *bus.Bus, name string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return a.attached(func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
			if err := known(cfg, args[0]); err != nil {
				return err
			}
			return run(ctx, b, args[0])
		})(cmd, args)
	}
}

var errUnknownConnection = errors.New("no such connection")

// known refuses a connection that the configuration does not have.
func known(cfg *connection.Config, name string) error {
	if _, ok := cfg.Connections[name]; ok {
		return nil
	}
	return fmt.Errorf("%w: %q; there are: %s", errUnknownConnection, name, strings.Join(slices.Sorted(maps.Keys(cfg.Connections)), ", "))
}
