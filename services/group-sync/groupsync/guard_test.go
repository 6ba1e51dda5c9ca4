package groupsync_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// staffed provisions users 0 to n-1 and a group that holds them.
func staffed(t *testing.T, b *workertest.Bench, n int) {
	t.Helper()
	provision(t, b, numbers(0, n)...)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", numbers(0, n)...)))
}

func TestMassRemovalOfMembersIsHeldAndAdditionsFlow(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		members []int
		held    string
	}{
		{"half of them leave, one comes", []int{0, 1, 2, 3, 4, 5, 20}, "remove 6 members"},
		{"the group is emptied", nil, "remove 12 members"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			b.Start(groupsync.Run)
			staffed(t, b, 12)
			provision(t, b, 20)
			b.Group(staff, "staff", c.members...)
			b.Until(group, staff, workertest.Waiting)
			joined := slices.Contains(c.members, 20)
			if got := b.Target.Members("staff"); len(got) < 12 || slices.Contains(got, "u20") != joined {
				t.Errorf("members %v", got)
			}
			i := b.Held(group)[staff]
			if i.GetAction() != c.held || !strings.Contains(i.GetReason(), "of 12 members would be removed") {
				t.Errorf("held: %v", i.Held)
			}
			b.Mark(group, provisioningv1.Mark_MARK_APPROVED)
			b.Eventually("the members are removed", func() bool { return len(b.Target.Members("staff")) == len(c.members) })
			b.Eventually("nothing is held", func() bool { return len(b.Held(group)) == 0 })
		})
	}
}

func TestMembersComeBackAndTheHoldDissolves(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(groupsync.Run)
	staffed(t, b, 12)
	b.Group(staff, "staff")
	b.Until(group, staff, workertest.Waiting)
	before := len(b.Target.Writes())
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)))
	b.Eventually("nothing is held", func() bool { return len(b.Held(group)) == 0 })
	if got := len(b.Target.Writes()) - before; got != 0 {
		t.Errorf("%d writes, want none", got)
	}
}

// The members that an adopted group had are removed when a person approves.
func TestStrangersInAnAdoptedGroupAreHeld(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	var strangers []any
	for n := range 8 {
		id := b.Target.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("guest%d", n), "active": true})
		strangers = append(strangers, map[string]any{"value": id})
	}
	b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": strangers})
	b.Start(groupsync.Run)
	provision(t, b, 1)
	b.Group(staff, "staff", 1)
	b.Until(group, staff, workertest.Waiting)
	if got := b.Target.Members("staff"); len(got) != 9 || !slices.Contains(got, "u1") {
		t.Errorf("members %v", got)
	}
	if i := b.Held(group)[staff]; i.GetAction() != "remove 8 members that only the target has" {
		t.Errorf("held: %v", i.Held)
	}
	b.Mark(group, provisioningv1.Mark_MARK_APPROVED)
	b.Eventually("only the directory's members are left", func() bool { return slices.Equal(b.Target.Members("staff"), []string{"u1"}) })
	b.Eventually("nothing is held", func() bool { return len(b.Held(group)) == 0 })
}

func TestMembershipsThatEndWithTheirUsersAreNotCounted(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: delete", scimtest.Options{})
	b.Start(groupsync.Run)
	staffed(t, b, 12)
	for n := range 12 {
		if err := b.Target.Remove(scim.KindUser, b.Link(user, n).GetResourceId()); err != nil {
			t.Fatal(err)
		}
		b.SetLink(user, n, &provisioningv1.Link{State: provisioningv1.LinkState_LINK_STATE_REMOVED})
	}
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff")))
	if len(b.Held(group)) != 0 || len(b.Target.Members("staff")) != 0 {
		t.Errorf("held %v, members %v", b.Held(group), b.Target.Members("staff"))
	}
}

