// Package links remembers what each entry is on each target: the link between
// an entry id and a resource id, who is writing to it right now, which entry
// owns a resource, and the membership that was last applied to a group.
//
// Order comes from the claim: a worker writes it into the link by
// compare-and-set before the first write to the target, and commits the result
// by compare-and-set. Who loses reads again and converges to the newest state.
package links

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Lease is how long a claim is respected. Nothing is sent to the target later
// than Lease minus Margin after a time before the claim was written.
const (
	Lease  = 30 * time.Second
	Margin = 3 * time.Second
)

// ErrClaimed means that another worker is writing to the entry's resource.
var ErrClaimed = errors.New("another worker is writing to this entry")

// Store holds the links of one connection. It is safe for concurrent use.
type Store struct {
	connection string
	owner      string
	writer     *bus.Writer
	links      *bus.Bucket[provisioningv1.Link, *provisioningv1.Link]
	owners     *bus.Bucket[provisioningv1.Ownership, *provisioningv1.Ownership]
	members    *bus.Bucket[provisioningv1.AppliedMembers, *provisioningv1.AppliedMembers]
	blocked    *bus.Bucket[provisioningv1.Blocked, *provisioningv1.Blocked]

	mu      sync.Mutex
	foreign map[string]sighting
	pruned  time.Time // when old sightings were dropped last
}

// sighting is a foreign claim as it was first seen, by our own clock.
type sighting struct {
	revision uint64
	since    time.Time
}

// Open is the connection's store. The owner must be unique to this process; the
// writer is shared by all stores of a process.
func Open(b *bus.Bus, writer *bus.Writer, connection, owner string) *Store {
	return &Store{
		connection: connection,
		owner:      owner,
		writer:     writer,
		links:      bus.OpenBucket[provisioningv1.Link](b, provisioningv1.BucketLinks),
		owners:     bus.OpenBucket[provisioningv1.Ownership](b, provisioningv1.BucketLinks),
		members:    bus.OpenBucket[provisioningv1.AppliedMembers](b, provisioningv1.BucketLinks),
		blocked:    bus.OpenBucket[provisioningv1.Blocked](b, provisioningv1.BucketLinks),
		foreign:    map[string]sighting{},
	}
}

// Record is a link with what is needed to write it back.
type Record struct {
	Kind directoryv1.Kind
	ID   []byte
	// Link is never nil; it is empty for an entry that has none.
	Link     *provisioningv1.Link
	revision uint64
}

// Linked says whether the entry has a resource on the target.
func (r *Record) Linked() bool { return HasResource(r.Link) }

// HasResource says whether a link stands for a resource on the target.
func HasResource(l *provisioningv1.Link) bool {
	return l.GetState() == provisioningv1.LinkState_LINK_STATE_ACTIVE || l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED
}

// ResourceOf is the id of the resource that a link stands for; empty where there is
// none. In a dry run it is the one that the entry would have.
func ResourceOf(l *provisioningv1.Link, dryRun bool) string {
	switch {
	case dryRun && l.GetPlanned() != nil:
		return l.GetPlanned().GetResourceId()
	case HasResource(l):
		return l.GetResourceId()
	}
	return ""
}

// Forget makes a link that of an entry without a resource.
func Forget(l *provisioningv1.Link) {
	l.State, l.ResourceId, l.Attributes = provisioningv1.LinkState_LINK_STATE_NONE, "", nil
	l.ForeignValues, l.MembersApplied, l.MembersWithoutLink, l.UnwantedMembers = nil, 0, 0, 0
	l.DeleteAt, l.RefusedMembers, l.Unapplied, l.FoundInactive, l.Adopting = nil, nil, nil, false, false
}

