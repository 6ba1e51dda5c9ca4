package detector

import (
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// pass is the difference between the mirror and what was published.
type pass struct {
	upserts  []*publication
	removals []*publication
	// stuck are the entries of which nobody can say what they should be.
	stuck []*publication
	// doubt is why nothing that this pass takes away may be believed, or empty.
	doubt string
}

var kinds = []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP}

// diff compares the mirror with what was published, for the given entries or,
// where ids is nil, for all. It is pure: it changes neither.
func diff(m *mirror, mem memory, ids map[ID]struct{}, scope closures) (pass, error) {
	var p pass
	for _, kind := range kinds {
		closure := scope.of(kind)
		visit := func(id ID) error { return p.compare(m, id, kind, mem[kind][id], closure) }
		if err := each(m, mem[kind], ids, visit); err != nil {
			return p, err
		}
	}
	return p, nil
}

// each visits the given ids, or everything that the mirror or the memory knows.
func each(m *mirror, known map[ID]*published, ids map[ID]struct{}, visit func(ID) error) error {
	for id := range ids {
		if err := visit(id); err != nil {
			return err
		}
	}
	if ids != nil {
		return nil
	}
	for id := range m.entries {
		if err := visit(id); err != nil {
			return err
		}
	}
	for id := range known {
		if _, there := m.entries[id]; there {
			continue
		}
		if err := visit(id); err != nil {
			return err
		}
	}
	return nil
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
	now, err := m.present(e, kind, before)
	if err != nil {
		return err
	}
	if e.broken != "" && kind == directoryv1.Kind_KIND_USER {
		p.stuck = append(p.stuck, now)
		if before == nil || !before.present {
			return nil // nothing is published of it
		}
	}
	if before == nil || before.hash != now.hash {
		now.fields = fieldsOf(now.change)
		now.lost = lost(before, now.fields, m.rules.set)
		p.upserts = append(p.upserts, now)
	}
	return nil
}
