package detector

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// Twenty are disabled at once: they stay enabled, and what else changed of them
// flows.
func TestDisableWaveIsHeld(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, _ := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	for n := range 20 {
		dir.objects[makeID(n)].left = true
	}
	dir.objects[makeID(3)].cn = "Carol"
	sweep(t, s, dir, everybody)
	carol, header := onStreamNow(t, s, makeID(3))
	if !carol.GetUser().GetEnabled() || first(carol.GetUser().GetAttributes(), "cn") != "Carol" || !strings.Contains(header[directoryv1.HeaderFields], directoryv1.FieldEnabled) {
		t.Errorf("published %v with %v", carol, header)
	}
	if p := last(t, s); p.Held != 20 || !strings.Contains(p.HeldReason, "20 of 100 users would be removed") {
		t.Errorf("%+v, want 20 held", p)
	}
	before := sequences(t, s)
	sweep(t, s, dir, everybody)
	if p := last(t, s); p.Published != 0 {
		t.Errorf("%+v, want nothing published when nothing changed", p)
	}
	next := successor(t, s)
	next.limits = s.limits
	sweep(t, next, dir, everybody)
	if diff := gocmp.Diff(before, sequences(t, next)); diff != "" || len(heldItems(t, next)) != 20 {
		t.Errorf("after a restart: %s", diff)
	}
	s = next
	attend(t, s)
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	carol, header = onStreamNow(t, s, makeID(3))
	if carol.GetUser().GetEnabled() || header[directoryv1.HeaderApproval] != "approval-1" || len(heldItems(t, s)) != 0 {
		t.Errorf("approved, and published %v with %v", carol, header)
	}
}

func sequences(t *testing.T, s *session) map[string]uint64 {
	t.Helper()
	mem, err := remember(t.Context(), s.bus, s.name)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for kind, entries := range mem {
		for id, p := range entries {
			out[kind.Token()+id.String()] = p.sequence
		}
	}
	return out
}

// A group loses twenty of its hundred members, who stay in the directory: they
// stay in the group, and a new member joins.
func TestMembershipWaveIsHeld(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	for n := range 20 {
		delete(g.members, makeID(n))
	}
	joins := &object{id: makeID(500), uid: "u500", dn: "uid=u500," + people}
	dir.objects[joins.id], g.members[joins.id] = joins, true
	v.entries[joins.id] = dir.entry(joins)
	sweep(t, s, dir, everybody)
	if members, _ := on(t, s, g.id); members != 101 {
		t.Errorf("%d members, want the hundred and the new one", members)
	}
	items := heldItems(t, s)
	if len(items) != 1 || items[0].GetAction() != "remove 20 members" || !strings.Contains(items[0].GetReason(), "20 of 100 members would be removed") {
		t.Errorf("held: %v", items)
	}
	before := sequences(t, s)
	sweep(t, s, dir, everybody)
	next := successor(t, s)
	next.limits = s.limits
	sweep(t, next, dir, everybody)
	sweep(t, next, dir, everybody)
	if diff := gocmp.Diff(before, sequences(t, next)); diff != "" {
		t.Errorf("published though nothing changed: %s", diff)
	}
	hideUsers(v, 1)
	s = next
	attend(t, s)
	sweep(t, s, dir, func(n int) bool { return n > 0 })
	if members, users := on(t, s, g.id); members != 100 || users != 100 {
		t.Errorf("%d members, %d users: a membership ends with its user, want 100 and 100", members, users)
	}
	if items := heldItems(t, s); len(items) != 1 || items[0].GetAction() != "remove 19 members" {
		t.Errorf("held: %v", items)
	}
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	if members, _ := on(t, s, g.id); members != 81 || len(heldItems(t, s)) != 0 {
		t.Errorf("%d members after the approval, want 81", members)
	}
}

