package usersync_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// begin publishes what a first full read brings and starts the service.
func begin(t *testing.T, b *workertest.Bench) {
	t.Helper()
	if err := worker.FirstPass(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
	b.Start(usersync.Run)
}

func isActive(b *workertest.Bench, name string) bool {
	u, _ := b.Target.User(name)
	return u["active"] == true
}

// seeded is a target that has ann, active or not, with a stale title.
func seeded(t *testing.T, active bool) *workertest.Bench {
	t.Helper()
	b := neverRan(t, "remove: disable")
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": active, "title": "Guest"})
	return b
}

// An inactive account that a first run adopts is brought up to date, and becomes active
// only with approval, however often its user changes in between.
func TestActivationInAFirstRunIsHeld(t *testing.T) {
	t.Parallel()
	b := seeded(t, false)
	b.Publish(workertest.User(1, "ann", "Cook", ""))
	begin(t, b)
	b.Until(user, 1, workertest.Waiting)
	if ann, _ := b.Target.User("ann"); ann["active"] != false || ann["title"] != "Cook" {
		t.Errorf("ann: %v", ann)
	}
	if i := b.Held(user)[1]; i.GetAction() != "enable" || !i.GetFirstRun() {
		t.Errorf("held: %v", i.Held)
	}
	changed := b.Publish(workertest.User(1, "ann", "Chef", ""))
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetSequence() >= changed && workertest.Waiting(l) })
	if ann, _ := b.Target.User("ann"); ann["active"] != false || ann["title"] != "Chef" {
		t.Errorf("ann after a change: %v", ann)
	}
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	b.Until(user, 1, func(l *provisioningv1.Link) bool {
		return l.GetState() == provisioningv1.LinkState_LINK_STATE_ACTIVE && l.GetProblem() == nil
	})
	if o := b.Outcome(user, 1, provisioningv1.Result_RESULT_APPLIED); o == nil || !isActive(b, "ann") {
		t.Error("the approved activation was not done")
	}
}

// A leaver that has an active account is matched, and disabled with approval.
func TestLeaverWithAnAccountIsHeldInAFirstRun(t *testing.T) {
	t.Parallel()
	b := seeded(t, true)
	b.Publish(off(workertest.User(1, "ann", "Cook", "")))
	begin(t, b)
	b.Until(user, 1, workertest.Waiting)
	if i := b.Held(user)[1]; i.GetAction() != "disable" || !isActive(b, "ann") {
		t.Errorf("held: %v, active %v", i.Held, isActive(b, "ann"))
	}
	// After the first run a new attempt still needs the approval.
	if err := b.Bus.Request(t.Context(), user, "wiki", workertest.ID(1), "test"); err != nil {
		t.Fatal(err)
	}
	later := b.Publish(workertest.User(2, "bob", "", ""))
	b.Until(user, 2, workertest.Applied(later))
	if !isActive(b, "ann") {
		t.Error("ann was disabled without approval")
	}
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED })
	if isActive(b, "ann") {
		t.Error("the approved removal was not done")
	}
}

// guard.first_run: flow overwrites at once, and counts nothing.
func TestFirstRunThatFlowsOverwritesAtOnce(t *testing.T) {
	t.Parallel()
	b := seeded(t, false)
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "bob", "active": true})
	c := b.Config.Connections["wiki"]
	c.Guard.FirstRun, c.Guard.MaxRemovals, c.Guard.MaxRemovalPercent = "flow", 0, 0
	one, two := b.Publish(workertest.User(1, "ann", "Cook", "")), b.Publish(off(workertest.User(2, "bob", "", "")))
	begin(t, b)
	b.Until(user, 1, workertest.Applied(one))
	b.Until(user, 2, workertest.Applied(two))
	if !isActive(b, "ann") || isActive(b, "bob") {
		t.Errorf("ann active %v, bob active %v", isActive(b, "ann"), isActive(b, "bob"))
	}
}

// What a changed scope brings in is adopted without a removal or an activation.
func TestWhatAChangedScopeAdoptsIsHeld(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": true})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "bob", "active": false})
	b.Configure("remove: disable", `scope: '"pilot" in user.all.title'`)
	stop := b.Start(usersync.Run)
	one, two := b.Publish(off(workertest.User(1, "ann", "Cook", ""))), b.Publish(workertest.User(2, "bob", "Cook", ""))
	b.Until(user, 1, workertest.Applied(one))
	b.Until(user, 2, workertest.Applied(two))
	stop()
	b.Configure("remove: disable", "")
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Waiting)
	b.Until(user, 2, workertest.Waiting)
	if !isActive(b, "ann") || isActive(b, "bob") {
		t.Errorf("ann active %v, bob active %v", isActive(b, "ann"), isActive(b, "bob"))
	}
}

// So is what changes before the new configuration has looked at it.
func TestWhatAChangedScopeAdoptsIsHeldAlsoWhenItChanges(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": true})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "bob", "active": false})
	b.Configure("remove: disable", `scope: '"pilot" in user.all.title'`)
	stop := b.Start(usersync.Run)
	one, two := b.Publish(off(workertest.User(1, "ann", "Cook", ""))), b.Publish(workertest.User(2, "bob", "Cook", ""))
	b.Until(user, 1, workertest.Applied(one))
	b.Until(user, 2, workertest.Applied(two))
	stop()
	b.Configure("remove: disable", "")
	pauseBy(t, b, provisioningv1.PauseReason_PAUSE_REASON_MANUAL, "maintenance")
	b.Start(usersync.Run)
	b.Eventually("the new configuration is looked at as a whole", func() bool {
		text, err := b.Bus.Text(t.Context(), provisioningv1.BucketTargets, "wiki.foreseen.users")
		return err == nil && strings.Contains(text, b.Config.Hash("wiki"))
	})
	b.Publish(off(workertest.User(1, "ann", "Chef", "")))
	b.Publish(workertest.User(2, "bob", "Chef", ""))
	resume(t, b)
	b.Until(user, 1, workertest.Waiting)
	b.Until(user, 2, workertest.Waiting)
	if !isActive(b, "ann") || isActive(b, "bob") {
		t.Errorf("ann active %v, bob active %v", isActive(b, "ann"), isActive(b, "bob"))
	}
}

