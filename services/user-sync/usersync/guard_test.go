package usersync_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// people publishes users 0 to n-1 and waits until they are provisioned.
func people(b *workertest.Bench, n int) {
	for i := range n {
		b.Publish(person(i))
	}
	for i := range n {
		b.Until(user, i, func(l *provisioningv1.Link) bool { return l.GetResourceId() != "" && l.GetClaim() == nil })
	}
}

func person(n int) *directoryv1.Change {
	return workertest.User(n, fmt.Sprintf("u%d", n), "Clerk", fmt.Sprintf("u%d@x", n))
}

// active is how many users of the target are active.
func active(b *workertest.Bench) int {
	n := 0
	for _, u := range b.Target.Users() {
		if u["active"] == true {
			n++
		}
	}
	return n
}

// leaveByOne removes people one after the other, each when the former is gone.
func leaveByOne(b *workertest.Bench, count int) {
	for n := range count {
		b.Until(user, n, workertest.Applied(b.Publish(workertest.Gone(user, n))))
	}
}

// leave removes users 0 to n-1 from the directory.
func leave(b *workertest.Bench, n int) {
	for i := range n {
		b.Publish(workertest.Gone(user, i))
	}
}

// What the guard let pass for one change does not let a later one pass: with the later
// one many more leave, and what is pending is held as a whole.
func TestRemovalOfALaterChangeIsJudgedAnew(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch {
			return &scimtest.Fault{Status: http.StatusInternalServerError}
		}
		return nil
	})
	b.Publish(workertest.Gone(user, 0))
	b.Until(user, 0, retrying)
	stop()
	b.Target.SetFault(nil)
	leave(b, 10)
	b.Start(usersync.Run)
	for n := range 10 {
		b.Until(user, n, workertest.Waiting)
	}
	if n := active(b); n != 20 {
		t.Errorf("%d users are active, want 20", n)
	}
}

func TestMoreRemovalsThanTheWindowAllowsAreHeld(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	b.Start(usersync.Run) // both replicas share the window
	people(b, 20)
	leaveByOne(b, 5)
	leave(b, 9)
	done := func(l *provisioningv1.Link) bool {
		return workertest.Waiting(l) || l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED
	}
	for n := range 9 {
		b.Until(user, n, done)
	}
	if n := active(b); n != 15 {
		t.Errorf("%d users are active, want 15: five may leave", n)
	}
	waiting := b.Held(user)
	if len(waiting) != 4 {
		t.Fatalf("%d removals are held, want 4", len(waiting))
	}
	for _, i := range waiting {
		if i.GetAction() != "disable" || !strings.Contains(i.GetReason(), "users would be removed, after 5 in the last 24h0m0s, more than max_removal_percent (5 %)") {
			t.Errorf("held: %v", i.Held)
		}
	}

	// A person says yes.
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	for n := range waiting {
		b.Until(user, n, func(l *provisioningv1.Link) bool { return l.GetProblem() == nil && l.GetClaim() == nil })
	}
	b.Eventually("nothing is held", func() bool { return len(b.Held(user)) == 0 })
	if n := active(b); n != 11 {
		t.Errorf("%d users are active after the approval, want 11", n)
	}
}

// A pass over the limit is held whole, and not only from the sixth removal on.
func TestPassOverTheLimitIsHeldWhole(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	stop()
	leave(b, 9)
	b.Publish(workertest.User(19, "u19", "Boss", "u19@x"))
	b.Start(usersync.Run)
	b.Start(usersync.Run) // both replicas judge it once
	for n := range 9 {
		b.Until(user, n, workertest.Waiting)
	}
	if n := active(b); n != 20 {
		t.Errorf("%d users are active, want 20", n)
	}
	b.Eventually("what is no removal flows", func() bool {
		u, _ := b.Target.User("u19")
		return u["title"] == "Boss"
	})
	// One that leaves after that is judged by itself.
	b.Until(user, 18, workertest.Applied(b.Publish(workertest.Gone(user, 18))))
	if n := active(b); n != 19 {
		t.Errorf("%d users are active, want 19", n)
	}
}

