package detector

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// touchHolders looks again at the groups that hold an entry, and has those read
// again that held its name for another entry.
func (m *mirror) touchHolders(e *entry) {
	m.touchKeys(e)
	for id := range m.former[e.name] {
		m.reread[id] = struct{}{}
	}
	delete(m.former, e.name)
}

// touchKeys looks again at the groups that hold an entry.
func (m *mirror) touchKeys(e *entry) {
	for _, key := range m.keys(e) {
		for id := range m.holders[key] {
			m.dirty[id] = struct{}{}
		}
	}
}

// touchMembership looks again at whom a change of an entry, its appearance or its
// end concerns: the groups that a user names or named, and, where an expression
// reads the groups of users, the users that a group holds or held.
func (m *mirror) touchMembership(old, fresh *entry) {
	var before entry
	if old != nil {
		before = *old
	}
	for group := range difference(before.memberOf, fresh.memberOf) {
		if id, ok := m.byName[group]; ok {
			m.dirty[id] = struct{}{}
		}
	}
	if !m.rules.usesGroups || !(before.class.group || fresh.class.group) {
		return
	}
	changed := difference(before.members, fresh.members)
	if before.name != fresh.name || before.class != fresh.class || !bytes.Equal(before.packed, fresh.packed) {
		changed = difference(nil, append(slices.Clone(before.members), fresh.members...))
		for _, name := range []string{before.name, fresh.name} {
			for id := range m.joiners[name] {
				m.dirty[id] = struct{}{}
			}
		}
	}
	for key := range changed {
		if member, ok := m.lookup(key); ok {
			m.dirty[member.id] = struct{}{}
		}
	}
}

// difference is what stands in one of the lists and not in the other.
func difference(a, b []string) map[string]struct{} {
	in := make(map[string]struct{}, len(a))
	for _, s := range a {
		in[s] = struct{}{}
	}
	out := map[string]struct{}{}
	for _, s := range b {
		if _, both := in[s]; both {
			delete(in, s)
		} else {
			out[s] = struct{}{}
		}
	}
	maps.Copy(out, in)
	return out
}

// renamed follows an entry to its new name: groups keep it as a member, users
// keep it as a group, and the entries below it get their new names, which no
// server reports.
func (m *mirror) renamed(old, fresh *entry) {
	m.swapName(old.name, fresh.name)
	m.noteRename(old)
	if m.below[old.name] == 0 {
		return
	}
	for _, child := range m.children(old.name) {
		dn, ok := ldapsource.Rebase(child.dn, old.dn, fresh.dn)
		if !ok {
			continue
		}
		moved := *child
		moved.dn = dn
		moved.name = strings.TrimSuffix(child.name, old.name) + fresh.name
		moved.detected = fresh.detected
		m.move(child, &moved)
	}
}

// rename is an entry that had a name, and until when groups may still be sent with it.
type rename struct {
	id    ID
	until time.Time
}

// renameLag is how long a server may take to follow a rename in its groups.
const renameLag = 30 * time.Second

// noteRename remembers the name that an entry had, for a while. What is over is
// forgotten now and then: a container may take a hundred thousand entries along.
func (m *mirror) noteRename(old *entry) {
	now := time.Now()
	if now.After(m.forget) {
		maps.DeleteFunc(m.renames, func(_ string, r rename) bool { return now.After(r.until) })
		m.forget = now.Add(renameLag)
	}
	m.renames[old.name] = rename{id: old.id, until: now.Add(renameLag)}
}

// renamedTo is the present name of the entry that had this one a moment ago, empty
// when none had. The group that names it is read again when the moment is over.
func (m *mirror) renamedTo(name string, group ID) string {
	r, ok := m.renames[name]
	if !ok || time.Now().After(r.until) || m.entries[r.id] == nil {
		return ""
	}
	m.suspects[group] = r.until
	return m.entries[r.id].name
}

