package groupsync

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	canaryPrefix = "rollcall-canary-"
	canaryLease  = 15 * time.Second
	// canaryTime bounds a trial with its waiting for another replica's.
	canaryTime  = time.Minute
	canaryDelay = 2 * time.Second
	// canaryRetry is how soon a target that failed is tried again by itself: somebody
	// may have mended it.
	canaryRetry = 24 * time.Hour
)

// What to do about a target that fails the trial, or cannot be tried.
const (
	vouch   = "set target.overrides.member_remove_vouched to true if you know that it removes that one alone"
	replace = "removals wait; where a PUT of a group sets its members, set target.overrides.group_patch to false, and whole groups are sent"
)

// canary tries, before the first removal of a member, whether the target removes that
// one and no other: some drop every member of the group. It does so once for each
// target, with a throwaway group of two users who are there anyway, and remembers the
// answer for all replicas.
type canary struct {
	connection string
	bus        *bus.Bus
	known      *bus.Bucket[provisioningv1.Canary, *provisioningv1.Canary]
	target     resources
	profile    scim.Profile
	owner      string
	passed     atomic.Bool
}

func newCanary(connection string, b *bus.Bus, target resources, profile scim.Profile) *canary {
	return &canary{
		connection: connection, bus: b, known: bus.OpenBucket[provisioningv1.Canary](b, provisioningv1.BucketTargets),
		target: target, profile: profile, owner: rand.Text(),
	}
}

// split puts the removals that need a trial first behind everything else. victims are
// a member to remove and one to stay; without one to stay there is nothing to lose.
func (k *canary) split(w *wanted, a *applied, steps []step, resource func([]byte) (string, bool)) (now, after []step, victims [2]string) {
	if k.profile.MemberRemoveVouched || k.passed.Load() {
		return steps, nil, victims
	}
	removed := map[string]bool{}
	for _, s := range steps {
		if s.remove && s.resource != "" {
			after = append(after, s)
			removed[s.resource] = true
		} else {
			now = append(now, s)
		}
	}
	stays := stayer(w, a, removed, resource)
	if len(after) == 0 || stays == "" {
		return steps, nil, victims
	}
	return now, after, [2]string{after[0].resource, stays}
}

// stayer is the resource of a member that is not removed: one that the target has taken
// before, or else one that is to be added; empty when there is none.
func stayer(w *wanted, a *applied, removed map[string]bool, resource func([]byte) (string, bool)) string {
	for _, c := range a.chunks {
		for _, m := range c.Members {
			if id, known := resource(m.GetResourceHash()); known && !removed[id] {
				return id
			}
		}
	}
	for _, id := range w.members {
		if !removed[id] {
			return id
		}
	}
	return ""
}

// trial is what a throwaway group is made of.
type trial struct {
	victims [2]string // the member that is removed, and the one that has to stay
	// attributes are those of the group whose members are to be removed: the target may
	// demand some of them.
	attributes map[string]any
}

// vouched says whether removals may be sent; otherwise reason says why not. An error
// says nothing about the target. With again, a target that failed is tried once more.
func (k *canary) vouched(ctx context.Context, t trial, again bool) (reason string, err error) {
	if k.profile.MembersReadable == scim.ReadableNo {
		return "nobody has seen this target remove one member of a group, and its members cannot be read to try it: " + vouch, nil
	}
	ctx, cancel := context.WithTimeout(ctx, canaryTime)
	defer cancel()
	tried := false
	failed := k.bus.WithLease(ctx, provisioningv1.BucketTargets, provisioningv1.CanaryKey(k.connection)+".lease", k.owner, canaryLease, func(ctx context.Context) error {
		tried = true
		var err error
		reason, err = k.ask(ctx, t, again)
		return err
	})
	switch {
	case failed == nil && !tried:
		return "", worker.Wait(canaryDelay, errors.New("another replica tries the removal of a member"))
	case scim.IsRejected(failed):
		return "the target refuses a throwaway group to try the removal of a member with (" + failed.Error() + "): " + vouch, nil
	}
	k.passed.Store(failed == nil && reason == "")
	return reason, failed
}

// ask is the table of contents of a trial, for the one who holds the lease:
//
//  1. what is known already
//  2. what an interrupted trial left is deleted
//  3. try, and remember
func (k *canary) ask(ctx context.Context, t trial, again bool) (reason string, err error) {
	key := provisioningv1.CanaryKey(k.connection)
	last, revision, err := k.known.Get(ctx, key) // 1
	switch {
	case err != nil && !errors.Is(err, bus.ErrNotFound):
		return "", err
	case last.GetState() == provisioningv1.CanaryState_CANARY_STATE_PASSED:
		return "", nil
	case last.GetState() == provisioningv1.CanaryState_CANARY_STATE_FAILED && !again && time.Since(last.GetAt().AsTime()) < canaryRetry:
		return last.GetReason(), nil
	}
	if last.GetGroup() != "" { // 2
		if err := k.clean(ctx, last); err != nil {
			return "", fmt.Errorf("delete the throwaway group %s: %w", last.GetGroup(), err)
		}
	}
	suffix := make([]byte, 4)
	_, _ = rand.Read(suffix) // never fails
	one := &provisioningv1.Canary{
		State: provisioningv1.CanaryState_CANARY_STATE_RUNNING, Group: canaryPrefix + hex.EncodeToString(suffix), At: timestamppb.Now(),
	}
	keep := func() (err error) {
		revision, err = k.known.Put(ctx, key, one, revision)
		return err
	}
	if err := keep(); err != nil { // 3
		return "", err
	}
	if err = k.create(ctx, one, t); err == nil {
		err = keep()
	}
	if err == nil {
		reason, err = k.try(ctx, one, t.victims)
	}
	if err != nil && !scim.IsRejected(err) && !scim.IsUnsupported(err) {
		return "", fmt.Errorf("try the removal of a member on a throwaway group: %w", err)
	}
	if cleanErr := k.clean(ctx, one); cleanErr != nil {
		return "", fmt.Errorf("delete the throwaway group %s: %w", one.GetGroup(), cleanErr)
	}
	if err != nil { // nothing is known by that; another group may bring other members
		return "", errors.Join(k.known.Drop(ctx, key), err)
	}
	one = &provisioningv1.Canary{State: provisioningv1.CanaryState_CANARY_STATE_PASSED, Reason: reason, At: timestamppb.Now()}
	if reason != "" {
		one.State = provisioningv1.CanaryState_CANARY_STATE_FAILED
	}
	return reason, keep()
}

