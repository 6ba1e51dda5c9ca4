package worker

import (
	"context"
	"slices"
	"sync"
)

// pool bounds the calls that a process has in flight, over all connections. Half of
// it is kept for the connections, in equal parts of at least one place each, and the
// rest is for whoever needs it: a target that is slow or dead, or has very much to do,
// can take the rest and never the part of another.
type pool struct {
	part, rest int // places of each connection, and for all

	mu    sync.Mutex
	used  map[string]int
	spent int // of the rest
	queue []*waiter
}

// waiter is a call that waits for a place.
type waiter struct {
	connection string
	ready      chan struct{}
}

func newPool(size, connections int) *pool {
	part := size
	if connections > 1 {
		part = max(1, size/(2*connections))
	}
	return &pool{part: part, rest: max(0, size-part*max(1, connections)), used: map[string]int{}}
}

// acquire waits for a place; leave gives it back.
func (p *pool) acquire(ctx context.Context, connection string) (leave func(), err error) {
	w := &waiter{connection: connection, ready: make(chan struct{})}
	p.mu.Lock()
	p.queue = append(p.queue, w)
	p.grant()
	p.mu.Unlock()
	return await(ctx, w.ready, func() { p.leave(connection) }, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return withdraw(&p.queue, w)
	})
}

// await waits until a place is granted, by the closing of ready, and returns leave,
// which gives it back. When ctx ends first, quit takes the wish out of its queue and
// says whether it still stood there: a place that was granted in this moment is given
// back.
func await(ctx context.Context, ready <-chan struct{}, leave func(), quit func() bool) (func(), error) {
	if isClosed(ready) {
		return leave, nil
	}
	select {
	case <-ready:
		return leave, nil
	case <-ctx.Done():
	}
	if !quit() {
		leave()
	}
	return nil, context.Cause(ctx)
}

// withdraw takes a wish out of a queue, and says whether it stood there.
func withdraw[T comparable](queue *[]T, wish T) bool {
	at := slices.Index(*queue, wish)
	if at >= 0 {
		*queue = slices.Delete(*queue, at, at+1)
	}
	return at >= 0
}

func (p *pool) leave(connection string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[connection]--; p.used[connection] >= p.part {
		p.spent--
	}
	p.grant()
}

// grant gives free places away: first to who has the fewest, and among those to who
// came first. p.mu is held.
func (p *pool) grant() {
	for {
		best := -1
		for i, w := range p.queue {
			if p.free(w.connection) && (best < 0 || p.used[w.connection] < p.used[p.queue[best].connection]) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		w := p.queue[best]
		p.queue = slices.Delete(p.queue, best, best+1)
		if p.used[w.connection]++; p.used[w.connection] > p.part {
			p.spent++
		}
		close(w.ready)
	}
}

func (p *pool) free(connection string) bool {
	return p.used[connection] < p.part || p.spent < p.rest
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
