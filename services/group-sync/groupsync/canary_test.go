package groupsync_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// untried is a bench whose target nobody vouches for, with a group of four.
func untried(t *testing.T, opts scimtest.Options, overrides string) *workertest.Bench {
	t.Helper()
	b := workertest.New(t, "", opts)
	b.Override(strings.TrimPrefix(overrides+", member_remove_vouched: false", ", "))
	b.Unguarded()
	provision(t, b, 1, 2, 3, 4, 5)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "crew", 1, 2, 3, 4)))
	b.Target.ResetLog()
	return b
}

// requests are the methods and paths that the target got, without ids.
func requests(s *scimtest.Server) []string {
	var all []string
	for _, r := range s.Requests() {
		path := r.Path
		if i := strings.LastIndexByte(path, '/'); i > 0 {
			path = path[:i] + "/{id}"
		}
		all = append(all, r.Method+" "+path)
	}
	return all
}

func TestFirstRemovalIsTriedOnce(t *testing.T) {
	t.Parallel()
	b := untried(t, scimtest.Options{}, "")
	b.Until(group, staff, workertest.Applied(b.Group(staff, "crew", 1, 2, 3)))
	want := []string{"POST /Groups", "GET /Groups/{id}", "PATCH /Groups/{id}", "GET /Groups/{id}", "DELETE /Groups/{id}", "PATCH /Groups/{id}"}
	if diff := cmp.Diff(want, requests(b.Target)); diff != "" {
		t.Errorf("requests: -want +got\n%s", diff)
	}
	b.Target.ResetLog()
	b.Start(groupsync.Run) // another replica knows, too
	b.Until(group, staff, workertest.Applied(b.Group(staff, "crew", 1, 2)))
	if diff := cmp.Diff([]string{"PATCH /Groups/{id}"}, requests(b.Target)); diff != "" {
		t.Errorf("the second time: -want +got\n%s", diff)
	}
	if got := b.Target.Count(scim.KindGroup); got != 1 {
		t.Errorf("%d groups on the target", got)
	}
}

// A target that drops everybody loses nobody: removals wait, and everything else goes
// on.
func TestTargetThatWipesLosesNobody(t *testing.T) {
	t.Parallel()
	b := untried(t, scimtest.Options{Quirks: scimtest.Quirks{WipeOnPathRemove: true}}, "")
	b.Group(staff, "team", 1, 2, 3)
	link := b.Until(group, staff, func(l *provisioningv1.Link) bool {
		return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED
	})
	if got := link.GetProblem().GetMessage(); !strings.Contains(got, "removes every member") {
		t.Errorf("reason %q", got)
	}
	if got := len(b.Target.Members("team")); got != 4 {
		t.Errorf("%d members, want the 4 that there were, under the new name", got)
	}
	b.Target.ResetLog()
	b.Group(staff, "team", 1, 2, 3, 5)
	b.Eventually("an addition goes on", func() bool { return len(b.Target.Members("team")) == 5 })
	for _, r := range b.Target.Requests() {
		if strings.Contains(r.Body, `"remove"`) || r.Method == http.MethodPost {
			t.Errorf("tried again at once: %s %s", r.Method, r.Body)
		}
	}
}

// Where nobody can see what becomes of it, somebody has to know.
func TestUnreadableMembersNeedAWord(t *testing.T) {
	t.Parallel()
	b := untried(t, scimtest.Options{}, "members_readable: no")
	b.Group(staff, "crew", 1, 2, 3)
	link := b.Until(group, staff, func(l *provisioningv1.Link) bool {
		return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED
	})
	if got := link.GetProblem().GetMessage(); !strings.Contains(got, "member_remove_vouched") {
		t.Errorf("reason %q", got)
	}
	if got := len(b.Target.Members("crew")); got != 4 {
		t.Errorf("%d members", got)
	}
}

// The last member needs no trial: there is nobody to lose.
func TestLastMemberNeedsNoTrial(t *testing.T) {
	t.Parallel()
	b := untried(t, scimtest.Options{}, "")
	b.Until(group, staff, workertest.Applied(b.Group(staff, "crew")))
	if diff := cmp.Diff([]string{"PATCH /Groups/{id}"}, requests(b.Target)); diff != "" {
		t.Errorf("requests: -want +got\n%s", diff)
	}
}

