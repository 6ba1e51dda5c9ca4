package usersync_test

import (
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// A write had no answer, and was done; before anybody could compare the account, the user
// was gone from the directory. When she is back, her account is compared: what the write
// left on it is not known otherwise.
func TestWhatALostWriteLeftIsComparedWhenTheUserIsBack(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	stop := b.Start(usersync.Run)
	l := b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	stop()
	if err := b.Target.Patch(scim.KindUser, l.GetResourceId(), scim.Operation{Op: "replace", Path: "title", Value: "Guard"}); err != nil {
		t.Fatal(err)
	}
	l.RepairWanted = true // as after any write that was abandoned
	b.SetLink(user, 1, l)
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.Gone(user, 1))))
	after := b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	if ann, _ := b.Target.User("ann"); ann["title"] != nil || ann["active"] != true {
		t.Errorf("%v", ann)
	}
	if after.GetRepairWanted() {
		t.Errorf("it is compared again and again: %v", after)
	}
}
