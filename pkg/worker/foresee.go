package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/links"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// foresight is what a configuration generation would remove by itself, found out
// before its first write.
type foresight struct {
	Hash string `json:"hash"`
	// Sequence is that of the stream when it was found out; later changes are
	// judged one by one.
	Sequence uint64 `json:"sequence"`
	// Held are the reasons why such removals wait, by what is counted.
	Held map[string]string `json:"held,omitempty"`
	// Batches are what was judged as a whole since then, the oldest first.
	Batches []batch `json:"batches,omitempty"`
}

func foresightKey(connection string, kind directoryv1.Kind) string {
	return connection + ".foreseen." + kind.Token()
}

const foreseeLease = 10 * time.Second

func foreseeLeaseKey(connection string, kind directoryv1.Kind) string {
	return foresightKey(connection, kind) + ".lease"
}

// foresaw is why a removal waits that this generation would bring by itself. An entry
// that was held goes on waiting when it changes for another reason.
func (g *guardian) foresaw(ctx context.Context, of string, j *Job) (reason string, err error) {
	f := g.foreseen.Load()
	if f == nil || f.Held[of] == "" {
		return "", nil
	}
	if j.Sequence > f.Sequence && !j.wasHeld {
		h, err := g.held.Get(ctx, j.Record.Kind, j.Record.ID) // another part of it may have failed since
		if h.GetGeneration() != g.cfg.Hash || err != nil {
			return "", err
		}
	}
	return f.Held[of], nil
}

// foresee makes sure that this generation was looked at as a whole before its first
// write: one replica compares what the stream holds with the links, without a call
// to the target. If that removes more than the guard allows, all of it is held.
func (w *Worker) foresee(ctx context.Context) error {
	for ctx.Err() == nil {
		f, err := w.foreseen(ctx)
		if err != nil {
			return err
		}
		if f != nil {
			w.guard.foreseen.Store(f)
			return nil
		}
		err = w.deps.Bus.WithLease(ctx, provisioningv1.BucketTargets, foreseeLeaseKey(w.cfg.Connection, w.cfg.Kind), w.cfg.Owner, failpoint.Scale(foreseeLease), w.lookAhead)
		if err != nil && !errors.Is(err, bus.ErrConflict) {
			return err
		}
	}
	return ctx.Err()
}

// foreseen is the stored foresight of this generation; nil when there is none.
func (w *Worker) foreseen(ctx context.Context) (*foresight, error) {
	text, err := w.deps.Bus.Text(ctx, provisioningv1.BucketTargets, foresightKey(w.cfg.Connection, w.cfg.Kind))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing there is no error
	}
	if err != nil {
		return nil, err
	}
	var f foresight
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return nil, fmt.Errorf("decode what was foreseen of %s: %w", w.cfg.Connection, err)
	}
	if f.Hash != w.cfg.Hash {
		return nil, nil //nolint:nilnil // that of another generation
	}
	return &f, nil
}

// lookAhead is the one replica's part.
func (w *Worker) lookAhead(ctx context.Context) error {
	if f, err := w.foreseen(ctx); f != nil || err != nil {
		return err // another replica was faster
	}
	last, err := w.deps.Bus.LastSequence(ctx, w.cfg.Kind.Stream())
	if err != nil {
		return err
	}
	linked := map[string]*links.Record{}
	total := newTally(w.cfg.Kind)
	err = w.deps.Links.Each(ctx, w.cfg.Kind, func(id []byte, l *provisioningv1.Link) {
		total.add(l)
		if links.HasResource(l) {
			linked[string(id)] = &links.Record{Kind: w.cfg.Kind, ID: id, Link: l}
		}
	})
	if err != nil {
		return err
	}
	would := newTally(w.cfg.Kind)
	if len(linked) > 0 {
		w.deps.Log.InfoContext(ctx, "looking at what a new configuration would remove", "links", len(linked))
		if err := w.forecast(ctx, linked, would); err != nil {
			return err
		}
	}
	return w.judge(ctx, last, total, would)
}

