package detector

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// lateServer is a directory whose server rewrites the members of groups long after a
// move, and in silence: staff names ann by the place from which she came.
func lateServer(member string) *ldapsource.Entry {
	return ent(9, "cn=staff,"+groupsBase, "objectclass", "groupOfNames", "member", member)
}

// A container with ann in it is moved in. No server reports ann, so that a full read
// finds her; the group that holds her is read in it, too, and still has her former name.
// Her groups are asked for in a moment, and once more when the server has had the time.
func TestGroupsOfWhoComesInAFullReadAreAskedForTwice(t *testing.T) {
	t.Parallel()
	const away, here = "uid=ann,ou=unit,ou=away,dc=x", "uid=ann,ou=unit," + people
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	m.Begin()
	m.Put(lateServer(away))
	m.Complete()
	settleLooks(m)

	m.Begin()
	m.Put(ent(1, here, "uid", "ann"))
	m.Put(lateServer(away))
	m.Complete()
	asked := 0
	for at := m.nextLook(); !at.IsZero(); at = m.nextLook() {
		m.recheck(at)
		if len(m.ask) > 0 {
			asked++
			if diff := gocmp.Diff([]string{here}, m.ask); diff != "" {
				t.Errorf("to ask for: -want +got\n%s", diff)
			}
			m.ask = nil
		}
		if wait := time.Until(at); asked == 2 && (wait < renameLag/2 || wait > 2*renameLag) {
			t.Errorf("asked for the second time after %s, want about %s", wait, renameLag)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times for the groups of who came with a container, want 2", asked)
	}
	m.Put(lateServer(here)) // what the second answer brings
	if members := m.membersOf(m.entries[makeID(9)]); len(members) != 1 || members[0].id != makeID(1) {
		t.Errorf("members %v, want ann", members)
	}
}

// The same while the very first read goes on: the group was read before the server had
// rewritten it, and its members are names that nobody has.
func TestGroupsOfStrangersAreReadAgainTwice(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	m.Begin()
	m.Put(ent(1, "uid=ann,ou=new,"+people, "uid", "ann"))
	m.Put(lateServer("uid=ann,ou=old," + people))
	m.Complete()
	if n := settleLooks(m); n != 2 {
		t.Errorf("the group is read again %d times, want in a moment and when the server has had the time", n)
	}
	// The names stay: they are of entries that are not read, and are not asked for again.
	m.Begin()
	m.Put(ent(1, "uid=ann,ou=new,"+people, "uid", "ann"))
	m.Put(lateServer("uid=ann,ou=old," + people))
	m.Complete()
	if n := settleLooks(m); n != 0 {
		t.Errorf("the group is read again %d times for a name that stays", n)
	}
}

// Between two answers ann's container was moved away, joined a group there, and came
// back: nobody saw that she was gone, and the group was sent with the name that she had
// there. The server rewrites it in silence, so that it is read again.
func TestGroupThatNamedSomebodyElsewhereIsReadAgain(t *testing.T) {
	t.Parallel()
	const unit = "ou=unit," + people
	for name, back := range map[string]func(m *mirror){
		"with the container": func(m *mirror) { m.Put(ent(2, "ou=new,"+people, "objectclass", "organizationalUnit")) },
		"alone":              func(m *mirror) { m.Put(ent(1, "uid=ann,"+people, "uid", "ann")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
			m.Begin()
			m.Put(ent(2, unit, "objectclass", "organizationalUnit"))
			m.Put(ent(1, "uid=ann,"+unit, "uid", "ann"))
			m.Put(ent(9, "cn=staff,"+groupsBase, "objectclass", "groupOfNames"))
			m.Complete()
			settleLooks(m)
			m.Put(lateServer("uid=ann,ou=unit,ou=away,dc=x"))
			if n := settleLooks(m); n != 0 {
				t.Errorf("the group is read again %d times, and nothing was renamed", n)
			}
			back(m)
			if n := settleLooks(m); n != 2 {
				t.Errorf("the group is read again %d times, want in a moment and when the server has had the time", n)
			}
			m.Put(lateServer(m.entries[makeID(1)].dn())) // what the second read brings
			back(m)
			m.Put(ent(2, "ou=newer,"+people, "objectclass", "organizationalUnit"))
			if len(m.puzzling) != 0 {
				t.Errorf("groups that name nobody unknown are read again: %v", m.puzzling)
			}
		})
	}
}

// settleLooks lets time go by until nothing is due, and says how often something was to
// be read again.
func settleLooks(m *mirror) (reads int) {
	for at := m.nextLook(); !at.IsZero(); at = m.nextLook() {
		if m.recheck(at); len(m.reread) > 0 {
			reads++
		}
		clear(m.reread)
		m.ask = nil
	}
	return reads
}
