// Package cli is the command line of Rollcall.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/service"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

// Exit codes beside 0 for success.
const (
	exitFailure       = 1
	exitConfiguration = 3
)

// errFound and errFoundInConfiguration say that a command did its work and found
// something wrong, in the second case with the configuration; its output has said what.
var (
	errFound                = errors.New("found problems")
	errFoundInConfiguration = errors.New("found problems in the configuration")
)

// errUsage says that a flag is wrong.
var errUsage = errors.New("wrong usage")

// app is what every command needs.
type app struct {
	file   string
	format string
	out    io.Writer
}

// Main runs the command line and returns the exit code: 0 for success, 1 for a
// failure, 2 where a plan has something to do or a target differs, 3 for a fault in the
// configuration, a secret that cannot be read included, or in the flags.
func Main(args []string, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(out, errOut)
	root.SetArgs(args)
	return exitCode(root.ExecuteContext(ctx), errOut)
}

// exitCode says what is wrong, where the output of the command has not, and returns
// the exit code: the same one for the same fault, whatever the command.
func exitCode(err error, errOut io.Writer) int {
	var faults connection.Faults
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return exitFailure
	case errors.Is(err, errFoundInConfiguration):
		return exitConfiguration
	case errors.Is(err, errChanges):
		return exitChanges
	case errors.As(err, &faults):
		_, _ = fmt.Fprintln(errOut, err)
	default:
		_, _ = fmt.Fprintln(errOut, "rollcall:", err)
	}
	if isConfiguration(err) {
		return exitConfiguration
	}
	return exitFailure
}

// isConfiguration says that an error is a fault of the configuration.
func isConfiguration(err error) bool {
	var faults connection.Faults
	return errors.As(err, &faults) || errors.Is(err, connection.ErrUnreadable) || errors.Is(err, service.ErrConfiguration) ||
		errors.Is(err, ldapsource.ErrUnknownAttribute) || errors.Is(err, errUsage)
}

func newRoot(out, errOut io.Writer) *cobra.Command {
	a := &app{out: out}
	root := &cobra.Command{
		Use:   "rollcall",
		Short: "Rollcall keeps SaaS accounts equal to the company directory.",
		Long: "Rollcall watches an LDAP directory and keeps SCIM 2.0 services equal to it:\n" +
			"users created, updated, disabled or deleted; groups created, renamed, their\nmemberships overwritten, deleted.",
		SilenceUsage: true, SilenceErrors: true, Version: service.Version,
	}
	root.SetOut(out)
	root.SetErr(errOut)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.PersistentFlags().StringVarP(&a.file, "config", "c", "rollcall.yaml", "configuration file")
	root.PersistentFlags().StringVarP(&a.format, "output", "o", "text", "output format: text or json")
	root.AddCommand(a.runCommand(), a.setupCommand(), a.checkCommand(), a.statusCommand(),
		a.planCommand(), a.heldCommand(), a.forgetCommand(), a.parkedCommand(), a.pauseCommand(), a.resumeCommand(), a.driftCommand(), a.backupCommand(), a.restoreCommand(), a.configCommand())
	return root
}

func (a *app) load() (*connection.Config, error) {
	cfg, err := connection.Load(a.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w; change to the directory where it is, name it with --config, or write one with `rollcall config defaults > rollcall.yaml`", err)
	}
	return cfg, err
}

// print writes a value as JSON, or calls text where people read.
func (a *app) print(value any, text func(io.Writer) error) error {
	switch a.format {
	case "json":
		encoder := json.NewEncoder(a.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	case "text":
		return text(a.out)
	default:
		return fmt.Errorf("--output %s: want text or json", a.format) //nolint:err113 // said once, to a person
	}
}

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run every service in this process, with NATS embedded",
		Long: "Run every service in this process until it is interrupted. Without nats.url, NATS\n" +
			"is embedded and keeps its data in nats.data_dir.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			if err := cfg.ResolveAll(); err != nil {
				return err
			}
			if cfg.NATS.URL == "" { // before a port is blamed that the other one listens on
				if err := embedded.Inspect(cfg.NATS.DataDir); err != nil {
					return fmt.Errorf("nats.data_dir: %w", err)
				}
			}
			return service.Run(cmd.Context(), "rollcall", cfg, allinone.Run)
		},
	}
}

func (a *app) setupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "setup",
		Short: "Create the streams and buckets in NATS, or bring them up to date",
		Long: "Create the streams and buckets in NATS, or bring them up to date, and the consumers\n" +
			"of connections that never ran. It may run any number of times.",
		Args: cobra.NoArgs,
		RunE: a.attached(func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
			if err := b.Setup(ctx); err != nil {
				return err
			}
			if err := firstGenerations(ctx, cfg, b); err != nil {
				return err
			}
			return a.print(map[string]string{"setup": "ok"}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, "streams and buckets are up to date")
				return err
			})
		}),
	}
}

// firstGenerations makes the configuration of connections that never ran current;
// a changed one is the detector's to advance, which knows what was read for it.
func firstGenerations(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
	for name, c := range cfg.Connections {
		_, err := worker.CurrentGeneration(ctx, b, name)
		if err == nil || c.RenamedFrom != "" {
			continue
		}
		if !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		if err := worker.Advance(ctx, b, worker.PlanOf(cfg, name)); err != nil {
			return err
		}
	}
	return nil
}

// onBus is the work of a command at NATS.
type onBus func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error

// attached makes a command that asks the NATS of a Rollcall that runs.
func (a *app) attached(run onBus) func(*cobra.Command, []string) error {
	return a.connected(run, func(ctx context.Context, cfg *connection.Config) (*bus.Bus, func(), error) {
		b, err := allinone.Attach(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		return b, b.Close, nil
	})
}

// offline makes a command that also works while no Rollcall runs.
func (a *app) offline(run onBus) func(*cobra.Command, []string) error {
	return a.connected(run, allinone.Open)
}

func (a *app) connected(run onBus, open func(context.Context, *connection.Config) (*bus.Bus, func(), error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		cfg, err := a.load()
		if err != nil {
			return err
		}
		b, closeBus, err := open(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		defer closeBus()
		return run(cmd.Context(), cfg, b)
	}
}
