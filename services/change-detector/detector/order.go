package detector

import (
	"iter"
	"slices"
)

// referredFirst orders entries so that those that others refer to (managers) come
// before them, as far as they are among the entries: a worker then knows the resource
// of a manager when it creates a report, and sends one request instead of two. Entries
// that refer to each other in a circle come in any order.
func (m *mirror) referredFirst(ids iter.Seq[ID]) iter.Seq[ID] {
	if len(m.rules.references) == 0 {
		return ids
	}
	all := slices.Collect(ids)
	left := make(map[ID]bool, len(all)) // those that were not put in order yet
	for _, id := range all {
		left[id] = true
	}
	ordered := make([]ID, 0, len(all))
	for _, id := range all {
		ordered = m.withReferred(id, left, ordered)
	}
	return slices.Values(ordered)
}

// withReferred appends an entry behind those that it refers to, each once.
func (m *mirror) withReferred(id ID, left map[ID]bool, ordered []ID) []ID {
	if !left[id] {
		return ordered
	}
	delete(left, id)
	for _, name := range m.refersTo(m.entries[id]) {
		if e := m.referred(name); e != nil {
			ordered = m.withReferred(e.id, left, ordered)
		}
	}
	return append(ordered, id)
}
