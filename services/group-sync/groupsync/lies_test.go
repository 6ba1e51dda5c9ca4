package groupsync_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// settled is a bench with groups of two members each, which are there since long.
func settled(t *testing.T, n int) *workertest.Bench {
	t.Helper()
	b := workertest.New(t, "", scimtest.Options{})
	b.Breaker = workertest.Quick
	b.Unguarded()
	b.Start(groupsync.Run)
	provision(t, b, 1, 2)
	for i := range n {
		b.Group(1000+i, fmt.Sprintf("g%d", i), 1, 2)
	}
	for i := range n {
		l := b.Until(group, 1000+i, func(l *provisioningv1.Link) bool { return l.GetMembersApplied() == 2 && l.GetClaim() == nil })
		l.AppliedAt = nil
		b.SetLink(group, 1000+i, l)
	}
	return b
}

// A target that answers for a while as if it had done what was asked, or as if there
// was nothing, is away: nothing is recorded as done, the operator is told, and all of
// it is done afterwards.
func TestAnswersOfSomebodyElseAreAnOutage(t *testing.T) {
	t.Parallel()
	const groups = 8
	errorsAnswerOK := func(b *workertest.Bench) {
		b.Target.SetQuirks(scimtest.Quirks{ErrorsAnswerOK: true})
		b.Target.SetFault(func(scimtest.Request) *scimtest.Fault {
			return &scimtest.Fault{Status: http.StatusUnauthorized, Detail: "token is not valid"}
		})
	}
	gateway := func(b *workertest.Bench) { b.Target.SetQuirks(scimtest.Quirks{GatewayNotFound: true}) }
	leave := func(b *workertest.Bench, n int) { b.Group(1000+n, fmt.Sprintf("g%d", n), 2) }
	end := func(b *workertest.Bench, n int) { b.Publish(workertest.Gone(group, 1000+n)) }
	left := func(b *workertest.Bench, n int) bool {
		return slices.Equal(b.Target.Members(fmt.Sprintf("g%d", n)), []string{"u2"})
	}
	gone := func(b *workertest.Bench, n int) bool {
		_, there := b.Target.Group(fmt.Sprintf("g%d", n))
		return !there
	}
	for name, row := range map[string]struct {
		lie   func(*workertest.Bench)
		words string
		event func(b *workertest.Bench, n int)
		done  func(b *workertest.Bench, n int) bool
	}{
		"200 with an error, to a removal of a member": {errorsAnswerOK, "token is not valid", leave, left},
		"200 with an error, to a deletion":            {errorsAnswerOK, "token is not valid", end, gone},
		"a gateway's 404, to a removal of a member":   {gateway, "no Route matched", leave, left},
		"a gateway's 404, to a deletion":              {gateway, "no Route matched", end, gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := settled(t, groups)
			row.lie(b)
			for n := range groups {
				row.event(b, n)
			}
			pause := b.PausedFor(provisioningv1.PauseReason_PAUSE_REASON_OUTAGE)
			if !strings.Contains(pause.GetMessage(), row.words) {
				t.Errorf("the pause does not say %q: %v", row.words, pause)
			}
			for n := range groups {
				if l := b.Link(group, 1000+n); workertest.Parked(l) || l.GetMembersApplied() != 2 || l.GetState() != provisioningv1.LinkState_LINK_STATE_ACTIVE {
					t.Errorf("g%d is recorded as %v with %d members, problem %v", n, l.GetState(), l.GetMembersApplied(), l.GetProblem())
				}
			}
			b.Target.SetFault(nil)
			b.Target.SetQuirks(scimtest.Quirks{})
			b.Resumed()
			for n := range groups {
				b.Eventually("it is done", func() bool { return row.done(b, n) })
			}
		})
	}
}

// A name that the target answers with success and does not change is recorded for this
// group and not sent again; the members go on.
func TestNameWithoutEffectIsSaidAndNotRepeated(t *testing.T) {
	t.Parallel()
	b := settled(t, 1)
	b.Target.SetQuirks(scimtest.Quirks{PatchKeeps: []string{"displayName"}})
	link := b.Until(group, 1000, workertest.Applied(b.Group(1000, "staff", 1, 2)))
	if u := link.GetUnapplied(); len(u) != 1 || u[0].GetPath() != "displayName" || !strings.Contains(u[0].GetReason(), "group_patch") {
		t.Errorf("not applied: %v", u)
	}
	parked, err := worker.Parked(t.Context(), b.Bus, "wiki", "corp")
	if err != nil || len(parked) != 1 || parked[0].State() != "unapplied" {
		t.Errorf("parked: %v, %v", parked, err)
	}
	b.Target.ResetLog()
	b.Until(group, 1000, workertest.Applied(b.Group(1000, "staff", 2)))
	if got := b.Target.Members("g0"); !slices.Equal(got, []string{"u2"}) {
		t.Errorf("members %v", got)
	}
	for _, r := range b.Target.Writes() {
		if strings.Contains(r.Body, "displayName") {
			t.Errorf("it is sent again: %s", r.Body)
		}
	}
}

