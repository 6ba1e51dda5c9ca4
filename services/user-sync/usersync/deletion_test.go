package usersync_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// deleteAfter makes a bench whose users are deleted so long after their disabling.
func deleteAfter(t *testing.T, d time.Duration) *workertest.Bench {
	t.Helper()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Config.Connections["wiki"].Users.DeleteAfter = d
	b.Unguarded()
	b.Advance()
	return b
}

func waiting(l *provisioningv1.Link) bool {
	return l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED && l.GetDeleteAt() != nil && l.GetClaim() == nil
}

func isRemoved(l *provisioningv1.Link) bool {
	return l.GetState() == provisioningv1.LinkState_LINK_STATE_REMOVED && l.GetDeleteAt() == nil
}

func TestDeletedAWhileAfterTheDisable(t *testing.T) {
	t.Parallel()
	b := deleteAfter(t, 2*time.Second)
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	b.Publish(workertest.Gone(user, 1))
	link := b.Until(user, 1, waiting)
	if left := time.Until(link.GetDeleteAt().AsTime()); left > 2*time.Second {
		t.Errorf("deleted in %s, want at most 2 s", left)
	}
	b.Until(user, 1, isRemoved)
	wantCalls(t, b.Target, "POST /Users", "PATCH /Users/{id}", "DELETE /Users/{id}")
}

func TestWhoReturnsInTimeStays(t *testing.T) {
	t.Parallel()
	b := deleteAfter(t, 2*time.Second)
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	b.Publish(workertest.Gone(user, 1))
	at := b.Until(user, 1, waiting).GetDeleteAt().AsTime()
	link := b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	if link.GetDeleteAt() != nil {
		t.Errorf("still waits for its deletion: %v", link)
	}
	<-time.After(time.Until(at) + time.Second)
	b.Eventually("the late schedule is worked off", func() bool { return b.Consumers()["users-wiki"].Total() == 0 })
	wantCalls(t, b.Target, "POST /Users", "PATCH /Users/{id}", "PATCH /Users/{id}")
}

func TestDisabledInTheDirectoryIsNeverDeleted(t *testing.T) {
	t.Parallel()
	b := deleteAfter(t, time.Second)
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	off := workertest.User(1, "ann", "", "")
	off.GetUser().Enabled = false
	link := b.Until(user, 1, workertest.Applied(b.Publish(off)))
	if link.GetDeleteAt() != nil {
		t.Fatalf("waits for its deletion: %v", link)
	}
	// Then she is deleted from the directory: the wait begins, nothing is sent.
	b.Publish(workertest.Gone(user, 1))
	b.Until(user, 1, isRemoved)
	wantCalls(t, b.Target, "POST /Users", "PATCH /Users/{id}", "DELETE /Users/{id}")
}

func TestWhoIsDisabledAlreadyWaitsFromNow(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	stop := b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	link := b.Until(user, 1, workertest.Applied(b.Publish(workertest.Gone(user, 1))))
	if link.GetDeleteAt() != nil {
		t.Fatalf("waits for its deletion without delete_after: %v", link)
	}
	stop()
	b.Config.Connections["wiki"].Users.DeleteAfter = time.Hour
	b.Advance()
	stop = b.Start(usersync.Run)
	b.Until(user, 1, waiting)
	stop()
	// Without the key the wait is over.
	b.Config.Connections["wiki"].Users.DeleteAfter = 0
	b.Advance()
	b.Start(usersync.Run)
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetDeleteAt() == nil })
	if n := b.Target.Count(scim.KindUser); n != 1 {
		t.Errorf("%d users on the target", n)
	}
}

func TestScheduleOfADeletionIsDurable(t *testing.T) {
	t.Parallel()
	b := deleteAfter(t, time.Hour)
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	b.Publish(workertest.Gone(user, 1))
	b.Until(user, 1, waiting)
	last, err := b.Bus.Last(t.Context(), provisioningv1.StreamRequests, provisioningv1.LaterSubject(user, "wiki", workertest.ID(1), "delete"))
	if err != nil {
		t.Fatal(err)
	}
	if last.Sequence == 0 {
		t.Error("no schedule")
	}
}

func TestDeletionWaitsOutAFailure(t *testing.T) {
	t.Parallel()
	b := deleteAfter(t, time.Second)
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	fails := 2
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodDelete && fails > 0 {
			fails--
			return &scimtest.Fault{Status: http.StatusInternalServerError}
		}
		return nil
	})
	b.Publish(workertest.Gone(user, 1))
	b.Until(user, 1, isRemoved)
}

func TestHeldDeletionWaitsForAPerson(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	c := b.Config.Connections["wiki"]
	c.Users.DeleteAfter, c.Guard = 2*time.Second, connection.TargetGuard{MaxRemovals: 1, MaxRemovalPercent: 100, Window: time.Hour}
	b.Advance()
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.User(2, "bob", "", ""))))
	b.Publish(workertest.Gone(user, 1))
	b.Until(user, 1, waiting)
	b.Until(user, 1, workertest.Waiting)
	requests, err := b.Bus.LastSequence(t.Context(), provisioningv1.StreamRequests)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Second)
	if now, err := b.Bus.LastSequence(t.Context(), provisioningv1.StreamRequests); err != nil || now > requests+1 {
		t.Errorf("%d requests while it waits (%v)", now-requests, err)
	}
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	b.Until(user, 1, isRemoved)
	wantCalls(t, b.Target, "POST /Users", "POST /Users", "PATCH /Users/{id}", "DELETE /Users/{id}")
}
