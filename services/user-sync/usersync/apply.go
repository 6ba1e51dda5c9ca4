package usersync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// apply carries an action out and commits the link.
func (c *converger) apply(ctx context.Context, job *worker.Job, w *wanted, a plan.Action) error {
	job.Note(a)
	if a.Schedule == plan.End {
		job.Record.Link.DeleteAt = nil // durable with the first write
	}
	switch a.Kind {
	case plan.Look:
		return worker.ErrLook
	case plan.Blocked:
		return c.block(ctx, job, a)
	case plan.DoNothing:
		return c.nothing(ctx, job, a)
	case plan.Create:
		return c.create(ctx, job, w)
	case plan.Adopt:
		return c.adopt(ctx, job, w, a)
	case plan.Update, plan.Disable, plan.Enable:
		return c.update(ctx, job, w, a)
	case plan.Delete:
		return c.remove(ctx, job, w, a)
	}
	return fmt.Errorf("unknown action %q", a.Kind)
}

// block leaves the user as it is; what it waited for is forgotten all the same.
func (c *converger) block(ctx context.Context, job *worker.Job, a plan.Action) error {
	if a.Schedule == plan.End {
		if _, err := job.Progress(ctx); err != nil {
			return err
		}
	}
	return worker.Blocked(a)
}

// nothing commits that nothing has to be sent.
func (c *converger) nothing(ctx context.Context, job *worker.Job, a plan.Action) error {
	if a.Reason != "" {
		job.Log().InfoContext(ctx, "nothing is sent", "reason", a.Reason)
	}
	if job.Record.Link.GetState() == provisioningv1.LinkState_LINK_STATE_UNSPECIFIED {
		job.Record.Link.State = provisioningv1.LinkState_LINK_STATE_NONE
	}
	if err := c.schedule(ctx, job, a); err != nil {
		return err
	}
	return job.Done(ctx)
}

// schedule begins to wait for a deletion, or sees to it that the wait ends in time.
func (c *converger) schedule(ctx context.Context, job *worker.Job, a plan.Action) error {
	switch a.Schedule {
	case plan.Begin:
		return job.DeleteAfter(ctx, c.deleteAfter)
	case plan.Await:
		return job.AwaitDeletion(ctx)
	case plan.Unchanged, plan.End:
	}
	return nil
}

// create posts the user. When the target says that it exists, the answer is to
// look.
func (c *converger) create(ctx context.Context, job *worker.Job, w *wanted) error {
	body, err := c.body(w)
	if err != nil {
		return worker.Block("users.attributes: " + err.Error())
	}
	if job.Awaited() {
		return worker.Wait(acceptedDelay, errAccepted)
	}
	if err := job.Claim(ctx, provisioningv1.Intent_INTENT_CREATE); err != nil {
		return err
	}
	call, cancel := job.Write(ctx)
	created, err := c.target.Create(call, scim.KindUser, body)
	cancel()
	if scim.IsConflict(err) {
		return worker.ErrLook
	}
	if err != nil {
		return err
	}
	l := job.Record.Link
	l.ResourceId, l.Origin, l.Attributes = created.ID, provisioningv1.Origin_ORIGIN_CREATED, map[string][]byte{}
	l.ForeignValues, l.Unapplied = nil, nil
	all := plan.Action{ResourceID: created.ID, Set: slices.Sorted(maps.Keys(w.units)), Active: &w.Enabled}
	c.compare(ctx, job, w, created, all.Set, false)
	job.Settle(all, w.Attributes)
	if shown, known := activeOf(created); known && shown != w.Enabled { // it was created otherwise
		l.State = worker.StateOf(shown)
		if err := job.CommitCreated(ctx, created.ID, func(ctx context.Context, writes ...bus.Write) error {
			_, err := job.Progress(ctx, writes...)
			return err
		}); err != nil {
			return err
		}
		return c.update(ctx, job, w, plan.Action{Kind: plan.Update, ResourceID: created.ID, Active: &w.Enabled})
	}
	return job.CommitCreated(ctx, created.ID, job.Done)
}

// body is what creation sends: everything that is mapped, whether the user is
// active, and the entry id where the target keeps it.
func (c *converger) body(w *wanted) (map[string]any, error) {
	units := []scim.Unit{{Path: "active", Value: w.Enabled}}
	if c.profile().ExternalIDAllowed {
		units = append(units, scim.Unit{Path: "externalId", Value: w.externalID})
	}
	for _, u := range w.units {
		units = append(units, u)
	}
	for _, u := range w.onCreate {
		units = append(units, u)
	}
	return scim.Body(scim.KindUser, units)
}

// adopt makes a resource that was there ours, before anything is sent to it, and
// then brings it up to date in one call.
func (c *converger) adopt(ctx context.Context, job *worker.Job, w *wanted, a plan.Action) error {
	writes, relinked, err := job.TakeOver(ctx, a.ResourceID)
	if err != nil {
		return err
	}
	if relinked && !w.relinking { // its former owner's worker may have written to it after it was found
		w.relinking = true
		return worker.ErrLook
	}
	if relinked {
		job.Outcome.Action = provisioningv1.Action_ACTION_RELINK
	}
	l, resource := job.Record.Link, w.found[a.ResourceID]
	l.ResourceId, l.Origin = a.ResourceID, provisioningv1.Origin_ORIGIN_ADOPTED
	c.correct(l, w, resource)
	l.ForeignValues = c.foreign(w, resource)
	if err := job.Claim(ctx, intentOf(a), writes...); err != nil {
		return err
	}
	if w.listed == a.ResourceID {
		resource = nil // it may have changed since
	}
	err = c.send(ctx, job, w, a, resource)
	if err == nil && job.GivenUp() && !sends(a) {
		err = c.there(ctx, job, a.ResourceID)
	}
	if scim.IsNotFound(err) { // its former owner's worker deleted it after it was found
		return c.vanished(ctx, job, w)
	}
	if err != nil {
		return err
	}
	job.Settle(a, w.Attributes)
	return job.Done(ctx)
}