// An approval is about the members that were held, not about their number.
func TestApprovalOfMembersIsAboutThese(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, _ := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	for n := range 20 {
		delete(g.members, makeID(n))
	}
	sweep(t, s, dir, everybody)
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	for n := range 20 {
		g.members[makeID(n)] = true
		delete(g.members, makeID(n+20))
	}
	sweep(t, s, dir, everybody)
	if members, _ := on(t, s, g.id); members != 100 {
		t.Errorf("%d members: nobody approved that these leave", members)
	}
	if items := heldItems(t, s); len(items) != 1 || items[0].GetMark() != provisioningv1.Mark_MARK_UNSPECIFIED {
		t.Errorf("held: %v", items)
	}
}

// Where an expression reads the groups of users, a user whom a group keeps keeps its
// name as well.
func TestKeptMembersKeepTheNameOfTheirGroup(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, _ := newSession(t, testRules(t, connection.NestedFlatten, nil, true), dir)
	attend(t, s)
	before := sequences(t, s)
	g.members = map[ID]bool{}
	for range 2 {
		sweep(t, s, dir, everybody)
		if diff := gocmp.Diff(before, sequences(t, s)); diff != "" {
			t.Fatalf("published: %s", diff)
		}
	}
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	c, _ := onStreamNow(t, s, makeID(3))
	if members, _ := on(t, s, g.id); members != 0 || len(c.GetUser().GetGroups()) != 0 {
		t.Errorf("%d members, groups of a user %v, want none after the approval", members, c.GetUser().GetGroups())
	}
}

// The group is renamed while it keeps its members: they know it by its new name.
func TestKeptMembersFollowTheNameOfTheirGroup(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, _ := newSession(t, testRules(t, connection.NestedFlatten, nil, true), dir)
	attend(t, s)
	g.members = map[ID]bool{}
	sweep(t, s, dir, everybody)
	g.cn, g.dn = "new", "cn=new,"+groupsBase
	sweep(t, s, dir, everybody)
	sweep(t, s, dir, everybody)
	c, _ := onStreamNow(t, s, makeID(3))
	if members, _ := on(t, s, g.id); members != 100 || len(c.GetUser().GetGroups()) != 1 {
		t.Fatalf("%d members, groups of a member %v", members, c.GetUser().GetGroups())
	}
	before := sequences(t, s)
	sweep(t, s, dir, everybody)
	if diff := gocmp.Diff(before, sequences(t, s)); diff != "" || c.GetUser().GetGroups()[0] != "new" {
		t.Errorf("groups of a member %v, and published though nothing changed: %s", c.GetUser().GetGroups(), diff)
	}
}

// Nobody can say any more what is a group: their removal waits, and users keep their
// names until it is published.
func TestGroupsThatSeemToBeNoneKeepTheirNames(t *testing.T) {
	t.Parallel()
	s, _ := newSession(t, memberRules(t, connection.MemberDN, ""), &model{})
	attend(t, s)
	tree := func(cn string, class ...string) []*ldapsource.Entry {
		all := []*ldapsource.Entry{ent(1, "uid=ann,dc=x", "uid", "ann", "cn", cn)}
		for n := range 20 {
			name := fmt.Sprintf("g%d", n)
			all = append(all, ent(100+n, "cn="+name+",dc=x", append([]string{"cn", name, "member", "uid=ann,dc=x"}, class...)...))
		}
		return all
	}
	readAll(t, s, tree("Ann", "objectclass", "groupOfNames"))
	before := sequences(t, s)
	readAll(t, s, tree("Ann"))
	if diff := gocmp.Diff(before, sequences(t, s)); diff != "" || len(heldItems(t, s)) != 20 {
		t.Errorf("%d held, published: %s", len(heldItems(t, s)), diff)
	}
	readAll(t, s, tree("Anna"))
	if c, _ := onStreamNow(t, s, makeID(1)); len(c.GetUser().GetGroups()) != 20 || first(c.GetUser().GetAttributes(), "cn") != "Anna" {
		t.Errorf("published %v, want the new cn and the old groups", c)
	}
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	if c, _ := onStreamNow(t, s, makeID(1)); len(c.GetUser().GetGroups()) != 0 || len(heldItems(t, s)) != 0 || len(s.olds) != 0 {
		t.Errorf("published %v after the approval", c)
	}
}

