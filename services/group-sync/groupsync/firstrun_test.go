package groupsync_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// adopted is a target with a group of u1, u2 and a guest, of which the directory has u1
// and u3, in a connection that never ran.
func adopted(t *testing.T) *workertest.Bench {
	t.Helper()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	if _, err := worker.Forget(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
	if err := worker.Advance(t.Context(), b.Bus, worker.PlanOf(b.Config, "wiki")); err != nil {
		t.Fatal(err)
	}
	provision(t, b, 1, 2, 3)
	guest := b.Target.Seed(scim.KindUser, map[string]any{"userName": "guest"})
	b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": []any{
		map[string]any{"value": guest}, map[string]any{"value": b.Link(user, 1).GetResourceId()}, map[string]any{"value": b.Link(user, 2).GetResourceId()},
	}})
	return b
}

// A first run adds the members that are missing and removes none, whatever the group
// does afterwards, until somebody approves it.
func TestFirstRunRemovesNoMembers(t *testing.T) {
	t.Parallel()
	b := adopted(t)
	b.Group(staff, "staff", 1, 3)
	if err := worker.FirstPass(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Waiting)
	if diff := cmp.Diff([]string{"guest", "u1", "u2", "u3"}, members(b, "staff")); diff != "" {
		t.Errorf("after the first run: -want +got\n%s", diff)
	}
	if i := b.Held(group)[staff]; i.GetAction() != "remove 2 members that only the target has" || !i.GetFirstRun() || len(i.GetMembersHash()) == 0 {
		t.Errorf("held: %v", i.Held)
	}

	// A member that Rollcall added leaves: that is removed, and nothing else.
	sequence := b.Group(staff, "staff", 1)
	b.Until(group, staff, func(l *provisioningv1.Link) bool { return l.GetSequence() >= sequence && workertest.Waiting(l) })
	if diff := cmp.Diff([]string{"guest", "u1", "u2"}, members(b, "staff")); diff != "" {
		t.Errorf("after a change: -want +got\n%s", diff)
	}

	b.Mark(group, provisioningv1.Mark_MARK_APPROVED)
	b.Eventually("the directory's members are left", func() bool { return slices.Equal(b.Target.Members("staff"), []string{"u1"}) })
	b.Eventually("nothing is held", func() bool { return len(b.Held(group)) == 0 })
}

// An approval is about the members that were shown.
func TestApprovalOfMembersIsAboutThese(t *testing.T) {
	t.Parallel()
	b := adopted(t)
	b.Group(staff, "staff", 1, 3)
	if err := worker.FirstPass(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
	stop := b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Waiting)
	stop() // nothing looks at the group before it is approved
	before := b.Held(group)[staff].GetMembersHash()
	g, _ := b.Target.Group("staff")
	id, _ := g["id"].(string)
	other := b.Target.Seed(scim.KindUser, map[string]any{"userName": "other"})
	two := b.Link(user, 2).GetResourceId()
	if err := b.Target.Patch(scim.KindGroup, id, scim.RemoveMember(two), scim.AddMembers([]string{other})); err != nil {
		t.Fatal(err)
	}
	b.Mark(group, provisioningv1.Mark_MARK_APPROVED)
	b.Start(groupsync.Run)
	b.Eventually("the changed members are held anew", func() bool {
		i := b.Held(group)[staff]
		return i.Held != nil && !slices.Equal(i.GetMembersHash(), before) && i.GetMark() == provisioningv1.Mark_MARK_UNSPECIFIED
	})
	if got := members(b, "staff"); !slices.Contains(got, "guest") || !slices.Contains(got, "other") {
		t.Errorf("members %v", got)
	}
}

// After `forget` the connection runs for the first time again.
func TestForgottenConnectionRemovesNoMembers(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(groupsync.Run)
	provision(t, b, 1, 2)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	stop()
	one, two := b.Link(user, 1), b.Link(user, 2)
	b.Eventually("it is forgotten", func() bool {
		_, err := worker.Forget(t.Context(), b.Bus, "wiki")
		return err == nil
	})
	b.SetLink(user, 1, one)
	b.SetLink(user, 2, two)
	b.Group(staff, "staff", 1)
	b.Advance()
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Waiting)
	if diff := cmp.Diff([]string{"u1", "u2"}, members(b, "staff")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// What a first run held stays held, also when something else of the group is held and
// comes to nothing in between.
func TestFirstRunHoldOutlivesAnotherHold(t *testing.T) {
	t.Parallel()
	b := adopted(t)
	provision(t, b, numbers(4, 16)...)
	all := append([]int{1, 3}, numbers(4, 16)...)
	b.Group(staff, "staff", all...)
	if err := worker.FirstPass(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Waiting)
	settled := func(sequence uint64) func(*provisioningv1.Link) bool {
		return func(l *provisioningv1.Link) bool {
			return l.GetProblem().GetSequence() >= sequence && workertest.Waiting(l)
		}
	}
	b.Until(group, staff, settled(b.Group(staff, "staff", 1)))
	if i := b.Held(group)[staff]; i.GetAction() != "remove 13 members; remove 2 members that only the target has" || !i.GetFirstRun() {
		t.Errorf("held: %v", i.Held)
	}
	b.Until(group, staff, settled(b.Group(staff, "staff", all...)))
	if got := members(b, "staff"); !slices.Contains(got, "guest") || !slices.Contains(got, "u2") {
		t.Errorf("removed without approval: %v are left", got)
	}
	if i := b.Held(group)[staff]; i.GetAction() != "remove 2 members that only the target has" || !i.GetFirstRun() {
		t.Errorf("held: %v", i.Held)
	}
}
