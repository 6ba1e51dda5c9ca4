package worker

import (
	"context"
	"errors"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/plan"
)

// Decision is what Carry needs to know of a converger.
type Decision struct {
	Policy  plan.Policy
	Desired plan.Desired
	// Observed is what a look at the target found already, if there was one.
	Observed plan.Observed
	// DryRun computes and records actions instead of sending them.
	DryRun bool
	// Apply carries an action out and commits it; ErrLook asks for a look at the
	// target and another decision.
	Apply func(ctx context.Context, a plan.Action) error
	Look  func(ctx context.Context) (plan.Observed, error)
}

// maxLooks bounds how often one convergence may look at the target again.
const maxLooks = 4

// Carry decides and carries the decision out, or looks and decides again.
func (j *Job) Carry(ctx context.Context, d Decision) error {
	for range maxLooks {
		action := plan.Decide(d.Policy, d.Desired, j.Linked(), d.Observed)
		if d.DryRun && action.Kind != plan.DoNothing && action.Kind != plan.Look {
			j.Note(action)
			return ErrDryRun
		}
		err := d.Apply(ctx, action)
		if !errors.Is(err, ErrLook) {
			return err
		}
		if d.Observed, err = d.Look(ctx); err != nil {
			return err
		}
	}
	kinds := j.Record.Kind.Token()
	return Block("the target says that the " + strings.TrimSuffix(kinds, "s") + " exists, but no look-up finds it; check " +
		kinds + ".match and the target's filter support")
}
