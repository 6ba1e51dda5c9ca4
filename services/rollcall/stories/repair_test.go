package stories

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// comparisons are those of users and groups, in a process of their own.
func comparisons(t *testing.T, b *workertest.Bench) []*worker.Drift {
	t.Helper()
	process, err := worker.NewProcess(b.Bus, b.Config, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Close)
	c := b.Config.Connections["wiki"]
	compiled, err := b.Config.Compile()
	if err != nil {
		t.Fatal(err)
	}
	key, err := process.HashKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	target, err := process.Target(c)
	if err != nil {
		t.Fatal(err)
	}
	var all []*worker.Drift
	for kind, comparer := range map[directoryv1.Kind]worker.Comparer{
		user:  usersync.NewComparer(c, compiled.Connections["wiki"], target, key),
		group: groupsync.NewComparer(c, compiled.Connections["wiki"], key),
	} {
		d, err := process.Drift(kind, c, b.Config.Hash("wiki"), comparer)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// drifted compares both kinds; calm says that nothing is being written.
func drifted(t *testing.T, all []*worker.Drift) (reports []*worker.DriftReport, calm bool) {
	t.Helper()
	calm = true
	for _, d := range all {
		r, err := d.Compare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, r)
		calm = calm && r.Pending == 0
	}
	return reports, calm
}

// An account was deleted on a target that keeps the ids of deleted members. One repair
// creates it anew and leaves no dead id in its groups.
func TestOneRepairReplacesADeletedMember(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{KeepDeletedMembers: true, AcceptUnknownMembers: true}})
	b.Start(usersync.Run, groupsync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.User(2, "bob", "", ""))))
	b.Until(group, 1000, workertest.Applied(b.Group(1000, "admins", 1, 2)))
	b.Eventually("both are members", func() bool { return len(b.Target.Members("admins")) == 2 })
	former := b.Link(user, 1).GetResourceId()
	link := b.Link(user, 1)
	link.AppliedAt = nil // a while ago
	b.SetLink(user, 1, link)
	if err := b.Target.Remove(scim.KindUser, former); err != nil {
		t.Fatal(err)
	}

	all := comparisons(t, b)
	reports, _ := drifted(t, all)
	requested := 0
	for i, d := range all {
		n, err := d.Repair(t.Context(), reports[i])
		if err != nil {
			t.Fatal(err)
		}
		requested += n
	}
	if requested != 1 {
		t.Errorf("%d repairs were requested, want that of ann", requested)
	}
	b.Eventually("ann has a new account in the group", func() bool {
		now := b.Link(user, 1).GetResourceId()
		return now != "" && now != former && strings.Contains(strings.Join(b.Target.Members("admins"), " "), "ann")
	})
	b.Eventually("nothing is in work", func() bool { _, calm := drifted(t, all); return calm && b.Link(group, 1000).GetClaim() == nil })
	if diff := cmp.Diff([]string{"ann", "bob"}, b.Target.Members("admins")); diff != "" {
		t.Errorf("members: -want +got\n%s", diff)
	}
	if reports, _ := drifted(t, all); reports[0].Drifted() || reports[1].Drifted() {
		t.Errorf("a second comparison finds %+v %+v", reports[0].Findings, reports[1].Findings)
	}
}
