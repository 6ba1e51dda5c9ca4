package plan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/plan"
)

// The building blocks of the table.
var (
	everything = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDisable}
	looking    = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDisable, LookFirst: true}
	deleting   = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDelete}
	keeping    = plan.Policy{Create: true, Update: true, Remove: plan.RemoveKeep}
	noCreate   = plan.Policy{Update: true, Remove: plan.RemoveDisable}
	noUpdate   = plan.Policy{Create: true, Remove: plan.RemoveDisable}
	purging    = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDisable, DeleteAfter: true}
	disabledOK = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDisable, ProvisionDisabled: true}
	ours       = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDisable, ReactivateOurs: true}
	// users.disabled: remove, with each users.remove.
	endDisable = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDisable, RemoveDisabled: true}
	endDelete  = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDelete, RemoveDisabled: true}
	endCreates = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDelete, RemoveDisabled: true, ProvisionDisabled: true}
	endKeep    = plan.Policy{Create: true, Update: true, Remove: plan.RemoveKeep, RemoveDisabled: true}
	endKeepOff = plan.Policy{Create: true, Update: true, Remove: plan.RemoveKeep, RemoveDisabled: true, ProvisionDisabled: true}
	endPurge   = plan.Policy{Create: true, Update: true, Remove: plan.RemoveDisable, RemoveDisabled: true, DeleteAfter: true}

	attributes = map[string][]byte{"userName": {1}, "title": {2}}
	enabled    = plan.Desired{InScope: true, Enabled: true, Attributes: attributes}
	disabled   = plan.Desired{InScope: true, Attributes: attributes}
	cleared    = plan.Desired{InScope: true, Enabled: true, Attributes: map[string][]byte{"userName": {1}}, Absent: []string{"title"}}
	nameless   = plan.Desired{InScope: true, Enabled: true, Missing: []string{"userName"}, Absent: []string{"userName"}}
	lapsed     = plan.Desired{InScope: true, Missing: []string{"userName"}}
	gone       = plan.Desired{Why: "deleted from the directory"}
	rival      = &plan.Rival{ID: "ab", Name: "uid=ann", Attribute: "userName"}
	contested  = plan.Desired{InScope: true, Enabled: true, Attributes: attributes, Rival: rival}
	contestOff = plan.Desired{InScope: true, Attributes: attributes, Rival: rival}

	none        = plan.Linked{}
	active      = plan.Linked{State: plan.Active, ResourceID: "7", Attributes: attributes}
	outdated    = plan.Linked{State: plan.Active, ResourceID: "7", Attributes: map[string][]byte{"userName": {9}, "title": {2}}}
	off         = plan.Linked{State: plan.Disabled, ResourceID: "7", Attributes: attributes}
	foundOff    = plan.Linked{State: plan.Disabled, ResourceID: "7", Attributes: attributes, FoundInactive: true}
	foundOffOld = plan.Linked{State: plan.Disabled, ResourceID: "7", Attributes: map[string][]byte{"userName": {9}, "title": {2}}, FoundInactive: true}
	offOutdated = plan.Linked{State: plan.Disabled, ResourceID: "7", Attributes: map[string][]byte{"userName": {9}, "title": {2}}}
	removed     = plan.Linked{State: plan.Removed}
	pending     = plan.Linked{State: plan.Disabled, ResourceID: "7", Attributes: attributes, Deletion: plan.Pending}
	due         = plan.Linked{State: plan.Disabled, ResourceID: "7", Attributes: attributes, Deletion: plan.Due}
	reactivated = plan.Linked{State: plan.Active, ResourceID: "7", Attributes: attributes, Deletion: plan.Due}

	unseen     = plan.Observed{}
	empty      = plan.Observed{Looked: true}
	oneSame    = plan.Observed{Looked: true, Matches: []plan.Match{{ID: "5", Active: true}}}
	oneOff     = plan.Observed{Looked: true, Matches: []plan.Match{{ID: "5"}}}
	oneOffOurs = plan.Observed{Looked: true, Matches: []plan.Match{{ID: "5", Ours: true}}}
	oneDiff    = plan.Observed{Looked: true, Matches: []plan.Match{{ID: "5", Active: true, Differs: []string{"title", "nickName"}}}}
	owned      = plan.Observed{Looked: true, Matches: []plan.Match{{ID: "5", Active: true, Owner: "ab"}}}
	two        = plan.Observed{Looked: true, Matches: []plan.Match{{ID: "5"}, {ID: "6"}}}
	twoOurs    = plan.Observed{Looked: true, Matches: []plan.Match{{ID: "5", Active: true}, {ID: "6", Ours: true, Active: true}}}
)

