package detector

import (
	"iter"
	"maps"
	"runtime"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/crash"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// pass is the difference between the mirror and what was published.
type pass struct {
	upserts  []*publication
	removals []*publication
	// stuck are the entries of which nobody can say what they should be.
	stuck  []*publication
	nested *nesting
	// flow takes what takes nothing away.
	flow func(*publication) error
	// doubt is why nothing that this pass takes away may be believed, or empty.
	doubt string
}

var kinds = []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP}

// diff compares the mirror with what was published, for the given entries or,
// where ids is nil, for all. What takes nothing away flows at once, so that a first
// pass need not hold a hundred thousand publications. It is pure: it changes neither.
func diff(m *mirror, mem memory, ids map[ID]struct{}, scope closures, flow func(*publication) error) (pass, error) {
	p := pass{flow: flow, nested: newNesting(m)}
	for _, kind := range kinds {
		closure := scope.of(kind)
		visit := maps.Keys(ids)
		if ids == nil {
			visit = suspects(m, kind, mem[kind], closure)
		}
		if kind == directoryv1.Kind_KIND_USER {
			visit = m.referredFirst(visit)
		}
		for id := range visit {
			if err := p.compare(m, id, kind, mem[kind][id], closure); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// suspects are, of everything that the mirror or the memory knows, the entries that
// may differ. Nearly all can be told to be the same by their hash, which every
// processor helps to compute.
func suspects(m *mirror, kind directoryv1.Kind, known map[ID]*published, closure *closure) iter.Seq[ID] {
	entries := slices.Collect(maps.Values(m.entries))
	shares := slices.Collect(slices.Chunk(entries, len(entries)/runtime.GOMAXPROCS(0)+1))
	found := make([][]ID, len(shares))
	var running crash.Group
	for i, share := range shares {
		running.Go(func() {
			nested := newNesting(m)
			for _, e := range share {
				if !m.unchanged(e, kind, known[e.id], closure, nested) {
					found[i] = append(found[i], e.id)
				}
			}
		})
	}
	running.Wait()
	for id, p := range known {
		if _, there := m.entries[id]; !there && p.present {
			found = append(found, []ID{id})
		}
	}
	return slices.Values(slices.Concat(found...))
}

// unchanged says whether an entry is published as it is. Of one that is not
// published nothing is computed.
func (m *mirror) unchanged(e *entry, kind directoryv1.Kind, before *published, closure *closure, nested *nesting) bool {
	in, _ := m.inScope(e, kind, closure)
	switch {
	case !in:
		return before == nil || !before.present
	case before == nil || !before.present || e.broken != "":
		return false
	}
	now, err := m.outline(e, kind, before, nested)
	return err == nil && now.hash == before.hash // the error comes again, where it is told
}

// compare adds what has to be published for one entry as one kind.
func (p *pass) compare(m *mirror, id ID, kind directoryv1.Kind, before *published, in *closure) error {
	e := m.entries[id]
	is, reason := false, directoryv1.Reason_REASON_DELETED
	if e != nil {
		is, reason = m.inScope(e, kind, in)
	}
	switch {
	case !is && (before == nil || !before.present):
		return nil // never published, or published as absent: nothing new
	case !is:
		gone, err := m.absent(id, e, kind, reason, before.chunks())
		if err != nil {
			return err
		}
		successor, replaced := m.replaced[id]
		gone.replaced = replaced && e == nil && m.entries[successor] != nil
		p.removals = append(p.removals, gone)
		return nil
	}
	now, err := m.outline(e, kind, before, p.nested)
	if err != nil {
		return err
	}
	if e.broken != "" && kind == directoryv1.Kind_KIND_USER {
		p.stuck = append(p.stuck, now)
		if before == nil || !before.present {
			return nil // nothing is published of it
		}
	}
	if before != nil && before.hash == now.hash {
		return nil
	}
	if err := now.complete(); err != nil {
		return err
	}
	now.fields = fieldsOf(now.change)
	now.lost = lost(before, now.fields, m.rules.set)
	if m.harmless(now, before) {
		return p.flow(now)
	}
	p.upserts = append(p.upserts, now)
	return nil
}

// harmless says whether a publication takes nothing away. Where an expression reads
// the groups of users, a user may lose the name of one.
func (m *mirror) harmless(now *publication, before *published) bool {
	if before == nil || !before.present {
		return true
	}
	return len(now.lost) == 0 && !m.rules.usesGroups && sameChunks(before, now)
}
