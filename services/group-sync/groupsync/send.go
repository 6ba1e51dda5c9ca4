package groupsync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// operations are the PATCH operations of a batch of steps: one for all additions
// and one for each removal. What may have been added before is taken out first: some
// targets store a member twice.
func operations(steps []step) []scim.Operation {
	var ops []scim.Operation
	var additions []string
	for _, s := range steps {
		if s.resource == "" {
			continue
		}
		if s.remove || s.again {
			ops = append(ops, scim.RemoveMember(s.resource))
		}
		if !s.remove {
			additions = append(additions, s.resource)
		}
	}
	if len(additions) > 0 {
		ops = append(ops, scim.AddMembers(additions))
	}
	return ops
}

// batches cuts steps so that none makes more than limit changes of members. Steps
// that send nothing go along with the first batch.
func batches(steps []step, limit int) [][]step {
	var out [][]step
	var silent, part []step
	weight := 0
	for _, s := range steps {
		if s.resource == "" {
			silent = append(silent, s)
			continue
		}
		if weight+s.weight() > limit && len(part) > 0 {
			out, part, weight = append(out, part), nil, 0
		}
		part, weight = append(part, s), weight+s.weight()
	}
	if len(part) > 0 || len(silent) > 0 && len(out) == 0 {
		out = append(out, part)
	}
	if len(out) > 0 {
		out[0] = append(silent, out[0]...)
	}
	return out
}

// sending carries the steps of one group out, in batches. What the target confirmed of
// one is durable before the next is sent.
type sending struct {
	c        *converger
	job      *worker.Job
	w        *wanted
	a        *applied
	resource string
	// units and cleared are the group's own attributes, which go with the first
	// batch; due says that they still have to.
	units   []scim.Unit
	cleared []string
	due     bool
	// refusal is what the target said to them, where it refused them; members do not
	// wait for that.
	refusal error
	// whole is the group as it stands, where the target takes it only as a whole.
	whole *whole
	// answer is the group as the target showed it after the last request; nil where it did
	// not. contradicted says that one of them did not show a change of members.
	answer       *scim.Resource
	contradicted bool
	// unsaved says that the record knows more than what is durable.
	unsaved bool
}

// send makes the group's attributes those of the action, and carries the steps out.
// Without an error it leaves to done what the last request brought.
func (c *converger) send(ctx context.Context, job *worker.Job, w *wanted, action plan.Action, a *applied, steps []step) error {
	s := &sending{c: c, job: job, w: w, a: a, resource: action.ResourceID, cleared: action.Clear}
	for _, path := range action.Set {
		s.units = append(s.units, w.units[path])
	}
	s.leaveOutFixed(ctx)
	err := c.sendTried(ctx, s, steps)
	if err == nil {
		s.confirmRefused(ctx)
		err = s.refusal
	}
	if err != nil {
		return errors.Join(err, s.save(ctx))
	}
	return nil
}