// Accounts that a pass would adopt and disable are counted with those that it disables: no
// link names them, so that the target is asked.
func TestPassIsJudgedWithTheAccountsThatItAdopts(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	stop()
	for n := range 4 {
		b.Target.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("u%d", 20+n), "active": true})
	}
	leave(b, 3)
	for n := range 4 {
		leaver := person(20 + n)
		leaver.GetUser().Enabled = false
		b.Publish(leaver)
	}
	b.Start(usersync.Run)
	for _, n := range []int{0, 1, 2, 20, 21, 22, 23} {
		b.Until(user, n, workertest.Waiting)
	}
	if n := active(b); n != 24 {
		t.Errorf("%d users are active, want 24", n)
	}
}

func TestRejectedRemovalIsNotDone(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: delete", scimtest.Options{})
	b.Start(usersync.Run)
	people(b, 6)
	leaveByOne(b, 5)
	b.Publish(workertest.Gone(user, 5))
	b.Until(user, 5, workertest.Waiting)
	waiting := b.Held(user)
	if len(waiting) != 1 {
		t.Fatalf("%d removals are held, want 1", len(waiting))
	}
	b.Mark(user, provisioningv1.Mark_MARK_REJECTED)
	b.Outcome(user, only(waiting), provisioningv1.Result_RESULT_HELD)
	if n := b.Target.Count(scim.KindUser); n != 1 {
		t.Errorf("%d users on the target, want 1", n)
	}
	if i := b.Held(user)[only(waiting)]; i.GetMark() != provisioningv1.Mark_MARK_REJECTED {
		t.Errorf("held: %v", i.Held)
	}
	// The person returns: nothing is held of her any more, and nothing was sent.
	b.Target.ResetLog()
	b.Until(user, only(waiting), workertest.Applied(b.Publish(person(only(waiting)))))
	b.Eventually("nothing is held", func() bool { return len(b.Held(user)) == 0 })
	wantCalls(t, b.Target)
}

func only[V any](m map[int]V) int {
	for n := range m {
		return n
	}
	return -1
}

func TestWhatWasApprovedInTheSourcePasses(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: delete", scimtest.Options{})
	b.Start(usersync.Run)
	people(b, 8)
	for n := range 8 {
		gone := workertest.Gone(user, n)
		b.Until(user, n, workertest.Applied(b.PublishApproved(gone, "one")))
	}
	if n := b.Target.Count(scim.KindUser); n != 0 {
		t.Errorf("%d users on the target, want 0", n)
	}
	if len(b.Held(user)) != 0 {
		t.Errorf("held: %v", b.Held(user))
	}
}

// An approval in the source is about what left the source, not about what another
// configuration makes of it.
func TestApprovalDoesNotOutliveTheConfiguration(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: keep", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	for n := range 8 {
		b.Until(user, n, workertest.Applied(b.PublishApproved(workertest.Gone(user, n), "one")))
	}
	stop()
	b.Configure("remove: delete", "")
	b.Start(usersync.Run)
	for n := range 8 {
		b.Until(user, n, workertest.Waiting)
	}
	if n := b.Target.Count(scim.KindUser); n != 20 {
		t.Errorf("%d users on the target, want 20", n)
	}
}

// A person who is out of the connection's scope keeps her account from others, and
// nobody waits for her in a circle.
func TestOwnerOutOfScopeIsAnOwner(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 10)
	b.Until(user, 0, workertest.Applied(b.Publish(workertest.User(0, "u0", "Guest", "u0@x"))))
	b.Publish(workertest.User(100, "u0", "Clerk", "u0@x"))
	b.Until(user, 100, workertest.Parked)
	stop()
	b.Configure("remove: disable", `scope: '!("Guest" in user.all.title)'`)
	b.Start(usersync.Run)
	b.Until(user, 0, func(l *provisioningv1.Link) bool {
		return l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED && l.GetClaim() == nil
	})
	if l := b.Until(user, 100, workertest.Parked); l.GetResourceId() != "" {
		t.Errorf("took an account that has an owner: %v", l)
	}
}

