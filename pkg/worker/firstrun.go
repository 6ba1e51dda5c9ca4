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
// directory's first full read published, nothing is removed and no account is made
// active. The key holds pending, then the sequence to reach, then that it was reached.
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

const (
	firstRunReason = "this is the connection's first run: nothing is removed or made active in it without approval"
	adoptReason    = "this configuration is new: nothing is removed or made active on what it adopts without approval"
)

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
// has reached its end. A dry run ends none.
func endFirstRun(ctx context.Context, b *bus.Bus, connection, hash string, kind directoryv1.Kind, dryRun bool) (over bool, err error) {
	over, last, err := firstRun(ctx, b, connection, kind)
	if err != nil || over || dryRun || last == math.MaxUint64 {
		return over, err
	}
	backlog, err := b.Backlog(ctx, kind.Stream(), ChangesConsumer(kind, connection, hash))
	if errors.Is(err, bus.ErrNotFound) || err == nil && !backlog.Reached(last) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	newest, err := b.LastSequence(ctx, kind.Stream())
	if err != nil {
		return false, err
	}
	// An entry that changed meanwhile and was not done yet is a part of the first run, too.
	state := firstDone + strconv.FormatUint(max(last, newest), 10)
	if err := b.PutText(ctx, provisioningv1.BucketTargets, firstKey(connection, kind), state, 0); err != nil {
		return false, fmt.Errorf("note the end of the first run of %s: %w", connection, err)
	}
	return true, nil
}

// firstRun holds what belongs to the first run of a connection or is adopted by a new
// configuration, and lets those wait that came while a first run lasted.
//
//  1. what was held for that reason stays held
//  2. what the first run brought is a part of it, however late it is done
//  3. what a new configuration adopts
//  4. what came later waits for the end of the first run
//
// Where the configuration lets first runs flow, the same passes without being counted.
func (g *guardian) firstRun(ctx context.Context, j *Job, r removal) (judgement, error) {
	stays, err := g.stays(ctx, j, r)
	if err != nil || stays != "" { // 1
		return g.decide(stays), err
	}
	if fresh := j.wasAt == 0; !g.ran.Load() || fresh {
		over, last, err := g.progress(ctx)
		if err != nil {
			return judgement{}, err
		}
		brought := j.Sequence > 0 && j.Sequence <= last || last == math.MaxUint64
		if brought && (!over || fresh) || !over && r.adopted { // 2
			return g.decide(firstRunReason), nil
		}
	}
	if r.adopted && g.isNew(j) { // 3
		return g.decide(adoptReason), nil
	}
	if g.ran.Load() || g.forecasts || j.trial {
		return judgement{}, nil
	}
	over, err := endFirstRun(ctx, g.bus, g.cfg.Connection, g.cfg.Hash, g.cfg.Kind, g.cfg.DryRun) // 4
	if err == nil && !over {
		err = Wait(firstRunDelay, errFirstRun)
	}
	g.ran.Store(err == nil)
	return judgement{}, err
}

// apart is the part of firstRun that counts for a forecast of what is pending: what a
// first run or an adoption decides about is not counted with the rest.
func (g *guardian) apart(ctx context.Context, j *Job, r removal) (judgement, error) {
	if g.ran.Load() {
		return g.firstRun(ctx, j, r)
	}
	stays, err := g.stays(ctx, j, r)
	return g.decide(stays), err
}

func (g *guardian) decide(reason string) judgement {
	if g.cfg.FirstRunFlows {
		return judgement{exempt: reason != ""}
	}
	return judgement{reason: reason, firstRun: reason != ""}
}

// stays is why a removal was held before that belongs to a first run, or to what was
// adopted; empty where it was not.
func (g *guardian) stays(ctx context.Context, j *Job, r removal) (string, error) {
	if g.cfg.FirstRunFlows {
		return "", nil
	}
	h, err := g.held.Get(ctx, j.Record.Kind, j.Record.ID)
	if err != nil || !h.GetFirstRun() {
		return "", err
	}
	for i, part := range strings.Split(h.GetAction(), partsOf) {
		reasons := strings.Split(h.GetReason(), partsOf)
		if classOf(part) == r.class {
			return reasons[min(i, len(reasons)-1)], nil
		}
	}
	return "", nil
}

// progress is how far the first run is. A forecast that comes before it is a part of
// it.
func (g *guardian) progress(ctx context.Context) (over bool, last uint64, err error) {
	if g.forecasts {
		_, err := g.bus.Text(ctx, provisioningv1.BucketTargets, firstKey(g.cfg.Connection, g.cfg.Kind))
		if errors.Is(err, bus.ErrNotFound) {
			return false, math.MaxUint64, nil
		}
	}
	return firstRun(ctx, g.bus, g.cfg.Connection, g.cfg.Kind)
}

// isNew says whether a change was published before this configuration was current, or
// would be by the time it is, or is the first of its entry that this configuration looks
// at, and a former one has looked at the entry.
func (g *guardian) isNew(j *Job) bool {
	f := g.foreseen.Load()
	if g.forecasts && f == nil {
		return true // the configuration is not current yet
	}
	former := j.stored.GetConfigurationHash()
	return f != nil && j.Sequence > 0 && (j.Sequence <= f.Sequence || former != "" && former != g.cfg.Hash)
}

// watchFirstRun notes the end of the first run when it comes.
func (w *Worker) watchFirstRun(ctx context.Context) {
	g := w.guard
	for wait := generationPoll; ctx.Err() == nil && !g.ran.Load() && !g.cfg.DryRun; wait = min(2*wait, generationPollMax) {
		over, err := endFirstRun(ctx, g.bus, g.cfg.Connection, g.cfg.Hash, g.cfg.Kind, g.cfg.DryRun)
		if err != nil && ctx.Err() == nil {
			w.deps.Log.WarnContext(ctx, "cannot tell whether the first run is over; it is asked again", "error", err)
		}
		g.ran.Store(over)
		if !over {
			pause(ctx, wait)
		}
	}
}
