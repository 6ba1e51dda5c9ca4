package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// A worker with a fault parks the entry before anything is sent or acknowledged, and
// names the invariant that would have been broken.
func TestBrokenInvariantParksTheEntry(t *testing.T) {
	t.Parallel()
	errSent := errors.New("a request was sent")
	for invariant, fault := range map[string]func(ctx context.Context, job *worker.Job) error{
		"sequence": func(ctx context.Context, job *worker.Job) error {
			job.Sequence -= 2 // behind the change that was applied
			return job.Claim(ctx, provisioningv1.Intent_INTENT_UPDATE)
		},
		"sequence of a commit": func(ctx context.Context, job *worker.Job) error {
			job.Sequence -= 2 // behind the change that was applied
			return job.Done(ctx)
		},
		"owner": func(ctx context.Context, job *worker.Job) error {
			return job.Claim(ctx, provisioningv1.Intent_INTENT_UPDATE)
		},
		"claim": func(ctx context.Context, job *worker.Job) error {
			call, cancel := job.Write(ctx)
			defer cancel()
			if call.Err() == nil {
				return errSent
			}
			return call.Err()
		},
		"acknowledged": func(context.Context, *worker.Job) error { return nil },
	} {
		t.Run(invariant, func(t *testing.T) {
			t.Parallel()
			h := newHandling(t)
			handle(t, h, h.publish(workertest.User(1, "ann", "Cook", "")))
			linked := func(l *provisioningv1.Link) {
				l.State, l.ResourceId = provisioningv1.LinkState_LINK_STATE_ACTIVE, "42"
			}
			h.edit(workertest.ID(1), linked)
			if invariant == "owner" {
				h.edit(workertest.ID(2), linked)
				own(t, h, "42", workertest.ID(2))
			}
			delivery := h.publish(workertest.User(1, "ann", "Chief", ""))
			h.instead = fault
			err := h.Handle(t.Context(), delivery)
			if verdict, _ := bus.VerdictOf(err); verdict != bus.Parked {
				t.Errorf("verdict %v: %v, want parked", verdict, err)
			}
			l := h.Link(directoryv1.Kind_KIND_USER, 1)
			name, _, _ := strings.Cut(invariant, " ")
			if !workertest.Parked(l) || !strings.Contains(l.GetProblem().GetMessage(), "broken invariant "+name+": ") {
				t.Errorf("problem %v", l.GetProblem())
			}
			if l.GetSequence() >= delivery.Sequence {
				t.Errorf("the link says that change %d was applied", l.GetSequence())
			}
			h.instead = nil // a version without the fault applies what comes next
			handle(t, h, h.publish(workertest.User(1, "ann", "Boss", "")))
		})
	}
}

func handle(t *testing.T, h *handling, d *bus.Delivery) {
	t.Helper()
	if err := h.Handle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// own gives a resource to an entry.
func own(t *testing.T, h *handling, resource string, id []byte) {
	t.Helper()
	write, err := links.Open(h.Bus, nil, "wiki", "").Own(directoryv1.Kind_KIND_USER, resource, id, 0)
	if err == nil {
		_, err = h.Bus.Commit(t.Context(), []bus.Write{write})
	}
	if err != nil {
		t.Fatal(err)
	}
}