// The names of groups cannot be read any more: users keep those that they have.
func TestUnreadableNamesOfGroupsChangeNoUser(t *testing.T) {
	t.Parallel()
	s, _ := newSession(t, memberRules(t, connection.MemberDN, ""), &model{})
	tree := func(named bool) []*ldapsource.Entry {
		all := []*ldapsource.Entry{ent(1, "uid=ann,dc=x", "uid", "ann")}
		for n := range 20 {
			pairs := []string{"objectclass", "groupOfNames", "member", "uid=ann,dc=x"}
			if named {
				pairs = append([]string{"cn", fmt.Sprintf("g%d", n)}, pairs...)
			}
			all = append(all, ent(100+n, fmt.Sprintf("cn=g%d,dc=x", n), pairs...))
		}
		return all
	}
	readAll(t, s, tree(true))
	before := sequences(t, s)
	readAll(t, s, tree(false))
	if diff := gocmp.Diff(before, sequences(t, s)); diff != "" {
		c, _ := onStreamNow(t, s, makeID(1))
		t.Errorf("published %v", c.GetUser().GetGroups())
	}
}

// The attribute that disables people cannot be read any more: nobody is enabled by
// that.
func TestUnreadableStatusEnablesNobody(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	for n := range 20 {
		dir.objects[makeID(n)].left = true
	}
	s, _ := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	before := sequences(t, s)
	for n := range 20 {
		dir.objects[makeID(n)].left = false
	}
	for range 2 {
		sweep(t, s, dir, everybody)
		if diff := gocmp.Diff(before, sequences(t, s)); diff != "" {
			t.Fatalf("published: %s", diff)
		}
	}
	if items := heldItems(t, s); len(items) != 20 || items[0].GetAction() != "clear employeetype" {
		t.Errorf("held: %v", items)
	}
}

// A few members leave: they do.
func TestFewMembersLeave(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, _ := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	delete(g.members, makeID(1))
	delete(g.members, makeID(2))
	sweep(t, s, dir, everybody)
	if members, _ := on(t, s, g.id); members != 98 || len(heldItems(t, s)) != 0 {
		t.Errorf("%d members, %v held, want 98 and nothing", members, heldItems(t, s))
	}
	if n, err := s.store.Earlier(t.Context(), s.limits, guard.Members); n != 2 || err != nil {
		t.Errorf("%d counted (%v), want 2", n, err)
	}
}

// mailed are 300 users with mail addresses, but for some of them.
func mailed(without func(int) bool) []*ldapsource.Entry {
	var all []*ldapsource.Entry
	for i := range 300 {
		uid := fmt.Sprintf("u%d", i)
		if without(i) {
			all = append(all, ent(i, "cn="+uid+",dc=x", "uid", uid))
		} else {
			all = append(all, ent(i, "cn="+uid+",dc=x", "mail", uid+"@x", "uid", uid))
		}
	}
	return all
}

func mailSession(t *testing.T) *session {
	t.Helper()
	r := memberRules(t, connection.MemberDN, "")
	r.set, r.usesGroups = mapping.NewSet([]string{"uid", "cn", "mail"}), false
	s, _ := newSession(t, r, &model{})
	attend(t, s)
	readAll(t, s, mailed(func(int) bool { return false }))
	return s
}

