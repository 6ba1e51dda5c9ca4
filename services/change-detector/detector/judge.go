package detector

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// judge decides about the units of one round. It is pure but for the bursts and
// waves, which it keeps from round to round.
type judge struct {
	source     string
	generation string
	limits     guard.Limits
	pace       pace

	now    time.Time
	full   bool // a full read: nothing gathers
	memory memory
	window *provisioningv1.Window
	// said is what is held of an entry, with what a person said of it.
	said func(held.Key) *provisioningv1.Held
	// known says whether a unit was held in the round before.
	known func(unitKey) bool
	// counted are in the window already: their publication failed after they were
	// counted.
	counted map[unitKey]int
	// approved counts what people approved in this round.
	approved map[string]int
	// rejected are the units that people rejected, by what they count as.
	rejected map[string][]*unit
	*bench
}

// bench is what is kept from round to round.
type bench struct {
	// gathers are the bursts, by what is counted.
	gathers map[string]*gather
	// waves count what was approved of removals of which others still wait: who
	// approves some of them does not let the others pass.
	waves map[string]int
	// stored are the waves as the sources bucket has them.
	stored map[string]int
}

func newBench() *bench {
	b := &bench{gathers: map[string]*gather{}, waves: map[string]int{}}
	for _, of := range []string{guard.Users, guard.Groups, guard.Members} {
		b.gathers[of] = &gather{}
	}
	return b
}

