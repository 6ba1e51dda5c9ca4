package detector

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
)

// Managers come before their reports, whatever the order of the entries, each entry
// once; a circle, an own manager and a manager who is not among them are no obstacle.
func TestReferredEntriesComeFirst(t *testing.T) {
	t.Parallel()
	rules := memberRules(t, connection.MemberDN, "")
	rules.references = []string{"manager"}
	rules.set = mapping.NewSet([]string{"uid", "manager"})
	m := newMirror(rules)
	managers := map[int]int{2: 1, 3: 2, 4: 2, 5: 4, 6: 7, 7: 6, 8: 8, 9: 40, 10: 5}
	var ids []ID
	for n := 1; n <= 10; n++ {
		pairs := []string{"uid", fmt.Sprintf("u%d", n)}
		if by, has := managers[n]; has {
			pairs = append(pairs, "manager", fmt.Sprintf("uid=u%d,dc=x", by))
		}
		m.Put(ent(n, fmt.Sprintf("uid=u%d,dc=x", n), pairs...))
		ids = append(ids, makeID(n))
	}
	slices.Reverse(ids)
	got := slices.Collect(m.referredFirst(slices.Values(ids)))
	if want := slices.SortedFunc(slices.Values(ids), compareIDs); !slices.Equal(slices.SortedFunc(slices.Values(got), compareIDs), want) {
		t.Fatalf("%d entries in order, want each of %d once", len(got), len(want))
	}
	place := func(n int) int { return slices.Index(got, makeID(n)) }
	for _, n := range []int{2, 3, 4, 5, 10} {
		if place(n) < place(managers[n]) {
			t.Errorf("entry %d comes before its manager %d", n, managers[n])
		}
	}
	rules.references = nil
	if got := slices.Collect(m.referredFirst(slices.Values(ids))); !slices.Equal(got, ids) {
		t.Error("without references the order changed")
	}
}

func compareIDs(a, b ID) int { return slices.Compare(a[:], b[:]) }