// create makes the throwaway group, with as much of the real one as the target takes:
// it may refuse members in a creation, and keep an attribute unique.
func (k *canary) create(ctx context.Context, one *provisioningv1.Canary, t trial) error {
	body := maps.Clone(t.attributes)
	body[displayName] = one.GetGroup()
	if body[externalID] != nil {
		body[externalID] = one.GetGroup()
	}
	if k.profile.MembersOnCreate {
		body["members"] = memberValues(t.victims[:])
	}
	created, err := k.target.Create(ctx, scim.KindGroup, body)
	if scim.IsRejected(err) && body["members"] != nil {
		delete(body, "members")
		created, err = k.target.Create(ctx, scim.KindGroup, body)
	}
	if scim.IsConflict(err) {
		body = map[string]any{displayName: one.GetGroup()}
		created, err = k.target.Create(ctx, scim.KindGroup, body)
	}
	if err != nil {
		return err
	}
	one.ResourceId = created.ID
	if body["members"] != nil {
		return nil
	}
	_, err = k.target.Patch(ctx, scim.KindGroup, created.ID, []scim.Operation{scim.AddMembers(t.victims[:])})
	return err
}

// try removes the first of the two and looks at what is left.
func (k *canary) try(ctx context.Context, one *provisioningv1.Canary, victims [2]string) (reason string, err error) {
	before, err := k.members(ctx, one)
	if err != nil {
		return "", err
	}
	for _, id := range victims {
		if !slices.Contains(before, id) {
			return "a throwaway group does not hold the members that it was given, so that their removal cannot be tried: " + vouch, nil
		}
	}
	if _, err = k.target.Patch(ctx, scim.KindGroup, one.GetResourceId(), []scim.Operation{scim.RemoveMember(victims[0])}); scim.IsRejected(err) {
		return "this target refuses to remove one member of a group: " + replace + ": " + err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	after, err := k.members(ctx, one)
	switch {
	case err != nil:
		return "", err
	case !slices.Contains(after, victims[1]):
		return "this target removes every member of a group where one is to be removed: " + replace, nil
	case slices.Contains(after, victims[0]):
		return "this target does not remove a member of a group, and says that it did: " + replace, nil
	}
	return "", nil
}

func (k *canary) members(ctx context.Context, one *provisioningv1.Canary) ([]string, error) {
	var opts []scim.ReadOption
	if k.profile.MembersReadable == scim.ReadableOnRequest {
		opts = append(opts, scim.Only(displayName, "members"))
	}
	r, err := k.target.Get(ctx, scim.KindGroup, one.GetResourceId(), opts...)
	if err != nil {
		return nil, err
	}
	return r.MemberIDs(), nil
}

// clean deletes the throwaway group of a trial, which is found by its name where its
// id was lost.
func (k *canary) clean(ctx context.Context, one *provisioningv1.Canary) error {
	ids := []string{one.GetResourceId()}
	if one.GetResourceId() == "" {
		found, err := k.target.Find(ctx, scim.KindGroup, displayName, one.GetGroup())
		if err != nil {
			return err
		}
		ids = ids[:0]
		for _, r := range found {
			ids = append(ids, r.ID)
		}
	}
	for _, id := range ids {
		if err := k.target.Delete(ctx, scim.KindGroup, id); err != nil && !scim.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// sendTried sends steps as send does; removals of members that nobody has seen the
// target do are sent last, after a trial, or not at all: then the group waits, and
// says why.
func (c *converger) sendTried(ctx context.Context, s *sending, steps []step) error {
	if c.canary == nil || c.replaces() {
		return s.all(ctx, steps)
	}
	now, after, victims := c.canary.split(s.w, s.a, steps, c.index.resource)
	if len(after) == 0 {
		return s.all(ctx, now)
	}
	failure := s.all(ctx, now)
	if failure != nil && !failed(failure) {
		return failure
	}
	s.due = false // it was sent, or has failed
	attributes, err := c.body(s.w, nil)
	if err != nil {
		return worker.Block("groups.attributes: " + err.Error())
	}
	reason, err := c.canary.vouched(ctx, trial{victims, attributes}, s.job.Asked())
	switch {
	case scim.IsUnsupported(err): // without PATCH the whole group is sent
		c.noPatch.Store(true)
		return cmp.Or(s.all(ctx, after), failure)
	case err != nil:
		return err
	}
	if s.w.untried = reason; reason != "" {
		return failure
	}
	return cmp.Or(s.all(ctx, after), failure)
}
