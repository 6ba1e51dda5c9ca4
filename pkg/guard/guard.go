// Package guard decides how many removals may happen without asking a person.
// It is pure; the detector asks it for each pass over a source.
package guard

import "fmt"

// Limits of one source or connection.
type Limits struct {
	// MaxRemovals is the absolute limit for one pass.
	MaxRemovals int
	// MaxRemovalPercent is the limit relative to the total; it applies to more
	// than Free removals.
	MaxRemovalPercent float64
}

// Free is the number of removals that the percentage never stops: in a small
// directory one person is already many percent.
const Free = 5

// Check returns an empty string when a pass with this many removals out of total
// may go on, and otherwise the reason why all of them are held.
func (l Limits) Check(removals, total int) string {
	switch percent := 100 * float64(removals) / float64(max(total, 1)); {
	case removals > l.MaxRemovals:
		return fmt.Sprintf("%d removals in one pass, more than max_removals (%d)", removals, l.MaxRemovals)
	case removals > Free && percent > l.MaxRemovalPercent:
		return fmt.Sprintf("%d of %d removed in one pass, more than max_removal_percent (%g %%)", removals, total, l.MaxRemovalPercent)
	default:
		return ""
	}
}
