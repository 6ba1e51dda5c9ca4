package groupsync

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
)

// leaveOut leaves the attributes as they are that the target did not apply before.
func (w *wanted) leaveOut(job *worker.Job) {
	w.unapplied = job.LeftOut(&w.Desired)
	for _, path := range w.unapplied {
		delete(w.units, path)
	}
}

// leaveOutFixed takes out what the target never changes and what no target may be sent,
// and notes it.
func (s *sending) leaveOutFixed(ctx context.Context) {
	s.units = slices.DeleteFunc(s.units, func(u scim.Unit) bool { return !s.sends(ctx, scim.SetOperation(u)) })
	s.cleared = slices.DeleteFunc(slices.Clone(s.cleared), func(path string) bool { return !s.sends(ctx, scim.ClearOperation(path)) })
	s.due = len(s.units)+len(s.cleared) > 0
}

func (s *sending) sends(ctx context.Context, o scim.Operation) bool {
	unapplied := worker.Unapplied{Path: o.Path, Value: s.w.Attributes[o.Path]}
	if err := o.Check(); err != nil {
		unapplied.Reason = err.Error()
	} else if s.c.immutable.Everywhere(o.Path) {
		unapplied.Immutable, unapplied.Reason = true, worker.ImmutableReason("of any group")
	} else {
		return true
	}
	s.job.Unapplied(ctx, unapplied)
	return false
}

// compare notes the attributes that an answer shows with another value than was sent with
// it. Members are compared by settle.
func (s *sending) compare(ctx context.Context, answer *scim.Resource, patched bool) {
	if !s.due {
		return
	}
	units := slices.Clone(s.units)
	for _, path := range s.cleared {
		units = append(units, scim.Unit{Path: path})
	}
	s.c.compare(ctx, s.job, s.w, answer, units, patched)
}

// compare notes the units that an answer shows with another value. An answer that is not
// whole says nothing of what it leaves out.
func (c *converger) compare(ctx context.Context, job *worker.Job, w *wanted, answer *scim.Resource, units []scim.Unit, patched bool) {
	if answer == nil {
		return
	}
	_, whole := answer.Value(displayName)
	for _, unit := range units {
		if observed, shown := answer.Value(unit.Path); !shown && !whole || unit.EqualTo(observed) {
			continue
		}
		job.Unapplied(ctx, worker.Unapplied{
			Path: unit.Path, Value: w.Attributes[unit.Path], Status: http.StatusOK,
			Reason: "the target answered with success, and shows another value: " + worker.HintForGroup(unit.Path, patched),
		})
	}
}

// unitsOf are the units of a group, sorted by path.
func (w *wanted) unitsOf() []scim.Unit {
	units := make([]scim.Unit, 0, len(w.units))
	for _, path := range slices.Sorted(maps.Keys(w.units)) {
		units = append(units, w.units[path])
	}
	return units
}
