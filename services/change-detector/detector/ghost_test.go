package detector

import (
	"fmt"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// company is a directory of n users and one group that holds them all.
func company(n int) (*model, *object) {
	dir := &model{objects: map[ID]*object{}}
	g := &object{id: makeID(1000), group: true, cn: "all", dn: "cn=all," + groupsBase, members: map[ID]bool{}}
	dir.objects[g.id] = g
	for i := range n {
		o := &object{id: makeID(i), uid: fmt.Sprintf("u%d", i), dn: fmt.Sprintf("uid=u%d,%s", i, people)}
		dir.objects[o.id] = o
		g.members[o.id] = true
	}
	return dir, g
}

// read is a full read that sees only some of the users; groups are never cleaned
// up, because nothing was removed.
func (m *model) read(live *mirror, sees func(n int) bool) {
	live.Begin()
	m.tell(live.Put, sees)
	live.Complete()
}

func (m *model) tell(put func(*ldapsource.Entry), sees func(n int) bool) {
	for _, o := range m.objects {
		var n int
		if _, err := fmt.Sscanf(o.uid, "u%d", &n); err != nil || sees(n) {
			put(m.entry(o))
		}
	}
}

func nobody(*publication) bool   { return false }
func everyone(*publication) bool { return true }

func memberCount(st *stream, id ID) uint64 {
	return st.changes[id].GetGroup().GetMembers().GetCount()
}

func TestHeldUsersKeepTheirMembership(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	live := newMirror(testRules(t, connection.NestedFlatten, nil, true))
	var st stream
	dir.read(live, func(int) bool { return true })
	st.settle(t, live)
	before := st.content()
	published := 0
	dir.read(live, func(n int) bool { return n < 40 })
	st.settleIf(t, live, func(*publication) bool { published++; return false })
	if len(st.held) != 60 || memberCount(&st, g.id) != 100 {
		t.Errorf("%d held, the group has %d members, want 60 and 100", len(st.held), memberCount(&st, g.id))
	}
	st.settleIf(t, live, nobody)
	dir.read(live, func(int) bool { return true })
	st.settleIf(t, live, everyone)
	if after := st.content(); len(live.ghosts) != 0 || len(st.held) != 0 || len(after) != len(before) {
		t.Errorf("after the cure %d ghosts, %d held", len(live.ghosts), len(st.held))
	}
}

func TestPublishedRemovalsEndMembership(t *testing.T) {
	t.Parallel()
	dir, g := company(10)
	live := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	var st stream
	dir.read(live, func(int) bool { return true })
	st.settle(t, live)
	dir.read(live, func(n int) bool { return n != 3 })
	st.settle(t, live)
	if len(live.ghosts) != 0 || memberCount(&st, g.id) != 9 {
		t.Errorf("%d ghosts, the group has %d members, want 0 and 9", len(live.ghosts), memberCount(&st, g.id))
	}
}

func TestVanishedNestedGroupKeepsItsMembersWhileHeld(t *testing.T) {
	t.Parallel()
	dir, sub := company(10)
	top := &object{id: makeID(2000), group: true, cn: "top", dn: "cn=top," + groupsBase, members: map[ID]bool{sub.id: true}}
	dir.objects[top.id] = top
	live := newMirror(testRules(t, connection.NestedFlatten, []string{top.dn}, false))
	var st stream
	dir.read(live, func(int) bool { return true })
	st.settle(t, live)
	live.Gone(sub.id)
	st.settleIf(t, live, nobody)
	if len(st.held) != 1 || memberCount(&st, top.id) != 10 {
		t.Errorf("%d held, the group above has %d members, want 1 and 10", len(st.held), memberCount(&st, top.id))
	}
	st.settleIf(t, live, func(p *publication) bool { return p.change.GetKind() == directoryv1.Kind_KIND_GROUP })
	if len(st.held) != 10 || memberCount(&st, top.id) != 0 {
		t.Errorf("after the group's own removal %d held, %d members, want 10 and 0", len(st.held), memberCount(&st, top.id))
	}
}

func TestNewHolderOfANameEndsTheGhost(t *testing.T) {
	t.Parallel()
	dir, g := company(3)
	live := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	var st stream
	dir.read(live, func(int) bool { return true })
	st.settle(t, live)
	live.Gone(makeID(0))
	st.settleIf(t, live, nobody)
	rehired := &object{id: makeID(50), uid: "u50", dn: dir.objects[makeID(0)].dn}
	live.Put(dir.entry(rehired))
	if _, again := live.reread[g.id]; !again || len(live.ghosts) != 0 {
		t.Errorf("reread %v, %d ghosts, want the group read again and no ghost", live.reread, len(live.ghosts))
	}
	st.settleIf(t, live, nobody)
	if got := memberCount(&st, g.id); got != 2 {
		t.Errorf("%d members before the group is read again, want 2", got)
	}
	if len(st.held) != 1 {
		t.Errorf("%d held, want the removal of the former holder", len(st.held))
	}
}

func TestGhostMovesWithItsContainer(t *testing.T) {
	t.Parallel()
	m := newMirror(memberRules(t, connection.MemberDN, ""))
	var st stream
	m.Begin()
	m.Put(ent(1, "ou=east,dc=x"))
	m.Put(ent(2, "uid=ann,ou=east,dc=x", "uid", "ann"))
	m.Put(ent(3, "cn=staff,dc=x", "cn", "staff", "objectclass", "groupOfNames", "member", "uid=ann,ou=east,dc=x"))
	m.Complete()
	st.settle(t, m)
	m.Gone(makeID(2))
	m.Put(ent(1, "ou=west,dc=x"))
	st.settleIf(t, m, nobody)
	if got := memberCount(&st, makeID(3)); got != 1 || m.at(makeID(2)).name != "uid=ann,ou=west,dc=x" {
		t.Errorf("%d members, the ghost is at %s", got, m.at(makeID(2)).name)
	}
	if m.entries[makeID(2)] != nil {
		t.Error("the ghost is alive")
	}
}
