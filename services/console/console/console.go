// Package console shows where sources and connections stand: a page for people and
// an HTTP API for programs. It reads what the services keep in NATS and changes
// nothing.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/status"
)

// Limits of one request; there are no bodies to wait for.
const (
	requestTimeout  = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
	maxHeader       = 16 << 10
)

// errNoAddress is the answer to a console that is started and configured away.
var errNoAddress = errors.New(`console.listen: is empty, and there is nothing to serve; write an address, for example 127.0.0.1:8080`)

// Run serves the console until ctx ends. What happens to one request:
//
//  1. who asks? The token decides; without one, only this machine may ask
//  2. read where everything stands, for all who ask at the same time once
//  3. answer as a page or as JSON
func Run(ctx context.Context, cfg *connection.Config, b *bus.Bus, log *slog.Logger) error {
	if cfg.Console.Listen == "" {
		return errNoAddress
	}
	door, err := newDoor(cfg.Console.Auth, log)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Console.Listen)
	if err != nil {
		return fmt.Errorf("console.listen: %w; write a free address, or \"\" for no console", err)
	}
	latest := newReader(bounded(ctx, log, func(ctx context.Context) (*status.Status, error) {
		s, err := status.Read(ctx, cfg, b)
		if err == nil && cfg.Console.Auth.Token.IsZero() {
			withhold(s)
		}
		return s, err
	}))
	latest.sources = bounded(ctx, log, func(ctx context.Context) ([]status.Source, error) { return status.ReadSources(ctx, cfg, b) })
	server := &http.Server{
		Handler:           door.guard(routes(latest, log)), // 1
		ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.InfoContext(ctx, "the console can be asked", "address", listener.Addr().String(), "token", !cfg.Console.Auth.Token.IsZero())
	return serve(ctx, server, listener)
}

// withheld stands in place of what a target answered, which may hold personal data,
// where everybody on this machine may ask.
const withheld = "shown only where console.auth.token is set; `rollcall status` says it"

// withhold takes out what targets answered.
func withhold(s *status.Status) {
	for i := range s.Connections {
		c := &s.Connections[i]
		for j := range c.Problems {
			c.Problems[j].Message = withheld
		}
		if c.Paused != nil && c.Paused.Message != "" {
			c.Paused.Message = withheld
		}
	}
}

// serve answers until ctx ends, and lets the answers under way end.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("console: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(closing)
	if errors.Is(err, context.DeadlineExceeded) { // who does not take an answer does not keep the service
		err = server.Close()
	}
	if serveErr := <-ended; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
