package detector

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// ID is an entry id.
type ID = ldapsource.ID

// entry is one directory entry as the mirror keeps it: what decides about scope
// and membership unpacked, the attributes packed.
type entry struct {
	id      ID
	dn      string // as the server sent it
	name    string // normalised DN
	version string
	packed  []byte // directoryv1.User with the attributes of the attribute set
	class   class
	enabled bool
	// broken says that `enabled` could not be evaluated: what was published stays.
	broken   bool
	uid      string   // for groups that name members by uid
	members  []string // keys of the members, for groups
	memberOf []string // normalised DNs of groups, from the user's side
	detected time.Time
}

// class says which filters an entry matches.
type class struct{ user, group bool }

// mirror holds the directory in memory, indexed by id and by name.
type mirror struct {
	rules   *rules
	entries map[ID]*entry
	byName  map[string]ID
	byUID   map[string]ID
	// holders are the groups that hold a member key.
	holders map[string]map[ID]struct{}
	// joiners are the users that name a group on their own side.
	joiners map[string]map[ID]struct{}
	// former are groups that held a name whose entry went away or was renamed. A
	// server may have cleaned them up in silence, so that they are read again
	// before an entry that takes the name becomes a member.
	former map[string]map[ID]struct{}
	// below counts the entries directly under a name.
	below map[string]int

	reading map[ID]struct{} // put since Begin; nil outside a full read
	dirty   map[ID]struct{}
	reread  map[ID]struct{} // groups to read again
	full    bool            // everything has to be looked at
}

func newMirror(r *rules) *mirror {
	return &mirror{
		rules: r, entries: map[ID]*entry{}, byName: map[string]ID{}, byUID: map[string]ID{},
		holders: map[string]map[ID]struct{}{}, joiners: map[string]map[ID]struct{}{}, former: map[string]map[ID]struct{}{}, below: map[string]int{},
		dirty: map[ID]struct{}{}, reread: map[ID]struct{}{},
	}
}

// Begin starts a full read.
func (m *mirror) Begin() { m.reading = make(map[ID]struct{}, len(m.entries)) }

// Put takes an entry as it is now. A state that is older than the known one is
// ignored.
func (m *mirror) Put(e *ldapsource.Entry) {
	if m.reading != nil {
		m.reading[e.ID] = struct{}{}
	}
	old := m.entries[e.ID]
	if old != nil && old.version != "" && e.Version != "" && e.Version < old.version {
		return
	}
	fresh, err := m.rules.digest(e)
	if err != nil {
		m.rules.complain(e.ID, err)
		return
	}
	m.replace(old, fresh)
}

func (m *mirror) replace(old, fresh *entry) {
	renamed := old != nil && old.name != fresh.name
	if old != nil {
		m.unindex(old)
	}
	if renamed {
		m.renamed(old, fresh)
	}
	m.index(fresh)
	m.dirty[fresh.id] = struct{}{}
	if old == nil || renamed {
		m.touchHolders(fresh)
	}
	m.touchMembership(old, fresh)
}

