package usersync_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// answering answers the first n requests of a method with a fault.
func answering(b *workertest.Bench, method string, n int32, fault scimtest.Fault) {
	var given atomic.Int32
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == method && given.Add(1) <= n {
			return &fault
		}
		return nil
	})
}

// employed is a bench with one user who is there.
func employed(t *testing.T, users string, opts scimtest.Options) *workertest.Bench {
	t.Helper()
	b := workertest.New(t, users, opts)
	b.Unguarded()
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", "ann@x"))))
	b.Target.ResetLog()
	return b
}

// What the target never changes is left out, said once, and stops nothing else.
func TestImmutableAttributeIsLeftOut(t *testing.T) {
	t.Parallel()
	b := employed(t, "", scimtest.Options{Quirks: scimtest.Quirks{Immutable: []string{"title"}}})
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Chief", "ann@y"))))
	ann, _ := b.Target.User("ann")
	if mails := textOf(ann["emails"]); ann["title"] != "Cook" || !strings.Contains(mails, "ann@y") {
		t.Errorf("user %v", ann)
	}
	wantCalls(t, b.Target, "PATCH /Users/{id}", "PATCH /Users/{id}", "PATCH /Users/{id}")
	b.Target.ResetLog()
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Boss", "ann@z"))))
	wantCalls(t, b.Target, "PATCH /Users/{id}")
	b.Target.ResetLog()
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Head", "ann@z"))))
	wantCalls(t, b.Target)
}

// A path that matches nothing is as good as cleared; what was sent beside it is sent
// again without it.
func TestClearingWhatIsNotThereIsDone(t *testing.T) {
	t.Parallel()
	b := employed(t, "", scimtest.Options{})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if strings.Contains(r.Body, `"remove"`) {
			return &scimtest.Fault{Status: http.StatusBadRequest, ScimType: "noTarget"}
		}
		return nil
	})
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@y"))))
	if ann, _ := b.Target.User("ann"); !strings.Contains(textOf(ann["emails"]), "ann@y") {
		t.Errorf("user %v", ann)
	}
	wantCalls(t, b.Target, "PATCH /Users/{id}", "PATCH /Users/{id}")
	b.Target.ResetLog()
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	wantCalls(t, b.Target, "PATCH /Users/{id}")
}

// Somebody else wrote at the same time: read again, compare, and send what is left.
func TestConflictOfAWriteIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusConflict, http.StatusPreconditionFailed} {
		b := employed(t, "", scimtest.Options{})
		answering(b, http.MethodPatch, 2, scimtest.Fault{Status: status})
		b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Chief", "ann@x"))))
		wantCalls(t, b.Target, "PATCH /Users/{id}", "GET /Users/{id}", "PATCH /Users/{id}", "GET /Users/{id}", "PATCH /Users/{id}")
	}
}

// A target that has accepted a creation makes the user in its own time: Rollcall waits
// and looks, and makes no second one.
func TestAcceptedCreationIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{DuplicateUserNames: true}})
	b.Override("unique: none")
	var posts, looks atomic.Int32
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		switch {
		case r.Method == http.MethodPost:
			posts.Add(1)
			return &scimtest.Fault{Status: http.StatusAccepted}
		case posts.Load() > 0 && looks.Add(1) == 3:
			b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann"})
		}
		return nil
	})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	if posts.Load() != 1 || b.Target.Count(scim.KindUser) != 1 {
		t.Errorf("%d creations, %d users", posts.Load(), b.Target.Count(scim.KindUser))
	}
}

// A success that names no resource is none: the target is looked at.
func TestCreationWithoutAnIDIsLookedFor(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{EmptyCreates: true}})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	if b.Target.Count(scim.KindUser) != 1 || b.Link(user, 1).GetResourceId() == "" {
		t.Errorf("%d users, link %v", b.Target.Count(scim.KindUser), b.Link(user, 1))
	}
}

// A target that does not know yet what it has just created gets a moment.
func TestUserThatIsNotThereYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := employed(t, "", scimtest.Options{})
	answering(b, http.MethodPatch, 1, scimtest.Fault{Status: http.StatusNotFound})
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Chief", "ann@x"))))
	for _, r := range b.Target.Requests() {
		if r.Method == http.MethodPost {
			t.Error("the user was created again")
		}
	}
	if ann, _ := b.Target.User("ann"); ann["title"] != "Chief" {
		t.Errorf("user %v", ann)
	}
}

// A target that cannot delete users has them disabled.
func TestUserThatCannotBeDeletedIsDisabled(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		b := employed(t, "remove: delete", scimtest.Options{})
		answering(b, http.MethodDelete, 100, scimtest.Fault{Status: status})
		b.Until(user, 1, workertest.Applied(b.Publish(workertest.Gone(user, 1))))
		if ann, _ := b.Target.User("ann"); ann["active"] != false {
			t.Errorf("user %v", ann)
		}
		wantCalls(t, b.Target, "DELETE /Users/{id}", "PATCH /Users/{id}")
	}
}

// A user whom somebody deleted on the target is created again, or left alone until a
// person says otherwise.
func TestUserWhoVanished(t *testing.T) {
	t.Parallel()
	b := employed(t, "vanished: leave", scimtest.Options{})
	old(t, b)
	if err := b.Target.Remove(scim.KindUser, b.Link(user, 1).GetResourceId()); err != nil {
		t.Fatal(err)
	}
	b.Publish(workertest.User(1, "ann", "Chief", "ann@x"))
	link := b.Until(user, 1, func(l *provisioningv1.Link) bool {
		return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED
	})
	if got := link.GetProblem().GetMessage(); !strings.Contains(got, "users.vanished") {
		t.Errorf("reason %q", got)
	}
	if n := b.Target.Count(scim.KindUser); n != 0 {
		t.Fatalf("%d users", n)
	}
	if err := b.Bus.Request(t.Context(), user, "wiki", workertest.ID(1), "retry"); err != nil {
		t.Fatal(err)
	}
	b.Eventually("the user is created again", func() bool { return b.Target.Count(scim.KindUser) == 1 })
}

// An entry that cannot be matched costs a few calls, and then waits for a person.
func TestCallsOfOneEventAreBounded(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPost {
			return &scimtest.Fault{Status: http.StatusConflict}
		}
		return nil
	})
	b.Start(usersync.Run)
	b.Publish(workertest.User(1, "ann", "", ""))
	b.Until(user, 1, func(l *provisioningv1.Link) bool {
		return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED
	})
	want := []string{"POST /Users", "GET /Users", "POST /Users"}
	if calls(b.Target)[0] == "GET /Users" { // the listing of a first run that is not over yet
		want = append([]string{"GET /Users"}, want...)
	}
	wantCalls(t, b.Target, want...)
}

func textOf(v any) string {
	return strings.ReplaceAll(cmp.Diff(nil, v), "\n", " ")
}

// old makes the link of the first user an old one.
func old(t *testing.T, b *workertest.Bench) {
	t.Helper()
	l := b.Link(user, 1)
	l.AppliedAt = nil
	b.SetLink(user, 1, l)
}

// A user is disabled and gets a name, in one change, that another account has. The refusal
// of the name does not keep the account active.
func TestRefusedNameDoesNotKeepAnAccountActive(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ben", "active": true})
	renamed := workertest.User(1, "ben", "Cook", "")
	renamed.GetUser().Enabled = false
	b.Publish(renamed)
	b.Eventually("the account is inactive", func() bool {
		ann, _ := b.Target.User("ann")
		return ann["active"] == false
	})
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetProblem() != nil }) // the name is not forgotten
}
