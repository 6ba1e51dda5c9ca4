package groupsync_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// The removal of a member that was still in the network when its worker gave it up
// arrives after the member has come back. The second look adds it again.
func TestLateRemovalIsRepaired(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.Unguarded()
	b.LookAgain = 3 * time.Second
	provision(t, b, 1, 2)
	stop := b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	late := make(chan struct{})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch && strings.Contains(r.Body, "remove") {
			return &scimtest.Fault{Late: late}
		}
		return nil
	})
	b.Group(staff, "staff", 1)
	b.Until(group, staff, func(l *provisioningv1.Link) bool { return l.GetProblem() != nil }) // its sender has given up
	b.Target.SetFault(nil)
	link := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	if link.GetLookAgainAt() == nil {
		t.Fatal("no second look is scheduled")
	}
	stop()
	close(late)
	b.Target.WaitLate()
	if diff := cmp.Diff([]string{"u1"}, members(b, "staff")); diff != "" {
		t.Fatalf("the late write did no harm: -want +got\n%s", diff)
	}
	b.Start(groupsync.Run)
	b.Until(group, staff, func(l *provisioningv1.Link) bool { return l.GetLookAgainAt() == nil && l.GetClaim() == nil })
	if diff := cmp.Diff([]string{"u1", "u2"}, members(b, "staff")); diff != "" {
		t.Errorf("after the second look: -want +got\n%s", diff)
	}
}
