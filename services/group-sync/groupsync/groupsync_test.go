package groupsync_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	user  = directoryv1.Kind_KIND_USER
	group = directoryv1.Kind_KIND_GROUP
	staff = 1000
)

// provision links users without user-sync: the target holds them, and so do the
// links.
func provision(t *testing.T, b *workertest.Bench, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		id := b.Target.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("u%d", n)})
		b.SetLink(user, n, &provisioningv1.Link{State: provisioningv1.LinkState_LINK_STATE_ACTIVE, ResourceId: id})
	}
}

func members(b *workertest.Bench, name string) []string {
	return b.Target.Members(name)
}

// writes are the requests that changed something, in short.
func writes(s *scimtest.Server) []string {
	var out []string
	for _, r := range s.Writes() {
		path := r.Path
		if i := strings.LastIndex(path, "/"); i > 0 {
			path = path[:i] + "/{id}"
		}
		out = append(out, r.Method+" "+path)
	}
	return out
}

func numbers(from, to int) []int {
	var out []int
	for n := from; n < to; n++ {
		out = append(out, n)
	}
	return out
}

func TestMembersAreSentInBatches(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{MaxMembers: 100})
	provision(t, b, numbers(0, 250)...)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", numbers(0, 250)...)))
	if got := len(members(b, "staff")); got != 250 {
		t.Errorf("%d members, want 250", got)
	}
	want := []string{"POST /Groups", "PATCH /Groups/{id}", "PATCH /Groups/{id}"}
	if diff := cmp.Diff(want, writes(b.Target)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestOneMemberIsOneSmallRequest(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, numbers(0, 60)...)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", numbers(0, 60)...)))
	b.Target.ResetLog()
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", numbers(0, 59)...)))
	requests := b.Target.Writes()
	if len(requests) != 1 || len(requests[0].Body) > 300 {
		t.Errorf("requests %+v", requests)
	}
	if got := len(members(b, "staff")); got != 59 {
		t.Errorf("%d members, want 59", got)
	}
}

func TestMemberThatArrivesLaterIsAdded(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, 1)
	b.Start(groupsync.Run)
	link := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	if link.GetMembersWithoutLink() != 1 {
		t.Errorf("without a link: %d, want 1", link.GetMembersWithoutLink())
	}
	provision(t, b, 2)
	b.Until(group, staff, func(l *provisioningv1.Link) bool { return l.GetMembersApplied() == 2 && l.GetClaim() == nil })
	if diff := cmp.Diff([]string{"u1", "u2"}, members(b, "staff")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestRecreatedUserIsAddedAgain(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, 1, 2)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	if err := b.Target.Remove(scim.KindUser, b.Link(user, 2).GetResourceId()); err != nil {
		t.Fatal(err)
	}
	provision(t, b, 2)
	id := b.Link(user, 2).GetResourceId()
	b.Eventually("the new account is a member", func() bool {
		g, _ := b.Target.Group("staff")
		all, _ := g["members"].([]any)
		return slices.ContainsFunc(all, func(m any) bool { return m.(map[string]any)["value"] == id })
	})
}

func TestLostAnswerOfAGroupCreationMakesNoSecondGroup(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, 1)
	posts := 0
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != http.MethodPost {
			return nil
		}
		if posts++; posts > 1 {
			return nil
		}
		return &scimtest.Fault{Reset: scimtest.ResetAfterCommit}
	})
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1)))
	if n := b.Target.Count(scim.KindGroup); n != 1 {
		t.Errorf("%d groups on the target, want 1", n)
	}
}

func TestLostAnswerOfAMemberChangeIsLookedInto(t *testing.T) {
	t.Parallel()
	const tries = 3 // of one call
	for name, reset := range map[string]scimtest.Reset{"before commit": scimtest.ResetBeforeCommit, "after commit": scimtest.ResetAfterCommit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			provision(t, b, 1, 2, 3)
			b.Start(groupsync.Run)
			b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
			cut := 0
			b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
				if r.Method != http.MethodPatch || cut == tries {
					return nil
				}
				cut++
				return &scimtest.Fault{Reset: reset}
			})
			b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 2, 3)))
			if diff := cmp.Diff([]string{"u2", "u3"}, members(b, "staff")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if cut < tries {
				t.Errorf("interrupted %d times, want %d", cut, tries)
			}
		})
	}
}

func TestAdoptedGroupIsOverwritten(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	provision(t, b, 1, 2)
	stranger := b.Target.Seed(scim.KindUser, map[string]any{"userName": "stranger"})
	b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": []any{
		map[string]any{"value": stranger}, map[string]any{"value": b.Link(user, 1).GetResourceId()},
	}})
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	b.Eventually("the group holds the directory's members", func() bool { return slices.Equal([]string{"u1", "u2"}, members(b, "staff")) })
	if n := b.Target.Count(scim.KindGroup); n != 1 {
		t.Errorf("%d groups, want 1", n)
	}
}

func TestManyGroupsAreListedOnce(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	const count = 30
	last := map[int]uint64{}
	for n := range count {
		last[staff+n] = b.Group(staff+n, fmt.Sprintf("g%d", n))
	}
	b.Start(groupsync.Run)
	for n, sequence := range last {
		b.Until(group, n, workertest.Applied(sequence))
	}
	if got := len(b.Target.Requests()); got > count+5 {
		t.Errorf("%d requests for %d groups", got, count)
	}
	if got := b.Target.Count(scim.KindGroup); got != count {
		t.Errorf("%d groups, want %d", got, count)
	}
}

// A target whose listing does not add up is asked group by group, and not listed again
// for each.
func TestIncompleteListingOfGroupsIsTriedOnce(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{StuckPaging: true}})
	b.Override("page_size: 5")
	const count = 30
	last := map[int]uint64{}
	for n := range count {
		b.Target.Seed(scim.KindGroup, map[string]any{"displayName": fmt.Sprintf("g%d", n)})
		last[staff+n] = b.Group(staff+n, fmt.Sprintf("g%d", n))
	}
	b.Start(groupsync.Run)
	for n, sequence := range last {
		b.Until(group, n, workertest.Applied(sequence))
	}
	pages := 0
	for _, r := range b.Target.Requests() {
		if r.Path == "/Groups" && !strings.Contains(r.Query, "filter=") {
			pages++
		}
	}
	if pages == 0 || pages > 4 {
		t.Errorf("%d pages were listed", pages)
	}
	if got := b.Target.Count(scim.KindGroup); got != count {
		t.Errorf("%d groups, want %d", got, count)
	}
}

func TestReplicasConvergeOneGroupInTurn(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	provision(t, b, numbers(0, 30)...)
	for range 2 {
		b.Start(groupsync.Run)
	}
	var sequence uint64
	for n := 1; n <= 30; n++ {
		sequence = b.Group(staff, fmt.Sprintf("staff %d", n%3), numbers(n/2, n)...)
	}
	b.Until(group, staff, workertest.Applied(sequence))
	if got := len(members(b, "staff 0")); got != 15 {
		t.Errorf("%d members, want 15", got)
	}
	if n := b.Target.Count(scim.KindGroup); n != 1 {
		t.Errorf("%d groups, want 1", n)
	}
}
