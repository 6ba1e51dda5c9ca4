package worker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// converging is a converger made of a function.
type converging func(ctx context.Context, job *worker.Job) error

func (c converging) Converge(ctx context.Context, job *worker.Job) error { return c(ctx, job) }

// serve is a service with a converger.
func serve(c worker.Converger) workertest.Run {
	return func(ctx context.Context, cfg *connection.Config, process *worker.Process) error {
		w, err := process.Worker(user, cfg.Connections["wiki"], cfg.Hash("wiki"), c) //nolint:contextcheck // what it starts ends with the process
		if err != nil {
			return err
		}
		return w.Run(ctx)
	}
}

// A worker meets a server that does not answer while another one does the same work: the
// other finds nothing to do and writes nothing. What the first records then, that the
// entry waits, must not stay for ever.
func TestARecordThatComesAfterTheWorkWasDoneDisappears(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	sequence := b.Publish(workertest.User(1, "ann", "", ""))
	request := func() {
		t.Helper()
		if err := b.Bus.Request(t.Context(), user, "wiki", workertest.ID(1), "test"); err != nil {
			t.Fatal(err)
		}
	}
	slowHas, otherDone := make(chan struct{}), make(chan struct{})
	stop := b.Start(serve(converging(func(ctx context.Context, job *worker.Job) error {
		if !job.Requested {
			return job.Done(ctx)
		}
		close(slowHas)
		<-otherDone
		return fmt.Errorf("read the owner of a resource: %w", context.DeadlineExceeded)
	})))
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetSequence() == sequence })
	request()
	<-slowHas
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }() // takes nothing more, and goes on with what it has
	b.Eventually("the first worker asks for no more requests", func() bool {
		pulled, err := b.Bus.Pulled(t.Context(), provisioningv1.StreamRequests, worker.RequestsConsumer(user, "wiki"))
		return err == nil && !pulled
	})
	var calls atomic.Int64
	b.Start(serve(converging(func(ctx context.Context, job *worker.Job) error {
		err := job.Done(ctx)
		if calls.Add(1) == 1 {
			defer close(otherDone)
		}
		return err
	})))
	request() // takes the place of the one that the first worker has
	<-stopped
	b.Eventually("the entry is looked at again", func() bool { return calls.Load() == 2 })
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetProblem() == nil })
}