// Get reads the entry's link.
func (s *Store) Get(ctx context.Context, kind directoryv1.Kind, id []byte) (*Record, error) {
	link, revision, err := s.links.Get(ctx, provisioningv1.LinkKey(s.connection, kind, id))
	if errors.Is(err, bus.ErrNotFound) {
		link, err = &provisioningv1.Link{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read link of %x: %w", id, err)
	}
	return &Record{Kind: kind, ID: id, Link: link, revision: revision}, nil
}

// Busy says whether another worker's claim on the entry is alive. A foreign claim
// is given up only after it stayed unchanged for one lease by our own monotonic
// clock; wall clocks of different machines are never compared.
func (s *Store) Busy(r *Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := string(r.ID) + r.Kind.Token()
	owner := r.Link.GetClaim().GetOwner()
	if owner == "" || owner == s.owner {
		delete(s.foreign, key)
		return false
	}
	seen, known := s.foreign[key]
	if !known || seen.revision != r.revision {
		s.prune()
		s.foreign[key] = sighting{revision: r.revision, since: time.Now()}
		return true
	}
	if time.Since(seen.since) < failpoint.Scale(Lease) {
		return true
	}
	delete(s.foreign, key)
	return false
}

// Abandoned says whether a link bears a claim under which another worker, or this one
// without an answer, may have sent something: it may still arrive at the target.
func (s *Store) Abandoned(l *provisioningv1.Link) bool {
	c := l.GetClaim()
	return c.GetSince() != nil && c.GetOwner() != s.owner
}

// Claimed says whether a link bears this worker's own claim.
func (s *Store) Claimed(l *provisioningv1.Link) bool {
	return l.GetClaim() != nil && l.GetClaim().GetOwner() == s.owner
}

// sightingLife is how long a sighting is kept, in leases: an entry that is not asked for
// again meanwhile was finished by its worker, and another replica was told.
const sightingLife = 10

// prune drops, once in a lease, the sightings of entries that are not asked for any
// more; s.mu is held. A claim that is seen again after that waits for another lease.
func (s *Store) prune() {
	lease := failpoint.Scale(Lease)
	if time.Since(s.pruned) < lease {
		return
	}
	s.pruned = time.Now()
	maps.DeleteFunc(s.foreign, func(_ string, one sighting) bool { return time.Since(one.since) > sightingLife*lease })
}

// Claim makes this worker the one that may write to the target for an entry that
// is not Busy, and stores the writes with the claim, all or none. The error is
// bus.ErrConflict when the link changed in between.
func (s *Store) Claim(ctx context.Context, r *Record, sequence uint64, intent provisioningv1.Intent, writes ...bus.Write) error {
	r.Link.Claim = &provisioningv1.Claim{Sequence: sequence, Owner: s.owner, Intent: intent, Since: timestamppb.Now()}
	_, err := s.Commit(ctx, r, writes...)
	return err
}

// Commit writes the record's link back, with the other writes, all or none. A
// claim in the link stays in it: clear it first when the work is done. The error
// is bus.ErrConflict when the link or one of the others changed in between;
// otherwise the revisions of the others are returned.
func (s *Store) Commit(ctx context.Context, r *Record, writes ...bus.Write) ([]uint64, error) {
	w, err := s.links.Write(provisioningv1.LinkKey(s.connection, r.Kind, r.ID), r.Link, r.revision)
	if err != nil {
		return nil, err
	}
	revisions, err := s.writer.Commit(ctx, append([]bus.Write{w}, writes...)...)
	if err != nil {
		return nil, fmt.Errorf("commit link of %x: %w", r.ID, err)
	}
	r.revision = revisions[0]
	return revisions[1:], nil
}

// Owner is the entry that owns a resource, nil when nobody does, and the
// revision that a write of the ownership has to expect.
func (s *Store) Owner(ctx context.Context, kind directoryv1.Kind, resourceID string) (id []byte, revision uint64, err error) {
	o, revision, err := s.owners.Get(ctx, provisioningv1.OwnershipKey(s.connection, kind, resourceID))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, revision, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read owner of a resource: %w", err)
	}
	return o.GetEntryId(), revision, nil
}

// Own makes a write that gives the resource to the entry, if the ownership's
// revision is still the expected one.
func (s *Store) Own(kind directoryv1.Kind, resourceID string, id []byte, revision uint64) (bus.Write, error) {
	return s.owners.Write(provisioningv1.OwnershipKey(s.connection, kind, resourceID), &provisioningv1.Ownership{EntryId: id, Kind: kind}, revision)
}

// Disown makes a write that gives the resource up; nothing is written when the
// entry does not own it.
func (s *Store) Disown(ctx context.Context, kind directoryv1.Kind, resourceID string, id []byte) ([]bus.Write, error) {
	owner, revision, err := s.Owner(ctx, kind, resourceID)
	if err != nil || !bytes.Equal(owner, id) {
		return nil, err
	}
	return []bus.Write{s.owners.Remove(provisioningv1.OwnershipKey(s.connection, kind, resourceID), revision)}, nil
}