const (
	ownedReason = "the matching resource is owned by entry ab"
	twoReason   = "several resources of the target match; make the match unique, or set externalId on the right one"
	missing     = "no value for userName, which is required or matched by"
	offReason   = "disabled in the directory"
	contest     = "has the same userName as entry ab (uid=ann); make it unique in the directory, or take one of them out of scope"
	notCreated  = "disabled in the directory, and provision_disabled is off"
	goneReason  = "deleted from the directory"
	dueReason   = "deleted from the directory, and delete_after is over"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	all := []string{"title", "userName"}
	cases := []struct {
		name     string
		policy   plan.Policy
		desired  plan.Desired
		linked   plan.Linked
		observed plan.Observed
		want     plan.Action
	}{
		// Provisioning.
		{"new user is created without a look", everything, enabled, none, unseen, plan.Action{Kind: plan.Create, Set: all, Active: new(true)}},
		{"new entry is looked for where names are not unique", looking, enabled, none, unseen, plan.Action{Kind: plan.Look}},
		{"nothing found: created", looking, enabled, none, empty, plan.Action{Kind: plan.Create, Set: all, Active: new(true)}},
		{"create off: looked for all the same", noCreate, enabled, none, unseen, plan.Action{Kind: plan.Look}},
		{"create off and nothing found: nothing", noCreate, enabled, none, empty, plan.Action{Kind: plan.DoNothing, Reason: "no match on the target, and create is off"}},
		{"two users with one userName: neither is created", everything, contested, none, unseen, plan.Action{Kind: plan.Blocked, Owner: "ab", Reason: contest}},
		{"two users with one userName: who is linked keeps the account", everything, contested, active, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7"}},

		// Leavers with accounts.
		{"disabled user is looked for", everything, disabled, none, unseen, plan.Action{Kind: plan.Look}},
		{"disabled user without an account is not created", everything, disabled, none, empty, plan.Action{Kind: plan.DoNothing, Reason: notCreated}},
		{"disabled user with an active account: adopted and disabled", everything, disabled, none, oneSame, plan.Action{Kind: plan.Adopt, ResourceID: "5", Active: new(false), Reason: offReason}},
		{"disabled user with an inactive account: left alone", everything, disabled, none, oneOff, plan.Action{Kind: plan.DoNothing, Reason: notCreated + ", and its account is inactive"}},
		{"disabled user with an inactive account that bears the entry id: adopted", everything, disabled, none, oneOffOurs, plan.Action{Kind: plan.Adopt, ResourceID: "5"}},
		{"disabled user whose account is owned: left alone", everything, disabled, none, owned, plan.Action{Kind: plan.DoNothing, Reason: notCreated + ", and the matching resource is owned by entry ab"}},
		{"disabled user with two accounts: blocked", everything, disabled, none, two, plan.Action{Kind: plan.Blocked, Reason: twoReason}},
		{"disabled user without userName: nothing to match", everything, lapsed, none, unseen, plan.Action{Kind: plan.DoNothing, Reason: notCreated}},
		{"disabled user with another's userName: that one's account", everything, contestOff, none, unseen, plan.Action{Kind: plan.DoNothing, Reason: notCreated + ", and entry ab has the same userName"}},

		// users.disabled: remove.
		{"disabled: remove, remove: disable: disabled, nothing else", endDisable, disabled, outdated, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: offReason}},
		{"disabled: remove, remove: delete: deleted", endDelete, disabled, active, unseen, plan.Action{Kind: plan.Delete, ResourceID: "7", Reason: offReason}},
		{"disabled: remove, remove: delete: disabled before, deleted", endDelete, disabled, off, unseen, plan.Action{Kind: plan.Delete, ResourceID: "7", Reason: offReason}},
		{"disabled: remove, remove: keep: nothing", endKeep, disabled, active, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: offReason}},
		{"disabled: remove with delete_after: disabled, and the wait begins", endPurge, disabled, active, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: offReason, Schedule: plan.Begin}},
		{"disabled: remove: deleted before, and not created", endDelete, disabled, removed, unseen, plan.Action{Kind: plan.DoNothing, Reason: notCreated}},
		{"disabled: remove: no loop with provision_disabled", endCreates, disabled, none, empty, plan.Action{Kind: plan.DoNothing, Reason: offReason}},
		{"disabled: remove, remove: delete: an account that is there is deleted", endDelete, disabled, none, oneSame, plan.Action{Kind: plan.Delete, ResourceID: "5", Reason: offReason}},
		{"disabled: remove, remove: keep: not looked for", endKeep, disabled, none, unseen, plan.Action{Kind: plan.DoNothing, Reason: notCreated}},
		{"disabled: remove, remove: keep: adopted as it is", endKeepOff, disabled, none, oneSame, plan.Action{Kind: plan.Adopt, ResourceID: "5", Reason: offReason}},
		{"disabled: remove: enabled again after the delete: created", endDelete, enabled, removed, unseen, plan.Action{Kind: plan.Create, Set: all, Active: new(true)}},

		// users.reactivate: ours.
		{"reactivate: ours: disabled by Rollcall: enabled", ours, enabled, off, unseen, plan.Action{Kind: plan.Enable, ResourceID: "7", Active: new(true)}},
		{"reactivate: ours: found inactive: stays", ours, enabled, foundOff, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: plan.InactiveReason}},
		{"reactivate: ours: found inactive: updated all the same", ours, enabled, foundOffOld, unseen, plan.Action{Kind: plan.Update, ResourceID: "7", Set: []string{"userName"}}},
		{"reactivate: ours: adopted as it is", ours, enabled, none, plan.Observed{Looked: true, Matches: []plan.Match{{ID: "5"}}}, plan.Action{Kind: plan.Adopt, ResourceID: "5", Reason: plan.InactiveReason}},
		{"reactivate: always: found inactive: enabled", everything, enabled, foundOff, unseen, plan.Action{Kind: plan.Enable, ResourceID: "7", Active: new(true)}},
		{"provision_disabled: created disabled", disabledOK, disabled, none, unseen, plan.Action{Kind: plan.Create, Set: all, Active: new(false)}},
		{"missing userName: blocked, never created", everything, nameless, none, unseen, plan.Action{Kind: plan.Blocked, Reason: missing}},

		// Synchronizing existing resources.
		{"equal match is linked without a call", everything, enabled, none, oneSame, plan.Action{Kind: plan.Adopt, ResourceID: "5"}},
		{"match is linked and brought up to date", everything, enabled, none, oneDiff, plan.Action{Kind: plan.Adopt, ResourceID: "5", Set: []string{"title"}, Clear: []string{"nickName"}}},
		{"inactive match is enabled", everything, enabled, none, oneOff, plan.Action{Kind: plan.Adopt, ResourceID: "5", Active: new(true)}},
		{"update off: linked as it is", noUpdate, enabled, none, oneDiff, plan.Action{Kind: plan.Adopt, ResourceID: "5"}},
		{"update off: an inactive match stays inactive", noUpdate, enabled, none, oneOff, plan.Action{Kind: plan.Adopt, ResourceID: "5"}},
		{"create off: a match is linked", noCreate, enabled, none, oneSame, plan.Action{Kind: plan.Adopt, ResourceID: "5"}},
		{"provision_disabled: an active match is disabled", disabledOK, disabled, none, oneSame, plan.Action{Kind: plan.Adopt, ResourceID: "5", Active: new(false), Reason: offReason}},
		{"a match that another entry owns is blocked", everything, enabled, none, owned, plan.Action{Kind: plan.Blocked, ResourceID: "5", Owner: "ab", Reason: ownedReason}},
		{"several matches are blocked", everything, enabled, none, two, plan.Action{Kind: plan.Blocked, Reason: twoReason}},
		{"of several matches ours is taken", everything, enabled, none, twoOurs, plan.Action{Kind: plan.Adopt, ResourceID: "6"}},

		// Updates.
		{"nothing changed: nothing", everything, enabled, active, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7"}},
		{"exactly the changed attribute is pushed", everything, enabled, outdated, unseen, plan.Action{Kind: plan.Update, ResourceID: "7", Set: []string{"userName"}}},
		{"a cleared attribute is cleared", everything, cleared, active, unseen, plan.Action{Kind: plan.Update, ResourceID: "7", Clear: []string{"title"}}},
		{"update off: nothing", noUpdate, enabled, outdated, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: "update is off"}},
		{"missing userName: blocked, never cleared", everything, nameless, active, unseen, plan.Action{Kind: plan.Blocked, ResourceID: "7", Reason: missing}},
		{"a disabled user's attributes are kept equal", everything, disabled, offOutdated, unseen, plan.Action{Kind: plan.Update, ResourceID: "7", Set: []string{"userName"}}},

		// Disabled and enabled.
		{"disabled in the directory: disabled", everything, disabled, active, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: offReason}},
		{"disabled under remove: delete: disabled", deleting, disabled, active, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: offReason}},
		{"disabled under remove: keep: disabled", keeping, disabled, active, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: offReason}},
		{"disabled takes the changes along", everything, disabled, outdated, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Set: []string{"userName"}, Active: new(false), Reason: offReason}},
		{"disabled while update is off: disabled, nothing else", noUpdate, disabled, outdated, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: offReason}},
		{"disabled without userName: disabled, nothing else", everything, lapsed, active, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: offReason}},
		{"still disabled: nothing", everything, disabled, off, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7"}},
		{"enabled again: enabled", everything, enabled, off, unseen, plan.Action{Kind: plan.Enable, ResourceID: "7", Active: new(true)}},
		{"enabled again takes the changes along", everything, enabled, offOutdated, unseen, plan.Action{Kind: plan.Enable, ResourceID: "7", Set: []string{"userName"}, Active: new(true)}},
		{"enabled again while update is off: nothing", noUpdate, enabled, off, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: "update is off"}},

		// Deprovisioning.
		{"gone under remove: disable", everything, gone, outdated, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: goneReason}},
		{"gone under remove: disable, disabled already", everything, gone, off, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: goneReason}},
		{"gone under remove: delete", deleting, gone, active, unseen, plan.Action{Kind: plan.Delete, ResourceID: "7", Reason: goneReason}},
		{"gone under remove: delete, disabled before", deleting, gone, off, unseen, plan.Action{Kind: plan.Delete, ResourceID: "7", Reason: goneReason}},
		{"gone under remove: keep", keeping, gone, active, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: goneReason}},
		{"gone and never linked: nothing", deleting, gone, none, unseen, plan.Action{Kind: plan.DoNothing, Reason: goneReason}},
		{"gone and removed already: nothing", deleting, gone, removed, unseen, plan.Action{Kind: plan.DoNothing, Reason: goneReason}},

		// Deletion after a while.
		{"delete_after: disabled first, and the wait begins", purging, gone, active, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: goneReason, Schedule: plan.Begin}},
		{"delete_after: disabled before, the wait begins now", purging, gone, off, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: goneReason, Schedule: plan.Begin}},
		{"delete_after: still waiting", purging, gone, pending, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: goneReason, Schedule: plan.Await}},
		{"delete_after: due", purging, gone, due, unseen, plan.Action{Kind: plan.Delete, ResourceID: "7", Reason: dueReason}},
		{"delete_after: active again on the target: disabled, and waits anew", purging, gone, reactivated, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: goneReason, Schedule: plan.Begin}},
		{"delete_after: never linked: nothing", purging, gone, none, unseen, plan.Action{Kind: plan.DoNothing, Reason: goneReason}},
		{"delete_after: deleted already: nothing", purging, gone, removed, unseen, plan.Action{Kind: plan.DoNothing, Reason: goneReason}},
		{"delete_after: disabled in the directory is never deleted", purging, disabled, off, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7"}},
		{"delete_after: disabled in the directory does not wait", purging, disabled, active, unseen, plan.Action{Kind: plan.Disable, ResourceID: "7", Active: new(false), Reason: offReason}},
		{"delete_after: returned: enabled, the wait is over", purging, enabled, pending, unseen, plan.Action{Kind: plan.Enable, ResourceID: "7", Active: new(true), Schedule: plan.End}},
		{"delete_after: returned when due: enabled, the wait is over", purging, enabled, due, unseen, plan.Action{Kind: plan.Enable, ResourceID: "7", Active: new(true), Schedule: plan.End}},
		{"delete_after: returned disabled: stays, the wait is over", purging, disabled, due, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Schedule: plan.End}},
		{"delete_after: returned without userName: blocked, the wait is over", purging, nameless, due, unseen, plan.Action{Kind: plan.Blocked, ResourceID: "7", Reason: missing, Schedule: plan.End}},
		{"delete_after taken away: the wait is over", everything, gone, pending, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: goneReason, Schedule: plan.End}},
		{"remove: keep now: the wait is over", keeping, gone, due, unseen, plan.Action{Kind: plan.DoNothing, ResourceID: "7", Reason: goneReason, Schedule: plan.End}},
		{"remove: delete now: deleted without waiting", deleting, gone, pending, unseen, plan.Action{Kind: plan.Delete, ResourceID: "7", Reason: goneReason}},

		// Return.
		{"returned after a delete: created again", deleting, enabled, removed, unseen, plan.Action{Kind: plan.Create, Set: all, Active: new(true)}},
		{"returned disabled after a delete: not created", deleting, disabled, removed, unseen, plan.Action{Kind: plan.DoNothing, Reason: notCreated}},
		{"returned after a disable: enabled", everything, enabled, off, unseen, plan.Action{Kind: plan.Enable, ResourceID: "7", Active: new(true)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := plan.Decide(c.policy, c.desired, c.linked, c.observed)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	for b.Loop() {
		plan.Decide(everything, enabled, outdated, unseen)
	}
}
