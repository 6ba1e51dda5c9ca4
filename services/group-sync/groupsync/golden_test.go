package groupsync_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// golden is a state of target and link, a change, and every request that it costs. The
// users u1, u2 and so on are provisioned, and each request may name two members.
type golden struct {
	name     string
	quirks   scimtest.Quirks
	groups   string // keys of the connection's groups
	override string // of the target's profile
	// seed are the members of the group staff that the target holds before anybody
	// provisions it; nil for no such group.
	seed []int
	// linked are the members that were applied before; nil for no group.
	linked []int
	// meanwhile happens on the target before the change.
	meanwhile func(t *testing.T, b *workertest.Bench)
	// as is the name of the group from now on, members who is in it; with gone the group
	// is deleted.
	as      string
	members []int
	gone    bool
	want    []string
}

// faulty answers the next request of a method with a fault, once.
func faulty(method string, fault scimtest.Fault) func(*testing.T, *workertest.Bench) {
	return func(_ *testing.T, b *workertest.Bench) {
		var given atomic.Bool
		b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
			if r.Method == method && !given.Swap(true) {
				return &fault
			}
			return nil
		})
	}
}

func lost(method string, when scimtest.Reset) func(*testing.T, *workertest.Bench) {
	return faulty(method, scimtest.Fault{Reset: when})
}

// ended deletes the group on the target behind our back, a while after it was applied.
func ended(t *testing.T, b *workertest.Bench) {
	t.Helper()
	l := b.Link(group, staff)
	l.AppliedAt = nil
	b.SetLink(group, staff, l)
	if err := b.Target.Remove(scim.KindGroup, l.GetResourceId()); err != nil {
		t.Fatal(err)
	}
}

// replaced is ended, and somebody made another group of its name, with u1.
func replaced(t *testing.T, b *workertest.Bench) {
	t.Helper()
	ended(t, b)
	seedGroup(b, 1)
}

func seedGroup(b *workertest.Bench, numbers ...int) {
	values := []any{}
	for _, n := range numbers {
		values = append(values, map[string]any{"value": b.Link(user, n).GetResourceId()})
	}
	b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": values})
}

// userGone ends an account, and its entry.
func userGone(n int) func(*testing.T, *workertest.Bench) {
	return func(t *testing.T, b *workertest.Bench) {
		t.Helper()
		if err := b.Target.Remove(scim.KindUser, b.Link(user, n).GetResourceId()); err != nil {
			t.Fatal(err)
		}
		b.SetLink(user, n, &provisioningv1.Link{State: provisioningv1.LinkState_LINK_STATE_REMOVED})
	}
}

// refusing answers an unspecific 400 to whatever names a user.
func refusing(n int) func(*testing.T, *workertest.Bench) {
	return func(_ *testing.T, b *workertest.Bench) {
		id := b.Link(user, n).GetResourceId()
		b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
			if strings.Contains(r.Body, id) {
				return &scimtest.Fault{Status: http.StatusBadRequest}
			}
			return nil
		})
	}
}

const (
	byName   = `GET /Groups?excludedAttributes=members&filter=displayName eq "staff"`
	byEntry  = `GET /Groups?excludedAttributes=members&filter=externalId eq "#1000"`
	listed   = `GET /Groups?excludedAttributes=members`
	read     = `GET /Groups/{id}`
	without  = `GET /Groups/{id}?excludedAttributes=members`
	deleted  = `DELETE /Groups/{id}`
	posted   = `POST /Groups {"displayName":"staff","externalId":"#1000"}`
	posted1  = `POST /Groups {"displayName":"staff","externalId":"#1000","members":[{"value":"u1"}]}`
	posted12 = `POST /Groups {"displayName":"staff","externalId":"#1000","members":[{"value":"u1"},{"value":"u2"}]}`
	renamed  = `PATCH /Groups/{id} {"Operations":[{"op":"replace","path":"displayName","value":"crew"}]}`
)

// patched is a PATCH with these operations.
func patched(ops ...string) string {
	return `PATCH /Groups/{id} {"Operations":[` + strings.Join(ops, ",") + `]}`
}

// added is the one operation that adds members.
func added(names ...string) string {
	var values []string
	for _, n := range names {
		values = append(values, `{"value":"`+n+`"}`)
	}
	return `{"op":"add","path":"members","value":[` + strings.Join(values, ",") + `]}`
}

// removed is the operation that removes one member.
func removed(name string) string {
	return `{"op":"remove","path":"members[value eq \"` + name + `\"]"}`
}

