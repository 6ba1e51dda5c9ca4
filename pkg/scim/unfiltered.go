package scim

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// walks lets look-ups in a target without filters share listings. What is looked for
// may have come a moment ago, so that a look-up takes part in a listing that begins
// after it; those that come meanwhile share the next one.
type walks struct {
	mu   sync.Mutex
	next map[Kind]*walk         // the one that has not begun
	turn map[Kind]chan struct{} // held by the one that runs
}

// walk is one listing and the look-ups that it serves.
type walk struct {
	seekers []*seeker
	over    chan struct{} // closed when it has ended
	err     error
}

// seeker is one look-up.
type seeker struct {
	path   Path
	values []string
	found  []*Resource
}

func newWalks() *walks {
	return &walks{next: map[Kind]*walk{}, turn: map[Kind]chan struct{}{KindUser: make(chan struct{}, 1), KindGroup: make(chan struct{}, 1)}}
}

// join adds a look-up to the next listing; lead says that the caller has to make it.
func (w *walks) join(kind Kind, one *seeker) (next *walk, lead bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next = w.next[kind]
	if next == nil {
		next, lead = &walk{over: make(chan struct{})}, true
		w.next[kind] = next
	}
	next.seekers = append(next.seekers, one)
	return next, lead
}

// begin is when nobody joins a listing any more.
func (w *walks) begin(kind Kind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.next, kind)
}

// findUnfiltered is Find for a target without filters: every resource is read, and
// compared here.
func (c *Client) findUnfiltered(ctx context.Context, kind Kind, p Path, values []string) ([]*Resource, error) {
	for {
		one := &seeker{path: p, values: values}
		shared, lead := c.walks.join(kind, one)
		if lead {
			shared.err = c.walk(ctx, kind, shared)
			close(shared.over)
		}
		select {
		case <-shared.over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch {
		case shared.err == nil:
			return one.found, nil
		case lead || ctx.Err() != nil || !gaveUp(shared.err):
			return nil, fmt.Errorf("look a %s up by %s in a listing of all: %w", kind, p, shared.err)
		}
	}
}

// gaveUp says that the one who made a listing gave up, which says nothing to the others.
func gaveUp(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// walk waits for its turn and lists a kind for everybody who joined until then.
func (c *Client) walk(ctx context.Context, kind Kind, shared *walk) error {
	turn := c.walks.turn[kind]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		c.walks.begin(kind)
		return ctx.Err()
	}
	c.walks.begin(kind)
	opts := ListOptions{}
	if kind == KindGroup {
		opts.ExcludedAttributes = []string{"members"}
	}
	_, err := c.List(ctx, kind, opts, func(r *Resource) error {
		for _, one := range shared.seekers {
			if r.matches(one.path, one.values) {
				one.found = append(one.found, r)
			}
		}
		return nil
	})
	return err
}

// ignoresFilters tells that the target returns what a filter does not name.
func (c *Client) ignoresFilters() {
	if c.cfg.Learned != nil {
		c.cfg.Learned(Learned{NoFilter: true})
	}
}
