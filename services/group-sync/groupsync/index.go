package groupsync

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	chunkDelay     = 200 * time.Millisecond
	reconnectDelay = time.Second
	recordSize     = directoryv1.IDSize + 1
	chunkHashSize  = 16
	resourceHash   = 8
)

var errChunkMoved = errors.New("a members chunk is not the one that the manifest describes")

// member is one member as the directory says.
type member struct {
	id   entryID
	kind directoryv1.Kind
}

// index knows, in memory, the resource of every entry that has a link in the
// connection, and which groups hold an entry. When a link comes, changes or goes,
// it asks for another look at the groups that hold the entry.
type index struct {
	source   string
	dryRun   bool // members have the resources that they would have
	bus      *bus.Bus
	links    *links.Store
	requests *worker.Requests // of groups
	log      *slog.Logger

	mu        sync.RWMutex
	resources map[entryID]string           // of users and groups that have one
	byHash    map[[resourceHash]byte]named // resource ids by their short hash
	disabled  map[entryID]struct{}         // users whose resource is disabled
	deleted   map[string]struct{}          // resources that would be deleted in a dry run
	lost      map[entryID]struct{}         // users whose resource vanished from the target, and is not made anew yet
	chunks    map[chunkKey]held
	holders   map[entryID]map[entryID]int // groups, by member: in how many chunks
	groups    map[entryID]struct{}        // groups that have a link
	revision  uint64                      // newest link of a user that was seen
	catching  atomic.Int32                // watches that have not caught up yet
	ready     chan struct{}
	// unwanted are the groups that have members on the target whose removal is held.
	unwanted map[entryID]struct{}
}

type chunkKey struct {
	group entryID
	n     int
}

// named is a resource id, and how many links name it. A resource that moves from one
// entry to another is named by both links until both changes have arrived, in either
// order.
type named struct {
	resource string
	links    int
}

// held is what a chunk holds, and the sequence that says so.
type held struct {
	members  []member
	sequence uint64
}

func newIndex(c *connection.Connection, process *worker.Process) *index {
	x := &index{
		source: c.Source, dryRun: c.DryRun, bus: process.Bus(), links: process.Links(c.Name),
		requests: process.Requests(directoryv1.Kind_KIND_GROUP, c.Name, "members"), log: process.Log().With("connection", c.Name),
		resources: map[entryID]string{}, byHash: map[[resourceHash]byte]named{}, disabled: map[entryID]struct{}{}, deleted: map[string]struct{}{}, lost: map[entryID]struct{}{}, unwanted: map[entryID]struct{}{}, chunks: map[chunkKey]held{},
		holders: map[entryID]map[entryID]int{}, groups: map[entryID]struct{}{}, ready: make(chan struct{}),
	}
	x.catching.Store(watches)
	return x
}

// run keeps the index until ctx ends.
func (x *index) run(ctx context.Context) error {
	var all sync.WaitGroup
	follow := func(what string, watch func(context.Context, func()) error) {
		var once sync.Once
		caughtUp := func() { once.Do(x.caughtUp) }
		all.Go(func() {
			worker.Follow(ctx, x.log, what, reconnectDelay, func(ctx context.Context) error { return watch(ctx, caughtUp) })
		})
	}
	follow("user links", x.watchLinks(directoryv1.Kind_KIND_USER))
	follow("group links", x.watchLinks(directoryv1.Kind_KIND_GROUP))
	follow("members", x.watchMembers)
	all.Go(func() { x.requests.Run(ctx) })
	all.Wait()
	return nil
}

// watches is how many watches have to catch up before the index is ready.
const watches = 3

func (x *index) caughtUp() {
	if x.catching.Add(-1) == 0 {
		close(x.ready)
	}
}

func (x *index) watchLinks(kind directoryv1.Kind) func(context.Context, func()) error {
	return func(ctx context.Context, caughtUp func()) error {
		return x.links.Links(ctx, kind, caughtUp, func(id []byte, l *provisioningv1.Link, revision uint64) {
			x.link(kind, entryID(id), l, revision)
		})
	}
}

