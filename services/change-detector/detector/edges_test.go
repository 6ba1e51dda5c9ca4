package detector

import (
	"log/slog"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// memberRules are the rules of a source that writes membership like this.
func memberRules(tb testing.TB, values, memberOf string) *rules {
	tb.Helper()
	enabled, err := mapping.CompileBool(directoryv1.Kind_KIND_USER, "true")
	if err != nil {
		tb.Fatal(err)
	}
	source := &connection.Source{
		Users:  connection.UserSource{BaseDNs: []string{"dc=x"}, Filter: "(uid=*)", Nested: true, MemberOf: memberOf},
		Groups: connection.GroupSource{BaseDNs: []string{"dc=x"}, Filter: "(objectClass=groupOfNames)", Members: "member", MemberValues: values, Nested: connection.NestedFlatten},
	}
	r, err := newRules(source, enabled, mapping.NewSet([]string{"uid", "cn", mapping.GroupsMarker}), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// ent is an entry with attributes: names and values in turn, a name as often as
// it has values.
func ent(n int, dn string, pairs ...string) *ldapsource.Entry {
	e := &ldapsource.Entry{ID: makeID(n), DN: dn}
	byName := map[string]*directoryv1.Attribute{}
	for i := 0; i < len(pairs); i += 2 {
		a := byName[pairs[i]]
		if a == nil {
			a = &directoryv1.Attribute{Name: pairs[i]}
			byName[pairs[i]] = a
			e.Attributes = append(e.Attributes, a)
		}
		a.Values = append(a.Values, []byte(pairs[i+1]))
	}
	return e
}

// A container is renamed after a group was read and before its member is: the group
// names the member in a way that nobody is called. It is read again, once.
func TestMemberRenamedDuringAFullRead(t *testing.T) {
	t.Parallel()
	m := newMirror(memberRules(t, connection.MemberDN, ""))
	read := func(member string) {
		m.Begin()
		m.Put(ent(1, "cn=staff,dc=x", "cn", "staff", "objectclass", "groupOfNames", "member", member, "member", "uid=bob,dc=elsewhere"))
		m.Put(ent(2, "uid=ann,ou=new,dc=x", "uid", "ann"))
		m.Complete()
		clear(m.reread)
		m.recheck(time.Now().Add(2 * gatherLag))
	}
	read("uid=ann,ou=old,dc=x")
	if _, again := m.reread[makeID(1)]; !again {
		t.Error("the group is not read again")
	}
	read("uid=ann,ou=new,dc=x")
	if len(m.reread) > 0 {
		t.Error("the group is read again though it names nobody new")
	}
}

// Ann is moved into a unit, which is renamed at once, before or after her groups are
// asked for: they have to be asked for by the name that she has in the end, because the
// server may have had it already.
func TestNewcomerIsAskedForByHerLastName(t *testing.T) {
	t.Parallel()
	for name, askedBefore := range map[string]bool{"renamed before": false, "renamed after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(memberRules(t, connection.MemberDN, ""))
			asked := func() []string {
				m.recheck(time.Now().Add(2 * gatherLag))
				ask := m.ask
				m.ask = nil
				return ask
			}
			m.Begin()
			m.Put(ent(1, "ou=old,dc=x"))
			m.Complete()
			m.Put(ent(2, "uid=ann,ou=old,dc=x", "uid", "ann"))
			if askedBefore {
				if diff := gocmp.Diff([]string{"uid=ann,ou=old,dc=x"}, asked()); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			}
			m.Put(ent(1, "ou=new,dc=x"))
			if diff := gocmp.Diff([]string{"uid=ann,ou=new,dc=x"}, asked()); diff != "" {
				t.Errorf("after her unit was renamed: -want +got\n%s", diff)
			}
			m.Put(ent(2, "uid=anna,ou=new,dc=x", "uid", "anna"))
			if diff := gocmp.Diff([]string{"uid=anna,ou=new,dc=x"}, asked()); diff != "" {
				t.Errorf("after she was renamed: -want +got\n%s", diff)
			}
			if diff := gocmp.Diff([]string(nil), asked()); diff != "" {
				t.Errorf("without a change: -want +got\n%s", diff)
			}
		})
	}
}

func TestContainerRenameKeepsJoinedMembers(t *testing.T) {
	t.Parallel()
	m := newMirror(memberRules(t, connection.MemberDN, "memberOf"))
	var st stream
	m.Begin()
	m.Put(ent(1, "ou=g,dc=x"))
	m.Put(ent(2, "cn=staff,ou=g,dc=x", "cn", "staff", "objectclass", "groupOfNames"))
	m.Put(ent(3, "uid=ann,dc=x", "uid", "ann", "memberof", "cn=staff,ou=g,dc=x"))
	m.Complete()
	st.settle(t, m)
	m.Put(ent(1, "ou=teams,dc=x"))
	st.settle(t, m)
	if got := memberCount(&st, makeID(2)); got != 1 {
		t.Errorf("%d members, want 1", got)
	}
	if diff := gocmp.Diff([]string{"staff"}, st.changes[makeID(3)].GetUser().GetGroups()); diff != "" {
		t.Errorf("groups of ann: -want +got\n%s", diff)
	}
}

func TestChangedUIDMovesMembership(t *testing.T) {
	t.Parallel()
	m := newMirror(memberRules(t, connection.MemberUID, ""))
	var st stream
	m.Begin()
	m.Put(ent(1, "cn=old,dc=x", "cn", "old", "objectclass", "groupOfNames", "member", "ann"))
	m.Put(ent(2, "cn=new,dc=x", "cn", "new", "objectclass", "groupOfNames", "member", "anna"))
	m.Put(ent(3, "cn=Ann,dc=x", "uid", "ann"))
	m.Complete()
	st.settle(t, m)
	m.Put(ent(3, "cn=Ann,dc=x", "uid", "anna"))
	st.settle(t, m)
	if old, fresh := memberCount(&st, makeID(1)), memberCount(&st, makeID(2)); old != 0 || fresh != 1 {
		t.Errorf("%d members by the old uid, %d by the new one, want 0 and 1", old, fresh)
	}
}

func TestChangesReachGroupsAboveByID(t *testing.T) {
	t.Parallel()
	m := newMirror(memberRules(t, connection.MemberID, ""))
	var st stream
	id := func(n int) string { return makeID(n).String() }
	m.Begin()
	m.Put(ent(1, "cn=top,dc=x", "cn", "top", "objectclass", "groupOfNames", "member", id(2)))
	m.Put(ent(2, "cn=sub,dc=x", "cn", "sub", "objectclass", "groupOfNames", "member", id(3)))
	m.Put(ent(3, "uid=ann,dc=x", "uid", "ann"))
	m.Put(ent(4, "uid=bob,dc=x", "uid", "bob"))
	m.Complete()
	st.settle(t, m)
	m.Put(ent(2, "cn=sub,dc=x", "cn", "sub", "objectclass", "groupOfNames", "member", id(3), "member", id(4)))
	st.settle(t, m)
	if got := memberCount(&st, makeID(1)); got != 2 {
		t.Errorf("bob joined below: top has %d members, want 2", got)
	}
	m.Gone(makeID(3))
	st.settle(t, m)
	if top, sub := memberCount(&st, makeID(1)), memberCount(&st, makeID(2)); top != 1 || sub != 1 {
		t.Errorf("ann is gone: top has %d members, sub %d, want 1 and 1", top, sub)
	}
}

func TestEntryThatStopsBeingAUserLeavesItsGroups(t *testing.T) {
	t.Parallel()
	m := newMirror(memberRules(t, connection.MemberDN, ""))
	var st stream
	m.Begin()
	m.Put(ent(1, "cn=staff,dc=x", "cn", "staff", "objectclass", "groupOfNames", "member", "cn=ann,dc=x"))
	m.Put(ent(2, "cn=ann,dc=x", "uid", "ann"))
	m.Complete()
	st.settle(t, m)
	m.Put(ent(2, "cn=ann,dc=x"))
	st.settle(t, m)
	if got := memberCount(&st, makeID(1)); got != 0 {
		t.Errorf("%d members, want 0", got)
	}
}

func TestNewEntryUnderATakenNameKeepsWhatWasReadOfIt(t *testing.T) {
	t.Parallel()
	m := newMirror(memberRules(t, connection.MemberDN, ""))
	var st stream
	staff := ent(1, "cn=staff,dc=x", "cn", "staff", "objectclass", "groupOfNames", "member", "cn=ann,dc=x")
	m.Begin()
	m.Put(staff)
	m.Put(ent(2, "cn=ann,dc=x", "uid", "ann"))
	m.Complete()
	st.settle(t, m)
	m.Begin()
	m.Put(staff)
	m.Put(ent(3, "cn=ann,dc=x", "uid", "ann"))
	m.Complete()
	if _, again := m.reread[makeID(1)]; !again {
		t.Fatal("the group is not read again")
	}
	m.Put(staff)
	st.settle(t, m)
	if got := memberCount(&st, makeID(1)); got != 1 {
		t.Errorf("%d members, want the new entry", got)
	}
}

// A group names somebody new by a name that another entry had until a moment ago, and
// comes first: it is read again as soon as the new entry is there.
func TestGroupThatNamesTheNextOwnerOfAName(t *testing.T) {
	t.Parallel()
	m := newMirror(memberRules(t, connection.MemberDN, ""))
	m.Put(ent(1, "uid=ann,dc=x", "uid", "ann"))
	m.Put(ent(1, "uid=bea,dc=x", "uid", "bea"))
	m.Put(ent(3, "cn=all,dc=x", "objectclass", "groupOfNames", "member", "uid=ann,dc=x"))
	m.Put(ent(2, "uid=ann,dc=x", "uid", "ann"))
	if _, again := m.reread[makeID(3)]; !again {
		t.Error("the group is not read again")
	}
}

// A group of which only the flattened members were known is there again: those who
// are in it themselves have its name again.
func TestFlatGroupThatIsThereAgainIsNamed(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, true))
	ann, bob := "uid=ann,"+people, "uid=bob,"+people
	m.Put(ent(1, ann, "uid", "ann"))
	m.Put(ent(2, bob, "uid", "bob"))
	m.Put(ent(4, "cn=sub,"+groupsBase, "cn", "sub", "objectclass", "groupOfNames", "member", bob))
	staff := ent(3, "cn=staff,"+groupsBase, "cn", "staff", "objectclass", "groupOfNames", "member", ann, "member", "cn=sub,"+groupsBase)
	ghost, err := m.rules.digest(staff, nil)
	if err != nil {
		t.Fatal(err)
	}
	ghost.own().members, ghost.flat = nil, false
	m.haunt(ghost)
	for _, member := range []int{1, 2} {
		m.recallEdge(ghost, m.entries[makeID(member)], func(*entry) bool { return false })
	}
	clear(m.dirty)
	m.Put(staff)
	if _, dirty := m.dirty[makeID(1)]; !dirty {
		t.Error("ann is not looked at again")
	}
}
