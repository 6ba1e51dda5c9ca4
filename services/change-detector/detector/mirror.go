package detector

import (
	"fmt"
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
	// broken says why `enabled` could not be evaluated: what was published stays.
	broken string
	// flat says that members of member groups are among members.
	flat     bool
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
	// ghosts are entries that vanished and whose removal is not published yet.
	// They are no longer in entries, so that diff sees them as deleted; the
	// indexes still know them, so that who names them still finds them.
	ghosts map[ID]*entry
	byName map[string]ID
	byUID  map[string]ID
	// holders are the groups that hold a member key.
	holders map[string]map[ID]struct{}
	// joiners are the users that name a group on their own side.
	joiners map[string]map[ID]struct{}
	// former are entries that held a name whose entry went away or was renamed. A
	// server may have cleaned them up in silence, so that they are read again
	// before an entry that takes the name becomes a member.
	former map[string]map[ID]struct{}
	// renames are the names that entries had until a moment ago. A server follows a
	// rename in its groups a moment later and in silence; a group that is written
	// within that moment is sent with the former name.
	renames map[string]rename
	forget  time.Time // when to forget renames that are over
	// suspects are groups that were sent with a former name, or whose member was
	// renamed, and when to read them again: then the server's word is final.
	suspects map[ID]time.Time
	// newcomers are the DNs of entries that appeared outside of a full read. They are
	// gathered at a time, and then those whose groups to ask for.
	newcomers map[string]struct{}
	gathered  time.Time
	ask       []string
	// replaced are the entries whose name another one took, and which: who is gone
	// then came back under another id.
	replaced map[ID]ID
	// below counts the entries directly under a name.
	below map[string]int

	reading map[ID]struct{} // put since Begin; nil outside a full read
	dirty   map[ID]struct{}
	reread  map[ID]struct{} // entries to read again
	full    bool            // everything has to be looked at
}

func newMirror(r *rules) *mirror {
	return &mirror{
		rules: r, entries: map[ID]*entry{}, ghosts: map[ID]*entry{}, byName: map[string]ID{}, byUID: map[string]ID{},
		holders: map[string]map[ID]struct{}{}, joiners: map[string]map[ID]struct{}{}, former: map[string]map[ID]struct{}{}, below: map[string]int{},
		renames: map[string]rename{}, suspects: map[ID]time.Time{}, replaced: map[ID]ID{}, dirty: map[ID]struct{}{}, reread: map[ID]struct{}{},
		newcomers: map[string]struct{}{},
	}
}

// Begin starts a full read.
func (m *mirror) Begin() { m.reading = make(map[ID]struct{}, len(m.entries)) }

// reconnect forgets versions: another server may be behind the one read before,
// and what it holds now counts.
func (m *mirror) reconnect() {
	for _, e := range m.entries {
		e.version = ""
	}
}

// at is the entry with an id, alive or a ghost; nil when there is none.
func (m *mirror) at(id ID) *entry {
	if e := m.entries[id]; e != nil {
		return e
	}
	return m.ghosts[id]
}

// Put takes an entry as it is now; a ghost is alive again. A state that is older
// than the known one is ignored.
func (m *mirror) Put(e *ldapsource.Entry) {
	if m.reading != nil {
		m.reading[e.ID] = struct{}{}
	}
	if known := m.entries[e.ID]; known != nil && known.version != "" && e.Version != "" && e.Version < known.version {
		return
	}
	fresh, err := m.rules.digest(e)
	if err != nil {
		m.rules.complain(e.ID, err)
		return
	}
	m.replace(m.at(e.ID), fresh)
}

func (m *mirror) replace(old, fresh *entry) {
	delete(m.replaced, fresh.id)
	moved := false
	if old != nil {
		moved = old.name != fresh.name && m.byName[old.name] == old.id
		m.unindex(old)
	}
	m.displace(fresh)
	if moved {
		m.renamed(old, fresh)
	}
	m.index(fresh)
	m.dirty[fresh.id] = struct{}{}
	if old == nil {
		m.welcome(fresh)
	}
	if old == nil || old.class != fresh.class || old.name != fresh.name || old.uid != fresh.uid {
		m.touchHolders(fresh)
		if old != nil {
			m.touchKeys(old)
		}
	}
	m.touchMembership(old, fresh)
}

// Gone takes an entry away. It stays as a ghost until its removal is published.
func (m *mirror) Gone(id ID) {
	e := m.entries[id]
	if e == nil {
		return
	}
	delete(m.entries, id)
	m.ghosts[id] = e
	m.dirty[id] = struct{}{}
}

// Complete ends a full read: what was not put is gone, and everything is looked
// at again. Without a Begin nothing was read, and nothing is concluded.
func (m *mirror) Complete() {
	if m.reading == nil {
		return
	}
	for id := range m.entries {
		if _, seen := m.reading[id]; !seen {
			m.Gone(id)
		}
	}
	m.reading = nil
	m.full = true
}

// index makes an entry findable and remembers which groups hold what.
func (m *mirror) index(e *entry) {
	m.entries[e.id] = e
	m.byName[e.name] = e.id
	m.below[ldapsource.Parent(e.name)]++
	if e.uid != "" {
		m.byUID[e.uid] = e.id
	}
	if _, former := m.renames[e.name]; former {
		delete(m.renames, e.name)
		for id := range m.suspects { // they may have meant this entry
			m.reread[id] = struct{}{}
		}
	}
	for i, key := range e.members {
		if known, ok := m.byName[key]; ok {
			e.members[i] = m.at(known).name // one string for all who hold it
		} else if now := m.renamedTo(key, e.id); now != "" {
			e.members[i] = now
		}
		add(m.holders, e.members[i], e.id)
	}
	for _, group := range e.memberOf {
		add(m.joiners, group, e.id)
	}
}

func (m *mirror) unindex(e *entry) {
	delete(m.entries, e.id)
	delete(m.ghosts, e.id)
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

// lookup resolves a member key to an entry, alive or a ghost.
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
	e := m.at(id)
	return e, e != nil
}

// keys are the keys by which groups may name an entry as a member.
func (m *mirror) keys(e *entry) []string {
	switch m.rules.memberValues {
	case membersByUID:
		if e.uid == "" {
			return nil
		}
		return []string{e.uid}
	case membersByID:
		return []string{e.id.String()}
	default:
		return []string{e.name}
	}
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
