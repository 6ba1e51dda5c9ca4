package groupsync_test

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// refuse lets the target answer with a status to every write that names something.
func refuse(b *workertest.Bench, what string, status int) {
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Writes() && strings.Contains(r.Body, what) {
			return &scimtest.Fault{Status: status, ScimType: "invalidValue", Detail: "not this one"}
		}
		return nil
	})
}

// request asks for another look at the group, as somebody would with this reason.
func request(t *testing.T, b *workertest.Bench, reason string) {
	t.Helper()
	if err := b.Bus.Request(t.Context(), group, "wiki", workertest.ID(staff), reason); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedRemovalStaysWanted(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			provision(t, b, 1, 2, 3, 4)
			b.Start(groupsync.Run)
			b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2, 3)))
			refuse(b, b.Link(user, 2).GetResourceId(), status)
			link := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 4)))
			if diff := cmp.Diff([]string{"u1", "u2", "u4"}, members(b, "staff")); diff != "" {
				t.Errorf("members: -want +got\n%s", diff)
			}
			refused := link.GetRefusedMembers()
			if len(refused) != 1 || !refused[0].GetRemoval() || refused[0].GetHttpStatus() != uint32(status) || link.GetMembersApplied() != 3 {
				t.Fatalf("link %v", link)
			}
			wait := time.Until(refused[0].GetRetryAt().AsTime())
			if wait <= 0 || wait > 2*time.Minute {
				t.Errorf("tried again in %s", wait)
			}
			if _, err := b.Bus.Last(t.Context(), provisioningv1.StreamRequests, provisioningv1.LaterSubject(group, "wiki", workertest.ID(staff), "refused")); err != nil {
				t.Errorf("no schedule: %v", err)
			}

			// Another change costs nothing more, and leaves what is refused alone.
			b.Target.ResetLog()
			b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1)))
			if got := writes(b.Target); len(got) != 1 {
				t.Errorf("requests %v", got)
			}

			// Its time comes.
			b.Target.SetFault(nil)
			link = b.Link(group, staff)
			link.RefusedMembers[0].RetryAt = timestamppb.New(time.Now().Add(-time.Second))
			b.SetLink(group, staff, link)
			request(t, b, "refused")
			link = b.Until(group, staff, func(l *provisioningv1.Link) bool { return len(l.GetRefusedMembers()) == 0 && l.GetClaim() == nil })
			if diff := cmp.Diff([]string{"u1"}, members(b, "staff")); diff != "" || link.GetMembersApplied() != 1 {
				t.Errorf("members: -want +got\n%s\nlink %v", diff, link)
			}
		})
	}
}

func TestRefusedRemovalOfNoMemberIsDone(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadRequest, http.StatusNotFound} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			provision(t, b, 1, 2)
			b.Start(groupsync.Run)
			applied := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
			gone := b.Link(user, 2).GetResourceId()
			if err := b.Target.Patch(scim.KindGroup, applied.GetResourceId(), scim.RemoveMember(gone)); err != nil {
				t.Fatal(err)
			}
			refuse(b, gone, status)
			link := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1)))
			if len(link.GetRefusedMembers()) != 0 || link.GetMembersApplied() != 1 {
				t.Errorf("link %v", link)
			}
		})
	}
}

func TestRefusedMemberIsRememberedAndNamed(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, numbers(0, 20)...)
	bad := b.Link(user, 13).GetResourceId()
	refuse(b, bad, http.StatusBadRequest)
	stop := b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", numbers(0, 19)...)))

	// The next change is one request.
	b.Target.ResetLog()
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", numbers(0, 20)...)))
	if diff := cmp.Diff([]string{"PATCH /Groups/{id}"}, writes(b.Target)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	found, err := worker.Parked(t.Context(), b.Bus, "wiki", "corp")
	if err != nil || len(found) != 1 {
		t.Fatalf("parked: %v %v", found, err)
	}
	if p := found[0]; p.State() != "refused" || !strings.Contains(p.Problem.GetMessage(), hex.EncodeToString(workertest.ID(13))) || p.Problem.GetHttpStatus() != http.StatusBadRequest {
		t.Errorf("parked: %v %v", p.State(), p.Problem)
	}
	if name, member, err := found[0].Names(t.Context(), b.Bus); name != "staff" || member != "" || err != nil { // users were not published
		t.Errorf("names %q, %q, %v", name, member, err)
	}
	summary, problems, err := worker.Summarise(t.Context(), b.Bus, "wiki", group, b.Config.Hash("wiki"))
	if err != nil || summary.RefusedMembers != 1 || len(problems) != 1 || problems[0].State != "refused" {
		t.Errorf("status: %+v %v %v", summary, problems, err)
	}

	// A person's word, another configuration and another resource try it again.
	tries := func(n uint32) func(*provisioningv1.Link) bool {
		return func(l *provisioningv1.Link) bool {
			return len(l.GetRefusedMembers()) == 1 && l.GetRefusedMembers()[0].GetTries() == n && l.GetClaim() == nil
		}
	}
	request(t, b, "retry")
	b.Until(group, staff, tries(2))
	stop()
	b.Configure("remove: keep", "")
	b.Start(groupsync.Run)
	b.Until(group, staff, tries(3))
	if err := b.Target.Remove(scim.KindUser, bad); err != nil {
		t.Fatal(err)
	}
	provision(t, b, 13)
	link := b.Until(group, staff, func(l *provisioningv1.Link) bool { return l.GetMembersApplied() == 20 && l.GetClaim() == nil })
	if len(link.GetRefusedMembers()) != 0 {
		t.Errorf("link %v", link)
	}
}