// link takes a link as it is now. A resource that came, changed or went concerns
// the groups that hold the entry.
func (x *index) link(kind directoryv1.Kind, id entryID, l *provisioningv1.Link, revision uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if kind == directoryv1.Kind_KIND_USER {
		x.revision = max(x.revision, revision)
	}
	before, after := x.resources[id], links.ResourceOf(l, x.dryRun)
	if kind == directoryv1.Kind_KIND_GROUP && after != "" {
		if _, known := x.groups[id]; !known {
			x.groups[id] = struct{}{}
			x.requests.Want(id) // whatever was missed while nobody watched
		}
	}
	if deleted := l.GetPlanned().GetDeletedResourceId(); x.dryRun && deleted != "" {
		x.deleted[deleted] = struct{}{}
	}
	if l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED {
		x.disabled[id] = struct{}{}
	} else {
		delete(x.disabled, id)
	}
	if kind == directoryv1.Kind_KIND_GROUP {
		if l.GetUnwantedMembers() > 0 {
			x.unwanted[id] = struct{}{}
		} else {
			delete(x.unwanted, id)
		}
	}
	if before == after {
		return
	}
	if before != "" { // a member that nobody wanted may be gone with it
		for group := range x.unwanted {
			x.requests.Want(group)
		}
	}
	x.unname(before)
	delete(x.resources, id)
	delete(x.lost, id)
	switch {
	case after == "" && l.GetState() == provisioningv1.LinkState_LINK_STATE_NONE:
		x.lost[id] = struct{}{}
	case after != "":
		x.resources[id] = after
		x.byHash[hashOf(after)] = named{resource: after, links: x.byHash[hashOf(after)].links + 1}
	}
	for group := range x.holders[id] {
		if _, linked := x.groups[group]; linked {
			x.requests.Want(group)
		}
	}
}

// unname takes away one link's naming of a resource; x.mu is held.
func (x *index) unname(resource string) {
	one, known := x.byHash[hashOf(resource)]
	if !known {
		return
	}
	if one.links--; one.links == 0 {
		delete(x.byHash, hashOf(resource))
		return
	}
	x.byHash[hashOf(resource)] = one
}

func hashOf(resourceID string) [resourceHash]byte {
	return [resourceHash]byte(provisioningv1.ResourceHash(resourceID))
}

func (x *index) watchMembers(ctx context.Context, caughtUp func()) error {
	opts := bus.ReadOptions{Filters: []string{directoryv1.ChunkFilter(x.source)}, Follow: true, CaughtUp: caughtUp}
	return x.bus.Read(ctx, directoryv1.StreamGroups, opts, func(s *bus.Stored) error {
		subject, err := directoryv1.ParseSubject(s.Subject)
		if err != nil {
			return err
		}
		members, _, err := decodeChunk(s.Data)
		if err != nil {
			return fmt.Errorf("decode %s: %w", s.Subject, err)
		}
		x.hold(chunkKey{entryID(subject.ID), subject.Chunk}, held{members, s.Sequence})
		return nil
	})
}

// hold takes what one chunk of a group holds, unless something newer is known.
func (x *index) hold(key chunkKey, now held) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := x.chunks[key]
	if now.sequence < before.sequence {
		return
	}
	for _, m := range before.members {
		if x.holders[m.id][key.group]--; x.holders[m.id][key.group] <= 0 {
			delete(x.holders[m.id], key.group)
		}
		if len(x.holders[m.id]) == 0 {
			delete(x.holders, m.id)
		}
	}
	x.chunks[key] = now
	for _, m := range now.members {
		if x.holders[m.id] == nil {
			x.holders[m.id] = map[entryID]int{}
		}
		x.holders[m.id][key.group]++
	}
}

func decodeChunk(data []byte) (members []member, hash []byte, err error) {
	var chunk directoryv1.MemberChunk
	if err := proto.Unmarshal(data, &chunk); err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(chunk.GetMembers())
	members, err = unpack(chunk.GetMembers())
	return members, sum[:chunkHashSize], err
}

