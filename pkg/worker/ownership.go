package worker

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const ownerDelay = 2 * time.Second

// ownership is who owns a resource of the target.
type ownership struct {
	id       []byte // nil: nobody
	revision uint64
	// alive is set when the owner is another entry that still wants it.
	alive  bool
	former *links.Record // the other owner's link
}

// ownership finds out who owns a resource. While another owner is being written
// to, or its removal is pending, the error asks to wait.
func (j *Job) ownership(ctx context.Context, resourceID string) (ownership, error) {
	id, revision, err := j.Links().Owner(ctx, j.Record.Kind, resourceID)
	o := ownership{id: id, revision: revision}
	if err != nil || id == nil || bytes.Equal(id, j.Record.ID) {
		return o, err
	}
	if o.former, err = j.Links().Get(ctx, j.Record.Kind, id); err != nil {
		return o, err
	}
	if o.former.Link.GetResourceId() != resourceID {
		return o, nil // left behind: its link has moved on
	}
	if o.former.Link.GetClaim() != nil {
		return o, Wait(ownerDelay, fmt.Errorf("entry %x, which owns the matching resource, is being written", id))
	}
	op, sequence, err := j.latest(ctx, id)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		o.alive = true // unknown is not gone
	case err != nil:
		return o, err
	case op != directoryv1.Op_OP_ABSENT.String():
		o.alive = true
	case j.inherits():
	case j.stuck(o.former.Link, sequence):
		o.alive = true
	default:
		return o, Wait(ownerDelay, fmt.Errorf("the matching resource is still being given up by entry %x", id))
	}
	return o, nil
}

// stuck says whether the deletion of a resource, whose entry is gone since a
// sequence, waits for a person: the guard holds it, or the target refuses it.
func (j *Job) stuck(former *provisioningv1.Link, sequence uint64) bool {
	refused := former.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_PARKED
	seen := former.GetEpoch() == j.worker.epoch && former.GetSequence() >= sequence
	return refused || seen && former.GetConfigurationHash() == j.worker.cfg.Hash
}

// Owner is the entry that keeps this one from taking a resource, in hex; empty
// when nobody does.
func (j *Job) Owner(ctx context.Context, resourceID string) (string, error) {
	o, err := j.ownership(ctx, resourceID)
	if err != nil || !o.alive {
		return "", err
	}
	return hex.EncodeToString(o.id), nil
}

// WasOwned says whether a resource belongs, or ever belonged, to another entry: what is
// known of it from before may have been changed by Rollcall since.
func (j *Job) WasOwned(ctx context.Context, resourceID string) (bool, error) {
	id, revision, err := j.Links().Owner(ctx, j.Record.Kind, resourceID)
	return revision > 0 && !bytes.Equal(id, j.Record.ID), err
}

// TakeOver makes the writes that give a resource to this entry: its ownership and,
// where a former owner is gone, that owner's link without it. relinked says that
// there was one.
func (j *Job) TakeOver(ctx context.Context, resourceID string) (writes []bus.Write, relinked bool, err error) {
	o, err := j.ownership(ctx, resourceID)
	switch {
	case err != nil:
		return nil, false, err
	case o.alive:
		return nil, false, blockedBy(ownedBy(o.id), o.id)
	case bytes.Equal(o.id, j.Record.ID) && o.id != nil:
		return nil, false, nil
	}
	own, err := j.Links().Own(j.Record.Kind, resourceID, j.Record.ID, o.revision)
	if err != nil {
		return nil, false, err
	}
	writes, j.Record.Link.Adopting = append(writes, own), true
	j.givenUp = o.id == nil && o.revision > 0
	if o.former == nil || o.former.Link.GetResourceId() != resourceID {
		return writes, false, nil
	}
	links.Forget(o.former.Link)
	moved, err := j.Links().WriteLink(o.former)
	return append(writes, moved), true, err
}

// GivenUp says whether the resource that TakeOver gave to this entry was given up by
// another one: it may have been deleted since it was found.
func (j *Job) GivenUp() bool { return j.givenUp }