// A new configuration that would remove too much removes nothing; the corrected
// one finds everything as it was.
func TestNewConfigurationThatRemovesTooMuchIsHeldWhole(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name        string
		users, conn string
		held        int
		reason      string
	}{
		{"scope typo", "remove: delete", `scope: '"nobody" in user.all.uid'`, 20, "no user would be left: all 20 would be disabled or deleted"},
		{"a third out of scope", "remove: disable", `scope: '!user.?uid.orValue("").startsWith("u1")'`, 11, "11 of 20 users would be removed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, c.users, scimtest.Options{})
			stop := b.Start(usersync.Run)
			people(b, 20)
			stop()
			b.Target.ResetLog()
			b.Configure(c.users, c.conn)
			stop = b.Start(usersync.Run)
			b.Eventually("everything is held", func() bool { return len(b.Held(user)) == c.held })
			i := b.Held(user)[1]
			if !strings.Contains(i.GetReason(), "connections.wiki: this configuration is new, and by it "+c.reason) {
				t.Errorf("reason %q", i.GetReason())
			}
			stop()
			b.Configure(c.users, "")
			b.Start(usersync.Run)
			b.Eventually("the hold dissolves", func() bool { return len(b.Held(user)) == 0 })
			wantCalls(t, b.Target)
		})
	}
}

func TestMappingThatRenamesEverybodyIsHeldAndTheRestFlows(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	stop()
	b.Target.ResetLog()
	c := b.Config.Connections["wiki"].Users.Attributes
	c["userName"] = withValue(c["userName"], "user.mail")
	c["title"] = withValue(c["title"], `user.title + " I"`)
	b.Advance()
	b.Start(usersync.Run)
	for n := range 20 {
		b.Until(user, n, workertest.Waiting)
	}
	for _, u := range b.Target.Users() {
		if name, _ := u["userName"].(string); strings.Contains(name, "@") || u["title"] != "Clerk I" {
			t.Errorf("user %v with title %v", u["userName"], u["title"])
		}
	}
	if i := b.Held(user)[3]; !strings.Contains(i.GetReason(), "20 of 20 entries would change the attribute they are matched by") || i.GetAction() != "change userName of the user" {
		t.Errorf("held: %v", i.Held)
	}
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	b.Eventually("nothing is held", func() bool { return len(b.Held(user)) == 0 })
	if _, found := b.Target.User("u3@x"); !found {
		t.Errorf("approved and not renamed: %v", b.Target.Users())
	}
}

func withValue(a connection.Attribute, value string) connection.Attribute {
	a.Value = value
	return a
}

// neverRan is a bench whose connection begins its first run.
func neverRan(t *testing.T, users string) *workertest.Bench {
	t.Helper()
	b := workertest.New(t, users, scimtest.Options{})
	if _, err := worker.Forget(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
	if err := worker.Advance(t.Context(), b.Bus, worker.PlanOf(b.Config, "wiki")); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFirstRunRemovesNothing(t *testing.T) {
	t.Parallel()
	b := neverRan(t, "remove: disable\n      provision_disabled: true")
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "u1", "active": true, "title": "Clerk", "emails": []any{map[string]any{"type": "work", "value": "u1@x", "primary": true}}})
	off := person(1)
	off.GetUser().Enabled = false
	b.Publish(off)
	b.Publish(person(2))
	if err := worker.FirstPass(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Waiting)
	if u, _ := b.Target.User("u1"); u["active"] != true {
		t.Errorf("the first run disabled an account: %v", u)
	}
	if i := b.Held(user)[1]; !strings.Contains(i.GetReason(), "first run") {
		t.Errorf("held: %v", i.Held)
	}
	// When it is over, removals go on.
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.Gone(user, 2))))
	if u, _ := b.Target.User("u2"); u["active"] != false {
		t.Errorf("after the first run: %v", u)
	}
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED })
}

