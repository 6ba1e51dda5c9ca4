package worker

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/plan"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// Decision is what Carry needs to know of a converger.
type Decision struct {
	Policy  plan.Policy
	Desired plan.Desired
	// Observed is what a look at the target found already, if there was one.
	Observed plan.Observed
	// Matching are the paths by which the resource is matched.
	Matching []string
	// DryRun computes and records actions instead of sending them.
	DryRun bool
	// Apply carries an action out and commits it; ErrLook asks for a look at the
	// target and another decision.
	Apply func(ctx context.Context, a plan.Action) error
	Look  func(ctx context.Context) (plan.Observed, error)
	// Members, where there are any, says which members an action would add and remove.
	Members func(ctx context.Context, a plan.Action) (Members, error)
}

// maxLooks bounds how often one convergence may look at the target again, and
// maxCreates how often a creation may be refused for what no look finds: an entry that
// cannot be matched costs three calls and then waits for a person.
const (
	maxLooks   = 3
	maxCreates = 2
)

// Carry is the table of contents of a decision:
//
//  1. decide
//  2. where nothing may be sent: say what would be done
//  3. an entry that is gone leaves its resource to one that waits for it
//  4. ask the guard; what it holds is taken out of the action
//  5. carry the action out, or look at the target and decide again
//  6. tell those who wait for the resource
func (j *Job) Carry(ctx context.Context, d Decision) error {
	j.trial = d.DryRun && !j.dry
	dry := j.dry || j.trial
	// A creation cannot be tried, or is known to be refused.
	d.Policy.LookFirst = d.Policy.LookFirst || dry || len(j.stored.GetProblem().GetBlockedBy()) > 0
	creates := 0
	for range maxLooks {
		action := plan.Decide(d.Policy, d.Desired, j.Linked(), d.Observed) // 1
		var err error
		switch {
		case action.Kind == plan.Look && j.offline:
			j.forecast = Forecast{Action: action, mayRemove: !d.Desired.Enabled || d.Members != nil}
			return ErrDryRun
		case action.Kind == plan.Look:
			err = ErrLook
		case dry:
			return j.foretell(ctx, d, action) // 2
		default:
			err = j.carry(ctx, d, action) // 3, 4, 5, 6
		}
		if !errors.Is(err, ErrLook) {
			return err
		}
		if action.Kind == plan.Create {
			creates++
		}
		if creates == maxCreates {
			break
		}
		if d.Observed, err = d.Look(ctx); err != nil {
			return err
		}
	}
	kinds := j.Record.Kind.Token()
	return Block("the target says that the " + strings.TrimSuffix(kinds, "s") + " exists, but no look-up finds it; check " +
		kinds + ".match and the target's filter support")
}

// carry does what was decided, as far as the guard lets it.
func (j *Job) carry(ctx context.Context, d Decision, action plan.Action) error {
	owned := j.Record.Linked()
	if owned && j.Change.GetOp() == directoryv1.Op_OP_ABSENT {
		if err := j.handOver(ctx); err != nil {
			return err
		}
	}
	action, err := j.guarded(ctx, d.Matching, action)
	if err != nil {
		return err
	}
	if err := d.Apply(ctx, action); err != nil {
		return err
	}
	if j.resumed || j.unblocked(action) || owned && (!d.Desired.InScope || !j.Record.Linked() || writes(action, d.Matching)) {
		if err := j.release(ctx); err != nil {
			return err
		}
	}
	return j.held
}

// unblocked says whether another entry stood in the way of this one until now: the two
// may have wanted the same, and the other waits for this one in turn.
func (j *Job) unblocked(a plan.Action) bool {
	return a.Kind != plan.Blocked && len(j.problemBefore.GetBlockedBy()) > 0
}

// writes says whether an action writes one of the paths.
func writes(a plan.Action, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return slices.Contains(a.Set, p) || slices.Contains(a.Clear, p) })
}
