package usersync

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// look searches the target by the matching attributes, in order, until one of
// them finds something.
func (c *converger) look(ctx context.Context, job *worker.Job, w *wanted) (plan.Observed, error) {
	observed := plan.Observed{Looked: true}
	for _, m := range w.match {
		call, cancel := job.Target(ctx)
		found, err := c.target.Find(call, scim.KindUser, m.attribute, m.value)
		cancel()
		if err != nil {
			return observed, err
		}
		for _, r := range found {
			match, err := c.examine(ctx, job, w, r)
			if err != nil {
				return observed, err
			}
			observed.Matches = append(observed.Matches, match)
		}
		if len(observed.Matches) > 0 {
			break
		}
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
	m.Owner, err = c.owner(ctx, job, r.ID)
	return m, err
}

// isActive reads the active attribute; a resource without one is active, and
// some targets send a string.
func isActive(r *scim.Resource) bool {
	value, has := r.Value("active")
	return !has || (scim.Unit{Path: "active", Value: true}).EqualTo(value)
}

const ownerPendingDelay = 2 * time.Second

// owner is the entry that keeps us from taking the resource, in hex: one that is
// alive. While the removal of a former owner is pending, the error asks to wait;
// the resource of an owner that is gone may be taken over.
func (c *converger) owner(ctx context.Context, job *worker.Job, resourceID string) (string, error) {
	id, _, err := job.Links().Owner(ctx, directoryv1.Kind_KIND_USER, resourceID)
	if err != nil || id == nil || bytes.Equal(id, job.Record.ID) {
		return "", err
	}
	former, err := job.Links().Get(ctx, directoryv1.Kind_KIND_USER, id)
	if err != nil {
		return "", err
	}
	if !links.HasResource(former.Link) || former.Link.GetResourceId() != resourceID {
		return "", nil
	}
	op, sequence, err := job.Latest(ctx, id)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return hex.EncodeToString(id), nil
	case err != nil:
		return "", err
	case op == directoryv1.Op_OP_PRESENT.String():
		return hex.EncodeToString(id), nil
	case former.Link.GetSequence() < sequence:
		return "", worker.Wait(ownerPendingDelay, fmt.Errorf("the matching resource is still being given up by entry %x", id))
	}
	return "", nil
}

// takeOver makes the writes that give a resource to this entry: its ownership
// and, where a former owner is gone, that owner's link without it.
func (c *converger) takeOver(ctx context.Context, job *worker.Job, resourceID string) (writes []bus.Write, relinked bool, err error) {
	store := job.Links()
	id, revision, err := store.Owner(ctx, directoryv1.Kind_KIND_USER, resourceID)
	if err != nil {
		return nil, false, err
	}
	if bytes.Equal(id, job.Record.ID) {
		return nil, false, nil
	}
	own, err := store.Own(directoryv1.Kind_KIND_USER, resourceID, job.Record.ID, revision)
	if err != nil {
		return nil, false, err
	}
	writes = append(writes, own)
	if id == nil {
		return writes, false, nil
	}
	former, err := store.Get(ctx, directoryv1.Kind_KIND_USER, id)
	if err != nil {
		return nil, false, err
	}
	former.Link.State, former.Link.ResourceId = provisioningv1.LinkState_LINK_STATE_NONE, ""
	former.Link.Attributes, former.Link.Claim = nil, nil
	write, err := store.WriteLink(former)
	return append(writes, write), true, err
}

// reexamine looks at the target after an abandoned write. A linked resource is
// compared with what is wanted, and the link corrected; without a link the
// target is searched.
func (c *converger) reexamine(ctx context.Context, job *worker.Job, w *wanted) (plan.Observed, error) {
	l := job.Record.Link
	if !job.Record.Linked() {
		if !w.InScope || len(w.match) == 0 {
			return plan.Observed{}, nil
		}
		return c.look(ctx, job, w)
	}
	call, cancel := job.Target(ctx)
	defer cancel()
	r, err := c.target.Get(call, scim.KindUser, l.GetResourceId())
	if scim.IsNotFound(err) {
		forget(l)
		return plan.Observed{}, nil
	}
	if err != nil {
		return plan.Observed{}, err
	}
	c.correct(l, w, r)
	return plan.Observed{}, nil
}

// correct makes the link say what the target really holds.
func (c *converger) correct(l *provisioningv1.Link, w *wanted, r *scim.Resource) {
	l.State = provisioningv1.LinkState_LINK_STATE_DISABLED
	if isActive(r) {
		l.State = provisioningv1.LinkState_LINK_STATE_ACTIVE
	}
	l.Attributes = map[string][]byte{}
	for _, path := range w.paths() {
		_, has := w.units[path]
		switch equal := c.equal(w, r, path); {
		case has && equal:
			l.Attributes[path] = w.Attributes[path]
		case !has && !equal:
			l.Attributes[path] = []byte{0} // something that has to be cleared
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

// forget makes the link that of an entry without a resource.
func forget(l *provisioningv1.Link) {
	l.State, l.ResourceId, l.Attributes = provisioningv1.LinkState_LINK_STATE_NONE, "", nil
}
