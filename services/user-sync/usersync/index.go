package usersync

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	// gatherRequests is how long requests are gathered after some were published: many
	// links that appear at once ask for a user few times.
	gatherRequests = 100 * time.Millisecond
	reconnectDelay = time.Second
)

// index knows, in memory, the resource of every user of a connection that has one, and
// who refers to whom. When a resource comes, changes or goes, it asks for another look
// at those who refer to it.
type index struct {
	connection string
	bus        *bus.Bus
	links      *links.Store
	log        *slog.Logger

	mu        sync.RWMutex
	resources map[entryID]string
	referred  map[entryID][]*provisioningv1.Member // by who refers
	referrers map[entryID]map[entryID]struct{}     // by who is referred to
	wanted    map[entryID]struct{}                 // users to request
	wake      chan struct{}
	caughtUp  chan struct{}
	once      sync.Once
}

// peopleOf is what a connection has to know of its users, and what keeps that up to
// date: nothing where no reference is mapped.
func peopleOf(c *connection.Connection, compiled *connection.CompiledConnection, process *worker.Process) (people, func(context.Context) error) {
	if !slices.ContainsFunc(compiled.Users, refers) {
		return known{}, func(context.Context) error { return nil }
	}
	x := newIndex(c.Name, process.Bus(), process.Links(c.Name), process.Log().With("connection", c.Name))
	return x, x.run
}

func newIndex(connection string, b *bus.Bus, store *links.Store, log *slog.Logger) *index {
	return &index{
		connection: connection, bus: b, links: store, log: log, resources: map[entryID]string{},
		referred: map[entryID][]*provisioningv1.Member{}, referrers: map[entryID]map[entryID]struct{}{},
		wanted: map[entryID]struct{}{}, wake: make(chan struct{}, 1), caughtUp: make(chan struct{}),
	}
}

// run keeps the index until ctx ends.
func (x *index) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return x.follow(ctx) })
	group.Go(func() error { return x.request(ctx) })
	return group.Wait()
}

// follow watches the links; a broken watch begins anew.
func (x *index) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		err := x.links.Links(ctx, directoryv1.Kind_KIND_USER, func() { x.once.Do(func() { close(x.caughtUp) }) },
			func(id []byte, l *provisioningv1.Link, _ uint64) { x.link(entryID(id), l) })
		if err != nil && ctx.Err() == nil {
			x.log.WarnContext(ctx, "watch interrupted, beginning anew", "watch", "user links", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reconnectDelay):
		}
	}
	return nil
}

func (x *index) ready(ctx context.Context) error {
	select {
	case <-x.caughtUp:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *index) resource(id entryID) (string, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	resource, ok := x.resources[id]
	return resource, ok
}

// link takes a link as it is now. A resource that came, changed or went concerns those
// who refer to it; a new reference concerns its own entry, where the resource is
// another one by now than when it was looked for.
func (x *index) link(id entryID, l *provisioningv1.Link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before, after := x.resources[id], ""
	if links.HasResource(l) {
		after = l.GetResourceId()
	}
	switch {
	case before == after:
	case after == "":
		delete(x.resources, id)
	default:
		x.resources[id] = after
	}
	if before != after {
		for referrer := range x.referrers[id] {
			x.check(referrer, id)
		}
	}
	if now := l.GetReferences(); !slices.EqualFunc(now, x.referred[id], sameMember) {
		x.refer(id, now)
	}
}

func sameMember(a, b *provisioningv1.Member) bool {
	return bytes.Equal(a.GetEntryId(), b.GetEntryId()) && bytes.Equal(a.GetResourceHash(), b.GetResourceHash())
}

// refer takes the references of an entry as they are now; x.mu is held.
func (x *index) refer(id entryID, now []*provisioningv1.Member) {
	for _, m := range x.referred[id] {
		to := entryID(m.GetEntryId())
		if delete(x.referrers[to], id); len(x.referrers[to]) == 0 {
			delete(x.referrers, to)
		}
	}
	if delete(x.referred, id); len(now) > 0 {
		x.referred[id] = now
	}
	for _, m := range now {
		to := entryID(m.GetEntryId())
		if x.referrers[to] == nil {
			x.referrers[to] = map[entryID]struct{}{}
		}
		x.referrers[to][id] = struct{}{}
		x.check(id, to)
	}
}

// check asks for another look at an entry where it refers to one that has another
// resource than it knows of; x.mu is held. One without a resource is nothing to send.
func (x *index) check(id, to entryID) {
	resource, linked := x.resources[to]
	if linked && slices.ContainsFunc(x.referred[id], func(m *provisioningv1.Member) bool {
		return entryID(m.GetEntryId()) == to && !bytes.Equal(provisioningv1.ResourceHash(resource), m.GetResourceHash())
	}) {
		x.want(id)
	}
}

// want marks a user to be requested; x.mu is held.
func (x *index) want(id entryID) {
	x.wanted[id] = struct{}{}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// request publishes the requests that were gathered.
func (x *index) request(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-x.wake:
		}
		x.mu.Lock()
		wanted := x.wanted
		x.wanted = map[entryID]struct{}{}
		x.mu.Unlock()
		for id := range wanted {
			if err := x.bus.Request(ctx, directoryv1.Kind_KIND_USER, x.connection, id[:], "reference"); err != nil && ctx.Err() == nil {
				x.log.WarnContext(ctx, "request a user", "error", err)
				x.mu.Lock()
				x.want(id)
				x.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gatherRequests):
		}
	}
}