// A removal that waits for the end of the first run is not in the way of that end,
// which may be seen only when nothing of the consumer is in flight.
func TestRemovalDoesNotHoldTheFirstRunUp(t *testing.T) {
	t.Parallel()
	b := neverRan(t, "remove: disable")
	// The second one hangs until everything else is looked at.
	_, release := b.Hold(http.MethodPost, "u2")
	one := b.Publish(person(1))
	b.Publish(person(2))
	if err := worker.FirstPass(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(one))
	gone := b.Publish(workertest.Gone(user, 1))
	b.Eventually("only the one that hangs is in flight, and the removal is asked for later", func() bool {
		backlog, err := b.Bus.Backlog(t.Context(), user.Stream(), worker.ChangesConsumer(user, "wiki", b.Config.Hash("wiki")))
		later, laterErr := b.Bus.LastSequence(t.Context(), provisioningv1.StreamRequests)
		return err == nil && laterErr == nil && backlog.Total() == 1 && later > 0
	})
	release()
	b.Until(user, 1, workertest.Applied(gone))
	if u, _ := b.Target.User("u1"); u["active"] != false {
		t.Errorf("after the first run: %v", u)
	}
}

// The directory was reloaded: every person has a new entry id. Once the removal of
// the former entries is approved, the accounts change hands without a call.
func TestReloadedDirectoryTakesTheAccountsOver(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	people(b, 10)
	for n := range 10 {
		again := person(n)
		again.EntryId, again.GetUser().Id = workertest.ID(100+n), workertest.ID(100+n)
		b.Publish(again)
	}
	for n := range 10 {
		b.Until(user, 100+n, workertest.Parked)
	}
	b.Target.ResetLog()
	for n := range 10 {
		b.PublishApproved(workertest.Gone(user, n), "one")
	}
	for n := range 10 {
		b.Until(user, 100+n, func(l *provisioningv1.Link) bool { return l.GetResourceId() != "" && l.GetClaim() == nil })
		b.Until(user, n, func(l *provisioningv1.Link) bool { return l.GetResourceId() == "" && l.GetClaim() == nil })
	}
	if writes := b.Target.Writes(); len(writes) != 0 {
		t.Errorf("%d writes, want none: %v", len(writes), writes)
	}
	if n := active(b); n != 10 || b.Target.Count(scim.KindUser) != 10 {
		t.Errorf("%d of %d users are active, want 10 of 10", n, b.Target.Count(scim.KindUser))
	}
}

func TestBlockedUserGoesOnWhenTheOwnerLeaves(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: delete", scimtest.Options{})
	b.Start(usersync.Run)
	people(b, 1)
	again := person(0)
	again.EntryId, again.GetUser().Id = workertest.ID(7), workertest.ID(7)
	b.Publish(again)
	b.Until(user, 7, workertest.Parked)
	b.Publish(workertest.Gone(user, 0))
	b.Until(user, 7, func(l *provisioningv1.Link) bool { return l.GetResourceId() != "" && l.GetClaim() == nil })
	if n := b.Target.Count(scim.KindUser); n != 1 {
		t.Errorf("%d users on the target, want 1", n)
	}
}

func TestLinksFollowARenamedConnection(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 3)
	stop()
	b.Target.ResetLog()
	p := worker.PlanOf(b.Config, "wiki")
	p.Connection, p.RenamedFrom = "handbook", "wiki"
	for range 2 { // a crash may repeat it
		if err := worker.Advance(t.Context(), b.Bus, p); err != nil {
			t.Fatal(err)
		}
	}
	b.Rename("handbook")
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "u1", "Boss", "u1@x"))))
	wantCalls(t, b.Target, "PATCH /Users/{id}")
	if err := worker.Advance(t.Context(), b.Bus, worker.Plan{Connection: "wiki", Source: "corp", Hash: "abc", Kinds: p.Kinds, Concurrency: 1}); !errors.Is(err, worker.ErrRefused) {
		t.Errorf("the former name works on: %v", err)
	}
}

// A worker that died while it looked at what a configuration removes keeps nobody from
// that under another name.
func TestLeaseOfADeadWorkerIsNotRenamed(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	if err := b.Bus.PutText(t.Context(), provisioningv1.BucketTargets, "wiki.foreseen.users.lease", "dead", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	p := worker.PlanOf(b.Config, "wiki")
	p.Connection, p.RenamedFrom = "handbook", "wiki"
	if err := worker.Advance(t.Context(), b.Bus, p); err != nil {
		t.Fatal(err)
	}
	b.Rename("handbook")
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "u1", "Boss", "u1@x"))))
}

