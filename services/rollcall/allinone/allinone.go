// Package allinone runs every service in one process, with NATS embedded where
// no external one is configured.
package allinone

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/recovery"
	"github.com/rollcall-scim/rollcall/pkg/service"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
	"github.com/rollcall-scim/rollcall/services/console/console"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

const name = "rollcall"

// Run is the table of contents of the whole product in one process:
//
//  1. start NATS, or connect to the configured one
//  2. set up streams and buckets
//  3. compare what they hold with what they held; where that is something else, begin
//     again and compare the targets
//  4. detect: LDAP to the stream
//  5. keep users equal: the stream to SCIM
//  6. keep groups equal: the stream to SCIM
//  7. show where everything stands, unless the console is configured away
//
// It returns when ctx ends or one of them fails, after all have stopped.
func Run(ctx context.Context, env *service.Env) error {
	b, closeBus, err := connect(ctx, env) // 1, 2
	if err != nil {
		return err
	}
	defer closeBus()
	env.Log.InfoContext(ctx, "rollcall runs", "sources", len(env.Config.Sources), "connections", len(env.Config.Connections))
	return recovery.Run(ctx, b, env.Config, env.Log, func(ctx context.Context, w *recovery.Watch) error { return work(ctx, env, b, w) })
}

// work runs the services on what NATS holds.
func work(ctx context.Context, env *service.Env, b *bus.Bus, w *recovery.Watch) error {
	process, err := worker.NewProcess(b, env.Config, env.Log) //nolint:contextcheck // its writers end with Close
	if err != nil {
		return err
	}
	defer process.Close()
	process.Discover()
	process.Verify(w.Unchanged)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return detector.Run(ctx, env.Config, b, env.Log) }) // 4
	group.Go(func() error { return usersync.Run(ctx, env.Config, process) })    // 5
	group.Go(func() error { return groupsync.Run(ctx, env.Config, process) })   // 6
	group.Go(func() error { return show(ctx, env, b) })                         // 7
	return group.Wait()
}

// show serves the console. Nothing else depends on it, so that a port that is taken
// stops no synchronization.
func show(ctx context.Context, env *service.Env, b *bus.Bus) error {
	if env.Config.Console.Listen == "" {
		return nil
	}
	if err := console.Run(ctx, env.Config, b, env.Log); err != nil {
		env.Log.ErrorContext(ctx, "there is no console, everything else goes on", "error", err)
	}
	return nil
}

func connect(ctx context.Context, env *service.Env) (*bus.Bus, func(), error) {
	if env.Config.NATS.URL != "" {
		b, err := service.Connect(ctx, env, name)
		if err != nil {
			return nil, nil, err
		}
		return b, b.Close, nil
	}
	b, stop, err := start(ctx, env.Config, name, env.Log)
	if err != nil {
		return nil, nil, err
	}
	env.Ready("nats", func() error { return service.Usable(b) })
	return b, stop, nil
}

// start runs the embedded server and connects to it; the returned function ends both.
func start(ctx context.Context, cfg *connection.Config, name string, log *slog.Logger) (*bus.Bus, func(), error) {
	server, err := embedded.Start(embedded.Config{DataDir: cfg.NATS.DataDir, Log: log})
	if err != nil {
		return nil, nil, fmt.Errorf("nats.data_dir: %w", err)
	}
	b, err := bus.Connect(ctx, bus.Config{SeedFile: server.SeedFile(), Name: name, InProcess: server, Log: log})
	if err != nil {
		server.Close()
		return nil, nil, err
	}
	stop := func() { b.Close(); server.Close() }
	if err := b.Setup(ctx); err != nil {
		stop()
		return nil, nil, err
	}
	return b, stop, nil
}

// Open connects to NATS as Attach does. Where no Rollcall runs on the data directory, it
// starts the embedded server there for as long as the connection is open; a data
// directory that no Rollcall ever used is not created. The returned function closes
// what was opened.
func Open(ctx context.Context, cfg *connection.Config) (*bus.Bus, func(), error) {
	if cfg.NATS.URL == "" && embedded.Idle(cfg.NATS.DataDir) {
		return start(ctx, cfg, "rollcall-cli", slog.New(slog.DiscardHandler))
	}
	b, err := Attach(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	return b, b.Close, nil
}

// OpenAlone connects to NATS for a command beside which no service may run. Where NATS is
// embedded it starts the server, on a data directory that it creates, and fails while a
// Rollcall uses it. The returned function closes what was opened.
func OpenAlone(ctx context.Context, cfg *connection.Config) (*bus.Bus, func(), error) {
	if cfg.NATS.URL == "" {
		return start(ctx, cfg, "rollcall-cli", slog.New(slog.DiscardHandler))
	}
	b, err := Attach(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	return b, b.Close, nil
}

// Attach connects to the NATS of a Rollcall that runs: the configured one, or the
// one that `rollcall run` embeds in the data directory.
func Attach(ctx context.Context, cfg *connection.Config) (*bus.Bus, error) {
	if cfg.NATS.URL != "" {
		return service.Dial(ctx, cfg, "rollcall-cli", slog.New(slog.DiscardHandler))
	}
	url, seed, err := embedded.Running(cfg.NATS.DataDir)
	if err != nil {
		return nil, err
	}
	return bus.Connect(ctx, bus.Config{URL: url, SeedFile: seed, Name: "rollcall-cli"})
}
