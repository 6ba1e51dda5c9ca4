package usersync_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// Replicas with an old and a new configuration run side by side while the
// configuration goes forth and back: each generation writes each user once, and
// the current one wins.
func TestReplicasOfTwoConfigurationsNeverFight(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Target.SetLatency(2_000_000)
	b.Start(usersync.Run)
	const count = 40
	people(b, count)
	b.Target.ResetLog()
	former := b.Config
	b.Configure("remove: delete", "") // another hash, the same mapping
	c := b.Config.Connections["wiki"].Users.Attributes
	c["title"] = withValue(c["title"], `user.title + " II"`)
	b.Advance()
	b.Start(usersync.Run) // beside the old one
	titled := func(title string) func() bool {
		return func() bool {
			for _, u := range b.Target.Users() {
				if u["title"] != title {
					return false
				}
			}
			return true
		}
	}
	b.Eventually("the new configuration is applied", titled("Clerk II"))
	if n := len(b.Target.Writes()); n != count {
		t.Errorf("%d writes for %d users", n, count)
	}
	next := b.Config
	for range 3 {
		b.Config = former
		b.Advance()
		b.Eventually("the former configuration is applied", titled("Clerk"))
		b.Config = next
		b.Advance()
		b.Eventually("the new configuration is applied again", titled("Clerk II"))
	}
	if n := len(b.Target.Writes()); n != 7*count {
		t.Errorf("%d writes for %d users in 7 generations", n, count)
	}
}

// An attribute that the detector has not read yet is unknown, not absent: nothing is
// cleared, and the entry waits.
func TestUnreadAttributeClearsNothing(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	people(b, 1)
	b.Target.ResetLog()
	small := mapping.NewSet([]string{"uid", "mail"})
	if err := worker.StoreAttributeSet(t.Context(), b.Bus, "corp", small); err != nil {
		t.Fatal(err)
	}
	unread := workertest.User(0, "u0", "", "changed@x")
	b.PublishRead(unread, small)
	read := workertest.User(1, "u1", "Clerk", "u1@x")
	b.Until(user, 1, workertest.Applied(b.Publish(read)))
	if u, _ := b.Target.User("u0"); u["title"] != "Clerk" {
		t.Errorf("cleared though nobody read it: %v", u)
	}
	// The detector reads it: the entry goes on.
	b.Until(user, 0, workertest.Applied(b.Publish(workertest.User(0, "u0", "Boss", "changed@x"))))
	if u, _ := b.Target.User("u0"); u["title"] != "Boss" {
		t.Errorf("user %v", u)
	}
	for _, r := range b.Target.Writes() {
		if strings.Contains(r.Body, `"remove"`) || r.Method == http.MethodDelete {
			t.Errorf("removed something: %s", r.Body)
		}
	}
}

// A new configuration under which nothing changes costs no call.
func TestNewConfigurationOfTheSameResultCostsNothing(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	people(b, 20)
	stop()
	b.Target.ResetLog()
	b.Configure("remove: delete", `scope: '!("contractor" in user.all.employeeType)'`)
	b.Start(usersync.Run)
	hash := b.Config.Hash("wiki")
	for n := range 20 {
		again := person(n)
		b.Publish(again) // read with the new attribute
		b.Until(user, n, func(l *provisioningv1.Link) bool { return l.GetConfigurationHash() == hash })
	}
	wantCalls(t, b.Target)
}

// What is new is the connection, or its configuration, and not the change: the latency is
// not the time since the directory was read.
func TestLatencyOfANewConnectionIsItsOwn(t *testing.T) {
	t.Parallel()
	began := time.Now()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.PublishDetected(workertest.User(1, "ann", "", "ann@x"), began.Add(-time.Hour))
	b.Start(usersync.Run)
	o := b.Outcome(user, 1, provisioningv1.Result_RESULT_APPLIED)
	if latency, most := time.Duration(o.GetLatencyNanos()), time.Since(began); latency > most {
		t.Errorf("a latency of %s, want at most %s", latency, most)
	}
}

// A wrong address is set right as long as no link names a resource of the target.
func TestTargetMayChangeWhileNothingIsLinked(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.SetLink(user, 1, &provisioningv1.Link{State: provisioningv1.LinkState_LINK_STATE_NONE, Problem: &provisioningv1.Problem{}})
	other := worker.PlanOf(b.Config, "wiki")
	other.Target, other.Hash = "https://wiki.example.com/scim", "abc"
	if err := worker.Advance(t.Context(), b.Bus, other); err != nil {
		t.Errorf("nothing is linked: %v", err)
	}
	b.SetLink(user, 2, &provisioningv1.Link{State: provisioningv1.LinkState_LINK_STATE_DISABLED, ResourceId: "2"})
	other.Target, other.Hash = "https://wiki.example.com/v2", "def"
	if err := worker.Advance(t.Context(), b.Bus, other); !errors.Is(err, worker.ErrRefused) {
		t.Errorf("a resource is linked: %v", err)
	}
}
