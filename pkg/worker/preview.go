package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Previewer says what the worker of one kind of a connection would do. It consumes
// nothing and writes nothing.
type Previewer struct{ worker *Worker }

// NewPreviewer makes a previewer, which knows what was foreseen of this configuration.
func NewPreviewer(ctx context.Context, b *bus.Bus, kind directoryv1.Kind, c *connection.Connection, hash string, converger Converger) (*Previewer, error) {
	w, err := New(configOf(kind, c, hash, ""), Deps{Bus: b, Links: links.Open(b, nil, c.Name, ""), Log: slog.New(slog.DiscardHandler)}, converger) //nolint:contextcheck // a metric needs none
	if err != nil {
		return nil, err
	}
	w.guard.forecasts = true
	f, err := w.foreseen(ctx)
	if err != nil {
		return nil, err
	}
	w.guard.foreseen.Store(f)
	return &Previewer{worker: w}, nil
}

// Preview is what would be done about a change, whether it is published or not, with
// what is remembered of the entry. Sequence is that of the published change; 0 where it
// is not. The target may be read. Judge then takes out what the guard holds.
func (p *Previewer) Preview(ctx context.Context, change *directoryv1.Change, sequence uint64, set mapping.Set) (Forecast, *provisioningv1.Link, error) {
	w := p.worker
	record, err := w.deps.Links.Get(ctx, w.cfg.Kind, change.GetEntryId())
	if err != nil {
		return Forecast{}, nil, err
	}
	link := proto.CloneOf(record.Link)
	j := &Job{
		Change: change, Sequence: sequence, Set: set, Record: record, worker: w, unanswered: &atomic.Bool{}, Outcome: &provisioningv1.Outcome{}, stored: link,
		wasAt: link.GetSequence(), wasHeld: wasHeld(link), problemBefore: link.GetProblem(),
	}
	f, err := Foresee(ctx, w.converger, j)
	for i := range f.removals {
		if err != nil {
			break
		}
		f.removals[i].judgement, err = w.guard.judge(ctx, j, f.removals[i].removal)
	}
	return f, link, err
}

// Judge judges forecasts as a whole, as a run would, and takes what is held out of each
// of them. inSource says why the source holds the removal of an entry already; empty
// where it does not.
func (p *Previewer) Judge(ctx context.Context, all []Forecast, inSource func(i int) string) error {
	w := p.worker
	total, would := newTally(w.cfg.Kind), newTally(w.cfg.Kind)
	err := w.deps.Links.Each(ctx, w.cfg.Kind, func(_ []byte, l *provisioningv1.Link) { total.add(l) })
	if err != nil {
		return err
	}
	for i, f := range all {
		if held := inSource(i); held != "" {
			for n := range f.removals {
				f.removals[n].judgement = judgement{reason: held}
			}
		}
		would.remove(f, w.cfg.Kind)
	}
	check := guard.Limits.Check
	if w.guard.foreseen.Load() == nil {
		check = checkWhole // the configuration is new
	}
	reasons, err := w.reasons(ctx, check, total, would)
	if err != nil {
		return err
	}
	for i := range all {
		for n, r := range all[i].removals {
			if of := r.of(w.cfg.Kind); of != "" && !r.decided() {
				all[i].removals[n].reason = reasons[of]
			}
		}
		all[i].settle()
	}
	return nil
}

// KnownHashKey is Process.HashKey for those who write nothing: where no key was made,
// nothing was hashed with it.
func KnownHashKey(ctx context.Context, b *bus.Bus) ([]byte, error) {
	text, err := b.Text(ctx, provisioningv1.BucketTargets, hashKeyName)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, fmt.Errorf("read the hash key: %w", err)
	}
	return decodeHashKey(text)
}