// touchMembership looks again at whom a change of an entry, its appearance or its
// end concerns: the groups that a user names or named, and, where an expression reads the groups of users,
// the users that a group holds or held.
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
	if before.name != fresh.name || !bytes.Equal(before.packed, fresh.packed) {
		changed = difference(nil, append(slices.Clone(before.members), fresh.members...))
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

// index makes an entry findable and remembers which groups hold what.
func (m *mirror) index(e *entry) {
	m.entries[e.id] = e
	m.byName[e.name] = e.id
	m.below[ldapsource.Parent(e.name)]++
	if e.uid != "" {
		m.byUID[e.uid] = e.id
	}
	for i, key := range e.members {
		if known, ok := m.byName[key]; ok {
			e.members[i] = m.entries[known].name // one string for all who hold it
		}
		add(m.holders, e.members[i], e.id)
	}
	for _, group := range e.memberOf {
		add(m.joiners, group, e.id)
	}
}

func (m *mirror) unindex(e *entry) {
	delete(m.entries, e.id)
	if m.byName[e.name] == e.id {
		delete(m.byName, e.name)
	}
	if parent := ldapsource.Parent(e.name); m.below[parent] > 1 {
		m.below[parent]--
	} else {
		delete(m.below, parent)
	}
	if m.byUID[e.uid] == e.id {
		delete(m.byUID, e.uid)
	}
	for _, key := range e.members {
		remove(m.holders, key, e.id)
	}
	for _, group := range e.memberOf {
		remove(m.joiners, group, e.id)
	}
}

// renamed follows an entry to its new name: groups keep it as a member, and the
// entries below it get their new names, which no server reports.
func (m *mirror) renamed(old, fresh *entry) {
	for id := range m.holders[old.name] {
		m.swapMember(id, old.name, fresh.name)
	}
	for id := range m.joiners[old.name] {
		m.swapJoined(id, old.name, fresh.name)
	}
	if m.below[old.name] == 0 {
		return
	}
	for _, child := range m.entries {
		if child.id == fresh.id || !ldapsource.Under(child.name, old.name) {
			continue
		}
		dn, ok := ldapsource.Rebase(child.dn, old.dn, fresh.dn)
		if !ok {
			continue
		}
		moved := *child
		moved.dn = dn
		moved.name = strings.TrimSuffix(child.name, old.name) + fresh.name
		moved.detected = fresh.detected
		m.unindex(child)
		for id := range m.holders[child.name] {
			m.swapMember(id, child.name, moved.name)
		}
		m.index(&moved)
		m.dirty[moved.id] = struct{}{}
	}
}

// swapMember rewrites a member key of a group, as the server does in silence; an
// empty new key drops it. The group is read again if another entry takes the
// old name.
func (m *mirror) swapMember(group ID, from, to string) {
	g := m.entries[group]
	if g == nil {
		return
	}
	kept := make([]string, 0, len(g.members))
	for _, key := range g.members {
		switch {
		case key != from:
			kept = append(kept, key)
		case to != "":
			kept = append(kept, to)
			add(m.holders, to, group)
		}
	}
	g.members = kept
	remove(m.holders, from, group)
	add(m.former, from, group)
	m.dirty[group] = struct{}{}
}

// swapJoined rewrites the name of a group on the user's side.
func (m *mirror) swapJoined(user ID, from, to string) {
	u := m.entries[user]
	if u == nil {
		return
	}
	u.memberOf = slices.Clone(u.memberOf)
	for i, group := range u.memberOf {
		if group == from {
			u.memberOf[i] = to
		}
	}
	remove(m.joiners, from, user)
	add(m.joiners, to, user)
}

// touchHolders looks again at the groups that hold an entry's name, and has
// those read again that held it for another entry.
func (m *mirror) touchHolders(e *entry) {
	for _, key := range []string{e.name, e.uid, e.id.String()} {
		if key == "" {
			continue
		}
		for id := range m.holders[key] {
			m.dirty[id] = struct{}{}
		}
		for id := range m.former[key] {
			m.reread[id] = struct{}{}
		}
		delete(m.former, key)
	}
}

// Gone takes an entry away. Its membership goes with it: servers drop it without
// a word.
func (m *mirror) Gone(id ID) {
	e := m.entries[id]
	if e == nil {
		return
	}
	m.touchMembership(e, &entry{id: id, name: e.name})
	m.unindex(e)
	m.dirty[id] = struct{}{}
	for group := range m.holders[e.name] {
		m.swapMember(group, e.name, "")
	}
}

// Complete ends a full read: what was not put is gone, and everything is looked
// at again.
func (m *mirror) Complete() {
	for id := range m.entries {
		if _, seen := m.reading[id]; !seen {
			m.Gone(id)
		}
	}
	m.reading = nil
	m.full = true
}

// lookup resolves a member key to an entry.
func (m *mirror) lookup(key string) (*entry, bool) {
	id, ok := m.byName[key]
	switch m.rules.memberValues {
	case membersByUID:
		id, ok = m.byUID[key]
	case membersByID:
		if parsed, err := directoryv1.ParseID(key); err == nil {
			id, ok = ID(parsed), true
		}
	}
	if !ok {
		return nil, false
	}
	e := m.entries[id]
	return e, e != nil
}

// attributes unpacks an entry's attributes.
func (e *entry) attributes() ([]*directoryv1.Attribute, error) {
	var u directoryv1.User
	if err := proto.Unmarshal(e.packed, &u); err != nil {
		return nil, fmt.Errorf("unpack entry: %w", err)
	}
	return u.GetAttributes(), nil
}

func add[K comparable](index map[K]map[ID]struct{}, key K, id ID) {
	if index[key] == nil {
		index[key] = map[ID]struct{}{}
	}
	index[key][id] = struct{}{}
}

func remove[K comparable](index map[K]map[ID]struct{}, key K, id ID) {
	delete(index[key], id)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}