// mail vanishes from everybody: it stays as it was published, and what else changes
// flows.
func TestVanishedAttributeIsKept(t *testing.T) {
	t.Parallel()
	s := mailSession(t)
	before := sequences(t, s)
	blind := mailed(func(int) bool { return true })
	readAll(t, s, blind)
	if diff := gocmp.Diff(before, sequences(t, s)); diff != "" {
		t.Errorf("published: %s", diff)
	}
	items := heldItems(t, s)
	if len(items) != 300 || items[0].GetAction() != "clear mail" || !strings.HasPrefix(items[0].GetReason(), "mail vanished from 300 of the 300 entries") {
		t.Fatalf("%d held, such as %v", len(items), items[0].Held)
	}
	s.Put(ent(7, "cn=u7,dc=x", "cn", "Seven", "uid", "u7"))
	settled(t, s)
	seven, _ := onStreamNow(t, s, makeID(7))
	if got := seven.GetUser().GetAttributes(); first(got, "cn") != "Seven" || first(got, "mail") != "u7@x" {
		t.Errorf("published %v, want the new cn and the old mail", got)
	}
	blind[7] = ent(7, "cn=u7,dc=x", "cn", "Seven", "uid", "u7")
	before = sequences(t, s)
	next := successor(t, s)
	next.limits = s.limits
	attend(t, next)
	readAll(t, next, blind)
	readAll(t, next, blind)
	if diff := gocmp.Diff(before, sequences(t, next)); diff != "" || len(heldItems(t, next)) != 300 {
		t.Errorf("after a restart: %s", diff)
	}
	seeing := mailed(func(int) bool { return false })
	seeing[7] = ent(7, "cn=u7,dc=x", "cn", "Seven", "mail", "u7@x", "uid", "u7")
	readAll(t, next, seeing)
	if diff := gocmp.Diff(before, sequences(t, next)); diff != "" || len(heldItems(t, next)) != 0 || len(next.olds) != 0 {
		t.Errorf("cured, %d held: %s", len(heldItems(t, next)), diff)
	}
}

func TestFewAttributesVanish(t *testing.T) {
	t.Parallel()
	s := mailSession(t)
	readAll(t, s, mailed(func(n int) bool { return n < 10 }))
	if c, _ := onStreamNow(t, s, makeID(3)); first(c.GetUser().GetAttributes(), "mail") != "" || len(heldItems(t, s)) != 0 {
		t.Errorf("published %v, want no mail", c)
	}
	readAll(t, s, mailed(func(n int) bool { return n < 15 }))
	if items := heldItems(t, s); len(items) != 0 {
		t.Errorf("%v held, want 15 of 300 to pass in two steps", items)
	}
	readAll(t, s, mailed(func(n int) bool { return n < 16 }))
	if items := heldItems(t, s); len(items) != 1 {
		t.Errorf("%d held, want the sixteenth", len(items))
	}
}

// A person said no to one loss of some users, and another one of them is held later:
// they are asked for both again, and neither passes meanwhile.
func TestRejectionAndAnotherHeldField(t *testing.T) {
	t.Parallel()
	r := memberRules(t, connection.MemberDN, "")
	enabled, err := mapping.CompileBool(user, `!("left" in user.all.employeeType)`)
	if err != nil {
		t.Fatal(err)
	}
	r.enabled, r.set, r.usesGroups = enabled, mapping.NewSet([]string{"uid", "employeetype", "mail"}), false
	s, _ := newSession(t, r, &model{})
	attend(t, s)
	read := func(mail, left func(int) bool) {
		var all []*ldapsource.Entry
		for i := range 100 {
			uid := fmt.Sprintf("u%d", i)
			pairs := []string{"uid", uid}
			if left(i) {
				pairs = append(pairs, "employeetype", "left")
			}
			if mail(i) {
				pairs = append(pairs, "mail", uid+"@x")
			}
			all = append(all, ent(i, "cn="+uid+",dc=x", pairs...))
		}
		readAll(t, s, all)
	}
	no := func(int) bool { return false }
	read(everybody, no)
	read(no, no)
	say(t, s, provisioningv1.Mark_MARK_REJECTED, anyItem)
	settled(t, s)
	for range 3 {
		read(no, func(n int) bool { return n < 6 })
	}
	c, _ := onStreamNow(t, s, makeID(3))
	if first(c.GetUser().GetAttributes(), "mail") == "" || !c.GetUser().GetEnabled() {
		t.Errorf("published %v", c)
	}
}

