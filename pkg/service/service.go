// Package service runs a service: it reads the configuration, starts telemetry,
// answers health and readiness probes, hands signals on as the end of a context
// and turns errors into exit codes. It knows nothing of what the service does.
package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/crash"
	"github.com/rollcall-scim/rollcall/pkg/telemetry"
)

// Version is stamped by the build.
var Version = "dev" //nolint:gochecknoglobals // the linker writes it

// Exit codes, as those of `rollcall`, where 2 says that there is something to do.
const (
	ExitOK            = 0
	ExitFailure       = 1
	ExitConfiguration = 3
)

// ErrConfiguration means that a service cannot run with its configuration.
var ErrConfiguration = errors.New("the configuration cannot be right")

const (
	headerTimeout   = 5 * time.Second
	shutdownTimeout = 5 * time.Second
)

// Env is what a running service has around it.
type Env struct {
	Config *connection.Config
	Log    *slog.Logger

	mu     sync.Mutex
	checks map[string]func() error
}

// Ready adds a condition to the readiness probe.
func (e *Env) Ready(name string, check func() error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.checks == nil {
		e.checks = map[string]func() error{}
	}
	e.checks[name] = check
}

// Main runs a service of the given name until a signal comes, and exits.
func Main(name, purpose string, run func(ctx context.Context, env *Env) error) {
	os.Exit(main(name, purpose, os.Args[1:], os.Stderr, run))
}

func main(name, purpose string, args []string, out io.Writer, run func(ctx context.Context, env *Env) error) int {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		_, _ = fmt.Fprintf(out, "%s %s\n\nUsage: %s [--config FILE]\n\n", name, purpose, name)
		flags.PrintDefaults()
	}
	file := flags.String("config", "rollcall.yaml", "configuration file, the same for every service")
	version := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return ExitOK
	case err != nil:
		return ExitConfiguration
	case *version:
		_, _ = fmt.Fprintln(out, name, Version)
		return ExitOK
	}
	cfg, err := connection.Load(*file)
	if err != nil {
		_, _ = fmt.Fprintln(out, err)
		return ExitConfiguration
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := Run(ctx, name, cfg, run); err != nil {
		_, _ = fmt.Fprintf(out, "%s: %v\n", name, err)
		if errors.Is(err, ErrConfiguration) {
			return ExitConfiguration
		}
		return ExitFailure
	}
	return ExitOK
}

// Run starts telemetry and the probes, runs the service until ctx ends or it
// fails, and stops everything in order.
func Run(ctx context.Context, name string, cfg *connection.Config, run func(ctx context.Context, env *Env) error) error {
	t := cfg.Telemetry
	tel, err := telemetry.Setup(ctx, telemetry.Config{
		Service: name, Version: Version, OTLPEndpoint: t.OTLPEndpoint, SampleRatio: t.SampleRatio, LogLevel: t.Log.Level, LogFormat: t.Log.Format,
	})
	if err != nil {
		return err
	}
	if err := crash.Observe(ctx); err != nil {
		return err
	}
	env := &Env{Config: cfg, Log: tel.Log, checks: map[string]func() error{}}
	stop, err := env.serve(ctx, t.MetricsListen, tel.Metrics())
	if err != nil {
		return err
	}
	err = run(ctx, env)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if closeErr := tel.Close(closing); closeErr != nil { // what nobody takes is no failure of the service
		tel.Log.WarnContext(ctx, "the last telemetry was not sent", "error", closeErr)
	}
	return errors.Join(err, stop(closing))
}

// serve answers /metrics, /healthz and /readyz; an empty address serves nothing.
func (e *Env) serve(ctx context.Context, address string, metrics http.Handler) (stop func(context.Context) error, err error) {
	if address == "" {
		return func(context.Context) error { return nil }, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics and probes: %w; set telemetry.metrics_listen to a free address, or to \"\"", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", e.readiness)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			e.Log.ErrorContext(ctx, "probes ended", "error", err)
		}
	})
	return func(ctx context.Context) error {
		defer wg.Wait()
		return server.Shutdown(ctx)
	}, nil
}

func (e *Env) readiness(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, check := range e.checks {
		if err := check(); err != nil {
			http.Error(w, name+": "+err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = io.WriteString(w, "ready\n")
}

var (
	errNoNATS      = fmt.Errorf("%w: nats.url: is empty; a service that runs alone needs an external NATS (only `rollcall run` has one embedded)", ErrConfiguration)
	errUnconnected = errors.New("the connection to NATS is down")
)

// firstRetry and lastRetry bound the pauses between attempts to reach NATS.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Connect opens the bus of a service that runs alone, adds it to the readiness probe
// and sets the streams up. It waits for a NATS that is not there yet, which is not
// rare where both start at the same time, until ctx ends; only a configuration that
// cannot be right, and a server that is too old, are errors.
func Connect(ctx context.Context, env *Env, name string) (*bus.Bus, error) {
	return connect(ctx, env, name, (*bus.Bus).Setup)
}

// Attach is Connect for a service that only reads: it waits until another one, or
// `rollcall setup`, has set the streams up.
func Attach(ctx context.Context, env *Env, name string) (*bus.Bus, error) {
	return connect(ctx, env, name, (*bus.Bus).Ready)
}

func connect(ctx context.Context, env *Env, name string, prepare func(*bus.Bus, context.Context) error) (*bus.Bus, error) {
	if env.Config.NATS.URL == "" {
		return nil, errNoNATS
	}
	if _, err := credentials(env.Config.NATS); err != nil {
		return nil, err
	}
	env.Ready("nats", func() error { return errUnconnected })
	pauses := backoff.NewExponentialBackOff(backoff.WithInitialInterval(firstRetry), backoff.WithMaxInterval(lastRetry), backoff.WithMaxElapsedTime(0))
	b, err := backoff.RetryNotifyWithData(func() (*bus.Bus, error) { return open(ctx, env, name, prepare) }, backoff.WithContext(pauses, ctx), func(err error, pause time.Duration) {
		env.Log.WarnContext(ctx, "NATS is not ready, trying again", "error", err, "pause", pause.Round(time.Millisecond))
	})
	if err != nil {
		return nil, err
	}
	env.Ready("nats", func() error {
		return Usable(b)
	})
	return b, nil
}

// Usable says why the connection to NATS is of no use right now: a condition of the
// readiness probe.
func Usable(b *bus.Bus) error {
	if !b.Connected() {
		return errUnconnected
	}
	return b.Refusing()
}

// open is one attempt at connect.
func open(ctx context.Context, env *Env, name string, prepare func(*bus.Bus, context.Context) error) (*bus.Bus, error) {
	b, err := Dial(ctx, env.Config, name, env.Log)
	if errors.Is(err, bus.ErrTooOld) {
		return nil, backoff.Permanent(err)
	}
	if err != nil {
		return nil, err
	}
	if err := prepare(b, ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Dial connects to the configured external NATS.
func Dial(ctx context.Context, cfg *connection.Config, name string, log *slog.Logger) (*bus.Bus, error) {
	credentials, err := credentials(cfg.NATS)
	if err != nil {
		return nil, err
	}
	return bus.Connect(ctx, bus.Config{
		URL: cfg.NATS.URL, Credentials: credentials, Name: name, Replicas: cfg.NATS.Replicas, Log: log,
	})
}

func credentials(n connection.NATS) (string, error) {
	if n.Credentials.IsZero() {
		return "", nil
	}
	text, err := n.Credentials.Resolve()
	if err != nil {
		return "", fmt.Errorf("%w: nats.credentials: %w", ErrConfiguration, err)
	}
	return text, nil
}
