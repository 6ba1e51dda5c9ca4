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

// refuse makes the target refuse every write that holds a text.
func refuse(b *workertest.Bench, text string) {
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Writes() && strings.Contains(r.Body, text) {
			return &scimtest.Fault{Status: http.StatusBadRequest, ScimType: "invalidValue", Detail: text + " is not allowed"}
		}
		return nil
	})
}

func TestParkedEntryShowsWhatWasSentButNoMaskedValue(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	title := b.Config.Connections["wiki"].Users.Attributes["title"]
	title.Mask = true
	b.Config.Connections["wiki"].Users.Attributes["title"] = title
	refuse(b, "Codename")
	b.Start(usersync.Run)
	b.Publish(workertest.User(1, "ann", "Codename", ""))
	p := b.Until(user, 1, workertest.Parked).GetProblem()
	if !strings.Contains(p.GetRequest(), `"userName":"ann"`) || !strings.Contains(p.GetAnswer(), "*** is not allowed") {
		t.Errorf("problem %v", p)
	}
	if strings.Contains(p.String(), "Codename") {
		t.Errorf("a masked value is shown: %v", p)
	}
	o := b.Outcome(user, 1, provisioningv1.Result_RESULT_PARKED).GetProblem()
	if o.GetRequest() != "" || o.GetAnswer() != "" || o.GetMessage() != p.GetMessage() {
		t.Errorf("audit log %v", o)
	}
}

func TestParkedEntryIsTriedAgainUnderAnotherMapping(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	refuse(b, "Director")
	stop := b.Start(usersync.Run)
	b.Publish(workertest.User(1, "ann", "Director", ""))
	b.Until(user, 1, workertest.Parked)
	stop()
	delete(b.Config.Connections["wiki"].Users.Attributes, "title")
	b.Advance()
	b.Start(usersync.Run)
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetProblem() == nil && l.GetResourceId() != "" })
}

func TestRetryCountsTheAttemptsAnew(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	sequence := b.Publish(workertest.User(1, "ann", "", ""))
	link := b.Until(user, 1, workertest.Applied(sequence))
	link.Attempts, link.Problem = 10, &provisioningv1.Problem{Kind: provisioningv1.ProblemKind_PROBLEM_KIND_PARKED}
	link.Attributes = nil // something is left to do
	b.SetLink(user, 1, link)
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Writes() {
			return &scimtest.Fault{Status: http.StatusInternalServerError}
		}
		return nil
	})
	found, err := worker.Parked(t.Context(), b.Bus, "wiki", "corp")
	if err != nil || len(found) != 1 {
		t.Fatalf("parked: %v, %v", found, err)
	}
	if err := worker.RetryParked(t.Context(), b.Bus, found[0]); err != nil {
		t.Fatal(err)
	}
	b.Until(user, 1, func(l *provisioningv1.Link) bool {
		return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING && l.GetAttempts() == 1
	})
	b.Target.SetFault(nil)
	b.Until(user, 1, workertest.Applied(sequence))
	if n := b.Target.Count(scim.KindUser); n != 1 {
		t.Errorf("%d users", n)
	}
}
