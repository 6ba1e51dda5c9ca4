package detector

import (
	"slices"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// closure is who is in the groups that decide about one kind of entries.
type closure struct {
	scope   map[ID]struct{}   // in the scope groups
	clauses []map[ID]struct{} // in the groups that the filter names, by its memberships
	unknown uint              // the memberships whose group is not visible
}

// memberships computes who is in the groups that a filter names. A primary group
// does not count, as in Active Directory's memberOf.
func (m *mirror) memberships(a *area, c *closure) {
	for i, one := range a.memberships {
		members := map[ID]struct{}{}
		if g := m.byName[one.Group]; g != nil {
			m.collect(g, one.Nested, m.eachNamed, map[ID]struct{}{}, members)
		} else {
			c.unknown |= 1 << i
		}
		c.clauses = append(c.clauses, members)
	}
}

// members are the memberships of an entry, as the bits of a table.
func (c *closure) members(id ID) uint {
	var bits uint
	for i, members := range c.clauses {
		if _, is := members[id]; is {
			bits |= 1 << i
		}
	}
	return bits
}

// table is what the filter of a kind says of an entry.
func (e *entry) table(kind directoryv1.Kind) ldapsource.Table {
	if kind == directoryv1.Kind_KIND_GROUP {
		return e.tables.group
	}
	return e.tables.user
}

// matches says whether an entry matches the filter, whoever is in a group that is
// not visible.
func (c *closure) matches(e *entry, kind directoryv1.Kind) bool {
	always, _ := e.table(kind).Open(c.members(e.id), c.unknown)
	return always
}

// doubts says whether an entry may match the filter by a group that is not visible.
func (c *closure) doubts(e *entry, kind directoryv1.Kind) bool {
	always, possibly := e.table(kind).Open(c.members(e.id), c.unknown)
	return possibly && !always
}

// moved adds the entries whose place in one of the groups changed; false when a
// group came or went that the filter names.
func (c *closure) moved(now *closure, into map[ID]struct{}) bool {
	exchange(c.scope, now.scope, into)
	for i, members := range now.clauses {
		if i < len(c.clauses) {
			exchange(c.clauses[i], members, into)
		}
	}
	return c.unknown == now.unknown && len(c.clauses) == len(now.clauses)
}

// exchange adds what is in one of two sets alone.
func exchange(a, b, into map[ID]struct{}) {
	for _, both := range [][2]map[ID]struct{}{{a, b}, {b, a}} {
		for id := range both[0] {
			if _, stays := both[1][id]; !stays {
				into[id] = struct{}{}
			}
		}
	}
}

// named are the groups that decide about the area, by their normalised DNs.
func (a *area) named() []string {
	names := slices.Clone(a.scopeGroups)
	for _, m := range a.memberships {
		names = append(names, m.Group)
	}
	return names
}

// missingNamed are the groups that the filter of a kind names and the mirror does
// not know.
func (m *mirror) missingNamed(kind directoryv1.Kind) []string {
	a, _ := m.rules.of(kind)
	var missing []string
	for _, one := range a.memberships {
		if m.byName[one.Group] == nil && !slices.Contains(missing, one.Group) {
			missing = append(missing, one.Group)
		}
	}
	return missing
}

// sid is a group's own security identifier, where users name one as their primary
// group's.
func (r *rules) sid(e *ldapsource.Entry) string {
	if r.primaryGroup == "" {
		return ""
	}
	for _, v := range e.Values(sidAttribute) {
		if text, err := ldapsource.SIDText(v); err == nil {
			return text
		}
	}
	return ""
}

// sidAttribute is where Active Directory keeps security identifiers.
const sidAttribute = "objectsid"

// primarySID is the security identifier of a user's primary group; empty where the
// entry does not tell.
func (r *rules) primarySID(e *ldapsource.Entry) string {
	own, relative := e.Values(sidAttribute), e.Values(r.primaryGroup)
	if r.primaryGroup == "" || len(own) == 0 || len(relative) == 0 {
		return ""
	}
	group, err := ldapsource.PrimaryGroupSID(own[0], string(relative[0]))
	if err != nil {
		r.log.Warn("the primary group of an entry cannot be told; it is in none", "entry", e.ID.String(), "error", err)
	}
	return group
}