// there asks whether a resource is still there.
func (c *converger) there(ctx context.Context, job *worker.Job, id string) error {
	_, err := c.get(ctx, job, id)
	return err
}

// sends says whether an action has something to write.
func sends(a plan.Action) bool { return len(a.Set)+len(a.Clear) > 0 || a.Active != nil }

// foreign are the multi-valued attributes in which the resource has values that
// nobody mapped.
func (c *converger) foreign(w *wanted, r *scim.Resource) []string {
	var paths []string
	for _, path := range w.paths() {
		if _, foreign, _ := c.merged(w, r, path); foreign {
			paths = append(paths, path)
		}
	}
	return paths
}

// update sends the differences in one call. A resource that is gone is looked
// for, and created again.
func (c *converger) update(ctx context.Context, job *worker.Job, w *wanted, a plan.Action) error {
	if err := job.Claim(ctx, intentOf(a)); err != nil {
		return err
	}
	err := c.send(ctx, job, w, a, nil)
	if scim.IsNotFound(err) {
		return c.vanished(ctx, job, w)
	}
	if err != nil {
		return err
	}
	job.Settle(a, w.Attributes)
	if err := c.schedule(ctx, job, a); err != nil {
		return err
	}
	return job.Done(ctx)
}

// intentOf says of an update whether it makes the account inactive: whoever takes over
// from a worker that died then knows that Rollcall did.
func intentOf(a plan.Action) provisioningv1.Intent {
	if a.Active != nil && !*a.Active {
		return provisioningv1.Intent_INTENT_DISABLE
	}
	return provisioningv1.Intent_INTENT_UPDATE
}

const acceptedDelay = 5 * time.Second

var errAccepted = errors.New("the target has accepted the creation, and does not show the user yet")

// giveUp gives a linked resource up that the target no longer has, unless that has to
// wait.
func (c *converger) giveUp(ctx context.Context, job *worker.Job) error {
	if err := job.Missing(c.leave); err != nil {
		return err
	}
	if c.accounts != nil {
		c.accounts.drop(job.Record.Link.GetResourceId())
	}
	return job.GiveUp(ctx)
}

// vanished handles a linked resource that somebody deleted on the target.
func (c *converger) vanished(ctx context.Context, job *worker.Job, w *wanted) error {
	if err := c.giveUp(ctx, job); err != nil {
		return err
	}
	if !w.InScope || !w.Enabled && !c.policy.ProvisionDisabled { // nobody to look for
		return job.Done(ctx)
	}
	return worker.ErrLook
}

// disable is what becomes of a user whom the target cannot delete.
func (c *converger) disable(ctx context.Context, job *worker.Job, id string) error {
	disabled := plan.Action{Kind: plan.Disable, ResourceID: id, Active: new(false)}
	if err := c.send(ctx, job, &wanted{}, disabled, nil); err != nil && !scim.IsNotFound(err) {
		return err
	}
	job.Record.Link.State, job.Record.Link.FoundInactive = provisioningv1.LinkState_LINK_STATE_DISABLED, false
	job.Outcome.Action, job.Outcome.ResourceId = provisioningv1.Action_ACTION_DISABLE, id
	return job.Done(ctx)
}

// remove deletes the user. The link stays, so that the user is created again
// only when enabled and in scope. An account that was there of a user that is disabled
// in the directory is made ours before.
func (c *converger) remove(ctx context.Context, job *worker.Job, w *wanted, a plan.Action) error {
	var taken []bus.Write
	if !job.Record.Linked() {
		var err error
		if taken, _, err = job.TakeOver(ctx, a.ResourceID); err != nil {
			return err
		}
		l := job.Record.Link
		l.ResourceId, l.Origin = a.ResourceID, provisioningv1.Origin_ORIGIN_ADOPTED
		c.correct(l, w, w.found[a.ResourceID])
	}
	if err := job.Claim(ctx, provisioningv1.Intent_INTENT_DELETE, taken...); err != nil {
		return err
	}
	call, cancel := job.Write(ctx)
	err := c.target.Delete(call, scim.KindUser, a.ResourceID)
	cancel()
	if scim.IsUnproven(err) && scim.IsNotFound(c.there(ctx, job, a.ResourceID)) {
		err = nil
	}
	if scim.IsUnsupported(err) {
		return c.disable(ctx, job, a.ResourceID)
	}
	if err != nil {
		return err
	}
	if c.accounts != nil {
		c.accounts.drop(a.ResourceID)
	}
	job.Outcome.ResourceId = a.ResourceID
	writes, err := job.Disown(ctx)
	if err != nil {
		return err
	}
	job.Record.Link.State = provisioningv1.LinkState_LINK_STATE_REMOVED
	return job.Done(ctx, writes...)
}
