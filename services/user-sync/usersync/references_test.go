package usersync_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

const managerPath = scim.SchemaEnterpriseUser + ":manager.value"

// managing is a bench whose users have managers.
func managing(t *testing.T) *workertest.Bench {
	t.Helper()
	b := workertest.New(t, "remove: delete", scimtest.Options{})
	b.Map(managerPath, "user.manager")
	b.Unguarded()
	t.Cleanup(func() {
		for _, r := range b.Target.Requests() {
			if strings.Contains(r.Body, "dc=x") {
				t.Errorf("a name of the directory was sent: %s", r.Body)
			}
		}
	})
	return b
}

// employee is a user, by number, without a manager.
func employee(n int) *directoryv1.Change { return workertest.User(n, "u"+string(rune('0'+n)), "", "") }

// manager is the userName of a user's manager on the target.
func manager(b *workertest.Bench, userName string) string {
	u, _ := b.Target.User(userName)
	extension, _ := u[scim.SchemaEnterpriseUser].(map[string]any)
	m, _ := extension["manager"].(map[string]any)
	for _, other := range b.Target.Users() {
		if other["id"] == m["value"] {
			name, _ := other["userName"].(string)
			return name
		}
	}
	return ""
}

func eventuallyManaged(t *testing.T, b *workertest.Bench, userName, by string) {
	t.Helper()
	b.Eventually(userName+"'s manager is "+by, func() bool { return manager(b, userName) == by })
}

func TestManagerWhoWasThereIsSentWithTheCreation(t *testing.T) {
	t.Parallel()
	b := managing(t)
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(employee(1))))
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.Managed(employee(2), 1))))
	if got := manager(b, "u2"); got != "u1" {
		t.Errorf("manager %q", got)
	}
	wantCalls(t, b.Target, "POST /Users", "POST /Users")
}

func TestManagerWhoComesLaterIsSentThen(t *testing.T) {
	t.Parallel()
	b := managing(t)
	b.Start(usersync.Run)
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.Managed(employee(2), 1))))
	b.Until(user, 1, workertest.Applied(b.Publish(employee(1))))
	eventuallyManaged(t, b, "u2", "u1")
	wantCalls(t, b.Target, "POST /Users", "POST /Users", "PATCH /Users/{id}")
	var patch string
	for _, r := range b.Target.Writes() {
		patch = strings.TrimSpace(r.Body)
	}
	want := `{"Operations":[{"op":"replace","path":"` + scim.SchemaEnterpriseUser + `:manager","value":{"value":"` + b.Link(user, 1).GetResourceId() +
		`"}}],"schemas":["` + scim.SchemaPatchOp + `"]}`
	if diff := cmp.Diff(want, patch); diff != "" {
		t.Errorf("body: -want +got\n%s", diff)
	}
}

// Nobody watched when the manager came.
func TestManagerWhoCameBetweenTwoRunsIsSent(t *testing.T) {
	t.Parallel()
	b := managing(t)
	stop := b.Start(usersync.Run)
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.Managed(employee(2), 1))))
	stop()
	id := b.Target.Seed(scim.KindUser, map[string]any{"userName": "u1"})
	b.SetLink(user, 1, &provisioningv1.Link{State: provisioningv1.LinkState_LINK_STATE_ACTIVE, ResourceId: id})
	b.Start(usersync.Run)
	eventuallyManaged(t, b, "u2", "u1")
}

func TestManagerWhoseResourceIsMadeAnewIsSentAgain(t *testing.T) {
	t.Parallel()
	b := managing(t)
	b.Start(usersync.Run)
	first := b.Until(user, 1, workertest.Applied(b.Publish(employee(1)))).GetResourceId()
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.Managed(employee(2), 1))))
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.Gone(user, 1))))
	b.Until(user, 1, workertest.Applied(b.Publish(employee(1))))
	if again := b.Link(user, 1).GetResourceId(); again == first || again == "" {
		t.Fatalf("resource %q, before %q", again, first)
	}
	eventuallyManaged(t, b, "u2", "u1")
}

func TestManagersInACircleAndOwnManager(t *testing.T) {
	t.Parallel()
	b := managing(t)
	b.Start(usersync.Run)
	b.Publish(workertest.Managed(employee(1), 2))
	b.Publish(workertest.Managed(employee(2), 1))
	b.Publish(workertest.Managed(employee(3), 3))
	eventuallyManaged(t, b, "u1", "u2")
	eventuallyManaged(t, b, "u2", "u1")
	eventuallyManaged(t, b, "u3", "u3")
	if got := len(b.Target.Writes()); got > 6 {
		t.Errorf("%d writes: %v", got, calls(b.Target))
	}
}

func TestManagerWhoIsTakenAway(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func() *directoryv1.Change{
		"removed":                         func() *directoryv1.Change { return employee(2) },
		"another, who is not here":        func() *directoryv1.Change { return workertest.Managed(employee(2), 7) },
		"nobody whom the directory knows": func() *directoryv1.Change { return workertest.Managed(employee(2), -1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := managing(t)
			b.Start(usersync.Run)
			b.Until(user, 1, workertest.Applied(b.Publish(employee(1))))
			b.Until(user, 2, workertest.Applied(b.Publish(workertest.Managed(employee(2), 1))))
			b.Target.ResetLog()
			b.Until(user, 2, workertest.Applied(b.Publish(next())))
			if got := manager(b, "u2"); got != "" {
				t.Errorf("manager %q", got)
			}
			wantCalls(t, b.Target, "PATCH /Users/{id}")
		})
	}
}

func TestManagerOutsideTheScopeIsNotSent(t *testing.T) {
	t.Parallel()
	b := managing(t)
	b.Config.Connections["wiki"].Scope = `!("u1" in user.all.uid)`
	b.Advance()
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(employee(1))))
	link := b.Until(user, 2, workertest.Applied(b.Publish(workertest.Managed(employee(2), 1))))
	if refs := link.GetReferences(); len(refs) != 1 || len(refs[0].GetResourceHash()) != 0 {
		t.Errorf("references %v", refs)
	}
	wantCalls(t, b.Target, "POST /Users")
}

// A first synchronization, managers before their reports: every report is created with
// its manager, one request for each, however many are created at the same time.
func TestReportsAreCreatedWithTheirManagers(t *testing.T) {
	t.Parallel()
	b := managing(t)
	b.Target.SetLatency(20 * time.Millisecond)
	published := map[int]uint64{}
	for n := 1; n <= 60; n++ {
		one := workertest.User(n, fmt.Sprintf("u%d", n), "", "")
		if n > 1 {
			one = workertest.Managed(one, n/4) // 1 to 3 have nobody that is known, or u0
		}
		published[n] = b.Publish(one)
	}
	b.Start(usersync.Run)
	for n, sequence := range published {
		b.Until(user, n, workertest.Applied(sequence))
	}
	for n := 4; n <= 60; n++ {
		if got, want := manager(b, fmt.Sprintf("u%d", n)), fmt.Sprintf("u%d", n/4); got != want {
			t.Errorf("u%d: manager %q, want %s", n, got, want)
		}
	}
	if got := spent(b); got["PATCH"] != 0 || got["POST"] != 60 {
		t.Errorf("%v, want a POST for each and nothing else", got)
	}
}