// A name that the target refuses to change of one group says nothing about the others.
func TestImmutableNameIsLearnedByResource(t *testing.T) {
	t.Parallel()
	b := settled(t, 5)
	b.Target.SetQuirks(scimtest.Quirks{Immutable: []string{"displayName"}})
	for n := range 5 {
		b.Target.ResetLog()
		link := b.Until(group, 1000+n, workertest.Applied(b.Group(1000+n, fmt.Sprintf("staff%d", n), 1, 2)))
		if u := link.GetUnapplied(); len(u) != 1 || !u[0].GetImmutable() {
			t.Errorf("g%d: not applied: %v", n, u)
		}
		want := 1
		if n >= 3 {
			want = 0
		}
		if got := len(b.Target.Writes()); got != want {
			t.Errorf("g%d: %d writes, want %d", n, got, want)
		}
	}
	if _, there := b.Target.Group("g0"); !there || b.Target.Count(scim.KindGroup) != 5 {
		t.Errorf("groups %v", b.Target.Groups())
	}
}

// A change of members that the target answers with success, and with the group as it was,
// is not recorded as applied: it is refused, the operator is told, and what was refused is
// done when it is tried again.
func TestMembersWithoutEffectAreRefused(t *testing.T) {
	t.Parallel()
	b := settled(t, 1)
	provision(t, b, 3)
	b.Target.SetQuirks(scimtest.Quirks{PatchKeeps: []string{"members"}})
	link := b.Until(group, 1000, workertest.Applied(b.Group(1000, "g0", 2, 3)))
	if got := b.Target.Members("g0"); !slices.Equal(got, []string{"u1", "u2"}) {
		t.Fatalf("members %v", got)
	}
	refused := map[bool]string{}
	for _, m := range link.GetRefusedMembers() {
		refused[m.GetRemoval()] = m.GetReason()
	}
	if len(refused) != 2 || !strings.Contains(refused[true], "as before") || !strings.Contains(refused[false], "as before") {
		t.Errorf("refused: %v", link.GetRefusedMembers())
	}
	if o := b.Outcomes(group, 1000); o[len(o)-1].GetMembersAdded() != 0 || o[len(o)-1].GetMembersRemoved() != 0 {
		t.Errorf("outcome %v", o[len(o)-1])
	}
	b.Target.SetQuirks(scimtest.Quirks{})
	retryParked(t, b)
	b.Until(group, 1000, func(l *provisioningv1.Link) bool { return len(l.GetRefusedMembers()) == 0 && l.GetClaim() == nil })
	if got := b.Target.Members("g0"); !slices.Equal(got, []string{"u2", "u3"}) {
		t.Errorf("members %v after the cure", got)
	}
}

// Of an addition that the target seems to have dropped nobody knows whether it was made:
// its removal is sent all the same. A target that never shows members is one of those.
func TestMembersThatAreNeverShownAreRemoved(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{EmptyMembers: true}})
	b.Unguarded()
	b.Start(groupsync.Run)
	provision(t, b, 1, 2)
	link := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	if got := b.Target.Members("staff"); !slices.Equal(got, []string{"u1", "u2"}) || len(link.GetRefusedMembers()) != 2 {
		t.Errorf("members %v, refused %v", got, link.GetRefusedMembers())
	}
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 2)))
	if got := b.Target.Members("staff"); !slices.Equal(got, []string{"u2"}) {
		t.Errorf("members %v after one left", got)
	}
}

// retryParked is what an operator does with everything that is parked.
func retryParked(t *testing.T, b *workertest.Bench) {
	t.Helper()
	parked, err := worker.Parked(t.Context(), b.Bus, "wiki", "corp")
	if err != nil || len(parked) == 0 {
		t.Fatalf("parked: %v, %v", parked, err)
	}
	for _, p := range parked {
		if err := worker.RetryParked(t.Context(), b.Bus, p); err != nil {
			t.Fatal(err)
		}
	}
}