// forecast asks the converger about every linked entry and counts its removals.
func (w *Worker) forecast(ctx context.Context, linked map[string]*links.Record, would tally) error {
	opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(w.cfg.Kind, w.cfg.Source)}}
	return w.deps.Bus.Read(ctx, w.cfg.Kind.Stream(), opts, func(s *bus.Stored) error {
		subject, err := directoryv1.ParseSubject(s.Subject)
		if err != nil {
			return err
		}
		record := linked[string(subject.ID)]
		if record == nil {
			return nil
		}
		f, err := w.forecastOf(ctx, s, record, true)
		if err != nil {
			return nil //nolint:nilerr // what cannot be evaluated is blocked or waits: it removes nothing
		}
		would.remove(f, w.cfg.Kind)
		return nil
	})
}

// forecastOf is what would be done about a stored change, without a call to the target
// where it is offline.
func (w *Worker) forecastOf(ctx context.Context, s *bus.Stored, record *links.Record, offline bool) (Forecast, error) {
	change := &directoryv1.Change{}
	if err := proto.Unmarshal(s.Data, change); err != nil {
		return Forecast{}, fmt.Errorf("decode change: %w", err)
	}
	set, err := w.attributeSet(ctx, change.GetAttributeSet())
	if err != nil {
		return Forecast{}, err
	}
	record = &links.Record{Kind: record.Kind, ID: record.ID, Link: proto.CloneOf(record.Link)}
	j := &Job{
		Change: change, Sequence: s.Sequence, Set: set, Record: record, worker: w, offline: offline, unanswered: &atomic.Bool{},
		Outcome: &provisioningv1.Outcome{}, stored: record.Link, wasAt: record.Link.GetSequence(), wasHeld: wasHeld(record.Link),
	}
	f, err := Foresee(ctx, w.converger, j)
	for i := range f.removals {
		if v, err := w.guard.apart(ctx, j, f.removals[i].removal); err == nil {
			f.removals[i].judgement = v
		}
	}
	return f, err
}

// Foresee is what a converger would do about a job, if the guard held nothing. Nothing
// is written, to the bus or to the target.
func Foresee(ctx context.Context, c Converger, j *Job) (Forecast, error) {
	j.dry = true
	err := c.Converge(ctx, j)
	if err != nil && !errors.Is(err, ErrDryRun) {
		return Forecast{}, err
	}
	return j.forecast, nil
}

// judge judges the removals and stores the result.
func (w *Worker) judge(ctx context.Context, sequence uint64, total, would tally) error {
	f := foresight{Hash: w.cfg.Hash, Sequence: sequence, Held: map[string]string{}}
	reasons, err := w.reasons(ctx, checkWhole, total, would)
	if err != nil {
		return err
	}
	for of, reason := range reasons {
		f.Held[of] = "connections." + w.cfg.Connection + ": this configuration is new, and by it " + reason
		w.deps.Log.ErrorContext(ctx, "the new configuration removes too much; its removals are held", "reason", f.Held[of],
			"cure", "correct the configuration, or look at `rollcall held` and approve")
	}
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode what is foreseen: %w", err)
	}
	return w.deps.Bus.PutText(ctx, provisioningv1.BucketTargets, foresightKey(w.cfg.Connection, w.cfg.Kind), string(data), 0)
}

// reasons are why removals that come at once wait, by what is counted.
func (w *Worker) reasons(ctx context.Context, check func(guard.Limits, guard.Removals) string, total, would tally) (map[string]string, error) {
	reasons := map[string]string{}
	for of, n := range would {
		earlier, err := w.guard.held.Earlier(ctx, w.cfg.Limits, of)
		if err != nil {
			return nil, err
		}
		reason := check(w.cfg.Limits, guard.Removals{Of: of, Count: n, Earlier: earlier, Total: total[of]})
		if reason != "" {
			reasons[of] = reason
		}
	}
	return reasons, nil
}

// checkWhole is Check for everything that a configuration removes: it may also not
// be the last user.
func checkWhole(l guard.Limits, r guard.Removals) string {
	if r.Of == guard.Users && r.Count > 0 && r.Count == r.Total {
		return fmt.Sprintf("no user would be left: all %d would be disabled or deleted", r.Total)
	}
	return l.Check(r)
}
