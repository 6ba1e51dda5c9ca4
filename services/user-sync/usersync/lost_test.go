package usersync_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// loseFirst makes the answer to the first request of a method get lost, after it
// was carried out.
func loseFirst(b *workertest.Bench, method string) {
	lost := false
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != method || lost {
			return nil
		}
		lost = true
		return &scimtest.Fault{Reset: scimtest.ResetAfterCommit}
	})
}

// retrying waits until the first attempt has failed.
func retrying(l *provisioningv1.Link) bool { return l.GetProblem() != nil }

func TestWhatBecomesOfALostCreation(t *testing.T) {
	t.Parallel()
	disabled := workertest.User(1, "ann", "", "ann@x")
	disabled.GetUser().Enabled = false
	cases := []struct {
		name   string
		next   *directoryv1.Change
		active any
		user   string
	}{
		{"deleted meanwhile: disabled, no orphan", workertest.Gone(user, 1), false, "ann"},
		{"disabled meanwhile: disabled, no orphan", disabled, false, "ann"},
		{"renamed meanwhile: renamed, no duplicate", workertest.User(1, "anna", "", "ann@x"), true, "anna"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			loseFirst(b, http.MethodPost)
			b.Start(usersync.Run)
			b.Publish(workertest.User(1, "ann", "", "ann@x"))
			b.Until(user, 1, retrying)
			b.Until(user, 1, workertest.Applied(b.Publish(c.next)))
			got, found := b.Target.User(c.user)
			if !found || got["active"] != c.active {
				t.Errorf("%s: %v", c.user, got)
			}
			if n := b.Target.Count(scim.KindUser); n != 1 {
				t.Errorf("%d users on the target, want 1", n)
			}
		})
	}
}

func TestOneAccountHasOneOwner(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "match: [emails.value]", scimtest.Options{})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "shared", "active": true, "emails": []any{map[string]any{"type": "work", "value": "team@x", "primary": true}}})
	b.Target.SetLatency(20_000_000)
	b.Start(usersync.Run)
	b.Start(usersync.Run)
	b.Publish(workertest.User(1, "ann", "", "team@x"))
	b.Publish(workertest.User(2, "bob", "", "team@x"))
	settled := func(l *provisioningv1.Link) bool {
		return l.GetClaim() == nil && (workertest.Parked(l) || l.GetResourceId() != "")
	}
	one, two := b.Until(user, 1, settled), b.Until(user, 2, settled)
	owner := "shared" // where each was seen before the other was done
	switch {
	case one.GetResourceId() != "" && two.GetResourceId() != "":
		t.Errorf("owners: %v and %v", one, two)
	case one.GetResourceId() != "":
		owner = "ann"
	case two.GetResourceId() != "":
		owner = "bob"
	}
	if _, found := b.Target.User(owner); !found {
		t.Errorf("the account does not hold its owner's name %s: %v", owner, b.Target.Users())
	}
}

func TestAGatewaysPageIsNotTheEndOfAnAccount(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch {
			return &scimtest.Fault{Status: http.StatusNotFound, Body: "<html>no route</html>"}
		}
		return nil
	})
	sequence := b.Publish(workertest.Gone(user, 1))
	b.Until(user, 1, retrying)
	b.Target.SetFault(nil)
	b.Until(user, 1, workertest.Applied(sequence))
	if ann, _ := b.Target.User("ann"); ann["active"] != false {
		t.Errorf("user %v", ann)
	}
}

func TestDisableThatFailedOnceKeepsWhatIsKnown(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Director", "ann@x"))))
	loseFirst(b, http.MethodPatch)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.Gone(user, 1))))
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	if ann, _ := b.Target.User("ann"); ann["active"] != true || ann["title"] != nil {
		t.Errorf("user %v", ann)
	}
}

func TestProblemsNameNobodyInTheURL(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "match: [emails.value]", scimtest.Options{})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault { return &scimtest.Fault{Reset: scimtest.ResetBeforeCommit} })
	b.Start(usersync.Run)
	b.Publish(workertest.User(1, "ann", "", "ann@example.com"))
	if p := b.Until(user, 1, retrying).GetProblem(); strings.Contains(p.GetMessage(), "ann") {
		t.Errorf("problem %q", p.GetMessage())
	}
}