// all carries steps out.
func (s *sending) all(ctx context.Context, steps []step) error {
	limit := s.c.profile().MaxMembersPerRequest
	if s.c.replaces() {
		limit = max(1, 2*len(steps)) // the whole group goes with each request
	}
	parts := batches(steps, limit)
	if len(parts) == 0 && s.due {
		parts = [][]step{nil}
	}
	for _, part := range parts {
		if err := s.part(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// part sends one batch. A group never fails because of one member: a
// batch that the target refuses is halved down to the member at fault.
func (s *sending) part(ctx context.Context, part []step) error {
	members := slices.ContainsFunc(part, func(s step) bool { return s.resource != "" })
	if !members && !s.due {
		s.confirm(part)
		return nil
	}
	err := s.write(ctx, part)
	switch {
	case err == nil:
		s.due = false
		return s.settle(part)
	case scim.IsUnsupported(err) && !s.c.replaces():
		s.c.noPatch.Store(true)
		return s.part(ctx, part)
	case scim.IsNotFound(err):
		if err := s.stillThere(ctx, err, members); err != nil {
			return err
		}
	case !scim.IsRejected(err) || scim.IsUnsupported(err):
		return s.removalsAlone(ctx, part, err)
	}
	switch {
	case members:
		return s.divide(ctx, part, err)
	case scim.Classify(err) == scim.Mutability && !s.c.replaces():
		return s.apart(ctx)
	case scim.IsRejected(err):
		s.refusal, s.units, s.cleared, s.due = err, nil, nil, false
		return nil
	}
	return err
}

// removalsAlone sends the removals of a part that the target failed to carry out (5xx)
// in a request of their own: what the target fails on may be an added member or an
// attribute, and a removal does not wait for those. The failure stays, so that the rest
// is tried again later.
func (s *sending) removalsAlone(ctx context.Context, part []step, failure error) error {
	if !failed(failure) {
		return failure
	}
	removals := slices.DeleteFunc(slices.Clone(part), func(s step) bool { return !s.remove || s.resource == "" })
	if len(removals) == 0 || len(removals) == len(part) && !s.due {
		return failure
	}
	due := s.due
	s.due = false
	err := s.part(ctx, removals)
	s.due = due
	return cmp.Or(err, failure)
}

// failed says that the target answered with a failure of its own, as opposed to no
// answer and to a target that wants to be left alone for a while.
func failed(err error) bool {
	answer, answered := errors.AsType[*scim.Error](err)
	return answered && answer.Status >= http.StatusInternalServerError && scim.Classify(err) == scim.Temporary
}

// apart sends the group's own attributes one by one, after the target refused to change
// one of them; that one is left out from now on.
func (s *sending) apart(ctx context.Context) error {
	units, cleared := s.units, s.cleared
	if len(units)+len(cleared) == 1 {
		path := strings.Join(cleared, "")
		if len(units) == 1 {
			path = units[0].Path
		}
		s.c.immutable.Refused(path, s.resource)
		s.job.Unapplied(ctx, worker.Unapplied{
			Path: path, Value: s.w.Attributes[path], Immutable: true, Status: http.StatusBadRequest, Reason: worker.ImmutableReason("of this group"),
		})
		s.due = false
		return nil
	}
	for _, unit := range units {
		s.units, s.cleared, s.due = []scim.Unit{unit}, nil, true
		if err := s.part(ctx, nil); err != nil {
			return err
		}
	}
	for _, path := range cleared {
		s.units, s.cleared, s.due = nil, []string{path}, true
		if err := s.part(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// stillThere tells a group that is gone from a member that the target does not know:
// both are a 404. nil means that the group is there.
func (s *sending) stillThere(ctx context.Context, answer error, members bool) error {
	call, cancel := s.job.Target(ctx)
	defer cancel()
	_, err := s.c.target.Get(call, scim.KindGroup, s.resource, scim.Without("members"))
	switch {
	case err == nil && members:
		return nil
	case err == nil:
		return worker.Block("the target does not find the group that it has: " + answer.Error())
	}
	return err
}

// divide sends what the target refused in smaller parts: the group's own attributes
// alone, then each half of the members.
func (s *sending) divide(ctx context.Context, part []step, err error) error {
	if s.due {
		if err := s.part(ctx, nil); err != nil {
			return err
		}
		return s.part(ctx, part)
	}
	loud := slices.DeleteFunc(slices.Clone(part), func(s step) bool { return s.resource == "" })
	if len(loud) < len(part) {
		silent := slices.DeleteFunc(slices.Clone(part), func(s step) bool { return s.resource != "" })
		s.confirm(silent)
	}
	if len(loud) == 1 {
		return s.refused(loud[0], err)
	}
	half, refused := len(loud)/2, len(s.w.refusals.now)
	for _, half := range [][]step{loud[:half], loud[half:]} {
		if err := s.part(ctx, half); err != nil {
			return err
		}
	}
	if len(s.w.refusals.now) == refused { // all were taken: they were only too many
		s.c.target.TooManyMembers(len(loud)-half, err)
	}
	return nil
}

// refused handles a single member that the target refuses. To remove one that it
// does not know is done; everything else is remembered as it stands.
func (s *sending) refused(one step, err error) error {
	if one.remove && (scim.IsNoTarget(err) || scim.IsNotFound(err)) {
		s.confirm([]step{one})
		return nil
	}
	if s.w.refusals.add(one, err); len(s.w.refusals.now) > maxRefused {
		return fmt.Errorf("more than %d members are refused, the last one: %w", maxRefused, err)
	}
	s.w.refusals.store(s.job.Record.Link)
	s.unsaved = true
	return nil
}

// write sends one request: the group's own attributes, if they are due, and the
// members of a part. Where the target cannot be asked afterwards what became of it, it
// is made durable first what is about to be sent.
func (s *sending) write(ctx context.Context, part []step) error {
	if !s.c.replaces() && !s.c.reads(s.a) {
		s.a.doubt(part)
		s.unsaved = true
	}
	if err := s.save(ctx); err != nil {
		return err
	}
	s.answer = nil
	if s.c.replaces() {
		return s.replace(ctx, part)
	}
	var ops []scim.Operation
	if s.due {
		ops = scim.Operations(s.units, s.cleared)
	}
	call, cancel := s.job.Write(ctx)
	defer cancel()
	answer, err := s.c.target.Patch(call, scim.KindGroup, s.resource, append(ops, operations(part)...))
	if err == nil {
		s.answer = answer
		s.compare(ctx, answer, true)
	}
	return err
}

// confirm takes the members that the target confirmed into the record, and counts them.
func (s *sending) confirm(steps []step) {
	if len(steps) == 0 {
		return
	}
	s.a.record(steps)
	s.unsaved = true
	spent := map[bool]int{} // by whether only the target had the member
	for _, one := range steps {
		switch {
		case one.resource == "":
		case one.remove:
			s.job.Outcome.MembersRemoved++
			if one.counted {
				spent[one.unmanaged()]++
			}
		default:
			s.job.Outcome.MembersAdded++
		}
	}
	for unmanaged, n := range spent {
		s.job.SpentMembers(n, unmanaged)
	}
}

// save makes durable what the record knows more.
func (s *sending) save(ctx context.Context) error {
	if !s.unsaved {
		return nil
	}
	return s.commit(ctx)
}

// commit makes the record of members durable as it is now, with other writes; the
// claim goes on.
func (s *sending) commit(ctx context.Context, more ...bus.Write) error {
	writes, err := s.a.writes(s.job.Links())
	if err != nil {
		return err
	}
	l := s.job.Record.Link
	l.MembersApplied, l.MemberChunks = s.a.count(), uint32(len(s.a.chunks)) //nolint:gosec // at most 512
	revisions, err := s.job.Progress(ctx, append(more, writes...)...)
	if err != nil {
		return err
	}
	s.a.stored(revisions[len(more):])
	s.unsaved = false
	return nil
}

// confirmRefused reads the group after the target refused to remove members, or answered
// as if a change of members had no effect: one who is not in it needs no removal, and one
// who is needs no addition.
func (s *sending) confirmRefused(ctx context.Context) {
	fresh := s.w.refusals.fresh(func(r *provisioningv1.RefusedMember) bool { return r.GetRemoval() || s.contradicted })
	if len(fresh) == 0 || !s.c.reads(s.a) {
		return
	}
	resource, readable, err := s.c.read(ctx, s.job, s.resource, s.a)
	if err != nil || !readable {
		return // they stay refused, and are tried again
	}
	has := map[string]bool{}
	for _, id := range resource.MemberIDs() {
		has[string(provisioningv1.ResourceHash(id))] = true
	}
	var done []step
	for _, r := range fresh {
		if has[string(r.GetResourceHash())] == r.GetRemoval() {
			continue
		}
		s.w.refusals.drop(r)
		id := entryID(r.GetEntryId())
		one := step{id: id, remove: r.GetRemoval()}
		if !one.remove {
			one.resource = s.w.members[id]
		}
		done = append(done, one)
	}
	s.confirm(done)
}