// Who changes during the first run and is come to after its end is a part of it.
func TestWhoChangesDuringTheFirstRunIsAPartOfIt(t *testing.T) {
	t.Parallel()
	b := seeded(t, false)
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if strings.Contains(r.Path+r.Query+r.Body, "ann") {
			return &scimtest.Fault{Status: http.StatusInternalServerError}
		}
		return nil
	})
	b.Publish(workertest.User(1, "ann", "Cook", ""))
	b.Publish(workertest.User(2, "bob", "Cook", ""))
	begin(t, b)
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetProblem() != nil })
	b.Publish(workertest.User(1, "ann", "Chef", ""))
	b.Eventually("the first run is over", func() bool {
		text, err := b.Bus.Text(t.Context(), provisioningv1.BucketTargets, "wiki.first.users")
		return err == nil && strings.HasPrefix(text, "done")
	})
	b.Target.SetFault(nil)
	b.Until(user, 1, workertest.Waiting)
	if isActive(b, "ann") {
		t.Error("ann was enabled without approval")
	}
}

// A leaver that comes after the first run is disabled at once.
func TestLeaverWithAnAccountIsDisabledLater(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": true})
	b.Start(usersync.Run)
	b.Until(user, 9, workertest.Applied(b.Publish(workertest.User(9, "zoe", "", ""))))
	b.Until(user, 1, workertest.Applied(b.Publish(off(workertest.User(1, "ann", "", "")))))
	if l := b.Link(user, 1); isActive(b, "ann") || l.GetState() != provisioningv1.LinkState_LINK_STATE_DISABLED {
		t.Errorf("active %v, link %v", isActive(b, "ann"), l)
	}
}

// Under reactivate: ours an account that was inactive before stays so, and one that
// Rollcall disabled comes back.
func TestOnlyOurOwnAreActivated(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "reactivate: ours", scimtest.Options{})
	b.Unguarded()
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": false})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.User(2, "bob", "", ""))))
	b.Until(user, 2, workertest.Applied(b.Publish(off(workertest.User(2, "bob", "", "")))))
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.User(2, "bob", "", ""))))
	b.Until(user, 1, workertest.Applied(b.Publish(off(workertest.User(1, "ann", "Cook", "")))))
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Chef", ""))))
	if ann, _ := b.Target.User("ann"); ann["active"] != false || ann["title"] != "Chef" {
		t.Errorf("ann: %v", ann)
	}
	if !isActive(b, "bob") {
		t.Error("bob was not enabled again")
	}
}

// A worker died after it had disabled an account and before it could say so. Rollcall did
// it, and makes the account active again when its user returns.
func TestAnAbandonedDisablingIsOurs(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "reactivate: ours", scimtest.Options{})
	b.Unguarded()
	stop := b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	stop()
	link := b.Link(user, 1)
	link.Claim = &provisioningv1.Claim{Sequence: link.GetSequence() + 1, Intent: provisioningv1.Intent_INTENT_DISABLE}
	b.SetLink(user, 1, link)
	if err := b.Target.Patch(scim.KindUser, link.GetResourceId(), scim.Operation{Op: "replace", Path: "active", Value: false}); err != nil {
		t.Fatal(err)
	}
	b.Publish(off(workertest.User(1, "ann", "", "")))
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Chef", ""))))
	if !isActive(b, "ann") {
		t.Error("ann was not enabled again")
	}
}

// users.disabled: remove deletes who is disabled, creates who returns, and ends there.
func TestDisabledUsersAreRemovedAndReturn(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: delete\n      disabled: remove", scimtest.Options{})
	b.Unguarded()
	b.Start(usersync.Run)
	for range 2 {
		b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
		if !isActive(b, "ann") {
			t.Error("ann is not there")
		}
		b.Until(user, 1, workertest.Applied(b.Publish(off(workertest.User(1, "ann", "", "")))))
		if n := b.Target.Count(scim.KindUser); n != 0 || b.Link(user, 1).GetState() != provisioningv1.LinkState_LINK_STATE_REMOVED {
			t.Errorf("%d accounts, link %v", n, b.Link(user, 1))
		}
	}
	b.Target.ResetLog()
	again := off(workertest.User(1, "ann", "Cook", ""))
	b.Until(user, 1, workertest.Applied(b.Publish(again)))
	if got := b.Target.Requests(); len(got) != 0 {
		t.Errorf("requests for a user that is disabled and deleted: %v", got)
	}
	// An account that is there of a user that is disabled is deleted as well.
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "bob", "active": true})
	b.Until(user, 2, workertest.Applied(b.Publish(off(workertest.User(2, "bob", "", "")))))
	if n := b.Target.Count(scim.KindUser); n != 0 {
		t.Errorf("%d accounts, want none", n)
	}
}

// An adoption that makes an account active is two outcomes.
func TestActivationIsAnOutcomeOfItsOwn(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": false})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	var actions []string
	b.Eventually("both are in the audit log", func() bool {
		actions = nil
		for _, o := range b.Outcomes(user, 1) {
			actions = append(actions, worker.ActionName(o.GetAction()))
		}
		return len(actions) == 2
	})
	if actions[0] != "adopt" || actions[1] != "enable" {
		t.Errorf("outcomes %v", actions)
	}
}