func TestMassDeletionOfGroupsIsHeld(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(groupsync.Run)
	for n := range 12 {
		b.Until(group, 100+n, workertest.Applied(b.Group(100+n, fmt.Sprintf("g%d", n))))
	}
	for n := range 5 {
		b.Until(group, 100+n, workertest.Applied(b.Publish(workertest.Gone(directoryv1.Kind_KIND_GROUP, 100+n))))
	}
	for n := range 12 {
		b.Publish(workertest.Gone(directoryv1.Kind_KIND_GROUP, 100+n))
	}
	for n := range 12 {
		b.Until(group, 100+n, func(l *provisioningv1.Link) bool { return workertest.Waiting(l) || l.GetResourceId() == "" })
	}
	if got := b.Target.Count(scim.KindGroup); got != 7 || len(b.Held(group)) != 7 {
		t.Errorf("%d groups on the target, %d held, want 7 and 7", got, len(b.Held(group)))
	}
}

func TestConfigurationThatDropsGroupsIsHeldWhole(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(groupsync.Run)
	for n := range 12 {
		b.Until(group, 100+n, workertest.Applied(b.Group(100+n, fmt.Sprintf("g%d", n))))
	}
	stop()
	b.Config.Connections["wiki"].Groups.Scope = `"nobody" in group.all.cn`
	b.Advance()
	stop = b.Start(groupsync.Run)
	for n := range 12 {
		b.Until(group, 100+n, workertest.Waiting)
	}
	if got := b.Target.Count(scim.KindGroup); got != 12 {
		t.Errorf("%d groups on the target, want 12", got)
	}
	stop()
	b.Config.Connections["wiki"].Groups.Scope = ""
	b.Advance()
	b.Target.ResetLog()
	b.Start(groupsync.Run)
	b.Eventually("the hold dissolves", func() bool { return len(b.Held(group)) == 0 })
	if n := len(b.Target.Writes()); n != 0 {
		t.Errorf("%d writes, want none", n)
	}
}

// guests seeds users of the target that nobody owns, in a group.
func guests(b *workertest.Bench, name string, n int) {
	var strangers []any
	for i := range n {
		id := b.Target.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("guest%d", i), "active": true})
		strangers = append(strangers, map[string]any{"value": id})
	}
	b.Target.Seed(scim.KindGroup, map[string]any{"displayName": name, "members": strangers})
}

// failing lets the first patches of groups fail.
func failing(b *workertest.Bench, times int32, status int) {
	var count atomic.Int32
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch && strings.Contains(r.Path, "/Groups/") && count.Add(1) <= times {
			return &scimtest.Fault{Status: status}
		}
		return nil
	})
}

// What was approved is done, also when the target refuses at first.
func TestApprovedRemovalOfStrangersSurvivesARefusal(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	guests(b, "staff", 8)
	b.Start(groupsync.Run)
	provision(t, b, 1)
	b.Group(staff, "staff", 1)
	b.Until(group, staff, workertest.Waiting)
	failing(b, 1, http.StatusConflict)
	b.Mark(group, provisioningv1.Mark_MARK_APPROVED)
	b.Eventually("nothing is held", func() bool { return len(b.Held(group)) == 0 })
	if got := b.Target.Members("staff"); !slices.Equal(got, []string{"u1"}) {
		t.Errorf("members %v, want u1 alone", got)
	}
}

// A target that fails makes nobody count twice.
func TestMembersAddedOnTheTargetAreCountedOnce(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(groupsync.Run)
	provision(t, b, 1)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1)))
	var added []string
	for n := range 3 {
		added = append(added, b.Target.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("guest%d", n)}))
	}
	if err := b.Target.Patch(scim.KindGroup, b.Link(group, staff).GetResourceId(), scim.AddMembers(added)); err != nil {
		t.Fatal(err)
	}
	failing(b, 2, http.StatusInternalServerError)
	if err := b.Bus.Request(t.Context(), group, "wiki", workertest.ID(staff), worker.ReasonDrift); err != nil {
		t.Fatal(err)
	}
	b.Eventually("the directory's members are left", func() bool { return slices.Equal(b.Target.Members("staff"), []string{"u1"}) })
	b.Until(group, staff, workertest.Applied(0))
	n, err := held.OfConnection(b.Bus, "wiki").Earlier(t.Context(), guard.Limits{Window: b.Config.Connections["wiki"].Guard.Window}, guard.Members)
	if err != nil || n != 3 {
		t.Errorf("%d removals of members are counted, want 3: %v", n, err)
	}
}

