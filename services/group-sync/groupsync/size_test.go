package groupsync_test

import (
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// Miro bounds the bytes of a request, not only the members in it.
func TestMembersAreSentInBodiesThatTheTargetTakes(t *testing.T) {
	t.Parallel()
	const limit = 600
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Override("max_body_bytes: 600")
	var everybody []int
	for i := range 30 {
		everybody = append(everybody, i+1)
	}
	provision(t, b, everybody...)
	b.Target.ResetLog()
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", everybody...)))
	if got := len(members(b, "staff")); got != len(everybody) {
		t.Errorf("%d members", got)
	}
	for _, r := range b.Target.Writes() {
		if len(r.Body) > limit {
			t.Errorf("a body of %d bytes", len(r.Body))
		}
	}
	if n := len(b.Target.Writes()); n > 9 {
		t.Errorf("%d requests", n)
	}
}

// A target that takes fewer members than its profile says is asked for the right
// number from the second group on.
func TestTooManyMembersIsLearnedOnce(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{MaxMembers: 10, Hostile: true})
	b.Discover = true
	var everybody []int
	for i := range 60 {
		everybody = append(everybody, i+1)
	}
	provision(t, b, everybody...)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", everybody[:20]...)))
	b.Target.ResetLog()
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", everybody...)))
	if got := len(members(b, "staff")); got != len(everybody) {
		t.Errorf("%d members", got)
	}
	for _, r := range b.Target.Writes() {
		if r.Status >= 400 {
			t.Errorf("%s is answered %d", r.Body, r.Status)
		}
	}
	if n := len(b.Target.Writes()); n != 4 {
		t.Errorf("%d requests for 40 members, want 4", n)
	}
}
