package groupsync

import (
	"cmp"
	"context"
	"hash/fnv"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
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
	// stranger says that the member stands in no record of ours any more, and ours that
	// it did: Rollcall added it.
	stranger, ours bool
	// counted says that the guard counts it, and held that it waits for approval.
	counted, held bool
	// replaced says that the member stays, with another resource: what is removed is an id
	// that no longer stands for anybody.
	replaced bool
	// again says that an addition may have been done before: it is sent so that it
	// counts once.
	again bool
}

// unmanaged says that only the target has the member.
func (s step) unmanaged() bool { return s.stranger && !s.ours }

// weight is how many changes of members a step makes in a request.
func (s step) weight() int {
	if s.again && !s.remove {
		return 2
	}
	return 1
}

// difference is what turns the applied membership into the wanted one: removals
// first, then additions, each in the order of the chunks that they stand in, so that
// a batch touches few of them. A member whose resource is gone was dropped by the
// target together with it (see nameReplaced for those that came back), and a resource that another entry has taken over stays if
// that one is a member.
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
				if m.GetUnsure() {
					additions = append(additions, step{id: id, resource: now, again: true})
				}
				continue
			}
			s := step{id: id, remove: true, replaced: stays}
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
	slices.SortFunc(removals, a.byPlace)
	slices.SortFunc(additions, a.byPlace)
	return append(removals, additions...)
}

// byPlace orders steps by the chunk that they change, and by entry.
func (a *applied) byPlace(x, y step) int {
	return cmp.Or(cmp.Compare(a.chunk(x.id).Number, a.chunk(y.id).Number), slices.Compare(x.id[:], y.id[:]))
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
			c.Members[at] = s.member()
		default:
			c.Members = slices.Insert(c.Members, at, s.member())
		}
	}
}

func (s step) member() *provisioningv1.Member {
	return &provisioningv1.Member{EntryId: s.id[:], ResourceHash: provisioningv1.ResourceHash(s.resource)}
}

// doubt marks the members that steps are about to change: until the target has
// confirmed them, nobody knows whether they are there.
func (a *applied) doubt(steps []step) {
	for _, s := range steps {
		if s.resource == "" || s.stranger {
			continue
		}
		if !s.remove {
			a.record([]step{s})
		}
		if m := a.find(s.id); m != nil {
			m.Unsure, a.stale[a.chunk(s.id).Number] = true, true
		}
	}
}

// find is the record of a member; nil when there is none.
func (a *applied) find(id entryID) *provisioningv1.Member {
	members := a.chunk(id).Members
	at, found := slices.BinarySearchFunc(members, id[:], func(m *provisioningv1.Member, id []byte) int { return slices.Compare(m.GetEntryId(), id) })
	if !found {
		return nil
	}
	return members[at]
}

// hashes are those of the resources of all members.
func (a *applied) hashes() map[string]bool {
	all := map[string]bool{}
	for _, c := range a.chunks {
		for _, m := range c.Members {
			all[string(m.GetResourceHash())] = true
		}
	}
	return all
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
