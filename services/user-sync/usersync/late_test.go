package usersync_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// lookAgain is long enough for what happens before the second look, and short for a test.
const lookAgain = 3 * time.Second

// delay keeps requests of a method, with a text in their body, in the network until they
// are let go: their sender gets no answer, and gives up at last. Until then it waits,
// while publish has it sent; what is sent after that passes.
func delay(b *workertest.Bench, method, body string, publish func()) (arrive func()) {
	late := make(chan struct{})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == method && strings.Contains(r.Body, body) {
			return &scimtest.Fault{Late: late}
		}
		return nil
	})
	publish()
	b.Until(user, 1, retrying)
	b.Target.SetFault(nil)
	return func() {
		close(late)
		b.Target.WaitLate()
	}
}

// looksAgain says that a second look is scheduled and was not made yet.
func looksAgain(l *provisioningv1.Link) bool { return l.GetLookAgainAt() != nil }

// A request that was still in the network when its worker gave it up arrives after the
// successor has committed something newer. The second look repairs that, also where
// everything was restarted in between.
func TestLateWriteIsRepaired(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body    string
		first, second *directoryv1.Change
		harmed        func(ann map[string]any) bool
	}{
		{
			"an older value", "Boss", workertest.User(1, "ann", "Boss", ""), workertest.User(1, "ann", "Chief", ""),
			func(ann map[string]any) bool { return ann["title"] != "Chief" },
		},
		{
			"a disabling", `"active","value":false`, workertest.Gone(user, 1), workertest.User(1, "ann", "Chief", ""),
			func(ann map[string]any) bool { return ann["active"] != true },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			b.Unguarded()
			b.LookAgain = lookAgain
			stop := b.Start(usersync.Run)
			b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
			arrive := delay(b, http.MethodPatch, c.body, func() { b.Publish(c.first) })
			b.Until(user, 1, workertest.Applied(b.Publish(c.second)))
			if !looksAgain(b.Link(user, 1)) {
				t.Fatal("no second look is scheduled")
			}
			stop()
			arrive()
			if ann, _ := b.Target.User("ann"); !c.harmed(ann) {
				t.Fatalf("the late write did no harm: %v", ann)
			}
			b.Target.ResetLog()
			b.Start(usersync.Run)
			b.Until(user, 1, func(l *provisioningv1.Link) bool { return !looksAgain(l) && l.GetClaim() == nil })
			if ann, _ := b.Target.User("ann"); c.harmed(ann) {
				t.Errorf("after the second look: %v", ann)
			}
			if n := len(b.Target.Requests()); n != 3 {
				t.Errorf("%d requests, want a read, a search for twins and a PATCH: %v", n, b.Sent())
			}
		})
	}
}

// A request that got no answer and was sent again with success may still arrive, after a
// newer change.
func TestLateFirstTryIsRepaired(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.LookAgain = lookAgain
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
	var cut atomic.Bool
	late := make(chan struct{})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch && cut.CompareAndSwap(false, true) {
			return &scimtest.Fault{Late: late}
		}
		return nil
	})
	link := b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Boss", ""))))
	if !looksAgain(link) {
		t.Fatal("no second look is scheduled")
	}
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Chief", ""))))
	close(late)
	b.Target.WaitLate()
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return !looksAgain(l) && l.GetClaim() == nil })
	if ann, _ := b.Target.User("ann"); ann["title"] != "Chief" {
		t.Errorf("after the second look: %v", ann)
	}
}

// A creation that arrives late, on a target that keeps nothing unique, makes a second
// account: it is named, and what the successor made stays.
func TestLateCreationIsNamed(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{DuplicateUserNames: true}})
	b.LookAgain = lookAgain
	b.Start(usersync.Run)
	var sequence uint64
	arrive := delay(b, http.MethodPost, "", func() { sequence = b.Publish(workertest.User(1, "ann", "Cook", "")) })
	link := b.Until(user, 1, workertest.Applied(sequence))
	arrive()
	if n := b.Target.Count(scim.KindUser); n != 2 {
		t.Fatalf("%d accounts, want the late one too", n)
	}
	after := b.Until(user, 1, func(l *provisioningv1.Link) bool { return !looksAgain(l) && l.GetClaim() == nil })
	if after.GetResourceId() != link.GetResourceId() || len(b.Target.Writes()) != 2 {
		t.Errorf("link %v after %v", after, b.Sent())
	}
}
