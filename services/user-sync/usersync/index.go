package usersync

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const reconnectDelay = time.Second

// index knows, in memory, the resource of every user of a connection that has one, and
// who refers to whom. When a resource comes, changes or goes, it asks for another look
// at those who refer to it.
type index struct {
	dryRun   bool // entries have the resources that they would have
	links    *links.Store
	requests *worker.Requests
	log      *slog.Logger

	mu        sync.RWMutex
	resources map[entryID]string
	referred  map[entryID][]*provisioningv1.Member // by who refers
	referrers map[entryID]map[entryID]struct{}     // by who is referred to
	caughtUp  chan struct{}
	once      sync.Once
}

// peopleOf is what a connection has to know of its users, and what keeps that up to
// date: nothing where no reference is mapped.
func peopleOf(c *connection.Connection, compiled *connection.CompiledConnection, process *worker.Process) (people, func(context.Context) error) {
	if !slices.ContainsFunc(compiled.Users, refers) {
		return known{}, func(context.Context) error { return nil }
	}
	x := newIndex(c.Name, process)
	x.dryRun = c.DryRun
	return x, x.run
}

func newIndex(connection string, process *worker.Process) *index {
	return &index{
		links: process.Links(connection), requests: process.Requests(directoryv1.Kind_KIND_USER, connection, "reference"),
		log: process.Log().With("connection", connection), resources: map[entryID]string{},
		referred: map[entryID][]*provisioningv1.Member{}, referrers: map[entryID]map[entryID]struct{}{}, caughtUp: make(chan struct{}),
	}
}

// run keeps the index until ctx ends.
func (x *index) run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { worker.Follow(ctx, x.log, "user links", reconnectDelay, x.watch) })
	both.Go(func() { x.requests.Run(ctx) })
	both.Wait()
	return nil
}

func (x *index) watch(ctx context.Context) error {
	return x.links.Links(ctx, directoryv1.Kind_KIND_USER, func() { x.once.Do(func() { close(x.caughtUp) }) },
		func(id []byte, l *provisioningv1.Link, _ uint64) { x.link(entryID(id), l) })
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
	before, after := x.resources[id], links.ResourceOf(l, x.dryRun)
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
		x.requests.Want(id)
	}
}