func TestApprovedAttributesAreCleared(t *testing.T) {
	t.Parallel()
	s := mailSession(t)
	blind := mailed(func(int) bool { return true })
	readAll(t, s, blind)
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	c, header := onStreamNow(t, s, makeID(3))
	if first(c.GetUser().GetAttributes(), "mail") != "" || header[directoryv1.HeaderApproval] != "approval-1" || header[directoryv1.HeaderFields] != "@enabled,uid" {
		t.Errorf("published %v with %v", c, header)
	}
	if len(heldItems(t, s)) != 0 || len(s.olds) != 0 {
		t.Errorf("held still: %v", heldItems(t, s))
	}
}

// Nobody can say whether a user is enabled: it stays what it is, visibly.
func TestBrokenEnabledIsHeld(t *testing.T) {
	t.Parallel()
	r := memberRules(t, connection.MemberDN, "")
	enabled, err := mapping.CompileBool(user, `int(user.?employeeType.orValue("unreadable")) == 0`)
	if err != nil {
		t.Fatal(err)
	}
	r.enabled, r.set, r.usesGroups = enabled, mapping.NewSet([]string{"uid", "employeetype", "cn"}), false
	s, _ := newSession(t, r, &model{})
	readAll(t, s, []*ldapsource.Entry{ent(1, "cn=ann,dc=x", "employeetype", "0", "uid", "ann"), ent(2, "cn=bob,dc=x", "employeetype", "0", "uid", "bob")})
	readAll(t, s, []*ldapsource.Entry{ent(1, "cn=ann,dc=x", "cn", "Ann", "uid", "ann"), ent(2, "cn=bob,dc=x", "employeetype", "0", "uid", "bob"), ent(3, "cn=new,dc=x", "uid", "new")})
	c, _ := onStreamNow(t, s, makeID(1))
	if !c.GetUser().GetEnabled() || first(c.GetUser().GetAttributes(), "cn") != "Ann" {
		t.Errorf("published %v, want ann enabled, with her new cn", c)
	}
	id := makeID(3)
	if _, err := s.bus.Last(t.Context(), directoryv1.StreamUsers, directoryv1.EntrySubject(user, s.name, id[:])); err == nil {
		t.Error("an entry is published of which nobody knows whether it is enabled")
	}
	items := heldItems(t, s)
	if len(items) != 2 || items[0].GetAction() != evaluate || !strings.HasPrefix(items[0].GetReason(), "sources.x.users.enabled: ") {
		t.Errorf("held: %v", items)
	}
	if p := last(t, s); p.Held != 2 || !strings.Contains(p.HeldReason, "sources.x.users.enabled") {
		t.Errorf("%+v, want two held", p)
	}
}

// All groups at once are held; the last one may go.
func TestAllGroupsAtOnceAreHeld(t *testing.T) {
	t.Parallel()
	for groups, held := range map[int]int{1: 0, 2: 2, 5: 5} {
		dir, g := company(10)
		for n := 1; n < groups; n++ {
			id := makeID(2000 + n)
			dir.objects[id] = &object{id: id, group: true, cn: fmt.Sprintf("g%d", n), dn: fmt.Sprintf("cn=g%d,%s", n, groupsBase), members: map[ID]bool{}}
		}
		s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
		for n := 1; n < groups; n++ {
			delete(dir.objects, makeID(2000+n))
			delete(v.entries, makeID(2000+n))
		}
		delete(dir.objects, g.id)
		delete(v.entries, g.id)
		sweep(t, s, dir, everybody)
		if p := last(t, s); p.Held != held || p.Groups != held {
			t.Errorf("%d groups vanish: %+v, want %d held", groups, p, held)
		}
	}
}

