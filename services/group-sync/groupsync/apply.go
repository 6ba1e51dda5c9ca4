package groupsync

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// apply carries an action out, brings the members up to date and commits the
// link.
func (c *converger) apply(ctx context.Context, job *worker.Job, w *wanted, a plan.Action) error {
	job.Note(a)
	switch a.Kind {
	case plan.Look:
		return worker.ErrLook
	case plan.Blocked:
		return worker.Blocked(a)
	case plan.Create:
		return c.create(ctx, job, w)
	case plan.Adopt:
		return c.adopt(ctx, job, w, a)
	case plan.Update:
		return c.update(ctx, job, w, a)
	case plan.Delete:
		return c.remove(ctx, job, a)
	case plan.DoNothing, plan.Enable, plan.Disable:
	}
	if w.InScope && job.Record.Linked() && c.policy.Update {
		return c.update(ctx, job, w, a)
	}
	if a.Reason != "" {
		job.Log().InfoContext(ctx, "nothing is sent", "reason", a.Reason)
	}
	if job.Record.Link.GetState() == provisioningv1.LinkState_LINK_STATE_UNSPECIFIED {
		job.Record.Link.State = provisioningv1.LinkState_LINK_STATE_NONE
	}
	return job.Done(ctx)
}

// create posts the group, with as many members as one request may carry, and adds
// the others.
func (c *converger) create(ctx context.Context, job *worker.Job, w *wanted) error {
	a, err := c.fresh(ctx, job)
	if err != nil {
		return err
	}
	steps := w.refusals.leaveOut(a.difference(w.members, c.index.resource), time.Now())
	var first []step
	if c.profile().MembersOnCreate {
		first = steps[:min(len(steps), c.profile().MaxMembersOnCreate)]
	}
	body, err := c.body(w, first)
	if err != nil {
		return worker.Block("groups.attributes: " + err.Error())
	}
	if err := job.Claim(ctx, provisioningv1.Intent_INTENT_CREATE); err != nil {
		return err
	}
	call, cancel := job.Write(ctx)
	created, err := c.target.Create(call, scim.KindGroup, body)
	cancel()
	if scim.IsConflict(err) {
		c.names.expire()
		return worker.ErrLook
	}
	if scim.IsRejected(err) && len(first) > 0 { // one of the members may be at fault: add them one by one
		first = nil
		delete(body, "members")
		call, cancel = job.Write(ctx)
		created, err = c.target.Create(call, scim.KindGroup, body)
		cancel()
	}
	if err != nil {
		return err
	}
	c.names.put(created, w.name)
	l := job.Record.Link
	l.State, l.ResourceId, l.Origin = provisioningv1.LinkState_LINK_STATE_ACTIVE, created.ID, provisioningv1.Origin_ORIGIN_CREATED
	l.Attributes, l.Unapplied = map[string][]byte{}, nil
	c.compare(ctx, job, w, created, w.unitsOf(), false)
	job.Settle(plan.Action{Set: slices.Sorted(maps.Keys(w.units))}, w.Attributes)
	s := &sending{c: c, job: job, w: w, a: a, resource: created.ID}
	if len(c.contradicted(created, first)) > 0 { // it dropped members: add them
		first = nil
	}
	s.confirm(first)
	if len(first) == len(steps) {
		return job.CommitCreated(ctx, created.ID, func(ctx context.Context, writes ...bus.Write) error { return c.done(ctx, job, w, a, writes...) })
	}
	if err := job.CommitCreated(ctx, created.ID, s.commit); err != nil {
		return err
	}
	if err := c.send(ctx, job, w, plan.Action{ResourceID: created.ID}, a, steps[len(first):]); err != nil {
		return err
	}
	return c.done(ctx, job, w, a)
}

func (c *converger) body(w *wanted, members []step) (map[string]any, error) {
	units := make([]scim.Unit, 0, len(w.units)+len(w.onCreate)+1)
	if c.profile().ExternalIDAllowed {
		units = append(units, scim.Unit{Path: externalID, Value: w.externalID})
	}
	for _, u := range w.units {
		units = append(units, u)
	}
	for _, u := range w.onCreate {
		units = append(units, u)
	}
	body, err := scim.Body(scim.KindGroup, units)
	if err != nil || len(members) == 0 {
		return body, err
	}
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.resource
	}
	body["members"] = memberValues(ids)
	return body, nil
}

// fresh is the applied membership of a group that has no resource: empty, and
// what stands in old chunks is forgotten.
func (c *converger) fresh(ctx context.Context, job *worker.Job) (*applied, error) {
	a, err := c.current(ctx, job)
	if err != nil {
		return nil, err
	}
	a.clear()
	return a, nil
}