// What an interrupted trial left is deleted by the next one, by its id or its name.
func TestInterruptedTrialIsCleanedUp(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		b := untried(t, scimtest.Options{}, "")
		id := b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "rollcall-canary-00000000"})
		one := &provisioningv1.Canary{State: provisioningv1.CanaryState_CANARY_STATE_RUNNING, Group: "rollcall-canary-00000000", ResourceId: id}
		if lost {
			one.ResourceId = ""
		}
		known := bus.OpenBucket[provisioningv1.Canary](b.Bus, provisioningv1.BucketTargets)
		if _, err := known.Put(t.Context(), provisioningv1.CanaryKey("wiki"), one, 0); err != nil {
			t.Fatal(err)
		}
		b.Until(group, staff, workertest.Applied(b.Group(staff, "crew", 1, 2, 3)))
		if got := b.Target.Count(scim.KindGroup); got != 1 {
			t.Errorf("%d groups on the target (id lost: %t)", got, lost)
		}
	}
}

// A trial that the target answers with a failure is no answer: it is made again.
func TestTrialIsMadeAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	b := untried(t, scimtest.Options{}, "")
	failed := 0
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if failed == 0 && r.Method == http.MethodPatch {
			failed++
			return &scimtest.Fault{Status: http.StatusInternalServerError}
		}
		return nil
	})
	b.Until(group, staff, workertest.Applied(b.Group(staff, "crew", 1, 2, 3)))
	if got := len(b.Target.Members("crew")); got != 3 || failed != 1 {
		t.Errorf("%d members, %d failures", got, failed)
	}
	if got := b.Target.Count(scim.KindGroup); got != 1 {
		t.Errorf("%d groups on the target", got)
	}
}

// A target that fails on an added member still removes another one, after the trial.
func TestTrialGoesOnAfterAFailedAddition(t *testing.T) {
	t.Parallel()
	b := untried(t, scimtest.Options{}, "")
	added := b.Link(user, 5).GetResourceId()
	fails500(b, added)
	sequence := b.Group(staff, "crew", 1, 2, 3, 5)
	b.Until(group, staff, func(l *provisioningv1.Link) bool { return l.GetAttempts() > 0 })
	if diff := cmp.Diff([]string{"u1", "u2", "u3"}, members(b, "crew")); diff != "" {
		t.Errorf("after one failure: -want +got\n%s", diff)
	}
	b.Target.SetFault(nil)
	b.Until(group, staff, workertest.Applied(sequence))
	if diff := cmp.Diff([]string{"u1", "u2", "u3", "u5"}, members(b, "crew")); diff != "" {
		t.Errorf("in the end: -want +got\n%s", diff)
	}
}

// The throwaway group has the attributes of the real one, because the target may demand
// them, and nothing that has to be its own.
func TestTrialCarriesTheMappedAttributes(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.ConfigureGroups(`attributes: {"urn:scimtest:2.0:Group:purpose": {value: '"work"'}}`)
	b.Override("member_remove_vouched: false")
	b.Unguarded()
	provision(t, b, 1, 2, 3)
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != http.MethodPost || r.Path != "/Groups" {
			return nil
		}
		if !strings.Contains(r.Body, `"purpose":"work"`) {
			return &scimtest.Fault{Status: http.StatusBadRequest, ScimType: "invalidValue", Detail: "a purpose is needed"}
		}
		return nil
	})
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "crew", 1, 2, 3)))
	b.Until(group, staff, workertest.Applied(b.Group(staff, "crew", 1, 2)))
	var trials []string
	for _, r := range b.Target.Writes() {
		if r.Method == http.MethodPost && strings.Contains(r.Body, `"displayName":"rollcall-canary-`) {
			trials = append(trials, r.Body)
		}
	}
	if len(trials) != 1 || !strings.Contains(trials[0], `"externalId":"rollcall-canary-`) {
		t.Errorf("trials: %v", trials)
	}
	if diff := cmp.Diff([]string{"u1", "u2"}, members(b, "crew")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// The words about a target that cannot remove one member name the knob that helps: with
// it, whole groups are sent.
func TestFailedTrialNamesTheKnob(t *testing.T) {
	t.Parallel()
	b := untried(t, scimtest.Options{Quirks: scimtest.Quirks{WipeOnPathRemove: true}}, "")
	b.Group(staff, "crew", 1, 2, 3)
	link := b.Until(group, staff, workertest.Parked)
	if got := link.GetProblem().GetMessage(); !strings.Contains(got, "target.overrides.group_patch to false") {
		t.Fatalf("reason %q", got)
	}
	b.Override("member_remove_vouched: false, group_patch: false")
	b.Start(groupsync.Run)
	b.Eventually("the member is removed by a PUT", func() bool {
		return cmp.Equal([]string{"u1", "u2", "u3"}, members(b, "crew"))
	})
}
