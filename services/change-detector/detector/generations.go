package detector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// currentSetKey is the key of the attribute set with which the whole source is
// published.
func currentSetKey(source string) string { return source + ".attributes" }

// formerSet is the attribute set with which the source was published before; false
// when it never was.
func (d *detector) formerSet(ctx context.Context) (mapping.Set, bool, error) {
	text, err := d.bus.Text(ctx, provisioningv1.BucketSources, currentSetKey(d.name))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the current attribute set: %w", err)
	}
	return mapping.NewSet(strings.Fields(text)), true, nil
}

// readSet chooses what is read from now on: what the configuration needs, and what
// was read before, so that a smaller need republishes nothing.
func (d *detector) readSet(ctx context.Context) (former mapping.Set, known bool, err error) {
	former, known, err = d.formerSet(ctx)
	if err != nil {
		return nil, false, err
	}
	set := d.cfg.AttributeSet(d.name)
	if known {
		set = set.Union(former)
	}
	if err := d.prepare(set); err != nil {
		return nil, false, err
	}
	return former, known, worker.StoreAttributeSet(ctx, d.bus, d.name, set)
}

// firstPassDone is called once while the lease is held, after the first full pass
// was published: every entry now carries the attribute set in force.
func (d *detector) firstPassDone(ctx context.Context) {
	names := strings.Join(d.rules.set.Names(), "\n")
	if err := d.bus.PutText(ctx, provisioningv1.BucketSources, currentSetKey(d.name), names, 0); err != nil {
		d.log.WarnContext(ctx, "store the current attribute set; connections that need it wait for a full pass again after the next start", "error", err)
	}
	d.generations.release(ctx)
}

// generations makes the configuration of the source's connections current. One
// that fails is tried again and stops neither the others nor detection.
type generations struct {
	detector *detector
	wake     chan struct{}

	mu sync.Mutex
	// due are the connections to advance, later those that need attributes which
	// are not published yet.
	due, later []string
	// passed is set when the first full pass is published: then a connection's
	// first run has an end.
	passed bool
}

// newGenerations sorts the connections: who needs nothing new advances at once, as
// everybody does in a source that was never published.
func newGenerations(d *detector, former mapping.Set, known bool) *generations {
	g := &generations{detector: d, wake: make(chan struct{}, 1)}
	for name, c := range d.cfg.Connections {
		switch {
		case c.Source != d.name:
		case known && !within(d.cfg.Needs(name), former):
			g.later = append(g.later, name)
		default:
			g.due = append(g.due, name)
		}
	}
	return g
}

func within(needs, set mapping.Set) bool {
	for name := range needs {
		if !set.Contains(name) {
			return false
		}
	}
	return true
}

// release lets the connections advance that waited for the first full pass, and
// tells all of them that it is published: those that advanced before at once, so that
// nothing that is published from now on belongs to their first run.
func (g *generations) release(ctx context.Context) {
	if g == nil {
		return
	}
	var due []string
	for name, c := range g.detector.cfg.Connections {
		if c.Source != g.detector.name {
			continue
		}
		due = append(due, name)
		if err := worker.FirstPass(ctx, g.detector.bus, name); err != nil {
			g.detector.log.DebugContext(ctx, "the end of the first run is not noted, trying again", "connection", name, "error", err)
		}
	}
	g.mu.Lock()
	g.due, g.later, g.passed = due, nil, true
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run advances what is due until ctx ends.
func (g *generations) run(ctx context.Context) {
	retry := patience()
	for {
		var again <-chan time.Time
		if g.advance(ctx) {
			retry.Reset()
		} else {
			again = time.After(retry.NextBackOff())
		}
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		case <-again:
		}
	}
}

// advance tries what is due, and says whether nothing of it is left.
func (g *generations) advance(ctx context.Context) bool {
	g.mu.Lock()
	due, passed := g.due, g.passed
	g.due = nil
	g.mu.Unlock()
	var failed []string
	for _, name := range due {
		err := worker.Advance(ctx, g.detector.bus, worker.PlanOf(g.detector.cfg, name))
		if err == nil && passed {
			err = worker.FirstPass(ctx, g.detector.bus, name)
		}
		if err != nil && ctx.Err() == nil {
			g.detector.log.ErrorContext(ctx, "the configuration does not become current, trying again", "connection", name, "error", err)
			failed = append(failed, name)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.due = append(g.due, failed...)
	return len(failed) == 0
}
