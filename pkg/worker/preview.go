package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

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

// NewPreviewer makes a previewer; it starts nothing.
func NewPreviewer(b *bus.Bus, kind directoryv1.Kind, c *connection.Connection, hash string, converger Converger) (*Previewer, error) {
	w, err := New(configOf(kind, c, hash, ""), Deps{Bus: b, Links: links.Open(b, nil, c.Name, ""), Log: slog.New(slog.DiscardHandler)}, converger)
	if err != nil {
		return nil, err
	}
	return &Previewer{worker: w}, nil
}

// Preview is what would be done about a change, whether it is published or not, with
// what is remembered of the entry. The target may be read.
func (p *Previewer) Preview(ctx context.Context, change *directoryv1.Change, set mapping.Set) (Forecast, *provisioningv1.Link, error) {
	w := p.worker
	record, err := w.deps.Links.Get(ctx, w.cfg.Kind, change.GetEntryId())
	if err != nil {
		return Forecast{}, nil, err
	}
	link := proto.CloneOf(record.Link)
	f, err := Foresee(ctx, w.converger, &Job{
		Change: change, Set: set, Record: record, worker: w, Outcome: &provisioningv1.Outcome{}, stored: link,
	})
	return f, link, err
}

// Judge says for forecasts as a whole which of them a person would be asked about
// first: the function returned gives the reason, or an empty string.
func (p *Previewer) Judge(ctx context.Context, all []Forecast) (func(Forecast) string, error) {
	w := p.worker
	total, would := newTally(w.cfg.Kind), newTally(w.cfg.Kind)
	err := w.deps.Links.Each(ctx, w.cfg.Kind, func(_ []byte, l *provisioningv1.Link) { total.add(l) })
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		would.remove(f, w.cfg)
	}
	first, err := p.firstRun(ctx)
	if err != nil {
		return nil, err
	}
	reasons := map[string]string{}
	for of, n := range would {
		earlier, err := w.guard.held.Earlier(ctx, w.cfg.Limits, of)
		if err != nil {
			return nil, err
		}
		reasons[of] = checkWhole(w.cfg.Limits, guard.Removals{Of: of, Count: n, Earlier: earlier, Total: total[of]})
		if first && of == w.cfg.Kind.Token() && reasons[of] == "" {
			reasons[of] = firstRunReason
		}
	}
	return func(f Forecast) string {
		one := newTally(w.cfg.Kind)
		one.remove(f, w.cfg)
		for of, n := range one {
			if n > 0 && reasons[of] != "" {
				return reasons[of]
			}
		}
		return ""
	}, nil
}

// firstRun says whether a run would be the connection's first, or the first is not
// over.
func (p *Previewer) firstRun(ctx context.Context) (bool, error) {
	cfg := p.worker.cfg
	_, err := p.worker.deps.Bus.Text(ctx, provisioningv1.BucketTargets, firstKey(cfg.Connection, cfg.Kind))
	if errors.Is(err, bus.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	over, _, err := firstRun(ctx, p.worker.deps.Bus, cfg.Connection, cfg.Kind)
	return !over, err
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