// Each delivers the links of one kind, as they are now.
func (s *Store) Each(ctx context.Context, kind directoryv1.Kind, each func(id []byte, link *provisioningv1.Link)) error {
	err := s.links.Read(ctx, provisioningv1.LinkFilter(s.connection, kind), func(e bus.Entry[provisioningv1.Link, *provisioningv1.Link]) error {
		_, _, id, err := provisioningv1.ParseLinkKey(e.Key)
		if err == nil {
			each(id, e.Value)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the links of %s: %w", s.connection, err)
	}
	return nil
}

// Links delivers the links of one kind, then each change until ctx ends. The
// link is nil when it was dropped.
func (s *Store) Links(ctx context.Context, kind directoryv1.Kind, caughtUp func(), each func(id []byte, link *provisioningv1.Link, revision uint64)) error {
	return s.links.Watch(ctx, provisioningv1.LinkFilter(s.connection, kind), caughtUp,
		func(e bus.Entry[provisioningv1.Link, *provisioningv1.Link]) error {
			_, _, id, err := provisioningv1.ParseLinkKey(e.Key)
			if err != nil {
				return err
			}
			each(id, e.Value, e.Revision)
			return nil
		})
}

// maxTries bounds how often a compare-and-set is tried again.
const maxTries = 20

// WaitFor remembers that an entry waits for the owner of a resource to give it up.
func (s *Store) WaitFor(ctx context.Context, kind directoryv1.Kind, owner, waiter []byte) error {
	key := provisioningv1.BlockedKey(s.connection, kind, owner)
	for range maxTries {
		b, revision, err := s.blocked.Get(ctx, key)
		if errors.Is(err, bus.ErrNotFound) {
			b, err = &provisioningv1.Blocked{}, nil
		}
		if err != nil {
			return fmt.Errorf("read who waits for %x: %w", owner, err)
		}
		if slices.ContainsFunc(b.GetEntryIds(), func(id []byte) bool { return bytes.Equal(id, waiter) }) {
			return nil
		}
		b.EntryIds = append(b.EntryIds, waiter)
		if _, err := s.blocked.Put(ctx, key, b, revision); !errors.Is(err, bus.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("wait for %x: %w", owner, bus.ErrConflict)
}

// Waiting are the entries that wait for an entry to give its resource up.
func (s *Store) Waiting(ctx context.Context, kind directoryv1.Kind, owner []byte) ([][]byte, error) {
	b, _, err := s.blocked.Get(ctx, provisioningv1.BlockedKey(s.connection, kind, owner))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, fmt.Errorf("read who waits for %x: %w", owner, err)
	}
	return b.GetEntryIds(), nil
}

// Released forgets who waited for an entry: they were asked to look again.
func (s *Store) Released(ctx context.Context, kind directoryv1.Kind, owner []byte) error {
	if err := s.blocked.Drop(ctx, provisioningv1.BlockedKey(s.connection, kind, owner)); err != nil {
		return fmt.Errorf("forget who waits for %x: %w", owner, err)
	}
	return nil
}

// Chunk is one chunk of the membership that was last applied to a group.
type Chunk struct {
	Number  int
	Members []*provisioningv1.Member
	// Revision is what a write of the chunk has to expect.
	Revision uint64
}

// AppliedChunk reads one chunk of a group's applied membership.
func (s *Store) AppliedChunk(ctx context.Context, group []byte, number int) (*Chunk, error) {
	applied, revision, err := s.members.Get(ctx, provisioningv1.MembersKey(s.connection, group, number))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, fmt.Errorf("read applied members of %x: %w", group, err)
	}
	return &Chunk{Number: number, Members: applied.GetMembers(), Revision: revision}, nil
}

// WriteChunk makes a write that stores a chunk of a group's applied membership;
// an empty chunk is removed.
func (s *Store) WriteChunk(group []byte, c *Chunk) (bus.Write, error) {
	key := provisioningv1.MembersKey(s.connection, group, c.Number)
	if len(c.Members) == 0 {
		return s.members.Remove(key, c.Revision), nil
	}
	return s.members.Write(key, &provisioningv1.AppliedMembers{Members: c.Members}, c.Revision)
}

// WriteLink makes a write of another entry's link, to be stored together with
// one's own.
func (s *Store) WriteLink(r *Record) (bus.Write, error) {
	return s.links.Write(provisioningv1.LinkKey(s.connection, r.Kind, r.ID), r.Link, r.revision)
}

// Next is the revision of the first link of a kind that was written after a revision;
// 0 when there is none.
func (s *Store) Next(ctx context.Context, kind directoryv1.Kind, after uint64) (uint64, error) {
	return s.links.Next(ctx, provisioningv1.LinkFilter(s.connection, kind), after)
}

// LastRevision is the revision of the newest write of all; every link that is there
// has this one or an older one.
func (s *Store) LastRevision(ctx context.Context) (uint64, error) { return s.links.LastRevision(ctx) }

// Any says whether a connection has links.
func Any(ctx context.Context, b *bus.Bus, connection string) (bool, error) {
	_, err := b.Last(ctx, "KV_"+provisioningv1.BucketLinks, "$KV."+provisioningv1.BucketLinks+"."+connection+".>")
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
