package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/crash"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// Follow keeps a watch going until ctx ends: one that breaks is logged as what, and
// begins anew after delay, and so does one that panics.
func Follow(ctx context.Context, log *slog.Logger, what string, delay time.Duration, watch func(context.Context) error) {
	for ctx.Err() == nil {
		err := crash.Catch(ctx, log, crash.Background, func() error { return watch(ctx) })
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "watch interrupted, beginning anew", "watch", what, "error", err)
		}
		pause(ctx, delay)
	}
}

// gatherRequests is how long requests are gathered after some were published: many
// links that appear at once ask for an entry few times.
const gatherRequests = 100 * time.Millisecond

// Requests asks a connection's workers to look at entries of one kind again. Those that
// are wanted within a short time are gathered, and each is asked for once.
type Requests struct {
	bus        *bus.Bus
	kind       directoryv1.Kind
	connection string
	reason     string
	log        *slog.Logger

	mu     sync.Mutex
	wanted map[[directoryv1.IDSize]byte]struct{}
	wake   chan struct{}
}

// Requests makes requests for entries of a kind; reason is the one that they give.
func (p *Process) Requests(kind directoryv1.Kind, connection, reason string) *Requests {
	return &Requests{
		bus: p.bus, kind: kind, connection: connection, reason: reason, log: p.log.With("connection", connection),
		wanted: map[[directoryv1.IDSize]byte]struct{}{}, wake: make(chan struct{}, 1),
	}
}

// Want marks an entry to be looked at again.
func (r *Requests) Want(id [directoryv1.IDSize]byte) {
	r.mu.Lock()
	r.wanted[id] = struct{}{}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run publishes what is wanted until ctx ends. What cannot be published is tried again.
func (r *Requests) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		r.mu.Lock()
		wanted := r.wanted
		r.wanted = map[[directoryv1.IDSize]byte]struct{}{}
		r.mu.Unlock()
		for id := range wanted {
			if err := r.bus.Request(ctx, r.kind, r.connection, id[:], r.reason); err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "ask for another look", "kind", r.kind.Token(), "error", err)
				r.Want(id)
			}
		}
		pause(ctx, gatherRequests)
	}
}
