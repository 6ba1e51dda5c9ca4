package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/links"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// batch is what was judged as a whole: the changes after one sequence and up to another.
type batch struct {
	After uint64 `json:"after"`
	To    uint64 `json:"to"`
	// Held are the reasons why its removals wait, by what is counted.
	Held map[string]string `json:"held,omitempty"`
}

// maxBatches is how many batches are remembered. Removals of older ones have their own
// durable keys.
const maxBatches = 16

// judged is the sequence up to which changes were judged as a whole.
func (f *foresight) judged() uint64 {
	if n := len(f.Batches); n > 0 {
		return f.Batches[n-1].To
	}
	return f.Sequence
}

// heldIn is why a removal waits by the batch that its change is of.
func (f *foresight) heldIn(of string, sequence uint64) string {
	for _, b := range f.Batches {
		if sequence > b.After && sequence <= b.To {
			return b.Held[of]
		}
	}
	return ""
}

// pending is why a removal waits that comes with others at once; empty where it does
// not. A pass over the limit is held whole, and not only from the removal on that goes
// over it: what is pending in the stream is judged together, once for all replicas.
func (g *guardian) pending(ctx context.Context, of string, j *Job, count int) (string, error) {
	g.judging.Lock()
	defer g.judging.Unlock()
	f := g.foreseen.Load()
	if f == nil || j.Sequence == 0 {
		return "", nil
	}
	if j.Sequence > f.judged() {
		if g.forecasts {
			return "", nil // it is judged with all other forecasts
		}
		if few, err := g.few(ctx, of, count); few || err != nil {
			return "", err
		}
		if err := g.judgePending(ctx); err != nil {
			return "", err
		}
		f = g.foreseen.Load()
	}
	return f.heldIn(of, j.Sequence), nil
}

// few says whether the limits allow as many removals as can be pending.
func (g *guardian) few(ctx context.Context, of string, count int) (bool, error) {
	backlog, err := g.bus.Backlog(ctx, g.cfg.Kind.Stream(), ChangesConsumer(g.cfg.Kind, g.cfg.Connection, g.cfg.Hash))
	if err != nil {
		return false, err
	}
	most := max(count, int(backlog.Total())) //nolint:gosec // a number of entries
	if of == guard.Members && backlog.Total() > 1 {
		return false, nil // any number of members may be removed by one change
	}
	earlier, err := g.held.Earlier(ctx, g.cfg.Limits, of)
	if err != nil || most+earlier <= guard.Free && most+earlier <= g.cfg.Limits.MaxRemovals {
		return err == nil, err
	}
	total, err := g.total(ctx, of)
	if err != nil {
		return false, err
	}
	return g.cfg.Limits.Check(guard.Removals{Of: of, Count: most, Earlier: earlier, Total: total}) == "", nil
}

// judgePending judges what was published since the last judgement, unless another
// replica has done it.
func (w *Worker) judgePending(ctx context.Context) error {
	last, err := w.deps.Bus.LastSequence(ctx, w.cfg.Kind.Stream())
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		f, err := w.foreseen(ctx)
		if err != nil {
			return err
		}
		if f == nil {
			return Wait(time.Second, errSuperseded)
		}
		w.guard.foreseen.Store(f)
		if f.judged() >= last {
			return nil
		}
		key := foreseeLeaseKey(w.cfg.Connection, w.cfg.Kind)
		err = w.deps.Bus.WithLease(ctx, provisioningv1.BucketTargets, key, w.cfg.Owner, failpoint.Scale(foreseeLease), w.judgeBatch)
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// judgeBatch is the one replica's part: it evaluates the pending changes. The target is
// called only for entries without a link from whose resource something may be removed.
func (w *Worker) judgeBatch(ctx context.Context) error {
	f, err := w.foreseen(ctx)
	if err != nil || f == nil {
		return err
	}
	last, err := w.deps.Bus.LastSequence(ctx, w.cfg.Kind.Stream())
	if err != nil || f.judged() >= last {
		return err
	}
	total, would := newTally(w.cfg.Kind), newTally(w.cfg.Kind)
	if err := w.deps.Links.Each(ctx, w.cfg.Kind, func(_ []byte, l *provisioningv1.Link) { total.add(l) }); err != nil {
		return err
	}
	opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(w.cfg.Kind, w.cfg.Source)}, After: f.judged()}
	err = w.deps.Bus.Read(ctx, w.cfg.Kind.Stream(), opts, func(s *bus.Stored) error {
		subject, err := directoryv1.ParseSubject(s.Subject)
		if err != nil || s.Header[directoryv1.HeaderApproval] != "" {
			return err
		}
		record, err := w.deps.Links.Get(ctx, w.cfg.Kind, subject.ID)
		if err != nil {
			return err
		}
		last = max(last, s.Sequence)
		forecast, err := w.pendingForecast(ctx, s, record)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil //nolint:nilerr // what cannot be evaluated is blocked or waits: it removes nothing
		}
		would.remove(forecast, w.cfg.Kind)
		return nil
	})
	if err != nil {
		return err
	}
	reasons, err := w.reasons(ctx, guard.Limits.Check, total, would)
	if err != nil {
		return err
	}
	b := batch{After: f.judged(), To: last, Held: map[string]string{}}
	for of, reason := range reasons {
		b.Held[of] = "connections." + w.cfg.Connection + ".guard: " + reason
		w.deps.Log.WarnContext(ctx, "a pass removes too much, its removals are held", "reason", b.Held[of], "hint", "look at `rollcall held`")
	}
	f.Batches = append(f.Batches, b)
	f.Batches = f.Batches[max(0, len(f.Batches)-maxBatches):]
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode what is foreseen: %w", err)
	}
	return w.deps.Bus.PutText(ctx, provisioningv1.BucketTargets, foresightKey(w.cfg.Connection, w.cfg.Kind), string(data), 0)
}

// pendingForecast is what would be done about a pending change. An entry without a link may
// have a resource on the target that is adopted and loses something by that: it is looked
// for.
func (w *Worker) pendingForecast(ctx context.Context, s *bus.Stored, record *links.Record) (Forecast, error) {
	f, err := w.forecastOf(ctx, s, record, true)
	if err == nil && f.mayRemove {
		f, err = w.forecastOf(ctx, s, record, false)
	}
	return f, err
}