// A rename that is held stays so when the members go on and the target fails.
func TestHeldRenameOfAGroupWaitsThroughRetries(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(groupsync.Run)
	for n := range 12 {
		b.Until(group, 100+n, workertest.Applied(b.Group(100+n, fmt.Sprintf("g%d", n))))
	}
	staffed(t, b, 12)
	stop()
	b.Config.Connections["wiki"].Groups.Name = `group.cn + "-x"`
	b.Advance()
	b.Group(staff, "staff", numbers(2, 12)...)
	failing(b, 1, http.StatusInternalServerError)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Waiting)
	if _, found := b.Target.Group("staff"); !found {
		t.Errorf("the group was renamed: %v", b.Target.Groups())
	}
	if got := b.Target.Members("staff"); len(got) != 10 {
		t.Errorf("members %v", got)
	}
}

// Who left is a disabled account on the target: her memberships were decided about
// with her.
func TestMembershipsOfDisabledLeaversAreNotCounted(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(groupsync.Run, func(ctx context.Context, cfg *connection.Config, p *worker.Process) error { // in place of user-sync
		consumer := worker.ChangesConsumer(user, "wiki", cfg.Hash("wiki"))
		return p.Bus().Consume(ctx, directoryv1.StreamUsers, consumer, bus.ConsumeOptions{Concurrency: 8}, func(context.Context, *bus.Delivery) error { return nil })
	})
	staffed(t, b, 12)
	for n := range 8 {
		b.Publish(workertest.Gone(user, n))
		l := b.Link(user, n)
		l.State = provisioningv1.LinkState_LINK_STATE_DISABLED
		b.SetLink(user, n, l)
	}
	b.Group(staff, "staff", 8, 9, 10, 11)
	b.Until(group, staff, func(l *provisioningv1.Link) bool { return workertest.Waiting(l) || l.GetMembersApplied() == 4 })
	if got := b.Target.Members("staff"); len(got) != 4 || len(b.Held(group)) != 0 {
		t.Errorf("members %v, held %v", got, b.Held(group))
	}
}

// A dry run sends nothing, also where strangers wait for their removal.
func TestDryRunLeavesStrangersAlone(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	guests(b, "staff", 8)
	stop := b.Start(groupsync.Run)
	provision(t, b, numbers(0, 10)...)
	b.Group(staff, "staff", numbers(0, 10)...)
	b.Until(group, staff, workertest.Waiting)
	stop()
	b.Configure("remove: disable", "dry_run: true")
	b.Unguarded()
	b.Target.ResetLog()
	b.Start(groupsync.Run)
	if o := b.Outcome(group, staff, provisioningv1.Result_RESULT_DRY_RUN); o.GetMembersRemoved() != 8 {
		t.Errorf("outcome %v", o)
	}
	if got := writes(b.Target); len(got) != 0 {
		t.Errorf("a dry run sent %v", got)
	}
}

// A batch of removals that the target took is used up: what comes then is counted.
func TestMembersAreCountedAfterAPartOfThemWasRemoved(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	b.Start(groupsync.Run)
	staffed(t, b, 130)
	var count atomic.Int32
	failed := make(chan struct{}, 1)
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch && strings.Contains(r.Path, "/Groups/") && count.Add(1) == 2 {
			failed <- struct{}{}
			return &scimtest.Fault{Status: http.StatusInternalServerError}
		}
		return nil
	})
	b.Group(staff, "staff", numbers(110, 130)...)
	<-failed
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", numbers(120, 130)...)))
	n, err := held.OfConnection(b.Bus, "wiki").Earlier(t.Context(), guard.Limits{Window: b.Config.Connections["wiki"].Guard.Window}, guard.Members)
	if err != nil || n != 120 {
		t.Errorf("%d removals of members are counted, want 120: %v", n, err)
	}
}
