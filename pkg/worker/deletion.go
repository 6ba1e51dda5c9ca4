package worker

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/plan"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// reasonDelete is the reason of the request that comes when a deletion is due.
const reasonDelete = "delete"

// earlyDelay is how long a request waits that came before its time, because the
// clocks of NATS and of the worker differ.
const earlyDelay = 5 * time.Second

var errEarly = errors.New("the deletion is not due yet by this worker's clock")

// deletionOf says in the words of the plan whether a resource waits for its
// deletion.
func deletionOf(l *provisioningv1.Link, now time.Time) plan.Deletion {
	switch {
	case l.GetDeleteAt() == nil:
		return plan.NotPlanned
	case now.Before(l.GetDeleteAt().AsTime()):
		return plan.Pending
	}
	return plan.Due
}

// DeleteAfter has the resource's deletion looked at after d. The schedule is
// published before the link is committed: one that the link knows nothing of does
// nothing.
func (j *Job) DeleteAfter(ctx context.Context, d time.Duration) error {
	at := time.Now().Add(d).Truncate(time.Second) // schedules know seconds
	j.Record.Link.DeleteAt = timestamppb.New(at)
	return j.schedule(ctx)
}

// AwaitDeletion makes sure that a deletion that is waited for will be looked at: its
// schedule may have been lost, or have come too early.
func (j *Job) AwaitDeletion(ctx context.Context) error {
	if left := time.Until(j.Record.Link.GetDeleteAt().AsTime()); j.reason == reasonDelete && left > 0 {
		return Wait(min(left, earlyDelay), errEarly)
	}
	return j.schedule(ctx)
}

func (j *Job) schedule(ctx context.Context) error {
	return j.RequestAt(ctx, reasonDelete, j.Record.Link.GetDeleteAt().AsTime())
}
