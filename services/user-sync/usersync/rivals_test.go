package usersync_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// Two users with one userName: neither is created, and each names the other.
func TestTwoUsersWithOneUserNameAreBothBlocked(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Publish(workertest.User(1, "ann", "", ""))
	b.Publish(workertest.User(2, "ANN", "", ""))
	b.Start(usersync.Run)
	for n, other := range map[int]int{1: 2, 2: 1} {
		p := b.Until(user, n, workertest.Parked).GetProblem()
		if !slices.Equal(p.GetBlockedBy(), workertest.ID(other)) || !strings.Contains(strings.ToLower(p.GetMessage()), "uid=ann,ou=people") {
			t.Errorf("user %d: %v", n, p)
		}
	}
	if got := b.Target.Users(); len(got) != 0 {
		t.Errorf("created: %v", got)
	}
	parked, err := worker.Parked(t.Context(), b.Bus, "wiki", "corp")
	if err != nil || len(parked) != 2 {
		t.Errorf("parked: %v, %v", parked, err)
	}
}

// An account that is there goes to neither of them.
func TestAnAccountThatTwoUsersMatchIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "title": "Guest", "active": true})
	b.Publish(workertest.User(1, "ann", "Cook", ""))
	b.Publish(workertest.User(2, "ann", "Clerk", ""))
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Parked)
	b.Until(user, 2, workertest.Parked)
	if got := len(b.Target.Writes()); got != 0 {
		t.Errorf("%d writes, want none", got)
	}
}

// When one of them gets another name, both go on.
func TestRivalsGoOnWhenOneGetsAnotherName(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	first := b.Publish(workertest.User(1, "ann", "", ""))
	b.Publish(workertest.User(2, "ann", "", ""))
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Parked)
	b.Until(user, 2, workertest.Parked)
	second := b.Publish(workertest.User(2, "anna", "", ""))
	b.Until(user, 2, workertest.Applied(second))
	b.Until(user, 1, workertest.Applied(first))
	if n := b.Target.Count(scim.KindUser); n != 2 {
		t.Errorf("%d accounts, want 2", n)
	}
}

// A user that has an account keeps it, and the one that comes is blocked.
func TestLinkedUserKeepsItsNameFromANewcomer(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
	writes := len(b.Target.Writes())
	b.Publish(workertest.User(2, "ann", "Clerk", ""))
	b.Until(user, 2, workertest.Parked)
	changed := b.Publish(workertest.User(1, "ann", "Chef", ""))
	b.Until(user, 1, workertest.Applied(changed))
	if got := len(b.Target.Writes()) - writes; got != 1 {
		t.Errorf("%d writes, want the title alone", got)
	}
}

// A disabled namesake is no rival: it gets no account.
func TestDisabledNamesakeIsNoRival(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": true})
	gone := b.Publish(off(workertest.User(1, "ann", "", "")))
	here := b.Publish(workertest.User(2, "ann", "", ""))
	b.Start(usersync.Run)
	b.Until(user, 2, workertest.Applied(here))
	b.Until(user, 1, workertest.Applied(gone))
	if ann, _ := b.Target.User("ann"); ann["active"] != true || b.Link(user, 1).GetResourceId() != "" {
		t.Errorf("ann %v, link of the disabled one %v", ann, b.Link(user, 1))
	}
}
