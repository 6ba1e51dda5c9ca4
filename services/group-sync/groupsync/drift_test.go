package groupsync_test

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// comparison is what a process of its own compares the groups with.
func comparison(t *testing.T, b *workertest.Bench) *worker.Drift {
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
	d, err := process.Drift(group, c, b.Config.Hash("wiki"), groupsync.NewComparer(c, compiled.Connections["wiki"], key))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// found compares and says what differs in short.
func found(t *testing.T, d *worker.Drift) (*worker.DriftReport, []string) {
	t.Helper()
	r, err := d.Compare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range r.Findings {
		text := f.What + " " + f.Name
		if len(f.Attributes) > 0 {
			text += fmt.Sprint(" ", f.Attributes)
		}
		if f.What == worker.DriftMembers {
			text += fmt.Sprintf(" -%d +%d", f.MembersMissing, f.MembersExtra)
		}
		out = append(out, text)
	}
	return r, out
}

func tamper(t *testing.T, b *workertest.Bench, n int, ops ...scim.Operation) {
	t.Helper()
	if err := b.Target.Patch(scim.KindGroup, b.Link(group, n).GetResourceId(), ops...); err != nil {
		t.Fatal(err)
	}
}

func TestComparisonCountsMembers(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	people := numbers(1, 8)
	provision(t, b, people...)
	b.Start(groupsync.Run)
	for n, name := range []string{"staff", "chess", "choir", "cooks"} {
		b.Until(group, staff+n, workertest.Applied(b.Group(staff+n, name, people[:4]...)))
	}
	member := func(n int) string { return b.Link(user, n).GetResourceId() }
	tamper(t, b, staff,
		scim.Operation{Op: "remove", Path: fmt.Sprintf("members[value eq %q]", member(1))},
		scim.Operation{Op: "add", Path: "members", Value: []any{map[string]any{"value": member(5)}, map[string]any{"value": member(6)}}})
	tamper(t, b, staff+1, scim.Operation{Op: "replace", Path: "displayName", Value: "checkers"})
	if err := b.Target.Remove(scim.KindGroup, b.Link(group, staff+2).GetResourceId()); err != nil {
		t.Fatal(err)
	}
	b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "theirs", "members": []any{map[string]any{"value": member(7)}}})

	d := comparison(t, b)
	b.Target.ResetLog()
	r, got := found(t, d)
	want := []string{"changed checkers [displayName]", "members staff -1 +2", "missing choir", "unknown theirs"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	named := map[string]bool{} // extra or not, by resource id
	for _, m := range r.Findings[1].Members {
		named[m.ResourceID] = m.Extra
		if want, err := hex.DecodeString(m.Entry); err != nil || string(want) != string(workertest.ID(1)) && !m.Extra {
			t.Errorf("member %+v", m)
		}
	}
	if diff := cmp.Diff(map[string]bool{member(1): false, member(5): true, member(6): true}, named); diff != "" {
		t.Errorf("members: -want +got\n%s", diff)
	}
	if w := writes(b.Target); len(w) > 0 {
		t.Errorf("a comparison wrote: %v", w)
	}
	if _, err := d.Repair(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	b.Eventually("what is ours is repaired", func() bool {
		r, got := found(t, d)
		return r.Pending == 0 && cmp.Equal(got, []string{"unknown theirs"})
	})
	for _, name := range []string{"staff", "chess", "choir", "cooks"} {
		if diff := cmp.Diff([]string{"u1", "u2", "u3", "u4"}, members(b, name)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	if diff := cmp.Diff([]string{"u7"}, members(b, "theirs")); diff != "" {
		t.Errorf("nobody's group: -want +got\n%s", diff)
	}
}

// Where members cannot be read nothing is known of them, and that is said.
func TestUnreadableMembersAreNoDrift(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{HideMembers: true}})
	b.Override(`members_readable: "no"`)
	provision(t, b, 1, 2)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	if r, got := found(t, comparison(t, b)); r.Unread != 1 || len(got) > 0 {
		t.Errorf("%d groups unread, found %v", r.Unread, got)
	}
}

// What somebody wrote into an attribute that the directory leaves empty is drift, and
// a repair clears it.
func TestAttributeThatShouldBeEmptyIsDrift(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.ConfigureGroups(`attributes: {"urn:scimtest:2.0:Group:purpose": {value: "group.description"}}`)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Publish(described(b, ""))))
	d := comparison(t, b)
	if _, got := found(t, d); len(got) > 0 {
		t.Errorf("before: %v", got)
	}
	tamper(t, b, staff, scim.Operation{Op: "replace", Path: scimtest.SchemaGroup + ":purpose", Value: "theirs"})
	r, got := found(t, d)
	if diff := cmp.Diff([]string{"changed staff [urn:scimtest:2.0:Group:purpose]"}, got); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	written, release := b.Hold(http.MethodPatch, "")
	if _, err := d.Repair(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	<-written
	if r, got := found(t, d); r.Pending != 1 || len(got) > 0 {
		t.Errorf("while it is repaired: %d not judged, found %v", r.Pending, got)
	}
	release()
	b.Eventually("the attribute is cleared", func() bool {
		r, got := found(t, d)
		return r.Pending == 0 && len(got) == 0
	})
	if g, _ := b.Target.Group("staff"); g[scimtest.SchemaGroup] != nil {
		t.Errorf("group %v", g)
	}
}