// current is the applied membership, in as many chunks as the directory's.
func (c *converger) current(ctx context.Context, job *worker.Job) (*applied, error) {
	a, err := readApplied(ctx, job.Links(), job.Record.ID, int(job.Record.Link.GetMemberChunks()))
	if err != nil {
		return nil, err
	}
	count := max(1, int(job.Change.GetGroup().GetMembers().GetChunkCount()))
	return a, a.grow(ctx, job.Links(), count)
}

// adopt makes a resource that was there ours, before anything is sent to it; the
// directory's members overwrite those that it had.
func (c *converger) adopt(ctx context.Context, job *worker.Job, w *wanted, action plan.Action) error {
	writes, relinked, err := job.TakeOver(ctx, action.ResourceID)
	if err != nil {
		return err
	}
	if relinked {
		job.Outcome.Action = provisioningv1.Action_ACTION_RELINK
	}
	l := job.Record.Link
	l.ResourceId, l.Origin, l.State = action.ResourceID, provisioningv1.Origin_ORIGIN_ADOPTED, provisioningv1.LinkState_LINK_STATE_ACTIVE
	l.Attributes = map[string][]byte{}
	for path, hash := range w.Attributes {
		if !slices.Contains(action.Set, path) {
			l.Attributes[path] = hash
		}
	}
	if err := job.Claim(ctx, provisioningv1.Intent_INTENT_UPDATE, writes...); err != nil {
		return err
	}
	return c.overwrite(ctx, job, w, action)
}

// overwrite reads the resource's members and makes them those of the directory,
// whatever they were.
func (c *converger) overwrite(ctx context.Context, job *worker.Job, w *wanted, action plan.Action) error {
	a, err := c.fresh(ctx, job)
	if err != nil {
		return err
	}
	resource, readable, err := c.read(ctx, job, action.ResourceID, a)
	if scim.IsNotFound(err) { // the listing was older than its end
		return c.vanished(ctx, job)
	}
	if err != nil {
		return err
	}
	if !c.policy.Update {
		return c.done(ctx, job, w, a)
	}
	if readable {
		a.record(w.sort(resource, a))
		w.lost = false
	}
	steps, err := c.permitted(ctx, job, w, c.steps(w, a))
	if err != nil {
		return err
	}
	if err := c.send(ctx, job, w, action, a, steps); err != nil {
		return err
	}
	job.Settle(action, w.Attributes)
	return c.done(ctx, job, w, a)
}

// update sends the differences of name, attributes and members.
func (c *converger) update(ctx context.Context, job *worker.Job, w *wanted, action plan.Action) error {
	a, err := c.current(ctx, job)
	if err != nil {
		return err
	}
	there, err := c.findStrangers(ctx, job, w, a)
	if scim.IsNotFound(err) {
		return c.vanished(ctx, job)
	}
	if err != nil {
		return err
	}
	a.record(there)
	steps := c.steps(w, a)
	if err := c.nameReplaced(ctx, job, a, steps); err != nil {
		return err
	}
	steps, err = c.permitted(ctx, job, w, steps)
	if err != nil {
		return err
	}
	if len(steps)+len(action.Set)+len(action.Clear) == 0 {
		return c.done(ctx, job, w, a)
	}
	if len(action.Set)+len(action.Clear) > 0 || slices.ContainsFunc(steps, func(s step) bool { return s.resource != "" }) {
		job.Outcome.Action = provisioningv1.Action_ACTION_UPDATE
	}
	if err := job.Claim(ctx, provisioningv1.Intent_INTENT_UPDATE); err != nil {
		return err
	}
	err = c.send(ctx, job, w, action, a, steps)
	if scim.IsNotFound(err) {
		return c.vanished(ctx, job)
	}
	if err != nil {
		return err
	}
	if len(action.Set) > 0 {
		c.names.rename(action.ResourceID, w.name)
	}
	job.Settle(action, w.Attributes)
	return c.done(ctx, job, w, a)
}

// findStrangers reads the group where the removal of members that nobody wants was
// held: they stand in no record of ours. Those that somebody wants by now are
// returned.
func (c *converger) findStrangers(ctx context.Context, job *worker.Job, w *wanted, a *applied) (there []step, err error) {
	if job.Record.Link.GetUnwantedMembers() == 0 || len(w.strangers) > 0 {
		return nil, nil
	}
	resource, readable, err := c.read(ctx, job, job.Record.Link.GetResourceId(), a)
	if err != nil || !readable {
		return nil, err
	}
	there = w.sort(resource, a)
	w.strangers = slices.DeleteFunc(w.strangers, func(s step) bool { // the record says it as well
		_, known := c.index.resource(provisioningv1.ResourceHash(s.resource))
		return s.ours && known
	})
	return there, nil
}

