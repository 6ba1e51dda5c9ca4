package detector

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

const (
	people     = "ou=people,dc=x"
	groupsBase = "ou=groups,dc=x"
)

// testRules are the rules of a source with these settings.
func testRules(tb testing.TB, nested string, scopeGroups []string, usesGroups bool) *rules {
	tb.Helper()
	enabled, err := mapping.CompileBool(directoryv1.Kind_KIND_USER, `!("left" in user.all.employeeType)`)
	if err != nil {
		tb.Fatal(err)
	}
	names := []string{"uid", "cn", "employeetype"}
	if usesGroups {
		names = append(names, mapping.GroupsMarker)
	}
	source := &connection.Source{
		Users:  connection.UserSource{BaseDNs: []string{people}, Filter: "(uid=*)", ScopeGroups: scopeGroups, Nested: true, Exclude: []string{"ou=robots," + people}},
		Groups: connection.GroupSource{BaseDNs: []string{groupsBase}, Filter: "(objectClass=groupOfNames)", Members: "member", MemberValues: connection.MemberDN, Nested: nested},
	}
	r, err := newRules(source, enabled, mapping.NewSet(names), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func makeID(n int) ID {
	var id ID
	copy(id[:], fmt.Sprintf("%016d", n))
	return id
}

// What a container takes along costs no more for each entry than for the first.
func TestRenameOfALargeContainer(t *testing.T) {
	t.Parallel()
	const n, times = 2_000, 10
	rename := func(n int) time.Duration {
		m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
		m.Put(ent(n, "ou=East,"+people))
		for i := range n {
			m.Put(ent(i, fmt.Sprintf("uid=u%d,ou=East,%s", i, people), "uid", "u"))
		}
		began := time.Now()
		m.Put(ent(n, "ou=West,"+people))
		if got, want := m.entries[makeID(7)].name, "uid=u7,ou=west,"+people; got != want {
			t.Errorf("an entry of %d is %s now, want %s", n, got, want)
		}
		return time.Since(began)
	}
	few, many := rename(n), rename(times*n)
	if many > times*times/2*few {
		t.Errorf("%s for %d entries and %s for %d", few, n, many, times*n)
	}
}

func TestContainerRenameTakesItsPeopleAlong(t *testing.T) {
	t.Parallel()
	r := testRules(t, connection.NestedFlatten, nil, false)
	m := newMirror(r)
	put := func(n int, dn string, attributes ...*directoryv1.Attribute) {
		m.Put(&ldapsource.Entry{ID: makeID(n), DN: dn, Attributes: attributes})
	}
	put(1, "ou=East,"+people)
	put(2, "uid=ann,ou=East,"+people, &directoryv1.Attribute{Name: "uid", Values: [][]byte{[]byte("ann")}})
	put(3, "cn=staff,"+groupsBase, &directoryv1.Attribute{Name: "member", Values: [][]byte{[]byte("UID=Ann, OU=east, " + people)}},
		&directoryv1.Attribute{Name: "objectclass", Values: [][]byte{[]byte("groupOfNames")}})
	put(1, "ou=Orient,"+people)
	ann := m.entries[makeID(2)]
	if ann.dn() != "uid=ann,ou=Orient,"+people || ann.name != "uid=ann,ou=orient,"+people {
		t.Errorf("ann is at %q (%q)", ann.dn(), ann.name)
	}
	members := m.membersOf(m.entries[makeID(3)])
	if len(members) != 1 || members[0].id != makeID(2) {
		t.Errorf("members %v, want ann", members)
	}
	if _, ok := m.dirty[makeID(2)]; !ok {
		t.Error("ann is not looked at again")
	}
}

func TestPackSpreadsAndGrows(t *testing.T) {
	t.Parallel()
	cases := []struct {
		members, atLeast, want int
	}{{0, 0, 0}, {0, 4, 4}, {1, 0, 1}, {2048, 0, 1}, {2049, 0, 2}, {2049, 8, 8}, {100_000, 0, 64}, {2_000_000, 0, 512}}
	for _, c := range cases {
		members := make([]member, c.members)
		for i := range members {
			members[i] = member{makeID(i), directoryv1.Kind_KIND_USER}
		}
		chunks := pack(members, c.atLeast)
		if len(chunks) != c.want {
			t.Errorf("%d members, %d chunks before: %d chunks, want %d", c.members, c.atLeast, len(chunks), c.want)
		}
		if got := manifest(chunks).GetCount(); got != uint64(c.members) {
			t.Errorf("manifest counts %d of %d members", got, c.members)
		}
	}
}

func TestOlderStateIsIgnored(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	put := func(version, uid string) {
		m.Put(&ldapsource.Entry{
			ID: makeID(1), DN: "uid=x," + people, Version: version,
			Attributes: []*directoryv1.Attribute{{Name: "uid", Values: [][]byte{[]byte(uid)}}},
		})
	}
	put("20261123120000.000002Z", "new")
	put("20261123120000.000001Z", "old")
	attributes, err := m.entries[makeID(1)].attributes()
	if err != nil || string(attributes[0].GetValues()[0]) != "new" {
		t.Errorf("got %v, %v", attributes, err)
	}
}

func BenchmarkDigestAndDiff(b *testing.B) {
	r := testRules(b, connection.NestedFlatten, nil, false)
	dir := &model{objects: map[ID]*object{}}
	entries := make([]*ldapsource.Entry, 10_000)
	for i := range entries {
		o := &object{id: makeID(i), uid: fmt.Sprintf("u%d", i), dn: fmt.Sprintf("uid=u%d,%s", i, people)}
		entries[i] = dir.entry(o)
	}
	for b.Loop() {
		m := newMirror(r)
		m.Begin()
		for _, e := range entries {
			m.Put(e)
		}
		m.Complete()
		new(stream).settle(b, m)
	}
}

// BenchmarkCollect is a collection of garbage beside a mirror: its work is what each
// entry costs a full read, and its result what each entry costs in memory.
func BenchmarkCollect(b *testing.B) {
	const users, groups, memberships = 100_000, 2_000, 3
	dir := &model{objects: map[ID]*object{}}
	m := newMirror(testRules(b, connection.NestedPreserve, nil, false))
	alive := func() int64 {
		runtime.GC()
		var is runtime.MemStats
		runtime.ReadMemStats(&is)
		return int64(is.HeapAlloc)
	}
	before := alive()
	m.Begin()
	for i := range users {
		m.Put(dir.entry(&object{id: makeID(i), uid: fmt.Sprintf("u%d", i), dn: fmt.Sprintf("uid=u%d,%s", i, people)}))
	}
	for i := range groups {
		var members []string
		for n := range users * memberships / groups {
			members = append(members, "member", fmt.Sprintf("uid=u%d,%s", (n*groups/memberships+i)%users, people))
		}
		m.Put(ent(users+i, fmt.Sprintf("cn=g%d,%s", i, groupsBase), append(members, "cn", "x", "objectclass", "groupOfNames")...))
	}
	m.Complete()
	used := alive() - before
	for b.Loop() {
		runtime.GC()
	}
	b.ReportMetric(float64(used)/(users+groups), "B/entry")
	runtime.KeepAlive(m)
}

// A server follows a rename in its groups a moment later and in silence: a group that
// is written within that moment is sent with the former name. The member stays, and
// the group is read again when the moment is over.
func TestGroupSentWithAFormerNameKeepsItsMember(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	count := func() int { return len(m.membersOf(m.entries[makeID(9)])) }
	m.Begin()
	m.Put(someone(1, "ann"))
	m.Put(someone(2, "bob"))
	m.Put(staffOf("ann", "bob"))
	m.Complete()
	m.Put(someone(1, "anna"))
	m.Put(staffOf("ann")) // bob left, and the server has not followed the rename yet
	if n := count(); n != 1 {
		t.Errorf("%d members, want anna", n)
	}
	if due := m.nextLook(); due.IsZero() {
		t.Error("nobody reads the group again")
	}
	m.recheck(m.nextLook())
	if _, again := m.reread[makeID(9)]; !again || !m.nextLook().IsZero() {
		t.Errorf("to be read again: %v", m.reread)
	}
	// Another person who takes the former name is another person.
	m.Put(someone(3, "ann"))
	m.Put(staffOf("ann"))
	if members := m.membersOf(m.entries[makeID(9)]); len(members) != 1 || members[0].id != makeID(3) {
		t.Errorf("members %v", members)
	}
}

// BenchmarkJoin is somebody who joins, and leaves, a group of many members that is
// nested eight deep, in scope groups and with groups above it.
func BenchmarkJoin(b *testing.B) {
	const members, depth = 20_000, 8
	dir := &model{objects: map[ID]*object{}}
	add := func(i int, o *object) *object {
		o.id = makeID(i)
		dir.objects[o.id] = o
		return o
	}
	for i := range members + 1 {
		add(i, &object{uid: fmt.Sprintf("u%d", i), dn: fmt.Sprintf("uid=u%d,%s", i, people)})
	}
	below := map[ID]bool{}
	for i := range members {
		below[makeID(i)] = true
	}
	var big *object
	for level := range depth {
		name := fmt.Sprintf("nest%d", level)
		g := add(members+1+level, &object{group: true, cn: name, dn: "cn=" + name + "," + groupsBase, members: below})
		if big == nil {
			big = g
		}
		below = map[ID]bool{g.id: true}
	}
	m := newMirror(testRules(b, connection.NestedFlatten, []string{"cn=nest7," + groupsBase}, false))
	m.Begin()
	for _, o := range dir.objects {
		m.Put(dir.entry(o))
	}
	m.Complete()
	var st stream
	st.settle(b, m)
	without := dir.entry(big)
	big.members[makeID(members)] = true
	with := dir.entry(big)
	for i := 0; b.Loop(); i++ {
		m.Put([]*ldapsource.Entry{with, without}[i%2])
		st.settle(b, m)
	}
}

// someone is an entry of the tests of names.
func someone(n int, uid string) *ldapsource.Entry {
	return &ldapsource.Entry{ID: makeID(n), DN: "uid=" + uid + "," + people, Attributes: []*directoryv1.Attribute{{Name: "uid", Values: [][]byte{[]byte(uid)}}}}
}

// staffOf is a group of people.
func staffOf(members ...string) *ldapsource.Entry {
	var values [][]byte
	for _, uid := range members {
		values = append(values, []byte("uid="+uid+","+people))
	}
	return &ldapsource.Entry{ID: makeID(9), DN: "cn=staff," + groupsBase, Attributes: []*directoryv1.Attribute{
		{Name: "member", Values: values}, {Name: "objectclass", Values: [][]byte{[]byte("groupOfNames")}},
	}}
}

// A server need not follow a rename in its groups at all. The member stays for as long
// as others take to follow, then the group is read again.
func TestGroupOfARenamedMemberIsReadAgain(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	m.Begin()
	m.Put(someone(1, "ann"))
	m.Put(staffOf("ann"))
	m.Complete()
	m.Put(someone(1, "anna"))
	if n := len(m.membersOf(m.entries[makeID(9)])); n != 1 {
		t.Errorf("%d members, want anna", n)
	}
	due := m.nextLook()
	m.recheck(due)
	if _, again := m.reread[makeID(9)]; !again || due.IsZero() {
		t.Errorf("to be read again: %v at %v", m.reread, due)
	}
}

// Somebody who was moved into what is watched may be a member already, of groups that
// were sent with the former name: the server follows the move in silence.
func TestGroupsOfANewcomerAreAskedFor(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	m.Begin()
	m.Put(someone(1, "ann"))
	m.Complete()
	if due := m.nextLook(); !due.IsZero() {
		t.Errorf("a full read asks for groups at %v", due)
	}
	m.Put(someone(2, "bob"))
	m.Put(someone(2, "bob"))
	m.recheck(time.Now())
	if len(m.ask) != 0 {
		t.Errorf("asked at once for %v, want them to gather", m.ask)
	}
	m.recheck(m.nextLook())
	want := []string{"uid=bob," + people}
	if diff := gocmp.Diff(want, m.ask); diff != "" {
		t.Errorf("to ask for: -want +got\n%s", diff)
	}
	m.ask = nil
	m.Gone(makeID(2)) // its removal is not published yet
	m.Put(someone(2, "bob"))
	m.recheck(m.nextLook())
	if diff := gocmp.Diff(want, m.ask); diff != "" {
		t.Errorf("to ask for: -want +got\n%s", diff)
	}
	m.ask = nil
	m.recheck(m.nextLook()) // when a busy server has had the time
	if diff := gocmp.Diff(want, m.ask); diff != "" || !m.nextLook().IsZero() {
		t.Errorf("to ask for once more: -want +got\n%s", diff)
	}
}

// Another entry had the name for a moment, and nobody told that this one did not have
// it meanwhile: when it is sent as it was before, its name leads to it again.
func TestNameLeadsBackToItsEntry(t *testing.T) {
	t.Parallel()
	for _, values := range []string{membersByDN, membersByUID} {
		t.Run(values, func(t *testing.T) {
			t.Parallel()
			r := testRules(t, connection.NestedFlatten, nil, false)
			r.memberValues = values
			m := newMirror(r)
			ann := "uid=ann," + people
			member := map[string]string{membersByDN: ann, membersByUID: "ann"}[values]
			m.Put(ent(1, ann, "uid", "ann"))
			m.Put(ent(2, "uid=bob,"+people, "uid", "bob"))
			m.Put(ent(2, ann, "uid", "ann"))
			m.Put(ent(1, ann, "uid", "ann"))
			m.Put(ent(2, "uid=bob,"+people, "uid", "bob"))
			m.Put(ent(3, "cn=staff,"+groupsBase, "objectclass", "groupOfNames", "member", member))
			if got := m.membersOf(m.entries[makeID(3)]); len(got) != 1 || got[0].id != makeID(1) {
				t.Errorf("members %v, want ann", got)
			}
		})
	}
}

// A read that comes after the moment puts it right, too.
func TestReadLeadsNamesToTheirEntries(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	ann, bob := "uid=ann,"+people, "uid=bob,"+people
	m.Put(ent(1, ann, "uid", "ann"))
	m.Put(ent(2, bob, "uid", "bob"))
	m.Put(ent(2, ann, "uid", "bob"))
	m.Put(ent(2, bob, "uid", "bob"))
	m.Begin()
	m.Put(ent(1, ann, "uid", "ann"))
	m.Put(ent(2, bob, "uid", "bob"))
	m.Put(ent(3, "cn=staff,"+groupsBase, "objectclass", "groupOfNames", "member", ann))
	m.Complete()
	if got := m.membersOf(m.entries[makeID(3)]); len(got) != 1 || got[0].id != makeID(1) {
		t.Errorf("members %v, want ann", got)
	}
}
