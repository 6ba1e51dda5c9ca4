package groupsync_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// Who leaves a group is removed at once, also while users are still being provisioned;
// who joins may wait.
func TestLeaverDoesNotWaitForUsers(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	provision(t, b, 1, 2, 3, 4)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2, 3)))
	spec := bus.ConsumerSpec{ // nobody works on it, so that users wait for ever
		Stream: directoryv1.StreamUsers, Name: worker.ChangesConsumer(user, "wiki", b.Config.Hash("wiki")),
		Filter: directoryv1.EntryFilter(user, "corp"), Window: 10,
	}
	if err := b.Bus.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	b.Publish(workertest.User(9, "u9", "", ""))
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	if diff := cmp.Diff([]string{"u1", "u2"}, members(b, "staff")); diff != "" {
		t.Errorf("members: -want +got\n%s", diff)
	}
}
