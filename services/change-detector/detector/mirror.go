package detector

import (
	"fmt"
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
// and membership unpacked, the attributes packed. There are as many as the directory
// has entries, so that each byte and each pointer counts.
type entry struct {
	id       ID
	name     string // normalised DN
	version  string
	text     string // DN as the server sent it, and then the packed attributes
	dnEnd    uint32 // in text
	seen     uint32 // the last full read in which it was put
	detected int64  // Unix time in nanoseconds
	tables   tables
	class    class
	enabled  bool
	// flat says that members of member groups are among members.
	flat bool
	*extra
}

// extra is what few entries have. It is never changed but by own, because entries
// share it.
type extra struct {
	// broken says why `enabled` could not be evaluated: what was published stays.
	broken   string
	uid      string   // for groups that name members by uid
	members  []string // keys of the members, for groups
	memberOf []string // normalised DNs of groups, from the user's side, and the identifier of the primary one
	sid      string   // security identifier, for groups that are primary ones
}

// nothing is the extra of entries that have none.
var nothing extra

// own is an entry's extra, for a change.
func (e *entry) own() *extra {
	e.extra = new(*e.extra)
	return e.extra
}

// class says which filters an entry matches, perhaps only by its groups.
type class struct{ user, group bool }

// tables say by which groups.
type tables struct{ user, group ldapsource.Table }

// mirror holds the directory in memory, indexed by id and by name.
type mirror struct {
	rules   *rules
	entries map[ID]*entry
	// ghosts are entries that vanished and whose removal is not published yet.
	// They are no longer in entries, so that diff sees them as deleted; the
	// indexes still know them, so that who names them still finds them.
	ghosts map[ID]*entry
	byName map[string]*entry // by normalised DN; groups also by their security identifier
	byUID  map[string]ID
	// holders are the groups that hold a member key.
	holders idIndex
	// joiners are the users that name a group on their own side.
	joiners idIndex
	// referrers are the users that name an entry in a reference (manager), by its
	// normalised DN; moved are the next names of those that were named so and renamed
	// since the last full read.
	referrers idIndex
	moved     map[string]string
	// former are entries that held a name whose entry went away or was renamed. A
	// server may have cleaned them up in silence, so that they are read again
	// before an entry that takes the name becomes a member.
	former formerHolders
	// renames are the names that entries had until a moment ago. A server follows a
	// rename in its groups a moment later and in silence; a group that is written
	// within that moment is sent with the former name.
	renames map[string]rename
	forget  time.Time // when to forget renames that are over
	// suspects are groups that were sent with a former name, or whose member was
	// renamed, and when to read them again: then the server's word is final.
	suspects map[ID]time.Time
	// strangers are the member names of groups that no full read brought an entry for,
	// and that their groups were read again for.
	strangers map[string]struct{}
	// puzzling are groups that were sent outside of a full read with a member name that
	// nobody has. Somebody may have been away under it who was never reported gone: when
	// an entry gets another name, they are read again.
	puzzling map[ID]struct{}
	// newcomers are entries that appeared after the first full read. They are gathered at
	// a time, and then those whose groups to ask for, by DN. Those that were asked for
	// since the last full read are newcomers again when their name changes: the server
	// may have had the next name already, and then nobody held the one asked for.
	newcomers map[ID]struct{}
	gathered  time.Time
	ask       []string
	asked     map[ID]struct{}
	// askAgain are newcomers, and readAgain groups that named a stranger, that are asked
	// for and read a second time, and when: a server that rewrites members in silence has
	// had the time then, also one that is busy.
	askAgain, readAgain map[ID]time.Time
	// replaced are the entries whose name another one took, and which: who is gone
	// then came back under another id.
	replaced map[ID]ID
	// below counts the entries directly under a name.
	below map[string]int

	shelf shelf[entry] // of the first full read
	texts textShelf

	reading bool   // since Begin
	whole   bool   // a full read has ended
	reads   uint32 // full reads that began
	dirty   map[ID]struct{}
	reread  map[ID]struct{} // entries to read again
	full    bool            // everything has to be looked at
	// regrouped says that who is a member of what may have changed.
	regrouped bool
	// since is when the first change was seen that no pass has decided about yet, as Unix
	// time in nanoseconds; 0 when there is none.
	since int64
}

func newMirror(r *rules) *mirror {
	return &mirror{
		rules: r, entries: map[ID]*entry{}, ghosts: map[ID]*entry{}, byName: map[string]*entry{}, byUID: map[string]ID{},
		holders: idIndex{}, joiners: idIndex{}, referrers: idIndex{}, moved: map[string]string{}, former: newFormerHolders(), below: map[string]int{},
		renames: map[string]rename{}, suspects: map[ID]time.Time{}, replaced: map[ID]ID{}, dirty: map[ID]struct{}{}, reread: map[ID]struct{}{},
		puzzling: map[ID]struct{}{}, newcomers: map[ID]struct{}{}, asked: map[ID]struct{}{}, askAgain: map[ID]time.Time{}, readAgain: map[ID]time.Time{},
	}
}

// Begin starts a full read.
func (m *mirror) Begin() {
	m.reading = true
	m.reads++
	m.former.begin()
}

// see notes that an entry was put in this full read.
func (m *mirror) see(id ID) {
	if e := m.entries[id]; e != nil {
		e.seen = m.reads
	}
}

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
	if m.reading {
		defer func() { m.see(e.ID) }()
	}
	if known := m.entries[e.ID]; known != nil && known.version != "" && e.Version != "" && e.Version < known.version {
		return
	}
	fresh, err := m.rules.digest(e, m.entries[e.ID])
	if err != nil {
		m.rules.complain(e.ID, err)
		return
	}
	delete(m.replaced, fresh.id)
	if known := m.entries[e.ID]; known != nil && known.same(fresh) && m.findable(known) {
		if known.version != fresh.version {
			known.version = strings.Clone(fresh.version) // and nothing else of it
		}
		return
	}
	if m.firstRead() {
		fresh = m.shelve(fresh)
	}
	m.replace(m.at(e.ID), fresh)
}

