package usersync

import (
	"context"
	"errors"
	"fmt"
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
// A dry run begins nothing that would happen after it.
func (c *converger) schedule(ctx context.Context, job *worker.Job, a plan.Action) error {
	switch {
	case a.Schedule == plan.Begin && !c.dryRun:
		return job.DeleteAfter(ctx, c.deleteAfter)
	case a.Schedule == plan.Await:
		return job.AwaitDeletion(ctx)
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
	call, cancel := job.Target(ctx)
	created, err := c.target.Create(call, scim.KindUser, body)
	cancel()
	if scim.IsConflict(err) {
		return worker.ErrLook
	}
	if err != nil {
		return err
	}
	l := job.Record.Link
	l.ResourceId, l.Origin, l.Attributes = created.ID, provisioningv1.Origin_ORIGIN_CREATED, w.Attributes
	l.ForeignValues, l.State, l.FoundInactive = nil, worker.StateOf(w.Enabled), false
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
	if relinked {
		job.Outcome.Action = provisioningv1.Action_ACTION_RELINK
	}
	l, resource := job.Record.Link, w.found[a.ResourceID]
	l.ResourceId, l.Origin = a.ResourceID, provisioningv1.Origin_ORIGIN_ADOPTED
	c.correct(l, w, resource)
	l.ForeignValues = c.foreign(w, resource)
	if err := job.Claim(ctx, provisioningv1.Intent_INTENT_UPDATE, writes...); err != nil {
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
	if err := job.Claim(ctx, provisioningv1.Intent_INTENT_UPDATE); err != nil {
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

// send writes an action's attributes to the resource; nothing is sent when there
// is nothing to write. Attributes with values that nobody mapped are read first,
// and so is the resource where PATCH cannot do it (RFC 7644 section 3.5.2: it is
// optional).
func (c *converger) send(ctx context.Context, job *worker.Job, w *wanted, a plan.Action, resource *scim.Resource) error {
	if !sends(a) {
		return nil
	}
	put := c.needsPut(a)
	needs := put || slices.ContainsFunc(job.Outcome.GetAttributes(), func(p string) bool {
		return slices.Contains(job.Record.Link.GetForeignValues(), p)
	})
	if resource == nil && needs {
		var err error
		if resource, err = c.get(ctx, job, a.ResourceID); err != nil {
			return err
		}
	}
	units, cleared := c.writes(w, a, resource)
	if put {
		return c.replace(ctx, job, a.ResourceID, resource, units, cleared)
	}
	err := c.patch(ctx, job, a.ResourceID, units, cleared)
	if !scim.IsUnsupported(err) || !c.profile().Put {
		return err
	}
	if resource, err = c.get(ctx, job, a.ResourceID); err != nil {
		return err
	}
	units, cleared = c.writes(w, a, resource)
	return c.replace(ctx, job, a.ResourceID, resource, units, cleared)
}

// get reads the resource.
func (c *converger) get(ctx context.Context, job *worker.Job, id string) (*scim.Resource, error) {
	call, cancel := job.Target(ctx)
	defer cancel()
	return c.target.Get(call, scim.KindUser, id)
}

// patch sends units to set and paths to clear in one call, but for what the target
// never changes. A path to clear that is not there is cleared. Where the target refuses
// to change one of several attributes, each goes alone.
func (c *converger) patch(ctx context.Context, job *worker.Job, id string, units []scim.Unit, cleared []string) error {
	fixed := func(path string) bool { _, known := c.immutable.Load(path); return known }
	units = slices.DeleteFunc(slices.Clone(units), func(u scim.Unit) bool { return fixed(u.Path) })
	cleared = slices.DeleteFunc(slices.Clone(cleared), fixed)
	if len(units)+len(cleared) == 0 {
		return nil
	}
	call, cancel := job.Target(ctx)
	_, err := c.target.Patch(call, scim.KindUser, id, scim.Operations(units, cleared))
	cancel()
	switch class := scim.Classify(err); {
	case class == scim.NoTarget && len(cleared) == 1: // it is cleared
		return c.patch(ctx, job, id, units, nil)
	case class == scim.Mutability && len(units)+len(cleared) == 1:
		path := only(units, cleared)
		c.immutable.Store(path, true)
		job.Log().WarnContext(ctx, "the target never changes an attribute: it stays as it is from now on", "attribute", path,
			"cure", "map it with on: create, or name it in target.overrides.immutable")
		return nil
	case class == scim.NoTarget && len(cleared) > 1, class == scim.Mutability:
		return c.oneByOne(ctx, job, id, units, cleared)
	}
	return err
}

// only is the path of the one unit that is set or cleared.
func only(units []scim.Unit, cleared []string) string {
	if len(units) > 0 {
		return units[0].Path
	}
	return cleared[0]
}

// oneByOne sends each attribute alone: the target said that one of them is wrong, and
// not which.
func (c *converger) oneByOne(ctx context.Context, job *worker.Job, id string, units []scim.Unit, cleared []string) error {
	for _, unit := range units {
		if err := c.patch(ctx, job, id, []scim.Unit{unit}, nil); err != nil {
			return err
		}
	}
	for _, path := range cleared {
		if err := c.patch(ctx, job, id, nil, []string{path}); err != nil {
			return err
		}
	}
	return nil
}

// needsPut says whether an action changes what PATCH of this target cannot.
func (c *converger) needsPut(a plan.Action) bool {
	sets, clears := func(path string) bool { return !c.profile().Patches(path) }, func(path string) bool { return !c.profile().Clears(path) }
	return a.Active != nil && sets("active") || slices.ContainsFunc(a.Set, sets) || slices.ContainsFunc(a.Clear, clears)
}

// writes are the units to set and the paths to clear. Where the resource was
// read, values of types that nobody mapped are sent back, and an attribute that
// holds such values is not cleared but set to them.
func (c *converger) writes(w *wanted, a plan.Action, resource *scim.Resource) (units []scim.Unit, cleared []string) {
	if a.Active != nil {
		units = append(units, scim.Unit{Path: "active", Value: *a.Active})
	}
	for _, path := range a.Set {
		unit := w.units[path]
		if resource != nil {
			unit, _, _ = c.merged(w, resource, path)
		}
		units = append(units, unit)
	}
	for _, path := range a.Clear {
		if resource != nil {
			if unit, foreign, _ := c.merged(w, resource, path); foreign {
				units = append(units, unit)
				continue
			}
		}
		cleared = append(cleared, path)
	}
	return units, cleared
}

// replace sends the whole resource, for targets that have no PATCH.
func (c *converger) replace(ctx context.Context, job *worker.Job, id string, resource *scim.Resource, units []scim.Unit, cleared []string) error {
	body, err := resource.Replacement(scim.KindUser, units, cleared)
	if err != nil {
		return worker.Block("users.attributes: " + err.Error())
	}
	call, cancel := job.Target(ctx)
	defer cancel()
	_, err = c.target.Put(call, scim.KindUser, id, body)
	return err
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
	call, cancel := job.Target(ctx)
	err := c.target.Delete(call, scim.KindUser, a.ResourceID)
	cancel()
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
