package groupsync_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// fails500 lets the target answer 500 to every write that names something.
func fails500(b *workertest.Bench, what string) {
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Writes() && strings.Contains(r.Body, what) {
			return &scimtest.Fault{Status: http.StatusInternalServerError}
		}
		return nil
	})
}

// A target that fails on an added member, or on an attribute, does not keep another
// member in the group: the removal is sent alone at once, and the rest is tried again.
func TestFailureDoesNotHoldUpARemoval(t *testing.T) {
	t.Parallel()
	remove := `{"op":"remove","path":"members[value eq \"u2\"]"}`
	add := `{"op":"add","path":"members","value":[{"value":"u3"}]}`
	rename := `{"op":"replace","path":"displayName","value":"crew"}`
	for _, c := range []struct {
		name    string
		as      string
		members []int
		fails   func(b *workertest.Bench) string
		want    []string
	}{
		{
			"an added member", "staff",
			[]int{1, 3},
			func(b *workertest.Bench) string { return b.Link(user, 3).GetResourceId() },
			[]string{remove + "," + add, remove, add},
		},
		{
			"an attribute", "crew",
			[]int{1},
			func(*workertest.Bench) string { return "crew" },
			[]string{rename + "," + remove, remove, rename},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "", scimtest.Options{})
			b.Unguarded()
			provision(t, b, 1, 2, 3)
			b.Start(groupsync.Run)
			b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
			fails500(b, c.fails(b))
			b.Target.ResetLog()
			sequence := b.Group(staff, c.as, c.members...)
			b.Until(group, staff, func(l *provisioningv1.Link) bool { return l.GetAttempts() > 0 })
			if diff := cmp.Diff([]string{"u1"}, members(b, "staff")); diff != "" {
				t.Errorf("after one failure: -want +got\n%s", diff)
			}
			b.Target.SetFault(nil)
			b.Until(group, staff, workertest.Applied(sequence))
			var patches []string
			for _, sent := range b.Sent() {
				if operations, is := strings.CutPrefix(sent, "PATCH /Groups/{id} "); is {
					patches = append(patches, strings.TrimSuffix(strings.TrimPrefix(operations, `{"Operations":[`), "]}"))
				}
			}
			if diff := cmp.Diff(c.want, patches); diff != "" {
				t.Errorf("sent: -want +got\n%s", diff)
			}
		})
	}
}

// A target that refuses to list all groups (400 tooMany, RFC 7644 section 3.12), or to
// filter them, is asked in the way that it takes, and no group is parked.
func TestTargetTakesOneKindOfLookUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		quirks   scimtest.Quirks
		override string
	}{
		"by filter alone":       {scimtest.Quirks{ListByFilterOnly: true}, ""},
		"without filters alone": {scimtest.Quirks{NoFilters: true}, "filter: false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "", scimtest.Options{Quirks: c.quirks})
			b.Override(c.override)
			b.Start(groupsync.Run)
			b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "g3"})
			for n := range 8 {
				b.Group(staff+n, fmt.Sprintf("g%d", n))
			}
			for n := range 8 {
				l := b.Until(group, staff+n, func(l *provisioningv1.Link) bool {
					return l.GetProblem() != nil || l.GetResourceId() != "" && l.GetClaim() == nil
				})
				if p := l.GetProblem(); p != nil {
					t.Errorf("g%d: %v %s", n, p.GetKind(), p.GetMessage())
				}
			}
			if got := b.Target.Count(scim.KindGroup); got != 8 {
				t.Errorf("%d groups", got)
			}
		})
	}
}