func TestTooManyRefusedMembersParkTheGroup(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, numbers(0, 120)...)
	refuse(b, `"members"`, http.StatusBadRequest)
	b.Start(groupsync.Run)
	b.Group(staff, "staff", numbers(0, 120)...)
	link := b.Until(group, staff, workertest.Parked)
	if got := len(link.GetRefusedMembers()); got != 100 || !strings.Contains(link.GetProblem().GetMessage(), "more than 100 members") {
		t.Errorf("%d refused, problem %v", got, link.GetProblem())
	}
}

func TestUnknownMemberIsNotAGroupThatIsGone(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, numbers(0, 10)...)
	b.Start(groupsync.Run)
	before := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	refuse(b, b.Link(user, 7).GetResourceId(), http.StatusNotFound)
	link := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", numbers(1, 10)...)))
	if got := len(members(b, "staff")); got != 8 || link.GetResourceId() != before.GetResourceId() || len(link.GetRefusedMembers()) != 1 {
		t.Errorf("%d members, link %v", got, link)
	}
}

func TestTargetWithoutGroupPatchGetsWholeGroups(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{NoPatch: true}})
	provision(t, b, numbers(0, 10)...)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2, 3)))
	b.Target.ResetLog()
	b.Until(group, staff, workertest.Applied(b.Group(staff, "crew", 3, 4)))
	b.Until(group, staff, workertest.Applied(b.Group(staff, "crew", 3, 4, 5)))
	if diff := cmp.Diff([]string{"PATCH /Groups/{id}", "PUT /Groups/{id}", "PUT /Groups/{id}"}, writes(b.Target)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"u3", "u4", "u5"}, members(b, "crew")); diff != "" {
		t.Errorf("members: -want +got\n%s", diff)
	}
}

// described is the group staff with a description.
func described(b *workertest.Bench, description string) *directoryv1.Change {
	change := b.Manifest(staff, "staff")
	if description != "" {
		g := change.GetGroup()
		g.Attributes = append(g.Attributes, &directoryv1.Attribute{Name: "description", Values: [][]byte{[]byte(description)}})
	}
	return change
}

func TestAttributesOfGroupsOnCreateAndByDefault(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.ConfigureGroups(`attributes: {externalId: {value: "group.description", on: create}}`)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Publish(described(b, "first"))))
	b.Target.ResetLog()
	b.Until(group, staff, workertest.Applied(b.Publish(described(b, "second"))))
	if g, _ := b.Target.Group("staff"); g["externalId"] != "first" || len(b.Target.Writes()) != 0 {
		t.Errorf("group %v, writes %v", g, writes(b.Target))
	}

	d := workertest.New(t, "remove: disable", scimtest.Options{})
	d.ConfigureGroups(`attributes: {externalId: {value: "group.description", default: none}}`)
	d.Start(groupsync.Run)
	d.Until(group, staff, workertest.Applied(d.Publish(described(d, ""))))
	if g, _ := d.Target.Group("staff"); g["externalId"] != "none" {
		t.Errorf("group %v", g)
	}
}

// A mapped externalId that has no value for a group is the entry's id: the group is
// never without the mark of whose it is.
func TestExternalIDWithoutAValueIsTheEntryID(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.ConfigureGroups(`attributes: {externalId: {value: "group.description"}}`)
	b.Start(groupsync.Run)
	entry := hex.EncodeToString(workertest.ID(staff))
	for _, step := range []struct{ description, want string }{{"", entry}, {"first", "first"}, {"", entry}} {
		b.Until(group, staff, workertest.Applied(b.Publish(described(b, step.description))))
		if g, _ := b.Target.Group("staff"); g["externalId"] != step.want {
			t.Errorf("description %q: externalId %v, want %s", step.description, g["externalId"], step.want)
		}
		if _, got := found(t, comparison(t, b)); len(got) > 0 {
			t.Errorf("description %q: drift %v", step.description, got)
		}
	}
}

// A name that the target refuses is for a person to look at; who joins and who leaves
// does not wait for it.
func TestRefusedNameHoldsUpNoMember(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Override("max_members: 2")
	b.Unguarded()
	provision(t, b, 1, 2, 3, 4)
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if strings.Contains(r.Body, "crew") {
			return &scimtest.Fault{Status: http.StatusBadRequest, ScimType: "invalidValue", Detail: "no crews"}
		}
		return nil
	})
	b.Group(staff, "crew", 2, 3, 4)
	link := b.Until(group, staff, workertest.Parked)
	if diff := cmp.Diff([]string{"u2", "u3", "u4"}, members(b, "staff")); diff != "" {
		t.Errorf("members: -want +got\n%s", diff)
	}
	if got := link.GetProblem().GetMessage(); !strings.Contains(got, "no crews") || link.GetMembersApplied() != 3 {
		t.Errorf("link %v", link)
	}
	b.Target.ResetLog()
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 2, 3)))
	sent := slices.DeleteFunc(b.Sent(), func(r string) bool { return strings.Contains(r, "crew") }) // somebody may have asked for another try
	if diff := cmp.Diff([]string{patched(removed("u4"))}, sent); diff != "" {
		t.Errorf("requests: -want +got\n%s", diff)
	}
}