var goldens = []golden{
	// Nothing changes.
	{name: "no effective change", linked: []int{1, 2}, members: []int{1, 2}},
	{name: "gone, and was never here", gone: true},
	{name: "the account of a member is gone with her entry", linked: []int{1, 2}, meanwhile: userGone(2), members: []int{1}},
	{name: "a member without an account", linked: []int{1}, members: []int{1, 9}},

	// Creation.
	{name: "create without members", members: []int{}, want: []string{byName, posted}},
	{name: "create with members for one request", members: []int{1, 2}, want: []string{byName, posted12}},
	{
		name: "create with more", members: []int{1, 2, 3, 4, 5},
		want: []string{byName, posted12, patched(added("u3", "u4")), patched(added("u5"))},
	},
	{
		name: "create, members are added afterwards", quirks: scimtest.Quirks{IgnoreMembersOnCreate: true}, override: "members_on_create: false", members: []int{1, 2, 3},
		want: []string{byName, posted, patched(added("u1", "u2")), patched(added("u3"))},
	},
	{
		name: "create, members are refused there", quirks: scimtest.Quirks{RefuseMembersOnCreate: true}, members: []int{1, 2, 3},
		want: []string{byName, posted12, posted, patched(added("u1", "u2")), patched(added("u3"))},
	},
	{
		name: "create, the answer is lost before it was done", meanwhile: lost(http.MethodPost, scimtest.ResetBeforeCommit), members: []int{1},
		want: []string{byName, posted1, byEntry, byName, posted1},
	},
	{
		name: "create, the answer is lost after it was done", meanwhile: lost(http.MethodPost, scimtest.ResetAfterCommit), members: []int{1},
		want: []string{byName, posted1, byEntry, read},
	},

	// Match.
	{name: "exists, and is the same", seed: []int{1, 2}, members: []int{1, 2}, want: []string{byName, read}},
	{
		name: "exists, with other members", seed: []int{1, 5}, members: []int{1, 2, 3},
		want: []string{byName, read, patched(removed("u5"), added("u2")), patched(added("u3"))},
	},
	{
		name: "exists, its members cannot be read", quirks: scimtest.Quirks{HideMembers: true}, override: `members_readable: "no"`, seed: []int{1}, members: []int{1, 2},
		want: []string{byName, without, patched(added("u1", "u2"))},
	},

	// Members.
	{name: "one joins", linked: []int{1, 2}, members: []int{1, 2, 3}, want: []string{patched(added("u3"))}},
	{name: "one leaves", linked: []int{1, 2}, members: []int{1}, want: []string{patched(removed("u2"))}},
	{name: "one joins, one leaves", linked: []int{1, 2}, members: []int{2, 3}, want: []string{patched(removed("u1"), added("u3"))}},
	{
		name: "many join and leave", linked: []int{1, 2, 3}, members: []int{3, 4, 5, 6},
		want: []string{patched(removed("u1"), removed("u2")), patched(added("u4", "u5")), patched(added("u6"))},
	},
	{
		name: "one joins, the target is known to forget no members", override: "omit_members_on_write: true", linked: []int{1}, members: []int{1, 2},
		want: []string{strings.Replace(patched(added("u2")), "{id}", "{id}?excludedAttributes=members", 1)},
	},
	{
		name: "one joins, the answer is lost", meanwhile: lost(http.MethodPatch, scimtest.ResetAfterCommit), linked: []int{1}, members: []int{1, 2},
		want: []string{patched(added("u2")), patched(added("u2"))},
	},
	{
		name: "one of two is refused without a reason", meanwhile: refusing(3), linked: []int{1}, members: []int{1, 2, 3},
		want: []string{patched(added("u2", "u3")), patched(added("u2")), patched(added("u3"))},
	},
	{
		name: "all change, members cannot be read", quirks: scimtest.Quirks{HideMembers: true}, override: `members_readable: "no"`, linked: []int{1}, members: []int{2},
		want: []string{patched(removed("u1"), added("u2"))},
	},
	{
		name: "one joins, the profile says that there is no PATCH", quirks: scimtest.Quirks{NoPatch: true}, override: "group_patch: false", linked: []int{1}, members: []int{1, 2},
		want: []string{read, `PUT /Groups/{id} {"displayName":"staff","externalId":"#1000","id":"staff","members":[{"value":"u1"},{"value":"u2"}]}`},
	},

	// The group itself.
	{name: "rename", linked: []int{1}, as: "crew", members: []int{1}, want: []string{renamed}},
	{
		name: "rename, and one joins", linked: []int{1}, as: "crew", members: []int{1, 2},
		want: []string{patched(`{"op":"replace","path":"displayName","value":"crew"}`, added("u2"))},
	},
	{name: "rename, names are immutable", override: "immutable: [displayName]", linked: []int{1}, as: "crew", members: []int{1}},
	{
		name: "rename, and one joins, the target turns out to change no names", quirks: scimtest.Quirks{Immutable: []string{"displayName"}}, linked: []int{1}, as: "crew", members: []int{1, 2},
		want: []string{patched(`{"op":"replace","path":"displayName","value":"crew"}`, added("u2")), renamed, patched(added("u2"))},
	},
	{
		name: "rename, and one joins, the target has turned out to change no names", quirks: scimtest.Quirks{Immutable: []string{"displayName"}}, linked: []int{1},
		meanwhile: func(t *testing.T, b *workertest.Bench) {
			t.Helper()
			b.Until(group, staff, workertest.Applied(b.Group(staff, "gang", 1)))
			b.Target.ResetLog()
		}, as: "crew", members: []int{1, 2}, want: []string{patched(added("u2"))},
	},
	{
		name: "one joins, gone on the target", linked: []int{1}, meanwhile: ended, members: []int{1, 2},
		want: []string{patched(added("u2")), without, byName, posted12},
	},
	{
		name: "one joins, replaced on the target", linked: []int{1}, meanwhile: replaced, members: []int{1, 2},
		want: []string{patched(added("u2")), without, byName, read, patched(added("u2"))},
	},

	// Removal.
	{name: "gone", groups: "remove: delete", linked: []int{1, 2, 3}, gone: true, want: []string{deleted}},
	{name: "gone, kept by policy", groups: "remove: keep", linked: []int{1}, gone: true},
	{name: "gone, and gone on the target", groups: "remove: delete", linked: []int{1}, meanwhile: ended, gone: true, want: []string{deleted}},
	{
		name: "gone, the answer is lost", groups: "remove: delete", linked: []int{1}, meanwhile: lost(http.MethodDelete, scimtest.ResetAfterCommit), gone: true,
		want: []string{deleted, deleted},
	},
}

