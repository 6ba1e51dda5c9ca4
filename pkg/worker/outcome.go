package worker

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// report writes the outcome to the audit log, counts it and logs one line.
// Nothing is reported when nothing had to be done.
func (w *Worker) report(ctx context.Context, j *Job, result provisioningv1.Result) error {
	o := j.Outcome
	o.At, o.Result, o.ResourceId = timestamppb.Now(), result, cmp.Or(j.Record.Link.GetResourceId(), o.GetResourceId())
	o.LatencyNanos = time.Since(j.detected).Nanoseconds()
	if o.GetAction() <= provisioningv1.Action_ACTION_NONE && result == provisioningv1.Result_RESULT_APPLIED {
		w.metrics.unchanged(ctx)
		return nil
	}
	data, err := proto.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode outcome: %w", err)
	}
	subject := provisioningv1.OutcomeSubject(j.Record.Kind, w.cfg.Connection, j.Record.ID)
	if _, err := w.deps.Outcomes.Commit(ctx, bus.Append(bus.Message{Subject: subject, Data: data})); err != nil {
		return fmt.Errorf("write outcome: %w", err)
	}
	w.metrics.outcome(ctx, o)
	w.logOutcome(ctx, j, o)
	if j.also == provisioningv1.Action_ACTION_UNSPECIFIED || !done(result) {
		return nil
	}
	beside := proto.CloneOf(o)
	beside.Action, beside.Attributes, beside.Calls, beside.HeldAction, beside.HeldReason = j.also, []string{"active"}, 0, "", ""
	j.Outcome, j.also = beside, provisioningv1.Action_ACTION_UNSPECIFIED
	return w.report(ctx, j, result)
}

// done says whether a result means that something was done, or would be.
func done(result provisioningv1.Result) bool {
	return result == provisioningv1.Result_RESULT_APPLIED || result == provisioningv1.Result_RESULT_DRY_RUN
}

// logOutcome logs one line for what was applied, or would be.
func (w *Worker) logOutcome(ctx context.Context, j *Job, o *provisioningv1.Outcome) {
	if result := o.GetResult(); done(result) {
		w.deps.Log.InfoContext(ctx, "change applied", "entry", j.EntryID(), "action", ActionName(o.GetAction()), "result", ResultName(result),
			"scim_id", o.GetResourceId(), "attributes", o.GetAttributes(), "members_added", o.GetMembersAdded(),
			"members_removed", o.GetMembersRemoved(), "calls", o.GetCalls(), "latency_ms", o.GetLatencyNanos()/int64(time.Millisecond))
	}
}
