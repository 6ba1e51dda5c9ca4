package detector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

const user = directoryv1.Kind_KIND_USER

// attend lets the session learn what people say, for the length of the test.
func attend(t *testing.T, s *session) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	var running sync.WaitGroup
	if err := s.attend(ctx, &running, cancel); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel(nil)
		running.Wait()
	})
}

// say marks everything that is held for which which says so, and waits until the
// session is woken.
func say(t *testing.T, s *session, mark provisioningv1.Mark, which func(held.Item) bool) {
	t.Helper()
	all, err := s.store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[held.Key]bool{}
	for _, i := range all {
		if !which(i) {
			continue
		}
		if err := s.store.Mark(t.Context(), i, mark, "approval-1"); err != nil {
			t.Fatal(err)
		}
		want[held.Key{Kind: i.Kind, ID: [16]byte(i.ID)}] = true
	}
	await(t, func() string {
		for k := range want {
			if s.board.Get(k).GetMark() != mark {
				return "the session does not know of every mark"
			}
		}
		return ""
	})
	awaitWake(t, s)
}

func awaitWake(t *testing.T, s *session) {
	t.Helper()
	select {
	case <-s.Wake():
	case <-time.After(patienceOfTests):
		t.Fatal("the session is not woken")
	}
}

func anyItem(held.Item) bool { return true }

func settled(t *testing.T, s *session) {
	t.Helper()
	if err := s.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// onStreamNow is an entry's last message.
func onStreamNow(t *testing.T, s *session, kind directoryv1.Kind, id ID) (*directoryv1.Change, map[string]string) {
	t.Helper()
	stored, err := s.bus.Last(t.Context(), kind.Stream(), directoryv1.EntrySubject(kind, s.name, id[:]))
	if err != nil {
		t.Fatal(err)
	}
	var c directoryv1.Change
	if err := proto.Unmarshal(stored.Data, &c); err != nil {
		t.Fatal(err)
	}
	return &c, stored.Header
}

func heldItems(t *testing.T, s *session) []held.Item {
	t.Helper()
	all, err := s.store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func everybody(int) bool { return true }

func TestRemovalsOfEarlierPassesCount(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	hideUsers(v, 5)
	sweep(t, s, dir, func(n int) bool { return n >= 5 })
	if p := last(t, s); p.Users != 95 || p.Held != 0 {
		t.Fatalf("%+v, want five removed", p)
	}
	d := *s.detector
	p, err := newPublisher(t.Context(), &d)
	if err != nil {
		t.Fatal(err)
	}
	next := openSession(&d, p, func() {})
	t.Cleanup(next.close)
	hideUsers(v, 6)
	sweep(t, next, dir, func(n int) bool { return n >= 6 })
	if p := last(t, next); p.Users != 95 || p.Held != 1 || !strings.Contains(p.HeldReason, "1 of 95 users would be removed, after 5 in the last 24h0m0s") {
		t.Errorf("%+v, want the sixth held, though another detector removed the five", p)
	}
}

func TestBurstGathers(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name        string
		users, gone int
		left, held  int
	}{
		{"too many of few", 100, 20, 95, 15},
		{"few of many", 1000, 20, 980, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, g := company(c.users)
			s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
			s.pace = pace{burst: time.Hour, quiet: time.Hour, longest: time.Hour}
			for n := range c.gone {
				delete(v.entries, makeID(n))
				s.Gone(makeID(n))
				settled(t, s)
			}
			if members, users := on(t, s, g.id); users != c.users-5 || members != uint64(c.users-5) {
				t.Errorf("%d users, %d members while the others gather, want all but five", users, members)
			}
			if n := len(heldItems(t, s)); n != 0 {
				t.Errorf("%d held while they gather: %v", n, heldItems(t, s)[0].Held)
			}
			s.pace.quiet = 0
			s.rouse()
			awaitWake(t, s)
			settled(t, s)
			if members, users := on(t, s, g.id); users != c.left || members != uint64(c.left) {
				t.Errorf("%d users, %d members, want %d", users, members, c.left)
			}
			if n := len(heldItems(t, s)); n != c.held {
				t.Errorf("%d held, want %d", n, c.held)
			}
		})
	}
}

func TestApprovedRemovalsPass(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	item := heldItems(t, s)[0]
	if item.GetAction() != "remove from the source: deleted from the directory" || item.GetGeneration() != "generation" || item.GetSequence() == 0 {
		t.Errorf("held: %v", item.Held)
	}
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	if members, users := on(t, s, g.id); users != 80 || members != 80 {
		t.Errorf("%d users, %d members, want 80", users, members)
	}
	if change, header := onStreamNow(t, s, user, makeID(3)); change.GetOp() != directoryv1.Op_OP_ABSENT || header[directoryv1.HeaderApproval] != "approval-1" {
		t.Errorf("published %v with %v", change, header)
	}
	if n, err := s.store.Earlier(t.Context(), s.limits, guard.Users); n != 0 || err != nil {
		t.Errorf("%d counted (%v), want none of those that were approved", n, err)
	}
	if left := heldItems(t, s); len(left) != 0 || s.metrics.held.Load() != 0 {
		t.Errorf("held still: %v", left)
	}
}

// Who approves some of a wave does not let the others pass, though few are left.
func TestApprovingSomeLeavesTheOthers(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	n := 0
	say(t, s, provisioningv1.Mark_MARK_APPROVED, func(held.Item) bool { n++; return n <= 18 })
	settled(t, s)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	if p := last(t, s); p.Users != 82 || p.Held != 2 {
		t.Errorf("%+v, want 18 removed and two held", p)
	}
}

