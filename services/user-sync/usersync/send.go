package usersync

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
)

// send writes an action's attributes to the resource; nothing is sent when there is
// nothing to write. Attributes with values that nobody mapped are read first, and so is
// the resource where PATCH cannot do it (RFC 7644 section 3.5.2: it is optional). What
// the target did not apply is noted in the job.
func (c *converger) send(ctx context.Context, job *worker.Job, w *wanted, a plan.Action, resource *scim.Resource) error {
	if !sends(a) {
		return nil
	}
	put := c.needsPut(a)
	if resource == nil && (put || c.readsFirst(job, w, a)) {
		var err error
		if resource, err = c.get(ctx, job, a.ResourceID); err != nil {
			return err
		}
	}
	s := &sending{c: c, job: job, w: w, a: a, resource: resource}
	units, cleared := s.writes()
	if put {
		return s.replace(ctx, units, cleared)
	}
	err := s.patch(ctx, units, cleared)
	if !scim.IsUnsupported(err) || !c.profile().Put {
		return err
	}
	if s.resource, err = c.get(ctx, job, a.ResourceID); err != nil {
		return err
	}
	units, cleared = s.writes()
	return s.replace(ctx, units, cleared)
}

// sending is one action on its way to the target.
type sending struct {
	c   *converger
	job *worker.Job
	w   *wanted
	a   plan.Action
	// resource is what the target holds, where it was read before.
	resource *scim.Resource
}

// get reads the resource.
func (c *converger) get(ctx context.Context, job *worker.Job, id string) (*scim.Resource, error) {
	call, cancel := job.Target(ctx)
	defer cancel()
	return c.target.Get(call, scim.KindUser, id)
}

// needsPut says whether an action changes what PATCH of this target cannot.
func (c *converger) needsPut(a plan.Action) bool {
	sets, clears := func(path string) bool { return !c.profile().Patches(path) }, func(path string) bool { return !c.profile().Clears(path) }
	return a.Active != nil && sets("active") || slices.ContainsFunc(a.Set, sets) || slices.ContainsFunc(a.Clear, clears)
}

// readsFirst says whether the resource has to be read before a PATCH: it holds values
// that nobody mapped, or a part of an extension that is sent as a whole and of which
// only the target knows the value.
func (c *converger) readsFirst(job *worker.Job, w *wanted, a plan.Action) bool {
	changed := slices.Concat(a.Set, a.Clear)
	return slices.ContainsFunc(changed, func(path string) bool { return slices.Contains(job.Record.Link.GetForeignValues(), path) }) ||
		slices.ContainsFunc(w.left, func(path string) bool { return c.profile().SentWith(path, changed) })
}

// writes are the units to set and the paths to clear. Where the resource was read,
// values of types that nobody mapped are sent back, and an attribute that holds such
// values is not cleared but set to them. An extension that is sent as an object is sent
// whole: there are targets that replace all of it.
func (s *sending) writes() (units []scim.Unit, cleared []string) {
	if s.a.Active != nil {
		units = append(units, scim.Unit{Path: "active", Value: *s.a.Active})
	}
	for _, path := range s.w.whole(s.c.profile(), s.a) {
		unit, has := s.w.units[path]
		switch {
		case s.resource != nil && has:
			unit, _, _ = s.c.merged(s.w, s.resource, path)
		case s.resource != nil:
			unit, has = leftAs(s.resource, path)
		}
		if has {
			units = append(units, unit)
		}
	}
	for _, path := range s.a.Clear {
		if s.resource != nil {
			if unit, foreign, _ := s.c.merged(s.w, s.resource, path); foreign {
				units = append(units, unit)
				continue
			}
		}
		cleared = append(cleared, path)
	}
	return units, cleared
}

// leftAs is a unit with the value that a resource holds. Of a reference that is the id:
// the target sets the rest of it.
func leftAs(r *scim.Resource, path string) (u scim.Unit, has bool) {
	value, has := r.Value(path)
	if object, ok := value.(map[string]any); ok && object["value"] != nil {
		value = map[string]any{"value": object["value"]}
	}
	return scim.Unit{Path: path, Value: value}, has
}