// due is when the earliest burst is to be judged; the zero time for never.
func (b *bench) due(p pace) time.Time {
	var first time.Time
	for _, g := range b.gathers {
		if at := g.due(p); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// decide gives each unit its fate:
//
//  1. what a person said of it counts, if it is still about the same
//  2. what has a reason of its own is held
//  3. while few flowed lately more flow at once; beyond that they wait for each other
//  4. the rest is judged as one, by what it counts as; where no user would be left,
//     nothing else is believed either
//
// It returns what flows without having been approved, by what it counts as.
func (j *judge) decide(units []*unit) map[string]int {
	open := map[string][]*unit{}
	j.approved, j.rejected = map[string]int{}, map[string][]*unit{}
	for _, u := range j.unmarked(units) { // 1
		if u.why != "" { // 2
			u.fate = holds
			continue
		}
		open[u.of] = append(open[u.of], u)
	}
	counts := map[string]int{}
	for of, g := range j.gathers { // 3
		if j.full {
			g.all(nil)
			continue
		}
		if len(open[of]) > 0 || len(g.waiting) > 0 { // to count everybody takes a moment
			open[of] = g.admit(j.now, j.pace, j.total(of), open[of], j.known)
		}
	}
	reasons, reload := j.reasons(open) // 4
	for of, some := range open {
		for _, u := range some {
			switch {
			case reasons[of] != "":
				u.fate, u.why = holds, reasons[of]
			case u.pub.replaced && reload != "":
				u.fate, u.why = holds, reload
			case u.pub.unasked:
				u.fate, u.why = holds, j.cure("too many entries are not found to ask the server for each of them", some)
			default:
				counts[of] += j.uncounted(u)
			}
		}
	}
	j.countWaves(units)
	return counts
}

// reasons are why removals of a kind may not pass; reload is the one that is about
// entries which came back under another id. Of those none is removed then.
func (j *judge) reasons(open map[string][]*unit) (all map[string]string, reload string) {
	all = map[string]string{}
	nobody := j.nobodyLeft(open[guard.Users])
	for of, some := range open {
		all[of] = cmp.Or(nobody, j.tooMany(of, some))
		if of == guard.Groups {
			all[of] = cmp.Or(all[of], j.noGroupLeft(some))
		}
		if all[of] != "" && reloaded(some) != "" {
			reload = all[of]
		}
	}
	return all, reload
}

// unmarked gives the units of which a person said something their fate and
// returns the others.
func (j *judge) unmarked(units []*unit) []*unit {
	byEntry := map[*publication][]*unit{}
	for _, u := range units {
		byEntry[u.pub] = append(byEntry[u.pub], u)
	}
	return slices.DeleteFunc(slices.Clone(units), func(u *unit) bool {
		h := j.said(u.pub.key())
		if h.GetMark() == provisioningv1.Mark_MARK_UNSPECIFIED || !j.same(h, u, byEntry[u.pub]) {
			return false
		}
		if h.GetMark() == provisioningv1.Mark_MARK_REJECTED {
			u.fate, u.why = rests, h.GetReason()
			j.rejected[u.of] = append(j.rejected[u.of], u)
			return true
		}
		u.approval = h.GetApproval()
		j.approved[u.of] += u.n
		return true
	})
}

// same says whether what is held, of an entry that would lose all of these, is
// still about this unit.
func (j *judge) same(h *provisioningv1.Held, u *unit, all []*unit) bool {
	if u.field != "" && !slices.Contains(h.GetFields(), u.field) {
		return false
	}
	var those []*unit
	for _, one := range all {
		if one.field == "" || slices.Contains(h.GetFields(), one.field) {
			those = append(those, one)
		}
	}
	now := j.item(those)
	return held.Same(h, now) || stillRejected(h, now)
}

// item is what is held of an entry when these units of it are.
func (j *judge) item(units []*unit) *provisioningv1.Held {
	pub := units[0].pub
	h := &provisioningv1.Held{Action: action(units), Generation: j.generation}
	if before := j.memory[pub.key().Kind][pub.id()]; before != nil {
		h.Sequence = before.sequence
	}
	var reasons []string
	for _, u := range units {
		if u.field != "" {
			h.Fields = append(h.Fields, u.field)
		}
		if u.field == directoryv1.FieldMembers {
			h.MembersHash = membersHash(pub.left)
		}
		if !slices.Contains(reasons, u.why) {
			reasons = append(reasons, u.why)
		}
	}
	slices.Sort(h.GetFields())
	h.Reason = joinReasons(reasons)
	return h
}

// uncounted is how many of a unit the window does not know yet.
func (j *judge) uncounted(u *unit) int { return max(0, u.n-j.counted[u.key()]) }

func (j *judge) uncountedOf(units []*unit) int {
	n := 0
	for _, u := range units {
		n += j.uncounted(u)
	}
	return n
}

// tooMany is why these removals may not pass, or empty.
func (j *judge) tooMany(of string, units []*unit) string {
	n := j.uncountedOf(units)
	if n == 0 {
		return ""
	}
	units = j.wave(of, units)
	n = j.uncountedOf(units) + j.waves[of] + j.approved[of]
	earlier := guard.Earlier(j.window, of, j.now, j.limits.Window)
	var reason string
	switch of {
	case guard.Users, guard.Groups, guard.Members:
		reason = j.limits.Check(guard.Removals{Of: of, Count: n, Earlier: earlier, Total: j.total(of) + j.waves[of]})
	default:
		kind, field := units[0].pub.change.GetKind(), units[0].field
		reason = guard.CheckVanished(field, n, earlier, holders(j.memory[kind], field)+j.waves[of])
	}
	if reason == "" && of == guard.Members {
		reason = j.emptied(units)
	}
	return j.cure(reason, units)
}

// wave are units and, where some of them wait for a person already, what people rejected of
// the same kind: who rejects some of a wave does not let the others pass.
func (j *judge) wave(of string, units []*unit) []*unit {
	asked := func(u *unit) bool {
		h := j.said(u.pub.key())
		return h != nil && h.GetMark() == provisioningv1.Mark_MARK_UNSPECIFIED
	}
	if !slices.ContainsFunc(units, asked) {
		return units
	}
	return slices.Concat(units, j.rejected[of])
}

// nobodyLeft is why nothing may be removed at all, or empty.
func (j *judge) nobodyLeft(users []*unit) string {
	if gone(users) == 0 || gone(j.wave(guard.Users, users)) < j.total(guard.Users) {
		return ""
	}
	return j.cure("no user is left in scope", users)
}

// noGroupLeft is why the groups may not be removed all at once, or empty. The last
// one may.
func (j *judge) noGroupLeft(groups []*unit) string {
	groups = j.wave(guard.Groups, groups)
	if n := gone(groups); n < 2 || n < j.total(guard.Groups) {
		return ""
	}
	return j.cure("no group is left in scope", groups)
}

// cure adds to a reason what can be done about it.
func (j *judge) cure(reason string, units []*unit) string {
	if reason == "" {
		return ""
	}
	return fmt.Sprintf("%s%s: correct the directory or the account's rights, or approve it (rollcall held approve); the limits are sources.%s.guard", reason, reloaded(units), j.source)
}

func (j *judge) total(of string) int {
	switch of {
	case guard.Users:
		return j.memory.present(directoryv1.Kind_KIND_USER)
	case guard.Groups:
		return j.memory.present(directoryv1.Kind_KIND_GROUP)
	default:
		return j.memory.members()
	}
}

// gone counts the entries that would be removed as a whole.
func gone(units []*unit) int {
	n := 0
	for _, u := range units {
		if u.field == "" {
			n++
		}
	}
	return n
}

// emptied is why many groups may not lose all their members at once, or empty: the
// attribute that holds them seems to have vanished.
func (j *judge) emptied(units []*unit) string {
	n := 0
	for _, u := range units {
		if slices.Contains(u.pub.lost, directoryv1.FieldMembers) {
			n++
		}
	}
	return guard.CheckVanished("the members of groups", n, 0, holders(j.memory[directoryv1.Kind_KIND_GROUP], directoryv1.FieldMembers))
}

// reloaded adds to a reason that most entries are there under another id; who took
// the name of one that is gone is nothing special.
func reloaded(units []*unit) string {
	n, all := 0, gone(units)
	for _, u := range units {
		if u.pub.replaced {
			n++
		}
	}
	if 2*n <= all {
		return ""
	}
	return fmt.Sprintf("; %d of %d entries came back under another id: the directory was reloaded, restore it with its ids, or approve the removal of the old entries", n, all)
}

// countWaves remembers how many of a kind were approved while others of it wait.
func (j *judge) countWaves(units []*unit) {
	waiting := map[string]bool{}
	for _, u := range units {
		waiting[u.of] = waiting[u.of] || u.fate == holds
	}
	for of, n := range j.approved {
		j.waves[of] += n
	}
	maps.DeleteFunc(j.waves, func(of string, _ int) bool { return !waiting[of] })
}