// CommitCreated commits the link to a resource that was just created together with
// its ownership. A resource that another entry owns is one that the target
// returned instead of a new one.
func (j *Job) CommitCreated(ctx context.Context, resourceID string, commit func(context.Context, ...bus.Write) error) error {
	own, err := j.Links().Own(j.Record.Kind, resourceID, j.Record.ID, 0)
	if err != nil {
		return err
	}
	if err = commit(ctx, own); !errors.Is(err, bus.ErrConflict) {
		return err
	}
	owner, revision, readErr := j.Links().Owner(ctx, j.Record.Kind, resourceID)
	switch {
	case readErr != nil:
		return errors.Join(err, readErr)
	case bytes.Equal(owner, j.Record.ID) && owner != nil:
		return commit(ctx) // it was ours before
	case owner != nil:
		return blockedBy("the target answered the creation with a resource that is not new: "+ownedBy(owner), owner)
	case revision == 0:
		return err // the link itself changed
	}
	if own, err = j.Links().Own(j.Record.Kind, resourceID, j.Record.ID, revision); err != nil {
		return err
	}
	return commit(ctx, own)
}

func ownedBy(id []byte) string { return "owned by entry " + hex.EncodeToString(id) }

// Disown makes the writes that give the link's resource up, and forgets it.
func (j *Job) Disown(ctx context.Context) ([]bus.Write, error) {
	writes, err := j.Links().Disown(ctx, j.Record.Kind, j.Record.Link.GetResourceId(), j.Record.ID)
	if err != nil {
		return nil, err
	}
	links.Forget(j.Record.Link)
	return writes, nil
}

const (
	// freshTime is how long a target may need until it knows what it has just done.
	freshTime  = 5 * time.Second
	freshDelay = time.Second
)

var errNotThereYet = errors.New("the target does not find what it has just confirmed")

// Missing is why the link's resource, which the target does not find, must not be given
// up yet: the target confirmed a write of it a moment ago, and may come to find it, or
// leave says that a person decides. Nil when it can be given up.
func (j *Job) Missing(leave bool) error {
	at := j.stored.GetAppliedAt()
	switch {
	case at != nil && time.Since(at.AsTime()) < freshTime:
		return Wait(freshDelay, errNotThereYet)
	case leave && !j.Asked():
		kind := j.Record.Kind.Token()
		return Block(fmt.Sprintf("the target no longer has this %s, and %s.vanished is leave; `rollcall parked retry` creates it again",
			strings.TrimSuffix(kind, "s"), kind))
	}
	return nil
}

// GiveUp commits that the link's resource is gone.
func (j *Job) GiveUp(ctx context.Context) error {
	writes, err := j.Disown(ctx)
	if err != nil {
		return err
	}
	_, err = j.Progress(ctx, writes...)
	return err
}

// inherits says whether a resource may be taken over from an entry that is gone
// before that one's removal is carried out. Where accounts are deleted, a person's
// data is nobody's heritage; a group has no data but its members, which are
// overwritten.
func (j *Job) inherits() bool {
	return j.worker.cfg.Remove != plan.RemoveDelete || j.Record.Kind == directoryv1.Kind_KIND_GROUP
}

// handOver lets an entry that waits for this one's resource take it, before it is
// removed: the same person or group under another id, in a directory that was
// reloaded.
func (j *Job) handOver(ctx context.Context) error {
	if !j.inherits() {
		return nil
	}
	waiting, err := j.Links().Waiting(ctx, j.Record.Kind, j.Record.ID)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		if err := j.afterUsers(ctx); err != nil {
			return err
		}
	}
	for _, id := range waiting {
		wants, err := j.waits(ctx, id)
		if err != nil {
			return err
		}
		if !wants {
			continue
		}
		if err := j.letGo(ctx); err != nil {
			return err
		}
		if err := j.request(ctx, id); err != nil {
			return err
		}
		return Wait(ownerDelay, fmt.Errorf("entry %x takes the resource over", id))
	}
	return nil
}

// letGo gives up a claim that an earlier worker left behind: whoever takes the
// resource over waits for its end, and looks at the target itself.
func (j *Job) letGo(ctx context.Context) error {
	if j.Record.Link.GetClaim() == nil {
		return nil
	}
	j.Record.Link.Claim = nil
	_, err := j.commit(ctx)
	return err
}

// patience is how long a group waits for users to change hands before it does.
const patience = time.Minute