// whole are the paths that an action sets, with those that have to be sent along.
func (w *wanted) whole(p scim.Profile, a plan.Action) []string {
	paths := slices.Clone(a.Set)
	for _, path := range slices.Concat(w.paths(), w.left) {
		if !slices.Contains(paths, path) && !slices.Contains(a.Clear, path) && p.SentWith(path, a.Set) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// patch sends units to set and paths to clear in one call, but for what the target
// never changes and for what no target may be sent. A path to clear that is not there is
// cleared. Where the target refuses to change one of several attributes, each goes alone.
func (s *sending) patch(ctx context.Context, units []scim.Unit, cleared []string) error {
	units, cleared = s.sendable(ctx, units, cleared)
	if len(units)+len(cleared) == 0 {
		return nil
	}
	call, cancel := s.job.Write(ctx)
	answer, err := s.c.target.Patch(call, scim.KindUser, s.a.ResourceID, scim.Operations(units, cleared))
	cancel()
	one := len(s.c.profile().Together(units))+len(cleared) == 1
	switch class := scim.Classify(err); {
	case scim.IsUnproven(err):
		return s.readBack(ctx, units, cleared, err)
	case class == scim.NoTarget && len(cleared) == 1: // it is cleared
		return s.patch(ctx, units, nil)
	case class == scim.Mutability && one:
		return s.immutable(ctx, units, cleared, err)
	case class == scim.NoTarget && len(cleared) > 1, class == scim.Mutability:
		return s.oneByOne(ctx, units, cleared)
	case (scim.IsConflict(err) || scim.IsRejected(err)) && !one && s.disables(units):
		return s.disableAlone(ctx, units, err)
	case err != nil:
		return err
	}
	return s.answered(ctx, http.MethodPatch, units, cleared, answer)
}

// disables says whether units take access away.
func (s *sending) disables(units []scim.Unit) bool {
	return s.a.Active != nil && !*s.a.Active && slices.ContainsFunc(units, isActiveUnit)
}

func isActiveUnit(u scim.Unit) bool { return u.Path == "active" }

// disableAlone sends that the account becomes inactive without the changes that the target
// refused together with it, such as a name that somebody else has: access must not outlive
// them. The refusal remains.
func (s *sending) disableAlone(ctx context.Context, units []scim.Unit, refusal error) error {
	alone := slices.DeleteFunc(slices.Clone(units), func(u scim.Unit) bool { return !isActiveUnit(u) })
	if err := s.patch(ctx, alone, nil); err != nil {
		return errors.Join(refusal, err)
	}
	return refusal
}

// answered compares an answer with what was sent. Where it shows that the user is as
// active as before, nothing is done before it was read back.
func (s *sending) answered(ctx context.Context, method string, units []scim.Unit, cleared []string, answer *scim.Resource) error {
	if answer == nil {
		return nil
	}
	patched := method == http.MethodPatch
	if s.contradicts(answer, units) {
		return s.readBack(ctx, units, cleared, scim.NotApplied(method, scim.KindUser, "active", worker.Hint(s.c.profile(), "active", patched)))
	}
	s.c.compare(ctx, s.job, s.w, answer, pathsOf(units, cleared), patched)
	return nil
}

// contradicts says whether a resource shows another active than was sent.
func (s *sending) contradicts(r *scim.Resource, units []scim.Unit) bool {
	shown, known := activeOf(r)
	return known && s.a.Active != nil && shown != *s.a.Active && slices.ContainsFunc(units, func(u scim.Unit) bool { return u.Path == "active" })
}

// sendable leaves out what cannot be sent, and notes it: it never keeps the rest from
// being sent.
func (s *sending) sendable(ctx context.Context, units []scim.Unit, cleared []string) (kept []scim.Unit, keptCleared []string) {
	for _, u := range units {
		if s.sends(ctx, scim.SetOperation(u)) {
			kept = append(kept, u)
		}
	}
	for _, path := range cleared {
		if s.sends(ctx, scim.ClearOperation(path)) {
			keptCleared = append(keptCleared, path)
		}
	}
	return kept, keptCleared
}

func (s *sending) sends(ctx context.Context, o scim.Operation) bool {
	unapplied := worker.Unapplied{Path: o.Path, Value: s.w.Attributes[o.Path]}
	if err := o.Check(); err != nil {
		unapplied.Reason = err.Error()
	} else if s.c.immutable.Everywhere(o.Path) {
		unapplied.Immutable, unapplied.Reason = true, worker.ImmutableReason("of any user")
	} else {
		return true
	}
	s.job.Unapplied(ctx, unapplied)
	return false
}

// immutable notes what the target refuses to change. A refusal to change active is
// about this user, and is a person's matter.
func (s *sending) immutable(ctx context.Context, units []scim.Unit, cleared []string, refusal error) error {
	for _, path := range pathsOf(units, cleared) {
		if path == "active" {
			return refusal
		}
		s.c.immutable.Refused(path, s.a.ResourceID)
		s.job.Unapplied(ctx, worker.Unapplied{
			Path: path, Value: s.w.Attributes[path], Immutable: true, Status: http.StatusBadRequest, Reason: worker.ImmutableReason("of this user"),
		})
	}
	return nil
}

// oneByOne sends each attribute alone: the target said that one of them is wrong, and
// not which. One that it refuses keeps none of the others from being sent.
func (s *sending) oneByOne(ctx context.Context, units []scim.Unit, cleared []string) error {
	var refusal error
	send := func(units []scim.Unit, cleared []string) error {
		err := s.patch(ctx, units, cleared)
		if scim.Classify(err) == scim.Mutability {
			refusal, err = errors.Join(refusal, err), nil
		}
		return err
	}
	for _, units := range s.c.profile().Together(units) {
		if err := send(units, nil); err != nil {
			return err
		}
	}
	for _, path := range cleared {
		if err := send(nil, []string{path}); err != nil {
			return err
		}
	}
	return refusal
}

// pathsOf are the paths that a request sets and clears.
func pathsOf(units []scim.Unit, cleared []string) []string {
	paths := make([]string, 0, len(units)+len(cleared))
	for _, u := range units {
		paths = append(paths, u.Path)
	}
	return append(paths, cleared...)
}

// replace sends the whole resource, for targets that have no PATCH.
func (s *sending) replace(ctx context.Context, units []scim.Unit, cleared []string) error {
	units, cleared = s.sendable(ctx, units, cleared)
	if len(units)+len(cleared) == 0 {
		return nil
	}
	body, err := s.resource.Replacement(scim.KindUser, units, cleared)
	if err != nil {
		return worker.Block("users.attributes: " + err.Error())
	}
	call, cancel := s.job.Write(ctx)
	answer, err := s.c.target.Put(call, scim.KindUser, s.a.ResourceID, body)
	cancel()
	if scim.IsUnproven(err) {
		return s.readBack(ctx, units, cleared, err)
	}
	if err != nil {
		return err
	}
	return s.answered(ctx, http.MethodPut, units, cleared, answer)
}

// readBack finds out whether the target did what its answer does not show. unproven is
// returned where it did not.
func (s *sending) readBack(ctx context.Context, units []scim.Unit, cleared []string, unproven error) error {
	r, err := s.c.get(ctx, s.job, s.a.ResourceID)
	switch {
	case scim.IsNotFound(err):
		return err
	case err != nil, s.contradicts(r, units):
		return unproven
	}
	for _, path := range pathsOf(units, cleared) {
		if path != "active" && !s.c.equal(s.w, r, path) {
			return unproven
		}
	}
	return nil
}

// activeOf is the active attribute that a target shows; known says whether it does.
func activeOf(r *scim.Resource) (active, known bool) {
	if _, known = r.Value("active"); !known {
		return false, false
	}
	return isActive(r), true
}

// compare notes the attributes that an answer shows with another value than was sent. An
// answer without a resource says nothing, and one that is not whole nothing of what it
// leaves out.
func (c *converger) compare(ctx context.Context, job *worker.Job, w *wanted, answer *scim.Resource, paths []string, patched bool) {
	if answer == nil {
		return
	}
	_, whole := answer.Value("userName")
	for _, path := range paths {
		_, shown := answer.Value(path)
		if path == "active" || path == "password" || !shown && !whole || slices.Contains(w.left, path) || c.equal(w, answer, path) {
			continue
		}
		job.Unapplied(ctx, worker.Unapplied{
			Path: path, Value: w.Attributes[path], Status: http.StatusOK,
			Reason: "the target answered with success, and shows another value: " + worker.Hint(c.profile(), path, patched),
		})
	}
}