// unpack reads the records of a chunk.
func unpack(packed []byte) (members []member, err error) {
	if len(packed)%recordSize != 0 {
		return nil, fmt.Errorf("%d bytes are not whole records", len(packed))
	}
	for ; len(packed) > 0; packed = packed[recordSize:] {
		members = append(members, member{entryID(packed[:directoryv1.IDSize]), directoryv1.Kind(packed[directoryv1.IDSize])})
	}
	return members, nil
}

// chunk reads one chunk of a group's members from the stream; errChunkMoved when
// it is not the one with this hash.
func (x *index) chunk(ctx context.Context, group []byte, n int, hash []byte) ([]member, error) {
	s, err := x.bus.Last(ctx, directoryv1.StreamGroups, directoryv1.ChunkSubject(x.source, group, n))
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	members, got, err := decodeChunk(s.Data)
	if err != nil {
		return nil, err
	}
	if string(got) != string(hash) {
		return nil, errChunkMoved
	}
	x.hold(chunkKey{entryID(group), n}, held{members, s.Sequence}) // the watch may be behind
	return members, nil
}

// resolve returns the resource ids of the members that have one, by entry, and
// those that have none. It waits until everything that was linked when it was
// called is known.
func (x *index) resolve(ctx context.Context, members []member) (ids map[entryID]string, without map[entryID]bool, err error) {
	if err := x.catchUp(ctx); err != nil {
		return nil, nil, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	ids, without = make(map[entryID]string, len(members)), map[entryID]bool{}
	for _, m := range members {
		if resource, ok := x.resources[m.id]; ok {
			ids[m.id] = resource
		} else {
			without[m.id] = true
		}
	}
	return ids, without, nil
}

const (
	catchUpPoll  = 5 * time.Millisecond
	catchUpLimit = 2 * time.Second
)

var errBehind = errors.New("the index of links is still behind")

// catchUp waits until the index has seen every link of a user that is there now.
func (x *index) catchUp(ctx context.Context) error {
	select {
	case <-x.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	next, err := x.links.Next(ctx, directoryv1.Kind_KIND_USER, x.seen())
	if err != nil || next == 0 {
		return err
	}
	last, err := x.links.LastRevision(ctx) // what is written later is not waited for
	if err != nil {
		return err
	}
	patient, cancel := context.WithTimeout(ctx, catchUpLimit)
	defer cancel()
	for next != 0 && next <= last {
		if err := x.await(patient, next); err != nil {
			return err
		}
		if next, err = x.links.Next(ctx, directoryv1.Kind_KIND_USER, x.seen()); err != nil {
			return err
		}
	}
	return nil
}

// await waits until the index has seen a revision.
func (x *index) await(ctx context.Context, revision uint64) error {
	for x.seen() < revision {
		select {
		case <-ctx.Done():
			return worker.Wait(chunkDelay, errBehind)
		case <-time.After(catchUpPoll):
		}
	}
	return nil
}

func (x *index) seen() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.revision
}

// resource is the resource id with this short hash, if an entry is linked to it.
func (x *index) resource(hash []byte) (string, bool) {
	if len(hash) != resourceHash {
		return "", false
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	one, ok := x.byHash[[resourceHash]byte(hash)]
	return one.resource, ok
}

// awaits says whether a user had a resource that vanished from the target, and has none
// again yet.
func (x *index) awaits(id entryID) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, lost := x.lost[id]
	return lost
}

// vanishes says of a dry run whether a user's resource would be deleted before.
func (x *index) vanishes(resource string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, deleted := x.deleted[resource]
	return deleted
}

// ended says whether a user is gone from the directory and disabled on the target:
// what becomes of her memberships was decided with that.
func (x *index) ended(ctx context.Context, id entryID) (bool, error) {
	x.mu.RLock()
	_, disabled := x.disabled[id]
	x.mu.RUnlock()
	if !disabled {
		return false, nil
	}
	last, err := x.bus.Last(ctx, directoryv1.StreamUsers, directoryv1.EntrySubject(directoryv1.Kind_KIND_USER, x.source, id[:]))
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil // unknown is not gone
	}
	if err != nil {
		return false, fmt.Errorf("read a member: %w", err)
	}
	return last.Header[directoryv1.HeaderOp] == directoryv1.Op_OP_ABSENT.String(), nil
}
