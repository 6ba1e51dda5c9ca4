package detector

import (
	"cmp"
	"slices"
	"time"
)

// pace says how removals gather that come one by one.
type pace struct {
	// refill is how long an empty bucket takes to be full again; at once when it is 0.
	refill time.Duration
	// burst is how long after removals were judged as one further ones gather, too.
	burst time.Duration
	// quiet without another removal, or longest since the first one, ends it.
	quiet, longest time.Duration
}

var usualPace = pace{refill: 10 * time.Minute, burst: 10 * time.Second, quiet: 2 * time.Second, longest: 30 * time.Second}

// A bucket holds so many removals of a kind as flow at once: a hundredth of the entries of
// that kind, within limits.
const (
	bucketPart  = 100
	bucketLeast = 5
	bucketMost  = 100
)

func bucketSize(total int) float64 {
	part := (total + bucketPart - 1) / bucketPart // those that just flowed belong to it
	return float64(min(max(part, bucketLeast), bucketMost))
}

// gather keeps removals of one kind together. They flow at once while few have lately: a
// token bucket. What does not find a token waits until it can be judged as one with what
// comes after it.
type gather struct {
	spent       float64              // tokens that are not back yet
	at          time.Time            // when it was so
	judged      time.Time            // when removals were last judged as one
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

// admit returns the removals to judge now; the fate of the others is to wait. total is
// how many entries of the kind there are.
// known says of a removal whether it was held before: those are judged each time.
func (g *gather) admit(now time.Time, p pace, total int, units []*unit, known func(unitKey) bool) []*unit {
	g.refill(now, p, total)
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
		case !already && len(waited) == 0 && len(wait) == 0 && g.take(now, p, total, u.n):
			admitted = append(admitted, u)
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
		for _, u := range wait {
			g.spent = min(g.spent+float64(u.n), bucketSize(total))
		}
		g.judged = now
		return append(admitted, g.all(wait)...)
	}
	for _, u := range wait {
		u.fate = waits
	}
	return admitted
}

// refill gives back the tokens for the time that has passed.
func (g *gather) refill(now time.Time, p pace, total int) {
	switch passed := now.Sub(g.at); {
	case p.refill <= 0:
		g.spent = 0
	case passed > 0:
		g.spent = max(0, g.spent-bucketSize(total)*passed.Seconds()/p.refill.Seconds())
	}
	g.at = now
}

// take takes tokens for removals that flow at once, if there are as many and no burst is
// under way.
func (g *gather) take(now time.Time, p pace, total, n int) bool {
	burst := !g.judged.IsZero() && now.Sub(g.judged) < p.burst
	if burst || g.spent+float64(n) > bucketSize(total) {
		return false
	}
	g.spent += float64(n)
	return true
}

// all ends the gathering.
func (g *gather) all(units []*unit) []*unit {
	g.waiting, g.since, g.last = nil, time.Time{}, time.Time{}
	return units
}
