package detector

import (
	"math/rand/v2"
	"testing"
)

// TestIDSet compares a set with a map, over its change from a list to one, and walks
// it while it changes.
func TestIDSet(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var set idSet
	want := map[ID]bool{}
	for range 5000 {
		id := makeID(random.IntN(3 * manyIDs))
		if random.IntN(2) == 0 {
			set, want[id] = set.with(id), true
		} else {
			set = set.without(id)
			delete(want, id)
		}
		got := 0
		for one := range set.all() {
			got++
			if !want[one] {
				t.Fatalf("seed %d: %s is in the set", seed, one)
			}
		}
		if got != len(want) || set.len() != len(want) {
			t.Fatalf("seed %d: %d and %d ids, want %d", seed, got, set.len(), len(want))
		}
	}
	walked := set.len()
	for id := range set.all() {
		set = set.without(id)
		walked--
	}
	if walked != 0 || set.len() != 0 {
		t.Errorf("seed %d: %d were not walked, %d are left", seed, walked, set.len())
	}
}
