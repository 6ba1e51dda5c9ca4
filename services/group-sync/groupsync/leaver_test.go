package groupsync_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// usersWait publishes a user whom nobody works on until release.
func usersWait(t *testing.T, b *workertest.Bench) (release func()) {
	t.Helper()
	spec := bus.ConsumerSpec{
		Stream: directoryv1.StreamUsers, Name: worker.ChangesConsumer(user, "wiki", b.Config.Hash("wiki")),
		Filter: directoryv1.EntryFilter(user, "corp"), Window: 10,
	}
	if err := b.Bus.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	b.Publish(workertest.User(9, "u9", "", ""))
	return func() {
		if err := b.Bus.DeleteConsumer(t.Context(), spec.Stream, spec.Name); err != nil {
			t.Fatal(err)
		}
	}
}

// A connection that comes to a source which was read long ago also provisions its users
// first: for it the changes are as new as it is itself.
func TestNewConnectionWaitsForItsUsers(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	provision(t, b, 1, 2)
	release := usersWait(t, b)
	sequence := b.PublishDetected(b.Manifest(staff, "staff", 1, 2, 9), time.Now().Add(-time.Hour))
	b.Start(groupsync.Run)
	// What comes after it and waits for nobody is done: it was looked at.
	b.Until(group, staff+1, workertest.Applied(b.Publish(workertest.Gone(group, staff+1))))
	provision(t, b, 9)
	release()
	b.Until(group, staff, workertest.Applied(sequence))
	if diff := cmp.Diff([]string{"POST /Groups"}, writes(b.Target)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"u1", "u2", "u9"}, members(b, "staff")); diff != "" {
		t.Errorf("members: -want +got\n%s", diff)
	}
}

// Who leaves a group is removed at once, also while users are still being provisioned;
// who joins may wait.
func TestLeaverDoesNotWaitForUsers(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	provision(t, b, 1, 2, 3, 4)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2, 3)))
	usersWait(t, b)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	if diff := cmp.Diff([]string{"u1", "u2"}, members(b, "staff")); diff != "" {
		t.Errorf("members: -want +got\n%s", diff)
	}
}
