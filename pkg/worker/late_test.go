package worker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// A delivery that is cut while its request is at the target, because the consumption ended
// or the process was asked to stop, leaves its claim: the request may still arrive. Where
// the same process gets the entry again, a second look is scheduled as after the end of
// another worker.
func TestOwnWriteThatWasCutIsLookedAtTwice(t *testing.T) {
	t.Parallel()
	h := newHandling(t)
	first := h.publish(workertest.User(1, "ann", "Cook", ""))
	ctx, cut := context.WithCancel(t.Context())
	h.instead = func(ctx context.Context, job *worker.Job) error {
		if err := job.Claim(ctx, provisioningv1.Intent_INTENT_CREATE); err != nil {
			return err
		}
		cut()
		return ctx.Err()
	}
	if err := h.Handle(ctx, first); !errors.Is(err, context.Canceled) {
		t.Fatalf("the delivery that is cut ends with %v", err)
	}
	h.instead = nil
	if err := h.Handle(t.Context(), h.publish(workertest.User(1, "ann", "Chief", ""))); err != nil {
		t.Fatal(err)
	}
	if l := h.Link(directoryv1.Kind_KIND_USER, 1); l.GetLookAgainAt() == nil {
		t.Errorf("no second look is scheduled: %v", l)
	}
}

// A delivery that tries again after a conflict finds its own claim, and has had an answer
// to everything that it sent: that is no reason for a second look.
func TestConflictIsNoReasonForASecondLook(t *testing.T) {
	t.Parallel()
	h := newHandling(t)
	h.instead = func(ctx context.Context, job *worker.Job) error {
		if err := job.Claim(ctx, provisioningv1.Intent_INTENT_CREATE); err != nil {
			return err
		}
		if len(h.sequences) == 1 {
			h.edit(workertest.ID(1), func(*provisioningv1.Link) {}) //nolint:contextcheck // another worker's
		}
		return job.Done(ctx)
	}
	if err := h.Handle(t.Context(), h.publish(workertest.User(1, "ann", "Cook", ""))); err != nil {
		t.Fatal(err)
	}
	if l := h.Link(directoryv1.Kind_KIND_USER, 1); l.GetLookAgainAt() != nil || len(h.sequences) != 2 {
		t.Errorf("tried %d times, and the link is %v", len(h.sequences), l)
	}
}

// What comes after the commit, such as to tell those who wait for the entry, may fail
// although the change is applied. The problem does not outlive the next delivery.
func TestProblemOfAnAppliedChangeEnds(t *testing.T) {
	t.Parallel()
	h := newHandling(t)
	d := h.publish(workertest.User(1, "ann", "Cook", ""))
	if err := h.Handle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	h.edit(workertest.ID(1), func(l *provisioningv1.Link) {
		l.Problem = &provisioningv1.Problem{Kind: provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING, Sequence: d.Sequence}
	})
	d.Attempt = 2
	if err := h.Handle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if p := h.Link(directoryv1.Kind_KIND_USER, 1).GetProblem(); p != nil {
		t.Errorf("the problem is still there: %v", p)
	}
}

// The request for the second look after one abandoned write may wait until another write
// was abandoned, after which a request can still be under way: that one needs its own.
func TestSecondLookOfAnEarlierWriteIsNotThatOfALaterOne(t *testing.T) {
	t.Parallel()
	h := newHandling(t)
	if err := h.Handle(t.Context(), h.publish(workertest.User(1, "ann", "Cook", ""))); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Minute)
	h.edit(workertest.ID(1), func(l *provisioningv1.Link) { l.LookAgainAt = timestamppb.New(at) })
	data, err := proto.Marshal(&provisioningv1.Request{Reason: "late"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		published time.Time
		waits     bool
	}{{time.Now(), true}, {at.Add(time.Second), false}} {
		subject := provisioningv1.RequestSubject(directoryv1.Kind_KIND_USER, "wiki", workertest.ID(1))
		d := &bus.Delivery{Stored: bus.Stored{Subject: subject, Data: data, Published: c.published}, Attempt: 1, Request: true}
		if err := h.Handle(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if l := h.Link(directoryv1.Kind_KIND_USER, 1); (l.GetLookAgainAt() != nil) != c.waits {
			t.Errorf("after a request that is published %s after the time of the second look: %v", c.published.Sub(at), l)
		}
		later := provisioningv1.LaterSubject(directoryv1.Kind_KIND_USER, "wiki", workertest.ID(1), "late")
		if _, err := h.Bus.Last(t.Context(), provisioningv1.StreamRequests, later); err != nil { // it may have replaced the right one
			t.Errorf("the second look is not scheduled any more: %v", err)
		}
	}
}
