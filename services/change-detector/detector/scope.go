package detector

import (
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// inScope says whether an entry is in the source's scope as the given kind, and
// if not, why. One whose filter asks for a group that is not visible is in scope
// only where that does not matter.
func (m *mirror) inScope(e *entry, kind directoryv1.Kind, in *closure) (bool, directoryv1.Reason) {
	a, _ := m.rules.of(kind)
	switch {
	case !a.covers(e.name):
		return false, directoryv1.Reason_REASON_MOVED
	case !in.matches(e, kind):
		return false, directoryv1.Reason_REASON_FILTER
	case len(a.scopeGroups) == 0:
		return true, directoryv1.Reason_REASON_UNSPECIFIED
	}
	if _, is := in.scope[e.id]; !is {
		return false, directoryv1.Reason_REASON_GROUP
	}
	return true, directoryv1.Reason_REASON_UNSPECIFIED
}

// closures are who is in the groups that decide about users, and about groups.
type closures struct{ users, groups closure }

// of is the one of a kind.
func (c *closures) of(kind directoryv1.Kind) *closure {
	if kind == directoryv1.Kind_KIND_GROUP {
		return &c.groups
	}
	return &c.users
}

// of is what says which entries of a kind are in scope, and whether members of
// member groups of its scope groups count.
func (r *rules) of(kind directoryv1.Kind) (a *area, nested bool) {
	if kind == directoryv1.Kind_KIND_GROUP {
		return &r.groups, false
	}
	return &r.users, r.nested
}

// closures computes who is in the scope groups: of users, with the members of
// member groups where the source says nested; of groups, direct members.
func (m *mirror) closures() closures {
	var c closures
	for _, kind := range kinds {
		a, nested := m.rules.of(kind)
		one := c.of(kind)
		one.scope = map[ID]struct{}{}
		visited := map[ID]struct{}{}
		for _, name := range a.scopeGroups {
			if !nested {
				clear(visited)
			}
			if g := m.byName[name]; g != nil {
				m.collect(g, nested, m.eachMember, visited, one.scope)
			}
		}
		m.memberships(a, one)
	}
	return c
}

// missingScope are the scope groups of a kind that the mirror does not know: who
// is in them cannot be told.
func (m *mirror) missingScope(kind directoryv1.Kind) []string {
	a, _ := m.rules.of(kind)
	var missing []string
	for _, name := range a.scopeGroups {
		if m.byName[name] == nil {
			missing = append(missing, name)
		}
	}
	return missing
}

// collect adds the members of a group, and with nested those of its member
// groups; a cycle ends where it began.
func (m *mirror) collect(g *entry, nested bool, each func(*entry, func(*entry)), visited, into map[ID]struct{}) {
	if _, seen := visited[g.id]; seen {
		return
	}
	visited[g.id] = struct{}{}
	each(g, func(member *entry) {
		into[member.id] = struct{}{}
		if nested && member.class.group {
			m.collect(member, nested, each, visited, into)
		}
	})
}

// eachMember visits the entries that are members of a group, whether the group
// says so or they do, and those whose primary group it is. One entry may be visited
// twice.
func (m *mirror) eachMember(g *entry, visit func(*entry)) {
	m.eachNamed(g, visit)
	if g.sid != "" {
		m.eachJoiner(g.sid, visit)
	}
}

// eachNamed is eachMember without those whose primary group it is.
func (m *mirror) eachNamed(g *entry, visit func(*entry)) {
	for _, key := range g.members {
		if member, ok := m.lookup(key); ok {
			visit(member)
		}
	}
	m.eachJoiner(g.name, visit)
}

// eachJoiner visits the entries that name a group on their own side.
func (m *mirror) eachJoiner(group string, visit func(*entry)) {
	for id := range m.joiners[group].all() {
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
			if holder := m.byName[name]; holder != nil {
				up(holder.id)
			}
		}
	}
	for id := range dirty {
		up(id)
	}
	return all
}
