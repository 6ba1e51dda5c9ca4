// Package guard decides how many removals may happen without asking a person. It
// is pure; the detector asks it for each pass over a source, the workers for each
// removal on a target. What waits for a person, and what was counted, is kept by
// package held.
package guard

import (
	"fmt"
	"time"

	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Limits of one source or connection.
type Limits struct {
	// MaxRemovals is the absolute limit, for one pass and for the window.
	MaxRemovals int
	// MaxRemovalPercent is the limit relative to the total; it applies to more
	// than Free removals.
	MaxRemovalPercent float64
	// Window is how long a removal counts.
	Window time.Duration
}

// Free is the number of removals that the percentage never stops: in a small
// directory one person is already many percent.
const Free = 5

// What is counted, each against its own total.
const (
	Users   = "users"
	Groups  = "groups"
	Members = "members"
	// Matching counts changes of the attribute by which a resource is found.
	Matching = "matching"
)

// Removals are to be judged.
type Removals struct {
	// Of is what is removed: Users, Groups, Members or Matching.
	Of string
	// Count is how many would be removed now, Earlier how many were removed within
	// the window.
	Count, Earlier int
	// Total is how many there are now, with those that would be removed.
	Total int
}

// Check returns an empty string when the removals may go on, and otherwise the
// reason why all of them are held.
func (l Limits) Check(r Removals) string {
	if r.Count == 0 {
		return ""
	}
	sum, total := r.Count+r.Earlier, r.Total+r.Earlier
	switch percent := 100 * float64(sum) / float64(max(total, 1)); {
	case sum > l.MaxRemovals:
		return fmt.Sprintf("%s, more than max_removals (%d)", l.describe(r), l.MaxRemovals)
	case sum > Free && percent > l.MaxRemovalPercent:
		return fmt.Sprintf("%s, more than max_removal_percent (%g %%)", l.describe(r), l.MaxRemovalPercent)
	default:
		return ""
	}
}

func (l Limits) describe(r Removals) string {
	text := fmt.Sprintf("%d of %d %s would be removed", r.Count, r.Total, r.Of)
	if r.Of == Matching {
		text = fmt.Sprintf("%d of %d entries would change the attribute they are matched by", r.Count, r.Total)
	}
	if r.Earlier > 0 {
		text += fmt.Sprintf(", after %d in the last %s", r.Earlier, l.Window)
	}
	return text
}

// An attribute that vanishes is held when it does from more than so many of its
// holders, and more than so many percent.
const (
	vanishFree    = 10
	vanishPercent = 5
)

// CheckVanished returns an empty string when an attribute may vanish from that
// many of its holders, and otherwise the reason why it is kept.
func CheckVanished(attribute string, from, earlier, holders int) string {
	if sum := from + earlier; sum <= vanishFree || 100*sum <= vanishPercent*(holders+earlier) {
		return ""
	}
	return fmt.Sprintf("%s vanished from %d of the %d entries that have it: the account may have lost the right to read it", attribute, from+earlier, holders+earlier)
}

// Earlier is how many removals of a kind the window counts at a time.
func Earlier(w *provisioningv1.Window, of string, now time.Time, window time.Duration) int {
	sum := 0
	for _, slot := range w.GetSlots() {
		if counts(slot, now, window) {
			sum += int(slot.GetCounts()[of]) //nolint:gosec // a number of entries
		}
	}
	return sum
}

// counts says whether any part of a slot lies in the window.
func counts(slot *provisioningv1.WindowSlot, now time.Time, window time.Duration) bool {
	return time.Unix(slot.GetStart(), 0).Add(slotOf(window)).After(now.Add(-window))
}

// slots is into how many slots a window is divided.
const slots = 24

func slotOf(window time.Duration) time.Duration { return max(window/slots, time.Minute) }

// Count adds removals to the window and drops slots that have left it.
func Count(w *provisioningv1.Window, of string, n int, now time.Time, window time.Duration) {
	var kept []*provisioningv1.WindowSlot
	for _, slot := range w.GetSlots() {
		if counts(slot, now, window) {
			kept = append(kept, slot)
		}
	}
	start := now.Truncate(slotOf(window)).Unix()
	if len(kept) == 0 || kept[len(kept)-1].GetStart() < start {
		kept = append(kept, &provisioningv1.WindowSlot{Start: start, Counts: map[string]uint64{}})
	}
	last := kept[len(kept)-1]
	if last.Counts == nil {
		last.Counts = map[string]uint64{}
	}
	last.Counts[of] += uint64(max(n, 0))
	w.Slots = kept
}