func (g golden) change(b *workertest.Bench) *directoryv1.Change {
	if g.gone {
		return workertest.Gone(group, staff)
	}
	name := "staff"
	if g.as != "" {
		name = g.as
	}
	return b.Manifest(staff, name, g.members...)
}

// TestGoldenRequests is what each change of a group costs, to the letter.
func TestGoldenRequests(t *testing.T) {
	t.Parallel()
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: g.quirks})
			b.ConfigureGroups(g.groups)
			b.Override(strings.TrimPrefix(g.override+", max_members: 2", ", "))
			b.Unguarded()
			provision(t, b, 1, 2, 3, 4, 5, 6)
			if g.seed != nil {
				seedGroup(b, g.seed...)
			}
			b.Start(groupsync.Run)
			if g.linked != nil {
				b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", g.linked...)))
			}
			b.Target.ResetLog()
			if g.meanwhile != nil {
				g.meanwhile(t, b)
			}
			b.Until(group, staff, workertest.Applied(b.Publish(g.change(b))))
			if diff := cmp.Diff(g.want, b.Sent()); diff != "" {
				t.Errorf("requests: -want +got\n%s", diff)
			}
		})
	}
}

// TestJoinsOfOneGroupAreOneRequest is what is coalesced: however often a group changed
// while nobody looked, it costs what its last state does.
func TestJoinsOfOneGroupAreOneRequest(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, numbers(1, 81)...)
	stop := b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1)))
	stop()
	b.Target.ResetLog()
	var last uint64
	for n := 2; n <= 80; n++ {
		last = b.Group(staff, "staff", numbers(1, n+1)...)
	}
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(last))
	if sent := b.Sent(); len(sent) != 1 || strings.Count(sent[0], `"value":"u`) != 79 {
		t.Errorf("requests %v", sent)
	}
}

// TestOneUserInManyGroupsIsOneRequestForEach is what nobody can coalesce.
func TestOneUserInManyGroupsIsOneRequestForEach(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, 1, 2)
	b.Start(groupsync.Run)
	names := []string{"a", "b", "c"}
	for i, name := range names {
		b.Until(group, staff+i, workertest.Applied(b.Group(staff+i, name, 1)))
	}
	b.Target.ResetLog()
	var want []string
	for i, name := range names {
		b.Until(group, staff+i, workertest.Applied(b.Group(staff+i, name, 1, 2)))
		want = append(want, patched(added("u2")))
	}
	if diff := cmp.Diff(want, b.Sent()); diff != "" {
		t.Errorf("requests: -want +got\n%s", diff)
	}
}
