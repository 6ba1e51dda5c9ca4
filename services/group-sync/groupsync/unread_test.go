package groupsync_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
)

// lose cuts the connection of each request of a method until it is told to stop: the
// client itself tries a PATCH three times.
func lose(b *workertest.Bench, method string, when scimtest.Reset) (stop func()) {
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != method {
			return nil
		}
		return &scimtest.Fault{Reset: when}
	})
	return func() { b.Target.SetFault(nil) }
}

func retrying(l *provisioningv1.Link) bool { return l.GetProblem() != nil }

// A target that never says who is a member (AWS, Polis): our own record is the truth.
func TestMembersThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		reset  scimtest.Reset
		next   []int
		want   []string
		writes int // after the lost one
	}{
		{"added, and left meanwhile", scimtest.ResetAfterCommit, []int{1, 2}, []string{"u1", "u2"}, 1},
		{"not added, and left meanwhile", scimtest.ResetBeforeCommit, []int{1, 2}, []string{"u1", "u2"}, 1},
		{"added, still wanted", scimtest.ResetAfterCommit, []int{1, 2, 3}, []string{"u1", "u2", "u3"}, 1},
		{"not added, still wanted", scimtest.ResetBeforeCommit, []int{1, 2, 3}, []string{"u1", "u2", "u3"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{HideMembers: true, DuplicateMembers: true}})
			b.Override(`members_readable: "no"`)
			provision(t, b, 1, 2, 3)
			b.Start(groupsync.Run)
			b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
			stop := lose(b, http.MethodPatch, c.reset)
			b.Group(staff, "staff", 1, 2, 3)
			b.Until(group, staff, retrying)
			stop()
			b.Target.ResetLog()
			b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", c.next...)))
			if diff := cmp.Diff(c.want, members(b, "staff")); diff != "" {
				t.Errorf("members: -want +got\n%s", diff)
			}
			requests := b.Target.Writes()
			n := len(requests) // a retry may come before the change
			if n < c.writes || n > c.writes+1 || n > 0 && strings.Contains(requests[0].Body, b.Link(user, 1).GetResourceId()) {
				t.Errorf("requests %+v", requests)
			}
		})
	}
}

func TestLostCreationOfAGroupWhoseMembersCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, externalID := range []string{"true", "false"} {
		t.Run("externalId "+externalID, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{HideMembers: true, DuplicateMembers: true}})
			b.Override(`members_readable: "no", external_id: ` + externalID)
			provision(t, b, 1, 2)
			stop := lose(b, http.MethodPost, scimtest.ResetAfterCommit)
			b.Start(groupsync.Run)
			b.Group(staff, "staff", 1, 2)
			b.Until(group, staff, retrying)
			stop()
			link := b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
			if diff := cmp.Diff([]string{"u1", "u2"}, members(b, "staff")); diff != "" || b.Target.Count(scim.KindGroup) != 1 {
				t.Errorf("members: -want +got\n%s", diff)
			}
			if link.GetMembersApplied() != 2 {
				t.Errorf("link %v", link)
			}
		})
	}
}

// Keycloak returns members only to who asks for them by name, and takes none in POST.
func TestMembersThatAreReadOnRequest(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{MembersOnRequest: true, RefuseMembersOnCreate: true}})
	b.Override(`members_readable: on-request, members_on_create: false`)
	b.Unguarded()
	provision(t, b, 1, 2)
	stranger := b.Target.Seed(scim.KindUser, map[string]any{"userName": "stranger"})
	seeded := b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "staff"})
	if err := b.Target.Patch(scim.KindGroup, seeded, scim.AddMembers([]string{stranger, b.Link(user, 1).GetResourceId()})); err != nil {
		t.Fatal(err)
	}
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	if diff := cmp.Diff([]string{"u1", "u2"}, members(b, "staff")); diff != "" {
		t.Errorf("members: -want +got\n%s", diff)
	}
	b.Until(group, staff+1, workertest.Applied(b.Group(staff+1, "crew", 1, 2)))
	if diff := cmp.Diff([]string{"PATCH /Groups/{id}", "POST /Groups", "PATCH /Groups/{id}"}, writes(b.Target)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A group whose members are too many to be read in one answer is adopted all the same.
func TestGroupThatIsTooLargeToRead(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	provision(t, b, 1, 2)
	b.Target.Seed(scim.KindGroup, map[string]any{"displayName": "staff"})
	large := fmt.Sprintf(`{"id":"x","displayName":%q}`, strings.Repeat("x", 17<<20))
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodGet && strings.HasPrefix(r.Path, "/Groups/") && !strings.Contains(r.Query, "excludedAttributes=members") {
			return &scimtest.Fault{Status: http.StatusOK, Body: large}
		}
		return nil
	})
	b.Start(groupsync.Run)
	b.Until(group, staff, workertest.Applied(b.Group(staff, "staff", 1, 2)))
	if diff := cmp.Diff([]string{"u1", "u2"}, members(b, "staff")); diff != "" {
		t.Errorf("members: -want +got\n%s", diff)
	}
}

// A batch of members is recorded in few of the chunks, not in all of them.
func TestBatchesFollowTheChunksOfTheRecord(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	const count, chunks = 400, 16
	provision(t, b, numbers(0, count)...)
	b.Start(groupsync.Run)
	change := b.Manifest(staff, "staff", numbers(0, count)...)
	manifest := change.GetGroup().GetMembers()
	manifest.ChunkCount, manifest.ChunkHashes = chunks, append(manifest.GetChunkHashes(), make([][]byte, chunks-1)...)
	before, err := links.Open(b.Bus, nil, "wiki", "").LastRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Until(group, staff, workertest.Applied(b.Publish(change)))
	after, err := links.Open(b.Bus, nil, "wiki", "").LastRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Four batches of 100, each 4 chunks and the neighbours, the link with each, and what
	// is around them. In the order of the entries it was 16 chunks each time.
	if got := after - before; got > 4*(4+2+1)+6 {
		t.Errorf("%d writes to the bucket", got)
	}
}
