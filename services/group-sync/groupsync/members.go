package groupsync

import (
	"context"
	"hash/fnv"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// applied is the membership that was last applied to a group, as the chunks of
// the links bucket hold it.
type applied struct {
	group  []byte
	chunks []*links.Chunk
	stale  map[int]bool // chunks that differ from the bucket
}

// readApplied reads it; a group of which nothing was applied has no chunks.
func readApplied(ctx context.Context, store *links.Store, group []byte, chunks int) (*applied, error) {
	a := &applied{group: group, stale: map[int]bool{}}
	for n := range chunks {
		chunk, err := store.AppliedChunk(ctx, group, n)
		if err != nil {
			return nil, err
		}
		a.chunks = append(a.chunks, chunk)
	}
	return a, nil
}

// grow spreads the members over at least count chunks. A new chunk may have been
// used before, so that its revision is read.
func (a *applied) grow(ctx context.Context, store *links.Store, count int) error {
	if len(a.chunks) >= count {
		return nil
	}
	var all []*provisioningv1.Member
	for _, c := range a.chunks {
		all = append(all, c.Members...)
	}
	a.clear()
	for n := len(a.chunks); n < count; n++ {
		chunk, err := store.AppliedChunk(ctx, a.group, n)
		if err != nil {
			return err
		}
		a.stale[n] = len(chunk.Members) > 0
		chunk.Members = nil
		a.chunks = append(a.chunks, chunk)
	}
	for _, m := range all {
		c := a.chunk(entryID(m.GetEntryId()))
		c.Members = append(c.Members, m)
		a.stale[c.Number] = true
	}
	return nil
}

// clear forgets every member.
func (a *applied) clear() {
	for _, c := range a.chunks {
		a.stale[c.Number] = a.stale[c.Number] || len(c.Members) > 0
		c.Members = nil
	}
}

func (a *applied) chunk(id entryID) *links.Chunk {
	h := fnv.New64a()
	h.Write(id[:])
	return a.chunks[h.Sum64()%uint64(len(a.chunks))]
}

// step is one member to add or remove.
type step struct {
	id       entryID
	resource string // to send; empty: nothing is sent, only the record changes
	remove   bool
	// stranger says that the member stands in no record of ours.
	stranger bool
	// counted says that the guard counts it.
	counted bool
}

// difference is what turns the applied membership into the wanted one: removals
// first, then additions, each in the order of the entry ids. A member whose
// resource is gone was dropped by the target together with it, and a resource
// that another entry has taken over stays if that one is a member.
func (a *applied) difference(wanted map[entryID]string, resource func(hash []byte) (string, bool)) []step {
	keep := make(map[string]bool, len(wanted))
	for _, id := range wanted {
		keep[id] = true
	}
	var removals, additions []step
	has := map[entryID]bool{}
	for _, c := range a.chunks {
		for _, m := range c.Members {
			id := entryID(m.GetEntryId())
			now, stays := wanted[id]
			if stays && slices.Equal(provisioningv1.ResourceHash(now), m.GetResourceHash()) {
				has[id] = true
				continue
			}
			s := step{id: id, remove: true}
			if old, known := resource(m.GetResourceHash()); known && !keep[old] {
				s.resource = old
			}
			removals = append(removals, s)
		}
	}
	for id, now := range wanted {
		if !has[id] {
			additions = append(additions, step{id: id, resource: now})
		}
	}
	byID := func(x, y step) int { return slices.Compare(x.id[:], y.id[:]) }
	slices.SortFunc(removals, byID)
	slices.SortFunc(additions, byID)
	return append(removals, additions...)
}

// record takes steps into the chunks.
func (a *applied) record(steps []step) {
	for _, s := range steps {
		c := a.chunk(s.id)
		a.stale[c.Number] = true
		at, found := slices.BinarySearchFunc(c.Members, s.id[:], func(m *provisioningv1.Member, id []byte) int {
			return slices.Compare(m.GetEntryId(), id)
		})
		switch {
		case s.remove && found:
			c.Members = slices.Delete(c.Members, at, at+1)
		case s.remove:
		case found:
			c.Members[at] = &provisioningv1.Member{EntryId: s.id[:], ResourceHash: provisioningv1.ResourceHash(s.resource)}
		default:
			c.Members = slices.Insert(c.Members, at, &provisioningv1.Member{EntryId: s.id[:], ResourceHash: provisioningv1.ResourceHash(s.resource)})
		}
	}
}

// count is the number of members.
func (a *applied) count() uint64 {
	n := 0
	for _, c := range a.chunks {
		n += len(c.Members)
	}
	return uint64(n)
}

// writes make the chunks that changed durable; stored must be called with the
// revisions once they are.
func (a *applied) writes(store *links.Store) ([]bus.Write, error) {
	var writes []bus.Write
	for _, c := range a.changed() {
		w, err := store.WriteChunk(a.group, c)
		if err != nil {
			return nil, err
		}
		writes = append(writes, w)
	}
	return writes, nil
}

// changed are the chunks that differ from the bucket, by number; one that is
// empty and was never stored does not.
func (a *applied) changed() []*links.Chunk {
	var out []*links.Chunk
	for _, c := range a.chunks {
		if a.stale[c.Number] && (len(c.Members) > 0 || c.Revision > 0) {
			out = append(out, c)
		}
	}
	return out
}

func (a *applied) stored(revisions []uint64) {
	for i, c := range a.changed() {
		c.Revision = revisions[i]
	}
	clear(a.stale)
}

// operations are the PATCH operations of a batch of steps: one for all additions
// and one for each removal.
func operations(steps []step) []scim.Operation {
	var ops []scim.Operation
	var additions []string
	for _, s := range steps {
		switch {
		case s.resource == "":
		case s.remove:
			ops = append(ops, scim.RemoveMember(s.resource))
		default:
			additions = append(additions, s.resource)
		}
	}
	if len(additions) > 0 {
		ops = append(ops, scim.AddMembers(additions))
	}
	return ops
}

// batches cuts steps so that none sends more than limit members. Steps that send
// nothing go along with the first batch.
func batches(steps []step, limit int) [][]step {
	var silent, loud []step
	for _, s := range steps {
		if s.resource == "" {
			silent = append(silent, s)
		} else {
			loud = append(loud, s)
		}
	}
	out := slices.Collect(slices.Chunk(loud, max(1, limit)))
	switch {
	case len(silent) == 0:
	case len(out) == 0:
		out = [][]step{silent}
	default:
		out[0] = append(silent, out[0]...)
	}
	return out
}

// send carries the steps out in batches, each committed before the next; the
// operations for the group's own attributes go with the first.
func (c *converger) send(ctx context.Context, job *worker.Job, w *wanted, resourceID string, attributes []scim.Operation, a *applied, steps []step) error {
	parts := batches(steps, c.profile.MaxMembersPerRequest)
	if len(parts) == 0 {
		parts = [][]step{nil}
	}
	for i, part := range parts {
		if i > 0 {
			attributes = nil
		}
		if err := c.sendPart(ctx, job, w, resourceID, attributes, a, part); err != nil {
			return err
		}
	}
	return nil
}

// sendPart sends one batch and commits it. A group never fails because of one
// member: a batch that the target refuses is halved down to the member at fault,
// which counts as one without a resource.
func (c *converger) sendPart(ctx context.Context, job *worker.Job, w *wanted, resourceID string, attributes []scim.Operation, a *applied, part []step) error {
	ops := append(slices.Clone(attributes), operations(part)...)
	if len(ops) == 0 {
		return c.progress(ctx, job, a, part)
	}
	call, cancel := job.Target(ctx)
	_, err := c.target.Patch(call, scim.KindGroup, resourceID, ops)
	cancel()
	switch {
	case err == nil:
		return c.progress(ctx, job, a, part)
	case !scim.IsRejected(err) || len(operations(part)) == 0:
		return err
	case len(attributes) > 0:
		if err := c.sendPart(ctx, job, w, resourceID, attributes, a, nil); err != nil {
			return err
		}
		return c.sendPart(ctx, job, w, resourceID, nil, a, part)
	case len(part) == 1:
		return c.refuse(ctx, job, w, a, part[0])
	}
	half := len(part) / 2
	if err := c.sendPart(ctx, job, w, resourceID, nil, a, part[:half]); err != nil {
		return err
	}
	return c.sendPart(ctx, job, w, resourceID, nil, a, part[half:])
}

// refuse handles a single member that the target refuses: to remove one that it
// does not know is done; one that it will not take is counted.
func (c *converger) refuse(ctx context.Context, job *worker.Job, w *wanted, a *applied, s step) error {
	if s.remove {
		return c.progress(ctx, job, a, []step{{id: s.id, remove: true}})
	}
	w.refused++
	return nil
}

// progress commits the members that the target confirmed, and counts them.
func (c *converger) progress(ctx context.Context, job *worker.Job, a *applied, steps []step) error {
	if len(steps) == 0 {
		return nil
	}
	a.record(steps)
	writes, err := a.writes(job.Links())
	if err != nil {
		return err
	}
	spent := 0
	for _, s := range steps {
		switch {
		case s.resource == "":
		case s.remove:
			job.Outcome.MembersRemoved++
			if s.counted {
				spent++
			}
		default:
			job.Outcome.MembersAdded++
		}
	}
	job.Spent(guard.Members, spent)
	l := job.Record.Link
	l.MembersApplied, l.MemberChunks = a.count(), uint32(len(a.chunks)) //nolint:gosec // at most 512
	revisions, err := job.Progress(ctx, writes...)
	if err != nil {
		return err
	}
	a.stored(revisions)
	return nil
}
