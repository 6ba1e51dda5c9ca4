package detector

import "testing"

func TestHeapLimit(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int64{0: smallHeap, smallHeap / 2: smallHeap, 1 << 30: spare * (1 << 30)} {
		if got := heapLimit(live); got != want {
			t.Errorf("%d alive: %d, want %d", live, got, want)
		}
	}
}
