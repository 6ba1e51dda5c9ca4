package usersync

import (
	"context"
	"errors"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// with are people of whom some resources are known that nobody else has seen yet.
type with struct {
	people

	fresh map[entryID]string
}

func (w with) resource(id entryID) (string, bool) {
	if resource, known := w.fresh[id]; known {
		return resource, true
	}
	return w.people.resource(id)
}

// awaitReferred waits for the creation of those that a user refers to and that have no
// resource yet, and maps the user again with what came of it. Where none of them is
// about to be created, nobody waits.
func (c *converger) awaitReferred(ctx context.Context, job *worker.Job, me *creation, w *wanted) (*wanted, error) {
	fresh := map[entryID]string{}
	for _, m := range w.references {
		if len(m.GetResourceHash()) > 0 || len(m.GetEntryId()) != directoryv1.IDSize {
			continue
		}
		id := entryID(m.GetEntryId())
		other, err := c.creationOf(ctx, job, id)
		if err != nil {
			return nil, err
		}
		if other == nil {
			continue
		}
		resource, err := c.creations.await(ctx, me, other)
		if err != nil {
			return nil, err
		}
		if resource != "" {
			fresh[id] = resource
		}
	}
	if len(fresh) == 0 {
		return w, nil
	}
	return c.mapper.wanted(job.Change, job.Set, referring{people: with{c.people, fresh}, link: job.Record.Link})
}

// creationOf is the creation of an entry that is under way, or that begins within a
// moment, because its change is on the stream and nobody has looked at it. Nil where
// none is to come.
func (c *converger) creationOf(ctx context.Context, job *worker.Job, id entryID) (*creation, error) {
	one := c.creations.of(id)
	if one != nil || id == entryID(job.Record.ID) {
		return one, nil
	}
	pending, err := unseen(ctx, job, id)
	if err != nil || !pending {
		return nil, err
	}
	return c.creations.beginning(ctx, id)
}

// unseen says whether an entry's change is on the stream and nothing is known of it in
// this connection.
func unseen(ctx context.Context, job *worker.Job, id entryID) (bool, error) {
	record, err := job.Links().Get(ctx, directoryv1.Kind_KIND_USER, id[:])
	if err != nil {
		return false, err
	}
	l := record.Link
	if l.GetState() != provisioningv1.LinkState_LINK_STATE_UNSPECIFIED || l.GetProblem() != nil {
		return false, nil
	}
	op, err := job.NewestOf(ctx, id[:])
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	return op == directoryv1.Op_OP_PRESENT, err
}
