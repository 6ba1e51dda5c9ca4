package usersync_test

import (
	"fmt"
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

// provisioned is a bench with users who are there since long.
func provisioned(t *testing.T, users string, n int) *workertest.Bench {
	t.Helper()
	b := workertest.New(t, users, scimtest.Options{})
	b.Breaker = workertest.Quick
	b.Unguarded()
	b.Start(usersync.Run)
	for i := range n {
		b.Publish(workertest.User(i, fmt.Sprintf("u%d", i), "Cook", ""))
	}
	b.Eventually("everybody is there", func() bool { return b.Provisioned(user) == n })
	for i := range n {
		l := b.Link(user, i)
		l.AppliedAt = nil
		b.SetLink(user, i, l)
	}
	return b
}

// A target that answers for a while as if it had done what was asked, or as if there
// was nobody, is away: nothing is recorded as done, the operator is told, and all of it
// is done afterwards.
func TestAnswersOfSomebodyElseAreAnOutage(t *testing.T) {
	t.Parallel()
	const people = 8
	wrongToken := func(b *workertest.Bench) {
		b.Target.SetQuirks(scimtest.Quirks{ErrorsAnswerOK: true})
		b.Target.SetFault(func(scimtest.Request) *scimtest.Fault {
			return &scimtest.Fault{Status: http.StatusUnauthorized, Detail: "token is not valid"}
		})
	}
	gateway := func(b *workertest.Bench) { b.Target.SetQuirks(scimtest.Quirks{GatewayNotFound: true}) }
	noPath := func(b *workertest.Bench) {
		b.Target.SetFault(func(scimtest.Request) *scimtest.Fault { return &scimtest.Fault{Status: http.StatusNotFound, Body: " "} })
	}
	update := func(n int) *directoryv1.Change { return workertest.User(n, fmt.Sprintf("u%d", n), "Chief", "") }
	leave := func(n int) *directoryv1.Change { return workertest.Gone(user, n) }
	enter := func(n int) *directoryv1.Change { return workertest.User(100+n, fmt.Sprintf("new%d", n), "Cook", "") }
	for name, row := range map[string]struct {
		users string
		lie   func(*workertest.Bench)
		words string
		event func(n int) *directoryv1.Change
		done  func(user map[string]any, there bool) bool
	}{
		"200 with an error, to an update":  {"", wrongToken, "token is not valid", update, func(u map[string]any, _ bool) bool { return u["title"] == "Chief" }},
		"200 with an error, to a disable":  {"remove: disable", wrongToken, "token is not valid", leave, func(u map[string]any, _ bool) bool { return u["active"] == false }},
		"200 with an error, to a deletion": {"remove: delete", wrongToken, "token is not valid", leave, func(_ map[string]any, there bool) bool { return !there }},
		"200 with an error, to a creation": {"", wrongToken, "token is not valid", enter, nil},
		"a gateway's 404, to an update":    {"", gateway, "no Route matched", update, func(u map[string]any, _ bool) bool { return u["title"] == "Chief" }},
		"a gateway's 404, to a deletion":   {"remove: delete", gateway, "no Route matched", leave, func(_ map[string]any, there bool) bool { return !there }},
		"a gateway's 404, to a creation":   {"", gateway, "target.url", enter, nil},
		"no service there, to a creation":  {"", noPath, "target.url", enter, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := provisioned(t, row.users, people)
			row.lie(b)
			for n := range people {
				b.Publish(row.event(n))
			}
			if p := b.PausedFor(outage); !strings.Contains(p.GetMessage(), row.words) {
				t.Errorf("the pause does not say %q: %v", row.words, p)
			}
			for id, l := range b.Links(user) {
				if workertest.Parked(l) || l.GetState() == provisioningv1.LinkState_LINK_STATE_REMOVED || l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED {
					t.Errorf("%s is recorded as %v, problem %v", id, l.GetState(), l.GetProblem())
				}
			}
			if got := b.Target.Count(scim.KindUser); got != people {
				t.Errorf("%d users on the target, want %d", got, people)
			}
			b.Target.SetFault(nil)
			b.Target.SetQuirks(scimtest.Quirks{})
			b.Resumed()
			b.Eventually("all of it is done", func() bool {
				if row.done == nil {
					return b.Target.Count(scim.KindUser) == 2*people
				}
				for n := range people {
					if u, there := b.Target.User(fmt.Sprintf("u%d", n)); !row.done(u, there) {
						return false
					}
				}
				return true
			})
		})
	}
}