// firstRead says that the mirror is in its first full read. Nearly everything that
// is put then stays.
func (m *mirror) firstRead() bool { return m.reading && m.reads == 1 }

// shelve lays an entry to the others of the first full read.
func (m *mirror) shelve(e *entry) *entry {
	plain := e.name == e.dn()
	kept := m.shelf.put(*e)
	kept.text, kept.version = m.texts.put(e.text, e.version)
	if plain {
		kept.name = kept.dn()
	}
	return kept
}

func (m *mirror) replace(old, fresh *entry) {
	m.changed(fresh.detected)
	moved := false
	_, returns := m.ghosts[fresh.id]
	if old != nil {
		moved = old.name != fresh.name && m.named(old)
		m.unname(old)
	}
	if old == nil || old.name != fresh.name || old.class != fresh.class || old.uid != fresh.uid || old.sid != fresh.sid {
		m.regrouped = true
	}
	m.displace(fresh)
	if moved {
		m.renamed(old, fresh)
	}
	m.name(fresh)
	m.relate(old, fresh)
	if !m.reading { // afterwards everything is looked at
		m.dirty[fresh.id] = struct{}{}
	}
	if old == nil || returns {
		m.welcome(fresh)
	} else if old.name != fresh.name {
		m.welcomeAgain(fresh)
		m.doubtPuzzling(time.Now())
	}
	if old == nil || old.class != fresh.class || old.name != fresh.name || old.uid != fresh.uid {
		m.touchHolders(fresh)
		if old != nil {
			m.touchKeys(old)
		}
	}
	if old == nil || old.name != fresh.name {
		m.touchReferrers(fresh.name)
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
	m.changed(time.Now().UnixNano())
}

// changed notes when a change was seen.
func (m *mirror) changed(at int64) {
	if m.since == 0 || at < m.since {
		m.since = at
	}
}

// detected is when it was seen that what is published of an entry has to change, as
// Unix time in nanoseconds: with the entry itself, or with another one that decides
// about its scope or its members; 0 when nothing was seen, but a person let it pass.
// There is no entry where that is gone.
func (m *mirror) detected(e *entry) int64 {
	if e == nil || m.since == 0 {
		return m.since
	}
	return max(m.since, e.detected)
}

// Complete ends a full read: what was not put is gone, and everything is looked
// at again. Without a Begin nothing was read, and nothing is concluded.
func (m *mirror) Complete() {
	if !m.reading {
		return
	}
	for id := range m.entries {
		if m.entries[id].seen != m.reads {
			m.Gone(id)
		}
	}
	m.reading, m.full, m.whole = false, true, true
	m.former.complete()
	clear(m.moved)
	clear(m.asked)
	clear(m.puzzling)
	m.doubtStrangers(time.Now())
	m.shelf, m.texts = shelf[entry]{}, textShelf{}
}

// index makes an entry findable and remembers which groups hold what.
func (m *mirror) index(e *entry) {
	m.name(e)
	m.relate(nil, e)
	m.regrouped = true
}

// unindex is the opposite of index.
func (m *mirror) unindex(e *entry) {
	m.unname(e)
	m.relate(e, nil)
	m.regrouped = true
}

// name makes an entry findable.
func (m *mirror) name(e *entry) {
	m.entries[e.id] = e
	m.byName[e.name] = e
	if e.sid != "" {
		m.byName[e.sid] = e
	}
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
}

func (m *mirror) unname(e *entry) {
	delete(m.entries, e.id)
	delete(m.ghosts, e.id)
	if m.named(e) {
		delete(m.byName, e.name)
	}
	if g := m.byName[e.sid]; g != nil && g.id == e.id {
		delete(m.byName, e.sid)
	}
	if parent := ldapsource.Parent(e.name); m.below[parent] > 1 {
		m.below[parent]--
	} else {
		delete(m.below, parent)
	}
	if m.byUID[e.uid] == e.id {
		delete(m.byUID, e.uid)
	}
}

// lookup resolves a member key to an entry, alive or a ghost.
func (m *mirror) lookup(key string) (*entry, bool) {
	var e *entry
	switch m.rules.memberValues {
	case membersByUID:
		if id, ok := m.byUID[key]; ok {
			e = m.at(id)
		}
	case membersByID:
		if id, err := directoryv1.ParseID(key); err == nil {
			e = m.at(ID(id))
		}
	default:
		e = m.byName[key]
	}
	return e, e != nil
}

// named says whether an entry is the one that its name leads to.
func (m *mirror) named(e *entry) bool {
	is := m.byName[e.name]
	return is != nil && is.id == e.id
}

// findable says whether whatever may name an entry leads to it: another one may have
// had its name or its uid for a moment.
func (m *mirror) findable(e *entry) bool {
	return m.named(e) && (e.uid == "" || m.byUID[e.uid] == e.id) && (e.sid == "" || m.byName[e.sid] == e)
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

// store keeps the name, the version and the attributes of an entry in one piece of
// memory: the collector looks at every piece.
func (e *entry) store(dn, version string, packed []byte) {
	var b strings.Builder
	b.Grow(len(dn) + len(packed) + len(version))
	b.WriteString(dn)
	b.Write(packed)
	b.WriteString(version)
	all, attributes := b.String(), len(dn)+len(packed)
	e.text, e.dnEnd, e.version = all[:attributes], uint32(len(dn)), all[attributes:] //nolint:gosec // an LDAP message is smaller
	if e.name == dn {
		e.name = e.dn()
	}
}

// dn is the entry's name as the server sent it.
func (e *entry) dn() string { return e.text[:e.dnEnd] }

// packed is a directoryv1.User with the attributes of the attribute set.
func (e *entry) packed() string { return e.text[e.dnEnd:] }

// attributes unpacks an entry's attributes.
func (e *entry) attributes() ([]*directoryv1.Attribute, error) {
	var u directoryv1.User
	if err := proto.Unmarshal([]byte(e.packed()), &u); err != nil {
		return nil, fmt.Errorf("unpack entry: %w", err)
	}
	return u.GetAttributes(), nil
}

// same says whether an entry is what it was, whatever its version.
func (e *entry) same(as *entry) bool {
	return e.text == as.text && e.dnEnd == as.dnEnd && e.class == as.class && e.tables == as.tables && e.sid == as.sid && e.enabled == as.enabled && e.broken == as.broken && e.flat == as.flat &&
		e.uid == as.uid &&
		slices.Equal(e.members, as.members) && slices.Equal(e.memberOf, as.memberOf)
}