// nameReplaced finds the ids of members that were created anew, which no link names any
// more, so that they are removed in the request that adds the new ones: some targets
// keep the ids of deleted resources in their groups. Where members cannot be read, they
// stay as they are.
func (c *converger) nameReplaced(ctx context.Context, job *worker.Job, a *applied, steps []step) error {
	lost := func(s step) bool { return s.replaced && s.resource == "" }
	if !slices.ContainsFunc(steps, lost) || !c.reads(a) {
		return nil
	}
	r, readable, err := c.read(ctx, job, job.Record.Link.GetResourceId(), a)
	if scim.IsNotFound(err) || err == nil && !readable {
		return nil // the write says so, or nobody can
	}
	if err != nil {
		return err
	}
	there := map[string]string{} // resource ids, by hash
	for _, id := range r.MemberIDs() {
		there[string(provisioningv1.ResourceHash(id))] = id
	}
	for i, s := range steps {
		if lost(s) {
			steps[i].resource = there[string(a.find(s.id).GetResourceHash())]
		}
	}
	return nil
}

// steps are what turns what the target holds into what is wanted, but for what it
// refused before.
func (c *converger) steps(w *wanted, a *applied) []step {
	steps := append(slices.Clone(w.strangers), a.difference(w.members, c.index.resource)...)
	if stay := w.handedOver(a); len(stay) > 0 {
		steps = slices.DeleteFunc(steps, func(s step) bool { return s.remove && stay[s.id] != "" })
	}
	// The record of a member that will have another resource stays until then: its former
	// id, which the target may keep, is removed in the same request.
	steps = slices.DeleteFunc(steps, func(s step) bool { return s.remove && s.resource == "" && w.without[s.id] && c.index.awaits(s.id) })
	if w.lost {
		for i := range steps {
			steps[i].again = !steps[i].remove
		}
	}
	return w.refusals.leaveOut(steps, time.Now())
}

// permitted asks the guard for the removals among the steps: of members that Rollcall
// added, and of those that only the target has. Those that are held are left out, and
// the job says in the end that they wait; unmanaged members are remembered in the link
// by their number until they are removed.
func (c *converger) permitted(ctx context.Context, job *worker.Job, w *wanted, steps []step) ([]step, error) {
	asked, err := c.asked(ctx, w, steps)
	if err != nil {
		return nil, err
	}
	strangers := 0
	for _, s := range steps {
		if s.stranger {
			strangers++
		}
	}
	job.Record.Link.UnwantedMembers, w.kept = uint32(strangers), 0
	for _, unmanaged := range []bool{false, true} {
		var resources []string
		for i := range steps {
			if asked[i] && steps[i].unmanaged() == unmanaged {
				resources = append(resources, steps[i].resource)
				steps[i].counted = true
			}
		}
		held, err := job.PermitMembers(ctx, resources, unmanaged)
		if err != nil {
			return nil, err
		}
		for i := range steps {
			steps[i].held = steps[i].held || held && asked[i] && steps[i].unmanaged() == unmanaged
		}
	}
	return slices.DeleteFunc(steps, func(s step) bool {
		if s.held && s.stranger {
			w.kept++
		}
		return s.held
	}), nil
}

// asked says which steps the guard is asked for: removals of members. One that ends with
// its user was decided with that user, and one that the target refused was let pass.
func (c *converger) asked(ctx context.Context, w *wanted, steps []step) ([]bool, error) {
	asked := make([]bool, len(steps))
	for i, s := range steps {
		if !s.remove || s.resource == "" || s.replaced || w.refusals.known(s) != nil {
			continue
		}
		ended, err := c.index.ended(ctx, s.id)
		if err != nil {
			return nil, err
		}
		asked[i] = !ended
	}
	return asked, nil
}

