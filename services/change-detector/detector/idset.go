package detector

import (
	"iter"
	"maps"
	"slices"
)

// manyIDs is from how many ids on a set is a map.
const manyIDs = 16

// idSet is a set of ids. A directory has as many of them as it has members, and
// nearly all are tiny, because a person is in a few groups; a map for each would
// be most of the mirror. It is a value: with and without return the changed set.
type idSet struct {
	few  []ID // never changed in place, so that it can be walked while the set changes
	many map[ID]struct{}
}

// all visits the ids; the set may be changed meanwhile.
func (s idSet) all() iter.Seq[ID] {
	if s.many != nil {
		return maps.Keys(s.many)
	}
	return slices.Values(s.few)
}

func (s idSet) with(id ID) idSet {
	switch {
	case s.many != nil:
		s.many[id] = struct{}{}
	case slices.Contains(s.few, id):
	case len(s.few) < manyIDs:
		s.few = append(slices.Clip(s.few), id)
	default:
		s.many = make(map[ID]struct{}, 2*manyIDs)
		for _, one := range s.few {
			s.many[one] = struct{}{}
		}
		s.few, s.many[id] = nil, struct{}{}
	}
	return s
}

func (s idSet) without(id ID) idSet {
	if s.many != nil {
		delete(s.many, id)
		return s
	}
	if i := slices.Index(s.few, id); i >= 0 {
		s.few = slices.Concat(s.few[:i], s.few[i+1:])
	}
	return s
}

func (s idSet) len() int { return len(s.few) + len(s.many) }

// idIndex finds ids by a key; a key without any has no set.
type idIndex map[string]idSet

func (x idIndex) add(key string, id ID) { x[key] = x[key].with(id) }

func (x idIndex) remove(key string, id ID) {
	if s := x[key].without(id); s.len() > 0 {
		x[key] = s
	} else {
		delete(x, key)
	}
}

// mark adds the ids to a set of another form.
func (s idSet) mark(in map[ID]struct{}) {
	for id := range s.all() {
		in[id] = struct{}{}
	}
}
