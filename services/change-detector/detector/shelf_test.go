package detector

import (
	"strconv"
	"strings"
	"testing"
)

// What was put on a shelf stays what it is, whatever is put there later.
func TestShelf(t *testing.T) {
	t.Parallel()
	var things shelf[[3]int]
	var texts textShelf
	var put []*[3]int
	var said []string
	for i := range 5_000 {
		put = append(put, things.put([3]int{i}))
		long := strings.Repeat("x", i%7)
		if i%1_000 == 0 {
			long = strings.Repeat("y", 2*boardSize)
		}
		a, b := texts.put(strconv.Itoa(i), long)
		if a != strconv.Itoa(i) || b != long {
			t.Fatalf("%d became %q", i, a)
		}
		said = append(said, a)
	}
	for i := range put {
		if put[i][0] != i || said[i] != strconv.Itoa(i) {
			t.Errorf("%d became %d and %q", i, put[i][0], said[i])
		}
	}
}
