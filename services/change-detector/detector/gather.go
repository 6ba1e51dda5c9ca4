package detector

import (
	"cmp"
	"slices"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/guard"
)

// pace says how removals gather that come one by one.
type pace struct {
	// burst is how long a removal that flowed makes further ones gather.
	burst time.Duration
	// quiet without another removal, or longest since the first one, ends it.
	quiet, longest time.Duration
}

var usualPace = pace{burst: 10 * time.Second, quiet: 2 * time.Second, longest: 30 * time.Second}

// gather keeps a burst of removals of one kind together: the first few flow, the
// others wait until they can be judged as one.
type gather struct {
	flowed      []time.Time          // removals that were let through one by one
	waiting     map[unitKey]struct{} // removals that gather
	since, last time.Time            // of those that gather
}

// due is when what gathers is to be judged; the zero time when nothing gathers.
func (g *gather) due(p pace) time.Time {
	if len(g.waiting) == 0 {
		return time.Time{}
	}
	quiet, longest := g.last.Add(p.quiet), g.since.Add(p.longest)
	if longest.Before(quiet) {
		return longest
	}
	return quiet
}

// admit returns the removals to judge now; the fate of the others is to wait.
// known says of a removal whether it was held before: those are judged each time.
func (g *gather) admit(now time.Time, p pace, units []*unit, known func(unitKey) bool) []*unit {
	g.flowed = slices.DeleteFunc(g.flowed, func(t time.Time) bool { return now.Sub(t) >= p.burst })
	slices.SortFunc(units, func(a, b *unit) int { return cmp.Compare(a.pub.id().String(), b.pub.id().String()) })
	waited := g.waiting
	g.waiting = map[unitKey]struct{}{}
	var admitted, wait []*unit
	for _, u := range units {
		_, already := waited[u.key()]
		switch {
		case !already && known(u.key()):
			admitted = append(admitted, u)
			continue
		case !already && len(waited) == 0 && len(wait) == 0 && len(g.flowed)+u.n <= guard.Free:
			admitted = append(admitted, u)
			g.flowed = append(g.flowed, slices.Repeat([]time.Time{now}, u.n)...)
			continue
		case !already:
			g.last = now
		}
		g.waiting[u.key()] = struct{}{}
		wait = append(wait, u)
	}
	if len(wait) == 0 {
		g.since = time.Time{}
		return admitted
	}
	if g.since.IsZero() {
		g.since = now
	}
	if !now.Before(g.due(p)) {
		g.flowed = append(g.flowed, slices.Repeat([]time.Time{now}, guard.Free)...) // the burst goes on
		return append(admitted, g.all(wait)...)
	}
	for _, u := range wait {
		u.fate = waits
	}
	return admitted
}

// all ends the gathering.
func (g *gather) all(units []*unit) []*unit {
	g.waiting, g.since, g.last = nil, time.Time{}, time.Time{}
	return units
}
