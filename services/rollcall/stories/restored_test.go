package stories

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/recovery"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// recovered says whether a connection is no longer marked.
func recovered(t *testing.T, b *workertest.Bench) func() bool {
	t.Helper()
	return func() bool {
		for _, kind := range []directoryv1.Kind{user, group} {
			if m, err := recovery.Marked(t.Context(), b.Bus, "wiki", kind); err != nil || m != nil {
				return false
			}
		}
		return true
	}
}

// An older copy of what NATS holds was restored: stream and directory agree, links are
// missing or old, and the target is ahead of them. The comparison makes everything right,
// by one account for each user, and removes nobody from a group who belongs there.
func TestOlderCopyIsRepaired(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	stop := b.Start(usersync.Run, groupsync.Run)
	names := []string{"ann", "bob", "cid", "dan", "eve"}
	for n, name := range names {
		b.Until(user, n, workertest.Applied(b.Publish(workertest.User(n, name, "Clerk", ""))))
	}
	b.Until(group, 1000, workertest.Applied(b.Group(1000, "admins", 0, 1)))
	b.Eventually("both are members", func() bool { return len(b.Target.Members("admins")) == 2 })
	older := b.Link(group, 1000)
	b.Until(group, 1000, workertest.Applied(b.Group(1000, "admins", 0, 1, 2, 3)))
	b.Eventually("all four are members", func() bool { return len(b.Target.Members("admins")) == 4 })
	stop()

	ids := map[string]string{}
	for n, name := range names {
		ids[name] = b.Link(user, n).GetResourceId()
	}
	// eve was created after the copy, and so were the memberships of cid and dan
	b.SetLink(user, 4, &provisioningv1.Link{})
	b.SetLink(user, 3, &provisioningv1.Link{})
	b.SetLink(group, 1000, older)
	for _, name := range []string{"eve", "dan"} {
		if err := b.Bus.DropKey(t.Context(), provisioningv1.BucketLinks, provisioningv1.OwnershipKey("wiki", user, ids[name])); err != nil {
			t.Fatal(err)
		}
	}
	patch := func(kind scim.Kind, id, path string, value any) {
		t.Helper()
		if err := b.Target.Patch(kind, id, scim.Operation{Op: "replace", Path: path, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	patch(scim.KindUser, ids["ann"], "active", false)
	patch(scim.KindUser, ids["eve"], "userName", "eve-before")
	patch(scim.KindUser, ids["bob"], "title", "Boss")
	patch(scim.KindGroup, older.GetResourceId(), "displayName", "admins of before")
	b.Target.ResetLog()
	for _, kind := range []directoryv1.Kind{user, group} {
		if err := recovery.Put(t.Context(), b.Bus, "wiki", kind, recovery.Mark{Reason: "a copy was restored", Since: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	b.Start(usersync.Run, groupsync.Run)
	b.Eventually("the connection is recovered", recovered(t, b))

	for n, name := range names {
		found, there := b.Target.User(name)
		if !there || found["id"] != ids[name] || found["active"] != true || found["title"] != "Clerk" {
			t.Errorf("%s, whose account was %s, has %v", name, ids[name], found)
		}
		if l := b.Link(user, n); l.GetResourceId() != ids[name] {
			t.Errorf("the link of %s names %s, not %s", name, l.GetResourceId(), ids[name])
		}
	}
	if n := b.Target.Count(scim.KindUser); n != len(names) {
		t.Errorf("%d accounts, want %d", n, len(names))
	}
	if got := b.Target.Members("admins"); !slices.Equal(got, []string{"ann", "bob", "cid", "dan"}) {
		t.Errorf("members %v", got)
	}
	for _, r := range b.Target.Writes() {
		if r.Method != http.MethodPatch || strings.Contains(r.Body, "remove") {
			t.Errorf("%s %s %s", r.Method, r.Path, r.Body)
		}
	}
}

// The stream of users is older than the links: its sequences say nothing about what the
// links say was applied, and a change is applied although its sequence is a lower one.
func TestOlderStreamThanLinks(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	stop := b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Clerk", ""))))
	stop()
	link := b.Link(user, 1)
	link.Sequence += 1000
	b.SetLink(user, 1, link)
	if err := b.Bus.PutText(t.Context(), provisioningv1.BucketTargets, "record", `{"life": 1}`, 0); err != nil {
		t.Fatal(err)
	}
	if err := recovery.Put(t.Context(), b.Bus, "wiki", user, recovery.Mark{Reason: "a copy was restored", Since: time.Now()}); err != nil {
		t.Fatal(err)
	}
	changed := b.Publish(workertest.User(1, "ann", "Boss", ""))
	b.Start(usersync.Run)
	b.Eventually("the connection is recovered", recovered(t, b))
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetSequence() == changed })
	if found, _ := b.Target.User("ann"); found["title"] != "Boss" {
		t.Errorf("the account is %v", found)
	}
}
