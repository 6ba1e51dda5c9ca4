package detector

import (
	"slices"
	"testing"
	"time"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// gone makes the removals of users.
func removalsOf(users ...int) []*unit {
	var units []*unit
	for _, n := range users {
		id := makeID(n)
		units = append(units, &unit{n: 1, pub: &publication{change: &directoryv1.Change{
			EntryId: id[:], Kind: directoryv1.Kind_KIND_USER, Op: directoryv1.Op_OP_ABSENT,
		}}})
	}
	return units
}

func numbers(from, to int) []int {
	var all []int
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

func TestGather(t *testing.T) {
	t.Parallel()
	// look is a pass: these removals are derived, so many of them are judged.
	type look struct {
		after    time.Duration
		removals []int
		judged   int
	}
	steady := func(every time.Duration, until time.Duration, judgedAt time.Duration) []look {
		looks := []look{{0, numbers(0, 5), 5}}
		for at, n := every, 6; at <= until; at, n = at+every, n+1 {
			judged := 0
			if at >= judgedAt {
				judged = n - 5
			}
			looks = append(looks, look{at, numbers(5, n), judged})
		}
		return looks
	}
	const s = time.Second
	cases := []struct {
		name  string
		total int
		looks []look
	}{
		{"five flow, one by one", 100, []look{{0, numbers(0, 1), 1}, {s, numbers(1, 2), 1}, {2 * s, numbers(2, 3), 1}, {3 * s, numbers(3, 4), 1}, {4 * s, numbers(4, 5), 1}}},
		{"of a thousand, ten flow", 1000, []look{{0, numbers(0, 10), 10}, {s, numbers(10, 11), 0}}},
		{"of ten thousand, a hundred", 10_000, []look{{0, numbers(0, 100), 100}, {s, numbers(100, 101), 0}}},
		{"of a million no more", 1_000_000, []look{{0, numbers(0, 101), 100}}},
		{"the sixth gathers, and is judged after two seconds", 100, []look{{0, numbers(0, 5), 5}, {s, numbers(5, 6), 0}, {2900 * time.Millisecond, numbers(5, 6), 0}, {3 * s, numbers(5, 6), 1}}},
		{"of many at once five flow and the others are judged together", 100, []look{{0, numbers(0, 50), 5}, {s, numbers(5, 50), 0}, {2 * s, numbers(5, 50), 45}}},
		{"another one begins the two seconds again", 100, []look{{0, numbers(0, 6), 5}, {s, numbers(5, 7), 0}, {2500 * time.Millisecond, numbers(5, 7), 0}, {3 * s, numbers(5, 7), 2}}},
		{"after two minutes one more flows", 100, []look{{0, numbers(0, 5), 5}, {119 * s, numbers(5, 6), 0}, {121 * s, numbers(5, 6), 1}, {141 * s, numbers(6, 7), 0}}},
		{"after two minutes one more flows, at once", 100, []look{{0, numbers(0, 5), 5}, {120 * s, numbers(5, 7), 1}}},
		{"after ten minutes five more flow", 100, []look{{0, numbers(0, 5), 5}, {600 * s, numbers(5, 11), 5}}},
		{"after an hour no more than five", 100, []look{{0, numbers(0, 5), 5}, {3600 * s, numbers(5, 11), 5}}},
		{"a burst without an end is judged after thirty seconds", 100, steady(s, 31*s, 31*s)},
		{"what gathered and came back is not waited for", 1000, []look{{0, numbers(0, 11), 10}, {s, nil, 0}, {61 * s, numbers(11, 12), 1}}},
		{"after a burst was judged the next ones gather", 100, []look{{0, numbers(0, 6), 5}, {2 * s, numbers(5, 6), 1}, {3 * s, numbers(6, 7), 0}, {5 * s, numbers(6, 7), 1}}},
		{"within ten seconds of a burst also where a token is back", 10_000, []look{{0, numbers(0, 101), 100}, {2 * s, numbers(100, 101), 1}, {11 * s, numbers(101, 102), 0}, {13 * s, numbers(101, 102), 1}, {24 * s, numbers(102, 103), 1}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var g gather
			begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for _, l := range c.looks {
				units := removalsOf(l.removals...)
				judged := g.admit(begin.Add(l.after), usualPace, c.total, units, func(unitKey) bool { return false })
				if len(judged) != l.judged {
					t.Errorf("after %s %d of %d are judged, want %d", l.after, len(judged), len(units), l.judged)
				}
				for _, u := range units {
					if slices.Contains(judged, u) == (u.fate == waits) {
						t.Errorf("after %s: a removal waits and is judged, or neither", l.after)
					}
				}
			}
		})
	}
}

// A group that loses more members at once than flow gathers as a whole.
func TestGatherKeepsAnEntryTogether(t *testing.T) {
	t.Parallel()
	var g gather
	units := removalsOf(0, 1)
	units[0].n = 20
	judged := g.admit(time.Now(), usualPace, 100, units, func(unitKey) bool { return false })
	if len(judged) != 0 {
		t.Errorf("%d judged, want the group to wait, and what comes after it", len(judged))
	}
}

// What was held before is judged again each time: it dissolves as soon as its cause
// is gone.
func TestGatherJudgesWhatIsHeld(t *testing.T) {
	t.Parallel()
	var g gather
	held := map[unitKey]bool{}
	units := removalsOf(numbers(0, 20)...)
	for _, u := range units {
		held[u.key()] = true
	}
	judged := g.admit(time.Now(), usualPace, 100, append(units, removalsOf(20)...), func(k unitKey) bool { return held[k] })
	if len(judged) != 21 || len(g.waiting) != 0 {
		t.Errorf("%d judged, %d wait, want 21 and 0", len(judged), len(g.waiting))
	}
}
