package groupsync_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

func TestLostCreationOfADeletedGroupLeavesNone(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	lost := false
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != http.MethodPost || lost {
			return nil
		}
		lost = true
		return &scimtest.Fault{Reset: scimtest.ResetAfterCommit}
	})
	b.Start(groupsync.Run)
	b.Group(staff, "staff")
	b.Until(group, staff, func(l *provisioningv1.Link) bool { return l.GetProblem() != nil })
	b.Until(group, staff, workertest.Applied(b.Publish(workertest.Gone(group, staff))))
	if n := b.Target.Count(scim.KindGroup); n != 0 {
		t.Errorf("%d groups on the target, want none", n)
	}
}

func TestAStaleListingMakesNoSecondGroup(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(groupsync.Run)
	for n := range 6 { // enough look-ups for a listing
		b.Until(group, staff+n, workertest.Applied(b.Group(staff+n, fmt.Sprintf("g%d", n))))
	}
	lost := false
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != http.MethodPost || lost {
			return nil
		}
		lost = true
		return &scimtest.Fault{Reset: scimtest.ResetAfterCommit}
	})
	b.Until(group, staff+10, workertest.Applied(b.Group(staff+10, "late")))
	if n := b.Target.Count(scim.KindGroup); n != 7 {
		t.Errorf("%d groups on the target, want 7", n)
	}
}

func TestNamesAreMatchedWithoutCase(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	const count = 8
	last := map[int]uint64{}
	for n := range count {
		b.Target.Seed(scim.KindGroup, map[string]any{"displayName": fmt.Sprintf("GROUP %d", n)})
		last[staff+n] = b.Group(staff+n, fmt.Sprintf("group %d", n))
	}
	b.Start(groupsync.Run)
	for n, sequence := range last {
		b.Until(group, n, workertest.Applied(sequence))
	}
	if n := b.Target.Count(scim.KindGroup); n != count {
		t.Errorf("%d groups on the target, want %d", n, count)
	}
}

func TestStrangersGoAfterAFailedAdoption(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	provision(t, b, 1, 2)
	stranger := b.Target.Seed(scim.KindUser, map[string]any{"userName": "stranger"})
	b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": []any{map[string]any{"value": stranger}}})
	failed := false
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != http.MethodPatch || failed {
			return nil
		}
		failed = true
		return &scimtest.Fault{Status: http.StatusInternalServerError}
	})
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	b.Eventually("the group holds the directory's members", func() bool { return slices.Equal([]string{"u1", "u2"}, members(b, "staff")) })
}

func TestDryRunSendsNoMembers(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, 1, 2)
	stop := b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1)))
	stop()
	b.Config.Connections["wiki"].DryRun = true
	b.Advance()
	b.Target.ResetLog()
	b.Group(staff, "staff", 2)
	b.Start(groupsync.Run)
	b.Outcome(group, staff, provisioningv1.Result_RESULT_DRY_RUN)
	if got := writes(b.Target); len(got) != 0 {
		t.Errorf("a dry run sent %v", got)
	}
}

func TestOneBadMemberFailsNobodyElse(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, numbers(0, 20)...)
	bad := b.Link(user, 13).GetResourceId()
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if strings.Contains(r.Body, bad) {
			return &scimtest.Fault{Status: http.StatusBadRequest, ScimType: "invalidValue", Detail: "no such member"}
		}
		return nil
	})
	b.Start(groupsync.Run)
	link := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", numbers(0, 20)...)))
	if got := len(members(b, "staff")); got != 19 || len(link.GetRefusedMembers()) != 1 {
		t.Errorf("%d members, refused %v; want 19 and 1", got, link.GetRefusedMembers())
	}
}

func TestAGroupThatMovedOnIsNotSharedByItsFormerEntry(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Config.Connections["wiki"].Groups.Remove = "keep"
	b.Advance()
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff")))
	b.Until(group, staff, workertest.Applied(b.Publish(workertest.Gone(group, staff))))
	b.Until(group, staff+1, workertest.Applied(b.Group(staff+1, "staff")))
	b.Until(group, staff, workertest.Applied(b.Group(staff, "alumni")))
	if one, two := b.Link(group, staff).GetResourceId(), b.Link(group, staff+1).GetResourceId(); one == two {
		t.Errorf("two entries share the group %s", one)
	}
	if n := b.Target.Count(scim.KindGroup); n != 2 {
		t.Errorf("%d groups, want 2", n)
	}
}

// An attribute that the directory no longer has is cleared, also where the first word
// of that was lost on its way.
func TestLostClearingIsSentAgain(t *testing.T) {
	t.Parallel()
	const tries = 3 // of one call
	for name, reset := range map[string]scimtest.Reset{"before commit": scimtest.ResetBeforeCommit, "after commit": scimtest.ResetAfterCommit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			b.ConfigureGroups(`attributes: {"urn:scimtest:2.0:Group:purpose": {value: "group.description"}}`)
			b.Start(groupsync.Run)
			b.Until(group, staff, workertest.Applied(b.Publish(described(b, "first"))))
			cut := 0
			b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
				if r.Method != http.MethodPatch || cut == tries {
					return nil
				}
				cut++
				return &scimtest.Fault{Reset: reset}
			})
			b.Until(group, staff, workertest.Applied(b.Publish(described(b, ""))))
			if g, _ := b.Target.Group("staff"); cut < tries || g[scimtest.SchemaGroup] != nil {
				t.Errorf("group %v, interrupted %d times", g, cut)
			}
		})
	}
}

// A proxy answers 503 after it has passed the request on, and loses the answer to a
// creation that was done: it is looked for, and not made a second time.
func TestCreationWhoseAnswerAProxyLost(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	var lost atomic.Bool
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPost && lost.CompareAndSwap(false, true) {
			return &scimtest.Fault{Status: http.StatusServiceUnavailable, AfterCommit: true, Body: "upstream connect error or disconnect/reset before headers"}
		}
		return nil
	})
	b.Start(groupsync.Run)
	b.Until(group, 1000, workertest.Applied(b.Group(1000, "staff")))
	if got := b.Target.Count(scim.KindGroup); got != 1 {
		t.Errorf("%d groups", got)
	}
}
