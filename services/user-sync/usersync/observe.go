package usersync

import (
	"context"
	"fmt"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// look searches the target by the matching attributes, in order, until one of
// them finds something.
func (c *converger) look(ctx context.Context, job *worker.Job, w *wanted) (plan.Observed, error) {
	if c.accounts != nil && w.listed == "" { // one may have come since
		if err := c.accounts.settle(ctx); err != nil {
			return plan.Observed{}, err
		}
		if observed, err := c.listed(ctx, job, w); err != nil || observed.Looked {
			return observed, err
		}
	}
	w.listed = ""
	observed := plan.Observed{Looked: true}
	if !w.Enabled { // a look-up that a listing would have saved
		w.met = true
	}
	for i, m := range w.match {
		find := c.find
		if i == 0 && w.byMark {
			find = c.findMarked
		}
		found, err := find(ctx, job, m)
		if err != nil {
			return observed, err
		}
		for _, r := range found {
			match, err := c.examine(ctx, job, w, r)
			if err != nil {
				return observed, err
			}
			renamed, err := c.renamed(ctx, job, w, match)
			if err != nil {
				return observed, err
			}
			if renamed {
				continue
			}
			observed.Matches = append(observed.Matches, match)
		}
		if len(observed.Matches) > 0 {
			w.met = true
			return observed, nil
		}
	}
	return c.misspelled(ctx, job, w, observed)
}

// find searches the target by one attribute.
func (c *converger) find(ctx context.Context, job *worker.Job, m matchValue) ([]*scim.Resource, error) {
	call, cancel := job.Target(ctx)
	defer cancel()
	return c.target.Find(call, scim.KindUser, m.attribute, m.value)
}

// findMarked searches for the account that bears the entry id: in a listing where one was
// made, or by a filter; where the target does not filter by externalId, in a listing
// whatever it costs.
func (c *converger) findMarked(ctx context.Context, job *worker.Job, m matchValue) ([]*scim.Resource, error) {
	if c.accounts == nil { // a forecast has a listing, or a filter
		return ignoreRefusal(c.find(ctx, job, m))
	}
	id, known := c.accounts.bearer(m.value)
	if !known {
		found, err := c.find(ctx, job, m)
		if !scim.IsRejected(err) && !scim.IsUnsupported(err) {
			return found, err
		}
		if err := c.accounts.insist(ctx); err != nil {
			return nil, err
		}
		id, _ = c.accounts.bearer(m.value)
	}
	if id == "" {
		return nil, nil
	}
	r, err := c.get(ctx, job, id)
	if scim.IsNotFound(err) {
		return nil, nil
	}
	if err != nil || r.ExternalID != m.value {
		return nil, err
	}
	return []*scim.Resource{r}, nil
}

// ignoreRefusal finds nothing where the target refuses a filter.
func ignoreRefusal(found []*scim.Resource, err error) ([]*scim.Resource, error) {
	if scim.IsRejected(err) || scim.IsUnsupported(err) {
		return nil, nil
	}
	return found, err
}

// misspelled searches a listing for a user whom no look-up found: a target that
// compares exactly does not find a name in a spelling that nobody can guess.
func (c *converger) misspelled(ctx context.Context, job *worker.Job, w *wanted, observed plan.Observed) (plan.Observed, error) {
	if c.accounts == nil || !c.profile().CaseSensitive || !slices.ContainsFunc(w.match, func(m matchValue) bool { return m.attribute == userName }) {
		return observed, nil
	}
	if err := c.accounts.ensure(ctx); err != nil {
		return observed, err
	}
	if found, err := c.listed(ctx, job, w); err != nil || found.Looked {
		return found, err
	}
	return observed, nil
}

// examine compares a resource with what is wanted and finds out who owns it.
func (c *converger) examine(ctx context.Context, job *worker.Job, w *wanted, r *scim.Resource) (plan.Match, error) {
	w.found[r.ID] = r
	m := plan.Match{ID: r.ID, Ours: r.ExternalID != "" && r.ExternalID == w.externalID, Active: isActive(r)}
	for _, path := range w.paths() {
		if !c.equal(w, r, path) {
			m.Differs = append(m.Differs, path)
		}
	}
	var err error
	m.Owner, err = job.Owner(ctx, r.ID)
	return m, err
}

// renamed says of a forecast whether the owner of a matching resource will have given it
// another name: a run renames it before.
func (c *converger) renamed(ctx context.Context, job *worker.Job, w *wanted, m plan.Match) (bool, error) {
	if !job.Foretelling() || m.Owner == "" {
		return false, nil
	}
	id, err := directoryv1.ParseID(m.Owner)
	if err != nil {
		return false, fmt.Errorf("parse the owner of a resource: %w", err)
	}
	change, set, err := c.rivals.change(ctx, entryID(id))
	if err != nil || change == nil || !c.policy.Update {
		return false, err
	}
	owner, err := c.mapper.wanted(change, set, referring{people: known{}})
	if err != nil || !owner.InScope {
		return false, nil //nolint:nilerr // what cannot be evaluated renames nothing
	}
	return !slices.ContainsFunc(owner.distinct(), func(v matchValue) bool { return slices.Contains(w.distinct(), v) }), nil
}

// isActive reads the active attribute; a resource without one is active, and
// some targets send a string.
func isActive(r *scim.Resource) bool {
	value, has := r.Value("active")
	return !has || (scim.Unit{Path: "active", Value: true}).EqualTo(value)
}

// reexamine looks at the target after an abandoned write. A linked resource is
// compared with what is wanted, and the link corrected. Where a creation may have
// been lost, the resource is ours if it bears our externalId, whatever has become
// of the entry since; otherwise the target is searched as for a new entry.
func (c *converger) reexamine(ctx context.Context, job *worker.Job, w *wanted) (plan.Observed, error) {
	if job.Record.Linked() {
		return plan.Observed{}, c.recheck(ctx, job, w)
	}
	if job.LostCreate() && c.profile().ExternalIDAllowed {
		found, err := c.reclaim(ctx, job, w)
		if err != nil || found {
			return plan.Observed{}, err
		}
	}
	if !w.InScope || len(w.match) == 0 {
		return plan.Observed{}, nil
	}
	return c.look(ctx, job, w)
}

// recheck compares the linked resource with what is wanted.
func (c *converger) recheck(ctx context.Context, job *worker.Job, w *wanted) error {
	r, err := c.get(ctx, job, job.Record.Link.GetResourceId())
	if scim.IsNotFound(err) {
		return c.giveUp(ctx, job)
	}
	if err != nil {
		return err
	}
	c.correct(job.Record.Link, w, r)
	if !w.InScope {
		job.CompareLater()
	}
	if !c.profile().ExternalIDAllowed {
		return nil
	}
	return job.NameTwins(ctx, c.target, scim.KindUser, w.externalID)
}

// reclaim links the resource that bears this entry's externalId.
func (c *converger) reclaim(ctx context.Context, job *worker.Job, w *wanted) (found bool, err error) {
	r, err := job.FindOwn(ctx, c.target, scim.KindUser, w.externalID, w.InScope)
	if err != nil || r == nil {
		return false, err
	}
	l := &provisioningv1.Link{}
	c.correct(l, w, r)
	if !w.InScope {
		l.Attributes = c.mapper.unknown(r)
	}
	return true, job.Link(ctx, r.ID, l.GetState(), l.GetAttributes())
}

// unknown are the mapped attributes that a resource has, where it is not known what was
// sent: a user that comes back without one of them has it cleared.
func (m *mapper) unknown(r *scim.Resource) map[string][]byte {
	all := map[string][]byte{}
	for _, a := range m.attributes {
		path := a.Path.String()
		if value, _ := r.Value(path); value != nil && a.On != connection.OnCreate {
			all[path] = []byte{0}
		}
	}
	return all
}

// correct makes the link say what the target really holds. An account that is inactive
// although its user should be active was not disabled by Rollcall, unless the link says
// so, or that a worker was about to.
func (c *converger) correct(l *provisioningv1.Link, w *wanted, r *scim.Resource) {
	switch before := l.GetState(); {
	case isActive(r):
		l.State, l.FoundInactive = provisioningv1.LinkState_LINK_STATE_ACTIVE, false
	case before != provisioningv1.LinkState_LINK_STATE_DISABLED:
		ours := l.GetClaim().GetIntent() == provisioningv1.Intent_INTENT_DISABLE
		l.State, l.FoundInactive = provisioningv1.LinkState_LINK_STATE_DISABLED, w.InScope && w.Enabled && !ours
	}
	if !w.InScope {
		return // nothing is wanted to compare with
	}
	former := l.GetAttributes()
	l.Attributes = map[string][]byte{}
	for _, path := range w.unapplied { // it is not looked at
		if hash, applied := former[path]; applied {
			l.Attributes[path] = hash
		}
	}
	for _, path := range w.paths() {
		_, has := w.units[path]
		unit, _, observed := c.merged(w, r, path)
		switch equal := unit.EqualTo(observed); {
		case has && equal:
			l.Attributes[path] = w.Attributes[path]
		case !equal && observed != nil:
			l.Attributes[path] = []byte{0} // something that has to be replaced, or cleared
		}
	}
}

// equal says whether the resource holds what is wanted at a path, apart from
// values of types that nobody mapped.
func (c *converger) equal(w *wanted, r *scim.Resource, path string) bool {
	unit, _, observed := c.merged(w, r, path)
	return unit.EqualTo(observed)
}

// merged is the wanted unit at a path, with the resource's values of types that
// nobody mapped; foreign says whether there are any.
func (c *converger) merged(w *wanted, r *scim.Resource, path string) (unit scim.Unit, foreign bool, observed any) {
	unit, has := w.units[path]
	if !has {
		unit = scim.Unit{Path: path}
	}
	observed, _ = r.Value(path)
	unit, foreign = unit.MergeForeign(observed, c.mapper.mapped(path)...)
	return unit, foreign, observed
}
