package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// A connection's first run, for each kind: until its consumer has reached what the
// directory's first full read published, nothing is disabled or deleted. The key
// holds pending, then the sequence to reach, then that it was reached.
const (
	firstPending = "pending"
	firstDone    = "done "
)

// firstRunDelay is how long a removal waits that came during the first run: not in
// flight, because the end of the first run may be seen only when nothing of the consumer
// is, and a removal that waits for that end must not be in its way.
const firstRunDelay = bus.LongestInFlight + time.Second

func firstKey(connection string, kind directoryv1.Kind) string {
	return connection + ".first." + kind.Token()
}

// FirstPass tells that the source's first full read since the connection was made
// is published: its first run lasts until that is reached. It may be called again
// at any time.
func FirstPass(ctx context.Context, b *bus.Bus, connection string) error {
	for _, kind := range kinds {
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

// firstRun is how far a connection's first run is: over or not, and the sequence that
// it ends with, which is not known yet where it is the largest there is.
func firstRun(ctx context.Context, b *bus.Bus, connection string, kind directoryv1.Kind) (over bool, last uint64, err error) {
	state, err := b.Text(ctx, provisioningv1.BucketTargets, firstKey(connection, kind))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return true, 0, nil
	case err != nil || state == firstPending:
		return false, math.MaxUint64, err
	}
	number, over := strings.CutPrefix(state, firstDone)
	if last, err = strconv.ParseUint(number, 10, 64); err != nil {
		return false, 0, fmt.Errorf("decode the first run of %s: %w", connection, err)
	}
	return over, last, nil
}

// InFirstRun says whether a connection's first run is not over, for any kind.
func InFirstRun(ctx context.Context, b *bus.Bus, connection string) (bool, error) {
	for _, kind := range kinds {
		if over, _, err := firstRun(ctx, b, connection, kind); err != nil || !over {
			return !over, err
		}
	}
	return false, nil
}

// endFirstRun notes that the first run is over, if the consumer of a configuration
// has reached its end.
func endFirstRun(ctx context.Context, b *bus.Bus, connection, hash string, kind directoryv1.Kind) (over bool, err error) {
	over, last, err := firstRun(ctx, b, connection, kind)
	if err != nil || over || last == math.MaxUint64 {
		return over, err
	}
	backlog, err := b.Backlog(ctx, kind.Stream(), ChangesConsumer(kind, connection, hash))
	if errors.Is(err, bus.ErrNotFound) || err == nil && !backlog.Reached(last) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := b.PutText(ctx, provisioningv1.BucketTargets, firstKey(connection, kind), firstDone+strconv.FormatUint(last, 10), 0); err != nil {
		return false, fmt.Errorf("note the end of the first run of %s: %w", connection, err)
	}
	return true, nil
}

// firstRun holds removals that belong to the first run, and lets those wait that
// came while it lasted. fresh says that the entry was never applied: what the first
// run brought stays a part of it, however late it is done.
func (g *guardian) firstRun(ctx context.Context, sequence uint64, fresh bool) (reason string, err error) {
	if g.ran.Load() && !fresh {
		return "", nil
	}
	over, last, err := firstRun(ctx, g.bus, g.cfg.Connection, g.cfg.Kind)
	if err != nil {
		return "", err
	}
	if sequence <= last {
		if over && !fresh {
			return "", nil
		}
		return firstRunReason, nil
	}
	if !over {
		if over, err = endFirstRun(ctx, g.bus, g.cfg.Connection, g.cfg.Hash, g.cfg.Kind); err == nil && !over {
			err = Wait(firstRunDelay, errFirstRun)
		}
	}
	g.ran.Store(err == nil)
	return "", err
}

// watchFirstRun notes the end of the first run when it comes.
func (w *Worker) watchFirstRun(ctx context.Context) {
	g := w.guard
	for wait := generationPoll; ctx.Err() == nil && !g.ran.Load(); wait = min(2*wait, generationPollMax) {
		over, err := endFirstRun(ctx, g.bus, g.cfg.Connection, g.cfg.Hash, g.cfg.Kind)
		if err != nil && ctx.Err() == nil {
			w.deps.Log.WarnContext(ctx, "cannot tell whether the first run is over; it is asked again", "error", err)
		}
		g.ran.Store(over)
		if !over {
			pause(ctx, wait)
		}
	}
}