func TestRejectedRemovalsStaySilently(t *testing.T) {
	t.Parallel()
	dir, _ := company(200)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	say(t, s, provisioningv1.Mark_MARK_REJECTED, anyItem)
	hideUsers(v, 22)
	sweep(t, s, dir, func(n int) bool { return n >= 22 })
	if p := last(t, s); p.Users != 198 || p.Held != 0 || p.HeldReason != "" || len(heldItems(t, s)) != 20 {
		t.Errorf("%+v, want the rejected ones there, in silence, and two others removed", p)
	}
	s.generation = "another"
	sweep(t, s, dir, func(n int) bool { return n >= 22 })
	if p := last(t, s); p.Users != 198 || p.Held != 20 {
		t.Errorf("%+v, want to be asked again under another configuration", p)
	}
}

func TestMarkIsVoidUnderAnotherConfiguration(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	s.generation = "another"
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	if _, users := on(t, s, makeID(1000)); users != 100 {
		t.Errorf("%d users, want 100", users)
	}
	for _, i := range heldItems(t, s) {
		if i.GetMark() != provisioningv1.Mark_MARK_UNSPECIFIED || i.GetGeneration() != "another" {
			t.Fatalf("held: %v", i.Held)
		}
	}
}

func TestWhatIsHeldIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	before := heldItems(t, s)
	next := successor(t, s)
	next.limits = s.limits
	attend(t, next)
	sweep(t, next, dir, func(n int) bool { return n >= 20 })
	settled(t, next)
	if diff := gocmp.Diff(fmt.Sprint(before), fmt.Sprint(heldItems(t, next))); diff != "" || len(before) != 20 {
		t.Errorf("%d held: -before +after the restart\n%s", len(before), diff)
	}
	sweep(t, next, dir, everybody)
	if left := heldItems(t, next); len(left) > 0 {
		t.Errorf("cured, and held still: %v", left)
	}
}

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
	carol, header := onStreamNow(t, s, user, makeID(3))
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
	carol, header = onStreamNow(t, s, user, makeID(3))
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
	c, _ := onStreamNow(t, s, user, makeID(3))
	if members, _ := on(t, s, g.id); members != 0 || len(c.GetUser().GetGroups()) != 0 {
		t.Errorf("%d members, groups of a user %v, want none after the approval", members, c.GetUser().GetGroups())
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

// mailed are users with mail addresses, but for some of them.
func mailed(n int, without func(int) bool) []*ldapsource.Entry {
	var all []*ldapsource.Entry
	for i := range n {
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
	readAll(t, s, mailed(300, func(int) bool { return false }))
	return s
}

// mail vanishes from everybody: it stays as it was published, and what else changes
// flows.
func TestVanishedAttributeIsKept(t *testing.T) {
	t.Parallel()
	s := mailSession(t)
	before := sequences(t, s)
	blind := mailed(300, func(int) bool { return true })
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
	seven, _ := onStreamNow(t, s, user, makeID(7))
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
	seeing := mailed(300, func(int) bool { return false })
	seeing[7] = ent(7, "cn=u7,dc=x", "cn", "Seven", "mail", "u7@x", "uid", "u7")
	readAll(t, next, seeing)
	if diff := gocmp.Diff(before, sequences(t, next)); diff != "" || len(heldItems(t, next)) != 0 || len(next.olds) != 0 {
		t.Errorf("cured, %d held: %s", len(heldItems(t, next)), diff)
	}
}

func TestFewAttributesVanish(t *testing.T) {
	t.Parallel()
	s := mailSession(t)
	readAll(t, s, mailed(300, func(n int) bool { return n < 10 }))
	if c, _ := onStreamNow(t, s, user, makeID(3)); first(c.GetUser().GetAttributes(), "mail") != "" || len(heldItems(t, s)) != 0 {
		t.Errorf("published %v, want no mail", c)
	}
	readAll(t, s, mailed(300, func(n int) bool { return n < 15 }))
	if items := heldItems(t, s); len(items) != 0 {
		t.Errorf("%v held, want 15 of 300 to pass in two steps", items)
	}
	readAll(t, s, mailed(300, func(n int) bool { return n < 16 }))
	if items := heldItems(t, s); len(items) != 1 {
		t.Errorf("%d held, want the sixteenth", len(items))
	}
}

func TestApprovedAttributesAreCleared(t *testing.T) {
	t.Parallel()
	s := mailSession(t)
	blind := mailed(300, func(int) bool { return true })
	readAll(t, s, blind)
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	c, header := onStreamNow(t, s, user, makeID(3))
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
	c, _ := onStreamNow(t, s, user, makeID(1))
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

// The account became another one: nothing that is not found is gone.
func TestAnotherIdentityRemovesNothing(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	v.fails = fmt.Errorf("%w: it was ann and is bob", ldapsource.ErrIdentity)
	hideUsers(v, 1)
	delete(g.members, makeID(50))
	sweep(t, s, dir, func(n int) bool { return n > 0 })
	if members, users := on(t, s, g.id); members != 100 || users != 100 {
		t.Errorf("%d members, %d users, want 100 each", members, users)
	}
	if p := last(t, s); p.Held != 2 || !strings.Contains(p.HeldReason, "it was ann and is bob") {
		t.Errorf("%+v, want the user and the membership held", p)
	}
	v.fails = errors.New("no answer")
	s.mirror.full = true
	if err := s.Settled(t.Context()); err == nil {
		t.Error("a failure of the directory is no error")
	}
}
