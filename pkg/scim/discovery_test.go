package scim_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func TestDiscover(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		answers map[string]string // by path; 404 for others
		want    scim.Discovered
	}{
		{"nothing", nil, scim.Discovered{Silent: []string{"ServiceProviderConfig", "ResourceTypes", "Schemas"}}},
		{
			"the plural name",
			map[string]string{"/ServiceProviderConfigs": `{"patch":{"supported":false},"filter":{"maxResults":200}}`},
			scim.Discovered{NoPatch: true, MaxPage: 200, Silent: []string{"ResourceTypes", "Schemas"}},
		},
		{
			"cursors alone",
			map[string]string{"/ServiceProviderConfig": `{"patch":{"supported":true},"filter":{"maxResults":200},"pagination":{"cursor":true,"index":false,"maxPageSize":50}}`},
			scim.Discovered{CursorOnly: true, MaxPage: 50, Silent: []string{"ResourceTypes", "Schemas"}},
		},
		{
			"cursors and indexes",
			map[string]string{"/ServiceProviderConfig": `{"patch":{"supported":true},"pagination":{"cursor":true,"index":true}}`},
			scim.Discovered{Silent: []string{"ResourceTypes", "Schemas"}},
		},
		{
			"no groups",
			map[string]string{"/ResourceTypes": `{"Resources":[{"id":"User","endpoint":"/Users"}]}`},
			scim.Discovered{NoGroups: true, Silent: []string{"ServiceProviderConfig", "Schemas"}},
		},
		{
			"groups",
			map[string]string{"/ResourceTypes": `{"Resources":[{"endpoint":"/Users"},{"endpoint":"Groups"}]}`},
			scim.Discovered{Silent: []string{"ServiceProviderConfig", "Schemas"}},
		},
		{
			"a name that is not unique",
			map[string]string{"/Schemas": `{"Resources":[{"id":"` + scim.SchemaUser +
				`","attributes":[{"name":"userName","caseExact":true,"uniqueness":"none"}]}]}`},
			scim.Discovered{
				CaseExact: true, RepeatsUserName: true, Silent: []string{"ServiceProviderConfig", "ResourceTypes"},
				Attributes: []string{strings.ToLower(scim.SchemaUser) + ":username"},
			},
		},
		{
			"rubbish",
			map[string]string{"/ServiceProviderConfig": "<html>", "/ResourceTypes": "[]", "/Schemas": `{"Resources":7}`},
			scim.Discovered{Silent: []string{"ServiceProviderConfig", "ResourceTypes", "Schemas"}},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			url := handler(t, func(w http.ResponseWriter, r *http.Request) {
				answer, there := row.answers[r.URL.Path]
				if !there {
					http.NotFound(w, r)
					return
				}
				_, _ = io.WriteString(w, answer)
			})
			got, err := newClient(t, url).Discover(t.Context())
			if diff := cmp.Diff(row.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestDiscoverASilentTarget(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusInternalServerError, http.StatusUnauthorized, http.StatusTooManyRequests} {
		url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(status)
		})
		if _, err := newClient(t, url).Discover(t.Context()); err == nil {
			t.Errorf("%d says something about the target", status)
		}
	}
}

func TestDiscoverOurOwn(t *testing.T) {
	t.Parallel()
	got, err := newClient(t, scimtest.NewServer(t, scimtest.Options{}).URL()).Discover(t.Context())
	if len(got.Attributes) == 0 {
		t.Error("the attributes of /Schemas are lost")
	}
	got.Attributes = nil
	if diff := cmp.Diff(scim.Discovered{MaxPage: 1000}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestWhatIsKnownOfATarget says what wins: what answers showed, what somebody
// decided, what the target says.
func TestWhatIsKnownOfATarget(t *testing.T) {
	t.Parallel()
	said := scim.Discovered{NoPatch: true, CursorOnly: true, MaxPage: 50, CaseExact: true, RepeatsUserName: true}
	open := scim.Generic().With(said, scim.Learned{})
	if open.PatchSupported || open.GroupPatch || !open.Cursor || open.PageSize != 50 || !open.CaseSensitive || open.Unique != scim.UniqueNone {
		t.Errorf("open knobs are not filled: %+v", open)
	}
	decided := scim.Generic().WithFixed("patch", "group_patch", "cursor", "page_size", "case_sensitive", "unique")
	if diff := cmp.Diff(decided, decided.With(said, scim.Learned{})); diff != "" {
		t.Errorf("decided knobs changed (-want +got):\n%s", diff)
	}
	learned := decided.With(scim.Discovered{}, scim.Learned{NoUserPatch: true, NoGroupPatch: true, MaxMembers: 20})
	if learned.PatchSupported || learned.GroupPatch || learned.MaxMembersPerRequest != 20 {
		t.Errorf("lessons are lost: %+v", learned)
	}
	gitlab, _ := scim.FindProfile("gitlab")
	if got := gitlab.With(scim.Discovered{}, scim.Learned{NoUserPatch: true}); !got.PatchSupported {
		t.Error("neither PATCH nor PUT is left")
	}
}
