package usersync_test

import (
	"net/http"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// rehearsed is a condition: a dry run has said what it would do, and nothing stands in
// the way.
func rehearsed(l *provisioningv1.Link) bool { return l.GetPlanned() != nil && l.GetProblem() == nil }

// idle waits until no user is looked at any more.
func idle(b *workertest.Bench) {
	b.Eventually("nobody is looked at", func() bool {
		for _, c := range b.Consumers() {
			if c.Total() > 0 {
				return false
			}
		}
		return true
	})
}

// In a dry run, too, both go on when one of two users that want one account gets another
// name.
func TestDryRunGoesOnWhenARivalGetsAnotherName(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Configure("remove: disable", "dry_run: true")
	b.Publish(workertest.User(1, "ann", "", ""))
	b.Publish(workertest.User(2, "ann", "", ""))
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Parked)
	b.Until(user, 2, workertest.Parked)
	idle(b)
	b.Publish(workertest.User(2, "anna", "", ""))
	for n := range 2 {
		b.Until(user, n+1, rehearsed)
		if o := b.Outcome(user, n+1, provisioningv1.Result_RESULT_DRY_RUN); o.GetAction() != provisioningv1.Action_ACTION_CREATE {
			t.Errorf("user %d: %v", n+1, o)
		}
	}
}

// Who gives a name up without getting an account lets the other go on.
func TestDryRunGoesOnWhenARivalLeaves(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Configure("remove: disable", "dry_run: true")
	b.Publish(workertest.User(1, "ann", "", ""))
	b.Publish(workertest.User(2, "ann", "", ""))
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Parked)
	b.Until(user, 2, workertest.Parked)
	idle(b)
	b.Until(user, 2, workertest.Applied(b.Publish(off(workertest.User(2, "ann", "", "")))))
	b.Until(user, 1, rehearsed)
}

// What stood in the way of a dry run is forgotten when it does not any more.
func TestDryRunForgetsAnOutage(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Configure("remove: disable", "dry_run: true")
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		return &scimtest.Fault{Status: http.StatusInternalServerError}
	})
	b.Publish(workertest.User(1, "ann", "", ""))
	b.Start(usersync.Run)
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetProblem() != nil })
	b.Target.SetFault(nil)
	b.Until(user, 1, rehearsed)
}