// afterUsers lets users change hands first: a group that came before them would
// lose its members and get them back.
func (j *Job) afterUsers(ctx context.Context) error {
	if j.Record.Kind != directoryv1.Kind_KIND_GROUP || time.Since(j.detected) > patience {
		return nil
	}
	waiting, err := UsersBacklog(ctx, j.worker.deps.Bus, j.worker.cfg.Connection, j.worker.cfg.Hash)
	if err == nil && waiting > 0 {
		err = Wait(ownerDelay, fmt.Errorf("%d users change hands first", waiting)) //nolint:err113 // a wait
	}
	return err
}

// UsersBacklog is how many users of a connection are still to be looked at.
func UsersBacklog(ctx context.Context, b *bus.Bus, connection, hash string) (uint64, error) {
	var total uint64
	for _, c := range consumersOf(directoryv1.Kind_KIND_USER, connection, hash) {
		g, err := b.Backlog(ctx, c.stream, c.name)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return 0, err
		}
		total += g.Total()
	}
	return total, nil
}

// waits says whether an entry still waits for this one's resource.
func (j *Job) waits(ctx context.Context, id []byte) (bool, error) {
	op, _, err := j.latest(ctx, id)
	if errors.Is(err, bus.ErrNotFound) || err == nil && op != directoryv1.Op_OP_PRESENT.String() {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r, err := j.Links().Get(ctx, j.Record.Kind, id)
	if err != nil {
		return false, err
	}
	return !r.Linked() && bytes.Equal(r.Link.GetProblem().GetBlockedBy(), j.Record.ID), nil
}

func (j *Job) request(ctx context.Context, id []byte) error {
	return j.worker.deps.Bus.Request(ctx, j.Record.Kind, j.worker.cfg.Connection, id, "released")
}

// release asks for another look at the entries that waited for this one.
func (j *Job) release(ctx context.Context) error {
	waiting, err := j.Links().Waiting(ctx, j.Record.Kind, j.Record.ID)
	if err != nil || len(waiting) == 0 {
		return err
	}
	for _, id := range waiting {
		if err := j.request(ctx, id); err != nil {
			return err
		}
	}
	return j.Links().Released(ctx, j.Record.Kind, j.Record.ID)
}

// finder searches a target.
type finder interface {
	Find(ctx context.Context, kind scim.Kind, attribute, value string, spellings ...string) ([]*scim.Resource, error)
}

// FindOwn searches the target for the one resource that bears the entry's
// externalId; nil when there is none, or when the target cannot search by it. One that
// another entry has got since does not count. Where there are several, of creations
// whose answers were lost, an entry that is wanted is searched by its other attributes,
// and nil is returned; for one that is not, which must not keep any, an operator decides.
func (j *Job) FindOwn(ctx context.Context, target finder, kind scim.Kind, externalID string, isWanted bool) (*scim.Resource, error) {
	call, cancel := j.Target(ctx)
	defer cancel()
	matches, err := target.Find(call, kind, "externalId", externalID)
	switch {
	case scim.IsRejected(err), scim.IsUnsupported(err):
		return nil, nil //nolint:nilnil // nothing found is no error
	case err != nil:
		return nil, err
	}
	var own []*scim.Resource
	var ids []string
	for _, r := range matches {
		other, err := j.Owner(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		if other == "" {
			own, ids = append(own, r), append(ids, r.ID)
		}
	}
	switch {
	case len(own) == 1:
		return own[0], nil
	case len(own) > 1 && !isWanted:
		return nil, Block(fmt.Sprintf("the target has %d resources of this entry, whose creation had no answer: %s; delete all but one, then `rollcall parked retry`",
			len(own), strings.Join(ids, ", ")))
	}
	return nil, nil //nolint:nilnil // nothing found is no error
}

// Link makes the record that of a resource that was found to be this entry's own,
// after the answer to its creation was lost.
func (j *Job) Link(ctx context.Context, resourceID string, state provisioningv1.LinkState, attributes map[string][]byte) error {
	writes, _, err := j.TakeOver(ctx, resourceID)
	if err != nil {
		return err
	}
	l := j.Record.Link
	l.State, l.ResourceId, l.Attributes, l.Adopting = state, resourceID, attributes, false
	l.Origin = provisioningv1.Origin_ORIGIN_CREATED
	return j.Claim(ctx, provisioningv1.Intent_INTENT_UPDATE, writes...)
}
