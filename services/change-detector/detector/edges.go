package detector

import (
	"cmp"
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
	m.former.take(e.name, m.reread)
}

// touchKeys looks again at the groups that hold an entry.
func (m *mirror) touchKeys(e *entry) {
	for _, key := range m.keys(e) {
		m.holders[key].mark(m.dirty)
	}
}

// touchMembership looks again at whom a change of an entry, its appearance or its
// end concerns: the groups that a user names or named, and, where an expression
// reads the groups of users, the users that a group holds or held.
func (m *mirror) touchMembership(old, fresh *entry) {
	before := entry{extra: &nothing}
	if old != nil {
		before = *old
	}
	for group := range difference(before.memberOf, fresh.memberOf) {
		if g := m.byName[group]; g != nil {
			m.dirty[g.id] = struct{}{}
		}
	}
	if !m.rules.usesGroups || !(before.class.group || fresh.class.group) {
		return
	}
	changed := difference(before.members, fresh.members)
	if before.name != fresh.name || before.class != fresh.class || before.packed() != fresh.packed() || before.flat != fresh.flat {
		changed = difference(nil, append(slices.Clone(before.members), fresh.members...))
		for _, name := range []string{before.name, fresh.name, before.sid, fresh.sid} {
			m.joiners[name].mark(m.dirty)
		}
	}
	for key := range changed {
		if member, ok := m.lookup(key); ok {
			m.dirty[member.id] = struct{}{}
		}
	}
}

// relate remembers whom a group holds, and which groups a user names: what old said
// is forgotten, what fresh says is added. Either may be nil.
func (m *mirror) relate(old, fresh *entry) {
	none := entry{extra: &nothing}
	was, is := cmp.Or(old, &none), cmp.Or(fresh, &none)
	head, tail := common(was.members, is.members)
	m.regrouped = m.regrouped || head+tail < max(len(was.members), len(is.members)) || !slices.Equal(was.memberOf, is.memberOf)
	copy(is.members, was.members[:head])
	copy(is.members[len(is.members)-tail:], was.members[len(was.members)-tail:])
	m.unhold(was, head, tail)
	gained := is.members[head : len(is.members)-tail]
	m.puzzle(is, gained)
	for i, key := range gained {
		if known := m.byName[key]; known != nil && known.name == key {
			gained[i] = known.name // one string for all who hold it
		} else if now := m.renamedTo(key, is.id); now != "" {
			gained[i] = now
		}
		m.holders.add(gained[i], is.id)
	}
	m.referTo(old, fresh)
	for _, group := range was.memberOf {
		m.joiners.remove(group, was.id)
	}
	for _, group := range is.memberOf {
		m.joiners.add(group, is.id)
	}
}

// unhold forgets the members of a group but for those at the head and the tail. One
// may stand in the list twice, where two of its names are the same to us.
func (m *mirror) unhold(g *entry, head, tail int) {
	lost := map[string]bool{}
	for _, key := range g.members[head : len(g.members)-tail] {
		m.holders.remove(key, g.id)
		lost[key] = true
	}
	if len(lost) == 0 {
		return
	}
	for _, stays := range [][]string{g.members[:head], g.members[len(g.members)-tail:]} {
		for _, key := range stays {
			if lost[key] {
				m.holders.add(key, g.id)
			}
		}
	}
}

// common is how many strings two lists have in common at their beginning and at
// their end: the values of a big group are sent in the order of the time before.
func common(a, b []string) (head, tail int) {
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	return head, tail
}

// difference is what stands in one of the lists and not in the other.
func difference(a, b []string) map[string]struct{} {
	head, tail := common(a, b)
	a, b = a[head:len(a)-tail], b[head:len(b)-tail]
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
		dn, ok := ldapsource.Rebase(child.dn(), old.dn(), fresh.dn())
		if !ok {
			continue
		}
		moved := *child
		moved.name = strings.TrimSuffix(child.name, old.name) + fresh.name
		moved.store(dn, child.version, []byte(child.packed()))
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
	owned := m.named(child)
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
	m.welcomeAgain(moved)
	m.touchHolders(moved)
	m.touchReferrers(moved.name)
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
	former := m.byName[by.name]
	if former == nil || former.id == by.id {
		return
	}
	m.replaced[former.id] = by.id
	if ghost := m.ghosts[former.id]; ghost != nil {
		m.bury(ghost)
		return
	}
	delete(m.byName, by.name)
	m.regrouped = true
	m.swapName(by.name, "")
}

// bury ends a ghost. Its membership goes with it: servers drop it without a word.
func (m *mirror) bury(e *entry) {
	owned := m.named(e)
	m.touchMembership(e, &entry{id: e.id, name: e.name, extra: &nothing})
	m.touchKeys(e)
	m.touchReferrers(e.name)
	m.unindex(e)
	delete(m.asked, e.id)
	delete(m.askAgain, e.id)
	delete(m.puzzling, e.id)
	delete(m.rules.complained, e.id)
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
	if to != "" && len(m.rules.references) > 0 {
		m.moved[from] = to
	}
	for id := range m.referrers[from].all() {
		m.hadName(from, id)
	}
	m.touchReferrers(from)
	if m.rules.memberValues != membersByID && m.rules.memberValues != membersByUID {
		for id := range m.holders[from].all() {
			m.swapMember(id, from, to)
		}
	}
	for id := range m.joiners[from].all() {
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
	m.regrouped = true
	g.own().members = swap(g.members, from, to)
	m.holders.remove(from, group)
	if to != "" {
		m.holders.add(to, group)
		m.suspects[group] = time.Now().Add(renameLag)
	}
	m.hadName(from, group)
	m.dirty[group] = struct{}{}
}

// swapJoined rewrites the name of a group on the user's side, as swapMember does
// on the group's.
func (m *mirror) swapJoined(user ID, from, to string) {
	u := m.at(user)
	if u == nil {
		return
	}
	m.regrouped = true
	u.own().memberOf = swap(u.memberOf, from, to)
	m.joiners.remove(from, user)
	if to != "" {
		m.joiners.add(to, user)
	}
	m.hadName(from, user)
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
