package worker_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// recorder is a converger that calls no target, and remembers what it was to apply.
type recorder struct {
	sequences []uint64
	// instead, when set, is done instead of a commit.
	instead func(ctx context.Context, job *worker.Job) error
}

func (r *recorder) Converge(ctx context.Context, job *worker.Job) error {
	r.sequences = append(r.sequences, job.Sequence)
	if r.instead != nil {
		return r.instead(ctx, job)
	}
	return job.Done(ctx)
}

// handling is a worker whose deliveries a test makes itself.
type handling struct {
	*workertest.Bench
	*worker.Worker
	*recorder
	t *testing.T
}

func newHandling(t *testing.T) *handling {
	t.Helper()
	h := &handling{Bench: workertest.New(t, "", scimtest.Options{}), recorder: &recorder{}, t: t}
	process, err := worker.NewProcess(h.Bus, h.Config, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Close)
	h.Worker, err = process.Worker(directoryv1.Kind_KIND_USER, h.Config.Connections["wiki"], h.Config.Hash("wiki"), h.recorder)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// publish publishes a change and returns its delivery.
func (h *handling) publish(change *directoryv1.Change) *bus.Delivery {
	h.t.Helper()
	h.Publish(change)
	subject := directoryv1.EntrySubject(directoryv1.Kind_KIND_USER, "corp", change.GetEntryId())
	last, err := h.Bus.Last(h.t.Context(), directoryv1.Kind_KIND_USER.Stream(), subject)
	if err != nil {
		h.t.Fatal(err)
	}
	return &bus.Delivery{Stored: *last, Attempt: 1}
}

// edit changes the entry's link as another worker does.
func (h *handling) edit(id []byte, edit func(*provisioningv1.Link)) {
	h.t.Helper()
	writer := bus.NewWriter(h.Bus)
	defer writer.Close()
	store := links.Open(h.Bus, writer, "wiki", "another")
	r, err := store.Get(h.t.Context(), directoryv1.Kind_KIND_USER, id)
	if err != nil {
		h.t.Fatal(err)
	}
	edit(r.Link)
	if _, err := store.Commit(h.t.Context(), r); err != nil {
		h.t.Fatal(err)
	}
}

// A delivery that waited here for long may be older than what was applied meanwhile.
// Where the link says that something has to be done all the same, the newest change is
// applied, and never the old one.
func TestOldDeliveryAppliesTheNewestChange(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*provisioningv1.Link){
		"an abandoned write": func(l *provisioningv1.Link) {
			l.Claim = &provisioningv1.Claim{Sequence: l.GetSequence(), Intent: provisioningv1.Intent_INTENT_UPDATE}
		},
		"a repair that is wanted": func(l *provisioningv1.Link) { l.RepairWanted = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHandling(t)
			old := h.publish(workertest.User(1, "ann", "Cook", ""))
			newest := h.publish(workertest.User(1, "ann", "Chief", ""))
			if err := h.Handle(t.Context(), newest); err != nil {
				t.Fatal(err)
			}
			h.edit(workertest.ID(1), edit)
			if err := h.Handle(t.Context(), old); err != nil {
				t.Fatal(err)
			}
			if want := []uint64{newest.Sequence, newest.Sequence}; !slices.Equal(h.sequences, want) {
				t.Errorf("applied the changes %d, want %d", h.sequences, want)
			}
			if got := h.Link(directoryv1.Kind_KIND_USER, 1).GetSequence(); got != newest.Sequence {
				t.Errorf("the link is at %d, want %d", got, newest.Sequence)
			}
		})
	}
}
