package worker_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const user = directoryv1.Kind_KIND_USER

// defective is a converger that panics as often as it has to, and then does its work.
type defective struct {
	panics, calls atomic.Int64
}

func (d *defective) Converge(ctx context.Context, job *worker.Job) error {
	d.calls.Add(1)
	if d.panics.Add(-1) >= 0 {
		var none []string
		_ = none[len(job.Change.GetEntryId())]
	}
	return job.Done(ctx)
}

// run is a service with the defective converger.
func (d *defective) run(ctx context.Context, cfg *connection.Config, process *worker.Process) error {
	w, err := process.Worker(user, cfg.Connections["wiki"], cfg.Hash("wiki"), d) //nolint:contextcheck // what it starts ends with the process
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// A panic in a handler ends nothing but its delivery: it is recorded and counts as an
// attempt, the change comes back, and what succeeds in the end is no problem any more.
func TestAPanicIsAFailedAttempt(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	d := &defective{}
	d.panics.Store(2)
	b.Start(d.run)
	sequence := b.Publish(workertest.User(1, "ann", "", ""))
	failed := b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetAttempts() == 2 })
	if p := failed.GetProblem(); p.GetKind() != provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING || !strings.Contains(p.GetMessage(), "index out of range") {
		t.Errorf("the problem is %v, want that it is tried again because of a panic", p)
	}
	applied := b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetSequence() == sequence })
	if applied.GetProblem() != nil || applied.GetAttempts() != 0 || d.calls.Load() != 3 {
		t.Errorf("after %d calls the link is %v, want it applied by the third without a problem", d.calls.Load(), applied)
	}
}

// What panics again and again is parked as whatever else fails again and again, and so is
// what panics before there is a job: there the worker lacks a part.
func TestAPanicIsParkedAfterAsManyAttempts(t *testing.T) {
	t.Parallel()
	whole := func(b *workertest.Bench, _ *bus.Writer, log *slog.Logger, d *defective) (*worker.Worker, error) {
		process, err := worker.NewProcess(b.Bus, b.Config, log)
		if err != nil {
			return nil, err
		}
		t.Cleanup(process.Close)
		return process.Worker(user, b.Config.Connections["wiki"], b.Config.Hash("wiki"), d)
	}
	lacking := func(b *workertest.Bench, writer *bus.Writer, log *slog.Logger, d *defective) (*worker.Worker, error) {
		return worker.New(worker.Config{Kind: user, Connection: "wiki", Source: "corp"},
			worker.Deps{Bus: b.Bus, Links: links.Open(b.Bus, writer, "wiki", "test"), Log: log}, d)
	}
	cases := []struct {
		name string
		open func(*workertest.Bench, *bus.Writer, *slog.Logger, *defective) (*worker.Worker, error)
	}{{"in the converger", whole}, {"outside of it", lacking}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "", scimtest.Options{})
			writer := bus.NewWriter(b.Bus)
			t.Cleanup(writer.Close)
			d := &defective{}
			d.panics.Store(1 << 30)
			w, err := c.open(b, writer, slog.New(slog.NewTextHandler(t.Output(), nil)), d)
			if err != nil {
				t.Fatal(err)
			}
			sequence := b.Publish(workertest.User(1, "ann", "", ""))
			subject := directoryv1.EntrySubject(user, "corp", workertest.ID(1))
			change, err := b.Bus.Last(t.Context(), user.Stream(), subject)
			if err != nil {
				t.Fatal(err)
			}
			for n := uint64(1); n <= 10; n++ {
				verdict, delay := bus.VerdictOf(w.Handle(t.Context(), &bus.Delivery{Stored: *change, Attempt: n}))
				if last := n == 10; last && verdict != bus.Parked || !last && (verdict != bus.Delayed || delay <= 0) {
					t.Fatalf("attempt %d ends with %s in %s, want it later, and parked after ten", n, verdict, delay)
				}
				if got := uint64(b.Link(user, 1).GetAttempts()); n < 10 && got != n {
					t.Fatalf("the link counts %d attempts, want %d", got, n)
				}
			}
			if p := b.Link(user, 1).GetProblem(); p.GetKind() != provisioningv1.ProblemKind_PROBLEM_KIND_PARKED || p.GetSequence() != sequence {
				t.Errorf("the problem is %v, want it parked at sequence %d", p, sequence)
			}
		})
	}
}
