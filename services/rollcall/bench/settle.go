package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

const (
	patience = 3 * time.Minute
	look     = 100 * time.Millisecond
	// quiet is longer than anything is gathered, so that a request that is still to
	// come comes.
	quiet = time.Second
)

var errPatience = errors.New("the target does not hold what the directory says, or work is left, after " + patience.String())

// settled waits until the target holds the directory, no worker has anything to
// do, and no request has come for a while. It asks NATS only at the end, so that
// it does not disturb what is measured.
func settled(ctx context.Context, cfg *connection.Config, rollcall *child, requests func() (int, error), whole func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	last, since := -1, time.Now()
	return until(ctx, look, func() (bool, error) {
		if err := rollcall.alive(); err != nil {
			return false, err
		}
		n, err := requests()
		if err != nil {
			return false, err
		}
		if n != last {
			last, since = n, time.Now()
		}
		if n == 0 || time.Since(since) < quiet {
			return false, nil
		}
		if ok, err := whole(); !ok || err != nil {
			return false, err
		}
		left, err := backlog(ctx, cfg)
		return left == 0, err
	})
}

// backlog is everything that waits for a worker.
func backlog(ctx context.Context, cfg *connection.Config) (total uint64, err error) {
	b, err := allinone.Attach(ctx, cfg)
	if err != nil {
		return 0, fmt.Errorf("ask for the backlog: %w", err)
	}
	defer b.Close()
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		changes, err := b.Backlog(ctx, kind.Stream(), worker.ChangesConsumer(kind, connectionName, cfg.Hash(connectionName)))
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return 0, fmt.Errorf("ask for the backlog: %w", err)
		}
		requests, err := b.Backlog(ctx, provisioningv1.StreamRequests, worker.RequestsConsumer(kind, connectionName))
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return 0, fmt.Errorf("ask for the backlog: %w", err)
		}
		total += changes.Total() + requests.Total()
	}
	return total, nil
}
