package detector

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// comeAndGo lets the nth person come, join the staff, and leave the directory, which
// leaves the group as the server does: without a word.
func comeAndGo(m *mirror, n int) {
	const staff = "cn=staff," + groupsBase
	name := fmt.Sprintf("uid=u%d,%s", n, people)
	m.Put(ent(n, name, "uid", fmt.Sprint("u", n)))
	m.Put(ent(staffID, staff, "objectclass", "groupOfNames", "member", name))
	m.Gone(makeID(n))
	m.buryPublished(memory{})
}

// staffID is the number of a group that stays.
const staffID = 500_000

// afterPass is what a session does with what is to be looked at.
func afterPass(m *mirror) {
	m.recheck(time.Now().Add(time.Hour))
	clear(m.dirty)
	clear(m.reread)
	m.ask = nil
}

// fullRead is one that finds the group alone.
func fullRead(m *mirror) {
	m.Begin()
	m.Put(ent(staffID, "cn=staff,"+groupsBase, "objectclass", "groupOfNames"))
	m.Complete()
	m.buryPublished(memory{})
}

// Who held the name of an entry that went away is remembered until the next full read:
// that brought what they hold now.
func TestFormerNamesAreForgottenWithAFullRead(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	for n := range 1000 {
		comeAndGo(m, n)
	}
	m.Begin()
	comeAndGo(m, 1001) // while it is read: the group may have been read before
	m.Put(ent(staffID, "cn=staff,"+groupsBase, "objectclass", "groupOfNames"))
	m.Complete()
	if n := m.former.len(); n != 1 {
		t.Errorf("%d names of entries that are gone are kept after a full read, want that of the one who went meanwhile", n)
	}
	fullRead(m)
	if n := m.former.len(); n != 0 {
		t.Errorf("%d names of entries that are long gone are kept", n)
	}
}

// Between two full reads the names are bounded, too: the groups that held them are read
// again, when a server that cleans up in silence has had the time.
func TestGroupsThatHeldTooManyFormerNamesAreReadAgain(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	for n := range maxFormer {
		comeAndGo(m, n)
	}
	if m.former.len() != maxFormer || len(m.suspects) != 0 {
		t.Fatalf("%d names are kept and %d groups are to be read again, want %d and none", m.former.len(), len(m.suspects), maxFormer)
	}
	comeAndGo(m, maxFormer)
	if m.former.len() != 0 {
		t.Errorf("%d names are kept, want none", m.former.len())
	}
	at, suspected := m.suspects[makeID(staffID)]
	if wait := time.Until(at); !suspected || wait <= 0 || wait > renameLag {
		t.Errorf("the group is read again in %s (%v), want within %s", wait, suspected, renameLag)
	}
}

// A hundred thousand people come and go in the life of a detector, and it needs no more
// memory for that than for twenty thousand.
func TestMirrorOfComingsAndGoingsStaysSmall(t *testing.T) { //nolint:paralleltest // it measures the heap
	m := newMirror(testRules(t, connection.NestedFlatten, nil, true))
	const each, times = 20_000, 5
	var first uint64
	for round := range times {
		for n := range each {
			comeAndGo(m, round*each+n)
			if n%100 == 0 {
				afterPass(m)
			}
		}
		afterPass(m)
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		t.Logf("after %d: %d KiB, %d former, %d renames", (round+1)*each, stats.HeapAlloc>>10, m.former.len(), len(m.renames))
		if first == 0 {
			first = stats.HeapAlloc
		}
		const slack = 4 << 20
		if stats.HeapAlloc > first+slack {
			t.Fatalf("the heap grew from %d to %d KiB", first>>10, stats.HeapAlloc>>10)
		}
	}
	if len(m.entries) != 1 || len(m.asked) > 1 || len(m.ghosts)+len(m.replaced)+len(m.rules.complained) != 0 { // the group stays
		t.Errorf("%d entries, %d ghosts, %d asked, %d replaced, %d complained", len(m.entries), len(m.ghosts), len(m.asked), len(m.replaced), len(m.rules.complained))
	}
	runtime.KeepAlive(m)
}