// Nobody can say any more who is enabled, and a person rejected that: the record
// stays as it is.
func TestRejectedBrokenEnabledIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	r := memberRules(t, connection.MemberDN, "")
	enabled, err := mapping.CompileBool(user, `int(user.?employeeType.orValue("unreadable")) == 0`)
	if err != nil {
		t.Fatal(err)
	}
	r.enabled, r.set, r.usesGroups = enabled, mapping.NewSet([]string{"uid", "employeetype", "cn"}), false
	s, _ := newSession(t, r, &model{})
	attend(t, s)
	var seen, blind []*ldapsource.Entry
	for i := range 20 {
		uid := fmt.Sprintf("u%d", i)
		seen = append(seen, ent(i, "cn="+uid+",dc=x", "employeetype", "0", "uid", uid))
		blind = append(blind, ent(i, "cn="+uid+",dc=x", "uid", uid))
	}
	readAll(t, s, seen)
	readAll(t, s, blind)
	say(t, s, provisioningv1.Mark_MARK_REJECTED, anyItem)
	settled(t, s)
	before := fmt.Sprint(heldItems(t, s))
	for range 3 {
		readAll(t, s, blind)
	}
	if diff := gocmp.Diff(before, fmt.Sprint(heldItems(t, s))); diff != "" {
		t.Errorf("written again: %s", diff)
	}
}

// A publication of which the answer was lost is on the stream, and the detector does
// not know: it learns that when it reads what to keep, and goes on.
func TestStreamIsReadAgainWhenItChanged(t *testing.T) {
	t.Parallel()
	s := mailSession(t)
	readAll(t, s, mailed(func(int) bool { return true }))
	stale := *s.publisher.memory[user][makeID(7)]
	s.Put(ent(7, "cn=u7,dc=x", "cn", "Seven", "uid", "u7"))
	settled(t, s)
	s.publisher.memory[user][makeID(7)] = &stale
	s.Put(ent(7, "cn=u7,dc=x", "cn", "Siete", "uid", "u7"))
	if err := s.Settled(t.Context()); !errors.Is(err, errChanged) {
		t.Fatalf("%v, want that the stream changed", err)
	}
	settled(t, s)
	seven, _ := onStreamNow(t, s, makeID(7))
	if got := seven.GetUser().GetAttributes(); first(got, "cn") != "Siete" || first(got, "mail") != "u7@x" {
		t.Errorf("published %v, want the new cn and the old mail", got)
	}
}

// What a preview would publish in one round is compared with what is kept in the
// next.
func TestPreviewOfWhatIsKept(t *testing.T) {
	t.Parallel()
	s := mailSession(t)
	blind := mailed(func(int) bool { return true })
	readAll(t, s, blind)
	blind[7] = ent(7, "cn=u7,dc=x", "cn", "Seven", "uid", "u7")
	there := append(blind[:299], ent(1000, "cn=all,dc=x", "objectclass", "groupOfNames", "member", "cn=u299,dc=x"))
	d := *s.detector
	v := &visible{entries: map[ID]*ldapsource.Entry{}}
	for _, e := range there {
		v.entries[e.ID] = e
	}
	d.directory = v
	would := map[held.Key]*publication{}
	p := openSession(&d, &publisher{detector: &d, memory: s.publisher.memory, would: would}, func() {})
	t.Cleanup(p.close)
	readAll(t, p, there)
	seven := would[held.Key{Kind: user, ID: makeID(7)}]
	if seven == nil || first(seven.change.GetUser().GetAttributes(), "mail") != "u7@x" {
		t.Errorf("would publish %v, want seven with mail", seven)
	}
	if all := would[held.Key{Kind: directoryv1.Kind_KIND_GROUP, ID: makeID(1000)}]; all == nil || all.change.GetGroup().GetMembers().GetCount() != 0 {
		t.Errorf("would publish %v, want a group without the one that is gone", all)
	}
}
