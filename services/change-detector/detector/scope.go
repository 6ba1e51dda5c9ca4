package detector

import (
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// inScope says whether an entry is in the source's scope as the given kind, and
// if not, why.
func (m *mirror) inScope(e *entry, kind directoryv1.Kind, closure map[ID]struct{}) (bool, directoryv1.Reason) {
	a, matches := m.rules.users, e.class.user
	if kind == directoryv1.Kind_KIND_GROUP {
		a, matches = m.rules.groups, e.class.group
	}
	switch {
	case !a.covers(e.name):
		return false, directoryv1.Reason_REASON_MOVED
	case !matches:
		return false, directoryv1.Reason_REASON_FILTER
	case len(a.scopeGroups) == 0:
		return true, directoryv1.Reason_REASON_UNSPECIFIED
	}
	if _, in := closure[e.id]; !in {
		return false, directoryv1.Reason_REASON_GROUP
	}
	return true, directoryv1.Reason_REASON_UNSPECIFIED
}

// closures are the members of the scope groups, of users and of groups.
type closures struct{ users, groups map[ID]struct{} }

// closures computes who is in the scope groups: of users, with the members of
// member groups where the source says nested; of groups, direct members.
func (m *mirror) closures() closures {
	c := closures{users: map[ID]struct{}{}, groups: map[ID]struct{}{}}
	visited := map[ID]struct{}{}
	for _, name := range m.rules.users.scopeGroups {
		if id, ok := m.byName[name]; ok {
			m.collect(m.at(id), m.rules.nested, visited, c.users)
		}
	}
	for _, name := range m.rules.groups.scopeGroups {
		if id, ok := m.byName[name]; ok {
			m.collect(m.at(id), false, map[ID]struct{}{}, c.groups)
		}
	}
	return c
}

// missingScope are the scope groups of a kind that the mirror does not know: who
// is in them cannot be told.
func (m *mirror) missingScope(kind directoryv1.Kind) []string {
	configured := m.rules.users.scopeGroups
	if kind == directoryv1.Kind_KIND_GROUP {
		configured = m.rules.groups.scopeGroups
	}
	var missing []string
	for _, name := range configured {
		if _, ok := m.byName[name]; !ok {
			missing = append(missing, name)
		}
	}
	return missing
}

// collect adds the members of a group, and with nested those of its member
// groups; a cycle ends where it began.
func (m *mirror) collect(g *entry, nested bool, visited, into map[ID]struct{}) {
	if _, seen := visited[g.id]; seen {
		return
	}
	visited[g.id] = struct{}{}
	m.eachMember(g, func(member *entry) {
		into[member.id] = struct{}{}
		if nested && member.class.group {
			m.collect(member, nested, visited, into)
		}
	})
}

// eachMember visits the entries that are members of a group, whether the group
// says so or they do. One entry may be visited twice.
func (m *mirror) eachMember(g *entry, visit func(*entry)) {
	for _, key := range g.members {
		if member, ok := m.lookup(key); ok {
			visit(member)
		}
	}
	for id := range m.joiners[g.name].all() {
		if member := m.at(id); member != nil {
			visit(member)
		}
	}
}

// above adds the groups that hold the given entries through member groups: their
// flattened membership may have changed.
func (m *mirror) above(dirty map[ID]struct{}) map[ID]struct{} {
	all := make(map[ID]struct{}, len(dirty))
	var up func(id ID)
	up = func(id ID) {
		if _, seen := all[id]; seen {
			return
		}
		all[id] = struct{}{}
		e := m.at(id)
		if e == nil || !e.class.group {
			return
		}
		for _, key := range m.keys(e) {
			for holder := range m.holders[key].all() {
				up(holder)
			}
		}
		for _, name := range e.memberOf {
			if holder, ok := m.byName[name]; ok {
				up(holder)
			}
		}
	}
	for id := range dirty {
		up(id)
	}
	return all
}