// children are the entries and ghosts below a name.
func (m *mirror) children(name string) []*entry {
	var below []*entry
	for _, known := range []map[ID]*entry{m.entries, m.ghosts} {
		for _, e := range known {
			if e.name != name && ldapsource.Under(e.name, name) {
				below = append(below, e)
			}
		}
	}
	return below
}

// move gives an entry that came along with a container its new name.
func (m *mirror) move(child, moved *entry) {
	_, ghost := m.ghosts[child.id]
	owned := m.byName[child.name] == child.id
	m.unindex(child)
	m.displace(moved)
	if owned {
		m.swapName(child.name, moved.name)
		m.noteRename(child)
	}
	if ghost {
		m.haunt(moved)
	} else {
		m.index(moved)
	}
	m.dirty[moved.id] = struct{}{}
	m.touchHolders(moved)
	m.touchMembership(child, moved)
}

// haunt takes a ghost in.
func (m *mirror) haunt(e *entry) {
	m.index(e)
	delete(m.entries, e.id)
	m.ghosts[e.id] = e
}

// displace ends what another entry has under a name that an entry takes: a ghost
// altogether, and the edges to an entry whose own move or end is not told yet.
func (m *mirror) displace(by *entry) {
	id, taken := m.byName[by.name]
	if !taken || id == by.id {
		return
	}
	m.replaced[id] = by.id
	if ghost := m.ghosts[id]; ghost != nil {
		m.bury(ghost)
		return
	}
	delete(m.byName, by.name)
	m.swapName(by.name, "")
}

// bury ends a ghost. Its membership goes with it: servers drop it without a word.
func (m *mirror) bury(e *entry) {
	owned := m.byName[e.name] == e.id
	m.touchMembership(e, &entry{id: e.id, name: e.name})
	m.touchKeys(e)
	m.unindex(e)
	if owned {
		m.swapName(e.name, "")
	}
}

// buryPublished ends the ghosts that are not, or no longer, published as present,
// and says how many.
func (m *mirror) buryPublished(mem memory) int {
	buried := 0
	for id, e := range m.ghosts {
		if !mem.holds(id) {
			m.bury(e)
			buried++
		}
	}
	maps.DeleteFunc(m.replaced, func(id ID, _ ID) bool { return m.entries[id] == nil && !mem.holds(id) })
	return buried
}

// swapName rewrites a name wherever it stands as a member or as a group; an empty
// new name drops it.
func (m *mirror) swapName(from, to string) {
	if m.rules.memberValues != membersByID && m.rules.memberValues != membersByUID {
		for id := range m.holders[from] {
			m.swapMember(id, from, to)
		}
	}
	for id := range m.joiners[from] {
		m.swapJoined(id, from, to)
	}
}

// swapMember rewrites a member key of a group, as the server does in silence; an
// empty new key drops it. The group is read again if another entry takes the old
// name, and when a server that follows renames has had the time: some do not.
func (m *mirror) swapMember(group ID, from, to string) {
	g := m.at(group)
	if g == nil {
		return
	}
	g.members = swap(g.members, from, to)
	remove(m.holders, from, group)
	if to != "" {
		add(m.holders, to, group)
		m.suspects[group] = time.Now().Add(renameLag)
	}
	add(m.former, from, group)
	m.dirty[group] = struct{}{}
}

// swapJoined rewrites the name of a group on the user's side, as swapMember does
// on the group's.
func (m *mirror) swapJoined(user ID, from, to string) {
	u := m.at(user)
	if u == nil {
		return
	}
	u.memberOf = swap(u.memberOf, from, to)
	remove(m.joiners, from, user)
	if to != "" {
		add(m.joiners, to, user)
	}
	add(m.former, from, user)
	m.dirty[user] = struct{}{}
}

// swap is a list with one string replaced by another, or dropped for an empty one.
func swap(list []string, from, to string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		switch {
		case s != from:
			out = append(out, s)
		case to != "":
			out = append(out, to)
		}
	}
	return out
}