// foretell says which members an action would add and remove.
func (c *converger) foretell(ctx context.Context, job *worker.Job, w *wanted, action plan.Action) (worker.Members, error) {
	var m worker.Members
	var steps []step
	var err error
	switch {
	case action.Kind == plan.Blocked, action.Kind == plan.Delete, !c.policy.Update && action.Kind != plan.Create:
		return m, nil
	case action.Kind == plan.Create:
		a := &applied{group: job.Record.ID, chunks: []*links.Chunk{{}}, stale: map[int]bool{}}
		steps = w.refusals.leaveOut(a.difference(w.members, c.index.resource), time.Now())
	case action.Kind == plan.Adopt:
		steps, err = c.foretellOverwrite(ctx, job, w, action)
	case job.Record.Linked():
		steps, err = c.foretellUpdate(ctx, job, w)
	}
	if err != nil {
		return m, err
	}
	asked, err := c.asked(ctx, w, steps)
	for i, s := range steps {
		switch {
		case s.resource == "", s.remove && c.index.vanishes(s.resource):
		case s.remove && !asked[i]:
			m.Free = append(m.Free, s.resource)
		case s.unmanaged():
			m.Unmanaged = append(m.Unmanaged, s.resource)
		case s.remove:
			m.Remove = append(m.Remove, s.resource)
		default:
			m.Add = append(m.Add, s.resource)
		}
	}
	return m, err
}

// foretellUpdate are the steps of a linked group. Members that only the target has are
// read where a call may be made.
func (c *converger) foretellUpdate(ctx context.Context, job *worker.Job, w *wanted) ([]step, error) {
	a, err := c.current(ctx, job)
	if err != nil {
		return nil, err
	}
	if job.Offline() {
		return c.steps(w, a), nil
	}
	there, err := c.findStrangers(ctx, job, w, a)
	if err != nil {
		return nil, err
	}
	a.record(there)
	steps := c.steps(w, a)
	return steps, c.nameReplaced(ctx, job, a, steps)
}

func (c *converger) foretellOverwrite(ctx context.Context, job *worker.Job, w *wanted, action plan.Action) ([]step, error) {
	a := &applied{group: job.Record.ID, chunks: []*links.Chunk{{}}, stale: map[int]bool{}}
	resource, readable, err := c.read(ctx, job, action.ResourceID, a)
	if err != nil {
		return nil, err
	}
	if readable {
		a.record(w.sort(resource, a))
	}
	return c.steps(w, a), nil
}

// done commits the group as applied, with what changed of its membership record and
// other writes.
func (c *converger) done(ctx context.Context, job *worker.Job, w *wanted, a *applied, more ...bus.Write) error {
	l := job.Record.Link
	l.MembersWithoutLink, l.MembersApplied = uint64(len(w.without)), a.count()
	l.MemberChunks = uint32(len(a.chunks)) //nolint:gosec // at most 512
	l.UnwantedMembers = uint32(w.kept)     //nolint:gosec // a number of members
	w.refusals.store(l)
	if err := w.refusals.schedule(ctx, job); err != nil {
		return err
	}
	writes, err := a.writes(job.Links())
	if err != nil {
		return err
	}
	if err := job.Done(ctx, append(more, writes...)...); err != nil || w.untried == "" {
		return err
	}
	return worker.Block(w.untried)
}

// vanished handles a linked resource that somebody deleted on the target.
func (c *converger) vanished(ctx context.Context, job *worker.Job) error {
	if err := c.giveUp(ctx, job); err != nil {
		return err
	}
	return worker.ErrLook
}

// delete deletes a group. Where the answer does not show that it was done, it is looked
// for.
func (c *converger) delete(ctx context.Context, job *worker.Job, id string) error {
	call, cancel := job.Write(ctx)
	defer cancel()
	err := c.target.Delete(call, scim.KindGroup, id)
	if !scim.IsUnproven(err) {
		return err
	}
	if _, there := c.target.Get(call, scim.KindGroup, id, scim.Without("members")); scim.IsNotFound(there) {
		return nil
	}
	return err
}

// remove deletes the group and forgets what was applied to it.
func (c *converger) remove(ctx context.Context, job *worker.Job, action plan.Action) error {
	if err := job.Claim(ctx, provisioningv1.Intent_INTENT_DELETE); err != nil {
		return err
	}
	err := c.delete(ctx, job, action.ResourceID)
	if scim.IsUnsupported(err) {
		return worker.Block("the target does not delete groups; write groups.remove: keep, or delete it there")
	}
	if err != nil {
		return err
	}
	c.names.drop(action.ResourceID)
	job.Outcome.ResourceId = action.ResourceID
	a, err := c.fresh(ctx, job)
	if err != nil {
		return err
	}
	writes, err := a.writes(job.Links())
	if err != nil {
		return err
	}
	disown, err := job.Disown(ctx)
	if err != nil {
		return err
	}
	job.Record.Link.State = provisioningv1.LinkState_LINK_STATE_REMOVED
	return job.Done(ctx, slices.Concat(writes, disown)...)
}