func TestLinksOfAnotherSourceOrTargetAreRefused(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 1)
	good := worker.PlanOf(b.Config, "wiki")
	moved, other := good, good
	moved.Target, other.Source = "https://elsewhere.example:443/scim/v2", "sales"
	for _, p := range []worker.Plan{moved, other} {
		err := worker.Advance(t.Context(), b.Bus, p)
		if !errors.Is(err, worker.ErrRefused) || !strings.Contains(err.Error(), "rollcall forget wiki") {
			t.Errorf("advance: %v", err)
		}
	}
	if _, err := worker.Forget(t.Context(), b.Bus, "wiki"); !errors.Is(err, worker.ErrInUse) {
		t.Errorf("forget while it runs: %v", err)
	}
	stop()
	b.Eventually("nobody pulls", func() bool {
		n, err := worker.Forget(t.Context(), b.Bus, "wiki")
		return err == nil && n == 1
	})
	if err := worker.Advance(t.Context(), b.Bus, moved); err != nil {
		t.Errorf("advance after forget: %v", err)
	}
}

// Two removals of one entry wait together, and one approval is about both.
func TestTwoPartsOfAnEntryAreHeldAndApprovedTogether(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	stop()
	for n := range 20 { // while nobody works
		off := person(n)
		off.GetUser().Enabled = n >= 8
		b.Publish(off)
	}
	c := b.Config.Connections["wiki"].Users.Attributes
	c["userName"] = withValue(c["userName"], "user.mail")
	b.Advance()
	b.Start(usersync.Run)
	for n := range 20 {
		b.Until(user, n, workertest.Waiting)
	}
	if n := active(b); n != 20 {
		t.Errorf("%d users are active, want 20", n)
	}
	if i := b.Held(user)[3]; !strings.Contains(i.GetAction(), "disable") || !strings.Contains(i.GetAction(), "change userName of the user") {
		t.Errorf("held: %v", i.Held)
	}
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	b.Eventually("nothing is held", func() bool { return len(b.Held(user)) == 0 })
	if u, found := b.Target.User("u3@x"); !found || u["active"] != false {
		t.Errorf("approved and not done: %v", b.Target.Users())
	}
}

// What the guard let pass of one kind is no permission for another.
func TestPermissionToDisableIsNoneToRename(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	stop()
	off := person(3)
	off.GetUser().Enabled = false
	b.Publish(off)
	c := b.Config.Connections["wiki"].Users.Attributes
	c["userName"] = withValue(c["userName"], "user.mail")
	b.Advance()
	b.Start(usersync.Run)
	b.Eventually("the user is disabled", func() bool { return active(b) == 19 })
	for n := range 20 {
		b.Until(user, n, func(l *provisioningv1.Link) bool {
			return workertest.Waiting(l) || l.GetConfigurationHash() == b.Config.Hash("wiki")
		})
	}
	if _, renamed := b.Target.User("u3@x"); renamed {
		t.Error("a user was renamed though renames are held")
	}
}

// Whose deletion is held keeps her account from others: it is not theirs to inherit.
func TestAccountWhoseDeletionIsHeldIsNotInherited(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: delete", scimtest.Options{})
	b.Start(usersync.Run)
	people(b, 6)
	leave(b, 6)
	for n := range 6 {
		b.Until(user, n, func(l *provisioningv1.Link) bool { return workertest.Waiting(l) || l.GetResourceId() == "" })
	}
	former := only(b.Held(user))
	account := b.Link(user, former).GetResourceId()
	another := person(former)
	another.EntryId, another.GetUser().Id = workertest.ID(100), workertest.ID(100)
	b.Publish(another)
	if l := b.Until(user, 100, func(l *provisioningv1.Link) bool { return l.GetResourceId() != "" || workertest.Parked(l) }); l.GetResourceId() != "" {
		t.Fatalf("another person got the account: %v", l)
	}
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	l := b.Until(user, 100, func(l *provisioningv1.Link) bool { return l.GetResourceId() != "" && l.GetClaim() == nil })
	if l.GetResourceId() == account {
		t.Error("another person got the account after the approval")
	}
	if n := b.Target.Count(scim.KindUser); n != 1 {
		t.Errorf("%d users on the target, want 1", n)
	}
}

