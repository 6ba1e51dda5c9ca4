package worker

import (
	"context"
	"errors"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// crashed records that the work on a delivery panicked where no job could record it, and
// returns the verdict. The attempt counts, so that the entry is parked after as many as
// with any other error. A live claim of another worker is left alone: that one records.
func (w *Worker) crashed(ctx context.Context, d *bus.Delivery, cause error) error {
	kind, id, err := d.Entry()
	if err != nil {
		return bus.Park(err)
	}
	record, err := w.deps.Links.Get(ctx, kind, id)
	if err != nil {
		return errors.Join(cause, err)
	}
	l := record.Link
	result := dispose(cause, l.GetAttempts())
	if w.deps.Links.Busy(record) {
		return result.verdict
	}
	sequence := l.GetSequence()
	if !d.Request {
		sequence = d.Sequence
	}
	if result.counts {
		l.Attempts++
	}
	l.Problem = w.problem(l.GetProblem(), result.kind, sequence, cause)
	if l.GetState() == provisioningv1.LinkState_LINK_STATE_UNSPECIFIED {
		l.State = provisioningv1.LinkState_LINK_STATE_NONE
	}
	if _, err := w.deps.Links.Commit(ctx, record); err != nil && !errors.Is(err, bus.ErrConflict) {
		return errors.Join(cause, err)
	}
	return result.verdict
}
