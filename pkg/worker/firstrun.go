package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// A connection's first run, for each kind: until its consumer has reached what the
// directory's first full read published, nothing is disabled or deleted. The key
// holds pending, then the sequence to reach, then done.
const (
	firstPending = "pending"
	firstDone    = "done"
)

// firstRunDelay is how long a removal waits that came during the first run.
const firstRunDelay = 2 * time.Second

func firstKey(connection string, kind directoryv1.Kind) string {
	return connection + ".first." + kind.Token()
}

// FirstPass tells that the source's first full read since the connection was made
// is published: its first run lasts until that is reached. It may be called again
// at any time.
func FirstPass(ctx context.Context, b *bus.Bus, connection string) error {
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		state, err := b.Text(ctx, provisioningv1.BucketTargets, firstKey(connection, kind))
		if errors.Is(err, bus.ErrNotFound) || err == nil && state != firstPending {
			continue
		}
		if err != nil {
			return err
		}
		last, err := b.LastSequence(ctx, kind.Stream())
		if err != nil {
			return err
		}
		if err := b.PutText(ctx, provisioningv1.BucketTargets, firstKey(connection, kind), strconv.FormatUint(last, 10), 0); err != nil {
			return fmt.Errorf("note the first run of %s: %w", connection, err)
		}
	}
	return nil
}

// beginFirstRun notes that a kind of a connection never ran before.
func beginFirstRun(ctx context.Context, b *bus.Bus, connection string, kind directoryv1.Kind) error {
	_, err := b.PutTextOnce(ctx, provisioningv1.BucketTargets, firstKey(connection, kind), firstPending)
	return err
}

const firstRunReason = "this is the connection's first run: nothing is removed in it without approval"

var errFirstRun = errors.New("the connection's first run is not over")

// firstRun holds removals that belong to the first run, and lets those wait that
// came while it lasted.
func (g *guardian) firstRun(ctx context.Context, sequence uint64) (reason string, err error) {
	if g.ran.Load() {
		return "", nil
	}
	state, err := g.bus.Text(ctx, provisioningv1.BucketTargets, firstKey(g.cfg.Connection, g.cfg.Kind))
	switch {
	case errors.Is(err, bus.ErrNotFound), err == nil && state == firstDone:
		g.ran.Store(true)
		return "", nil
	case err != nil:
		return "", err
	case state == firstPending:
		return firstRunReason, nil
	}
	last, err := strconv.ParseUint(state, 10, 64)
	if err != nil {
		return "", fmt.Errorf("decode the first run of %s: %w", g.cfg.Connection, err)
	}
	backlog, err := g.bus.Backlog(ctx, g.cfg.Kind.Stream(), ChangesConsumer(g.cfg.Kind, g.cfg.Connection, g.cfg.Hash))
	switch {
	case err != nil:
		return "", err
	case sequence <= last:
		return firstRunReason, nil
	case !backlog.Reached(last):
		return "", Wait(firstRunDelay, errFirstRun)
	}
	if err := g.bus.PutText(ctx, provisioningv1.BucketTargets, firstKey(g.cfg.Connection, g.cfg.Kind), firstDone, 0); err != nil {
		return "", fmt.Errorf("note the end of the first run of %s: %w", g.cfg.Connection, err)
	}
	g.ran.Store(true)
	return "", nil
}