// What a new configuration may not remove waits for a person, also when the entries
// change meanwhile for another reason.
func TestHoldOfANewConfigurationOutlivesChangesOfTheEntries(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	stop()
	b.Configure("remove: disable", `scope: '!user.?uid.orValue("").startsWith("u1")'`)
	b.Start(usersync.Run)
	b.Eventually("everything is held", func() bool { return len(b.Held(user)) == 11 })
	for range 2 {
		for n := range b.Held(user) {
			b.Until(user, n, workertest.Waiting)
			again := workertest.User(n, fmt.Sprintf("u%d", n), "Boss", fmt.Sprintf("u%d@y", n))
			sequence := b.Publish(again)
			b.Until(user, n, func(l *provisioningv1.Link) bool {
				return l.GetSequence() >= sequence && l.GetClaim() == nil && (workertest.Waiting(l) || l.GetState() != provisioningv1.LinkState_LINK_STATE_ACTIVE)
			})
		}
	}
	if n := active(b); n != 20 {
		t.Errorf("%d users are active, want 20: nobody approved", n)
	}
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	b.Eventually("nothing is held", func() bool { return len(b.Held(user)) == 0 })
	if n := active(b); n != 9 {
		t.Errorf("%d users are active after the approval, want 9", n)
	}
}

// An owner in the middle of whose write a worker ended gives the account up all the
// same when she leaves.
func TestAbandonedOwnerAndWhoWaitsForHerDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	people(b, 1)
	again := person(0)
	again.EntryId, again.GetUser().Id = workertest.ID(7), workertest.ID(7)
	b.Publish(again)
	b.Until(user, 7, workertest.Parked)
	l := b.Link(user, 0)
	l.Claim = &provisioningv1.Claim{Sequence: l.GetSequence(), Intent: provisioningv1.Intent_INTENT_UPDATE}
	b.SetLink(user, 0, l)
	b.Publish(workertest.Gone(user, 0))
	b.Until(user, 7, func(l *provisioningv1.Link) bool { return l.GetResourceId() != "" && l.GetClaim() == nil })
	if n := active(b); n != 1 {
		t.Errorf("%d users are active, want 1", n)
	}
}

// It also outlives that another part of the entry fails meanwhile.
func TestHoldOfANewConfigurationOutlivesAFailure(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	stop()
	c := b.Config.Connections["wiki"].Users.Attributes
	c["userName"] = withValue(c["userName"], `user.uid + "@x"`)
	b.Advance()
	b.Start(usersync.Run)
	b.Eventually("everything is held", func() bool { return len(b.Held(user)) == 20 })
	var failing atomic.Bool
	failing.Store(true)
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if failing.Load() && r.Method == http.MethodPatch {
			return &scimtest.Fault{Status: http.StatusInternalServerError}
		}
		return nil
	})
	b.Publish(workertest.User(3, "u3", "Boss", "u3@x"))
	b.Until(user, 3, func(l *provisioningv1.Link) bool {
		return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING
	})
	b.Publish(workertest.User(3, "u3", "Chief", "u3@x"))
	failing.Store(false)
	b.Eventually("the title is there", func() bool {
		u, found := b.Target.User("u3")
		if !found {
			u, _ = b.Target.User("u3@x")
		}
		return u["title"] == "Chief"
	})
	if _, renamed := b.Target.User("u3@x"); renamed {
		t.Error("renamed though nobody approved")
	}
}

// What was approved under a connection's former name is done under the new one.
func TestApprovalOutlivesTheRenameOfItsConnection(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	leave(b, 12)
	b.Eventually("the removals are held", func() bool { return len(b.Held(user)) > 0 })
	for n := range b.Held(user) {
		b.Until(user, n, workertest.Waiting)
	}
	stop()
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	p := worker.PlanOf(b.Config, "wiki")
	p.Connection, p.RenamedFrom = "handbook", "wiki"
	if err := worker.Advance(t.Context(), b.Bus, p); err != nil {
		t.Fatal(err)
	}
	b.Rename("handbook")
	b.Start(usersync.Run)
	b.Eventually("what was approved is done", func() bool { return active(b) == 8 })
}
