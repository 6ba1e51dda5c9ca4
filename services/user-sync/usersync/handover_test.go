package usersync_test

import (
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// The directory gives Ann's name to Bob, and the worker of Bob is the faster one.
func TestANameIsGivenOn(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.User(2, "bob", "", ""))))
	sequence := b.Publish(workertest.User(2, "ann", "", ""))
	b.Until(user, 2, retrying)
	b.Publish(workertest.User(1, "anna", "", ""))
	b.Until(user, 2, workertest.Applied(sequence))
}

// Somebody new has Ann's name before Ann has another one.
func TestANameIsGivenToSomebodyNew(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	sequence := b.Publish(workertest.User(2, "ann", "", ""))
	b.Until(user, 2, workertest.Parked)
	b.Publish(workertest.User(1, "anna", "", ""))
	b.Until(user, 2, workertest.Applied(sequence))
}

// A server that was killed with its worker does not know that it had delivered the
// change already: all that says so is the link.
func TestANameIsGivenOnByWhoIsKilledWithTheServer(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	sequence := b.Publish(workertest.User(2, "ann", "", ""))
	b.Outcome(user, 2, provisioningv1.Result_RESULT_BLOCKED)
	stop()

	link := b.Link(user, 1)
	link.Sequence = b.Publish(workertest.User(1, "anna", "", ""))
	if err := b.Target.Patch(scim.KindUser, link.GetResourceId(), scim.Operation{Op: "replace", Path: "userName", Value: "anna"}); err != nil {
		t.Fatal(err)
	}
	b.SetLink(user, 1, link)
	b.Start(usersync.Run)
	b.Until(user, 2, workertest.Applied(sequence))
}
