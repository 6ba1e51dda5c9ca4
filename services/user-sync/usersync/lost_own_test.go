package usersync_test

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// lostCreation is the link of an entry whose creation had no answer.
func lostCreation() *provisioningv1.Link {
	return &provisioningv1.Link{
		State: provisioningv1.LinkState_LINK_STATE_NONE,
		Claim: &provisioningv1.Claim{Sequence: 1, Intent: provisioningv1.Intent_INTENT_CREATE},
	}
}

// bearing is an account that bears the id of the first entry.
func bearing(name string) map[string]any {
	return map[string]any{"userName": name, "active": true, "externalId": hex.EncodeToString(workertest.ID(1))}
}

// Two creations of a user who was renamed between them had no answer, and both were done.
// When the user is gone then, both accounts are active: an operator is told.
func TestSeveralLostCreationsOfAGoneUserAreNamed(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	first, second := b.Target.Seed(scim.KindUser, bearing("eve")), b.Target.Seed(scim.KindUser, bearing("ann"))
	b.SetLink(user, 1, lostCreation())
	b.Publish(workertest.Gone(user, 1))
	b.Start(usersync.Run)
	link := b.Until(user, 1, func(l *provisioningv1.Link) bool {
		return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED
	})
	for _, id := range []string{first, second} {
		if !strings.Contains(link.GetProblem().GetMessage(), id) {
			t.Errorf("the problem does not name %s: %s", id, link.GetProblem().GetMessage())
		}
	}
}

// The account that a lost creation made may have been given to another user meanwhile, who
// has its name now. It is not the first user's any more, for whom nothing is left to do.
func TestLostCreationThatAnotherUserGotIsLetGo(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	b.Target.Seed(scim.KindUser, bearing("ann"))
	b.Start(usersync.Run)
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.User(2, "ann", "Chief", ""))))
	b.SetLink(user, 1, lostCreation())
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.Gone(user, 1))))
	if ann, _ := b.Target.User("ann"); ann["active"] != true || ann["title"] != "Chief" {
		t.Errorf("the other user's account is %v", ann)
	}
}

// The first write to an account that was found may be refused for now. A value that the
// account had, and that the user's next change has none of, is cleared all the same.
func TestFormerValueOfAnAdoptedUserIsClearedLater(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": true, "title": "Former"})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch {
			return &scimtest.Fault{Status: http.StatusTooManyRequests}
		}
		return nil
	})
	b.Start(usersync.Run)
	b.Publish(workertest.User(1, "ann", "Cook", ""))
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetResourceId() != "" && retrying(l) })
	b.Target.SetFault(nil)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	if ann, _ := b.Target.User("ann"); ann["title"] != nil {
		t.Errorf("the account is %v", ann)
	}
}

// Of an account whose creation had no answer, and whose user was gone when it was found, it
// is not known what was sent. When the user comes back, what the account has and the user
// has not is cleared.
func TestFormerValueOfALostCreationIsClearedLater(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	account := bearing("ann")
	account["title"] = "Cook"
	b.Target.Seed(scim.KindUser, account)
	b.SetLink(user, 1, lostCreation())
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.Gone(user, 1))))
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	if ann, _ := b.Target.User("ann"); ann["title"] != nil || ann["active"] != true {
		t.Errorf("the account is %v", ann)
	}
}
