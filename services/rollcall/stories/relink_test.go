package stories

import (
	"slices"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

const (
	user  = directoryv1.Kind_KIND_USER
	group = directoryv1.Kind_KIND_GROUP
)

// A user who comes back under another GUID (a rehire, a reloaded directory) keeps the
// account. When they leave a group later, the account leaves it on the target.
func TestRelinkedUserLeavesAGroup(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	b.Start(usersync.Run, groupsync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	b.Until(user, 3, workertest.Applied(b.Publish(workertest.User(3, "bob", "", ""))))
	b.Until(group, 1000, workertest.Applied(b.Group(1000, "admins", 1, 3)))
	b.Eventually("both are members", func() bool { return len(b.Target.Members("admins")) == 2 })

	second := b.Publish(workertest.User(2, "ann", "", "")) // the same person by another id
	b.Publish(workertest.Gone(user, 1))
	b.Until(user, 2, workertest.Applied(second))
	b.Until(group, 1000, workertest.Applied(b.Group(1000, "admins", 2, 3)))
	b.Eventually("the group holds both again", func() bool { return b.Link(group, 1000).GetMembersApplied() == 2 })

	left := workertest.Applied(b.Group(1000, "admins", 3))
	b.Until(group, 1000, func(l *provisioningv1.Link) bool { return left(l) && l.GetMembersApplied() == 1 })
	if got := b.Target.Members("admins"); slices.Contains(got, "ann") || len(got) != 1 {
		t.Errorf("ann left the group in the directory, the link says so, and the target holds %v", got)
	}
}
