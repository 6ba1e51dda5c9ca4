package scimtest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// quirky is a server with the users ada and bob in the group staff.
type quirky struct {
	*scimtest.Server

	t               *testing.T
	ada, bob, staff string
}

func newQuirky(t *testing.T, opts scimtest.Options) *quirky {
	t.Helper()
	q := &quirky{Server: scimtest.NewServer(t, hostile(opts)), t: t}
	q.ada = q.Seed(scim.KindUser, map[string]any{"userName": "ada"})
	q.bob = q.Seed(scim.KindUser, map[string]any{"userName": "bob"})
	members := []any{map[string]any{"value": q.ada}, map[string]any{"value": q.bob}}
	q.staff = q.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": members})
	return q
}

// ask sends a request in which $ada, $bob and $staff stand for their ids.
func (q *quirky) ask(method, path, body string) (int, map[string]any) {
	q.t.Helper()
	ids := strings.NewReplacer("$ada", q.ada, "$bob", q.bob, "$staff", q.staff)
	return do(q.t, q.Server, method, ids.Replace(path), ids.Replace(body))
}

// want asks and compares the status.
func (q *quirky) want(status int, method, path, body string) map[string]any {
	q.t.Helper()
	got, answer := q.ask(method, path, body)
	if got != status {
		q.t.Errorf("%s %s: %d %v, want %d", method, path, got, answer, status)
	}
	return answer
}

const removeAda = `{"op":"remove","path":"members[value eq \"$ada\"]"}`

func TestMembersOnRequest(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{MembersOnRequest: true}})
	for path, members := range map[string]int{
		"/Groups/$staff": 0, "/Groups/$staff?attributes=members": 2, "/Groups/$staff?attributes=displayName,members.value": 2,
		"/Groups/$staff?excludedAttributes=displayName": 0,
	} {
		if got, _ := q.want(200, http.MethodGet, path, "")["members"].([]any); len(got) != members {
			t.Errorf("%s: %d members, want %d", path, len(got), members)
		}
	}
	if q.want(200, http.MethodPatch, "/Groups/$staff", patch(removeAda))["members"] != nil {
		t.Error("the answer to a PATCH holds the members unasked")
	}
}

func TestRefuseMembersOnCreate(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{RefuseMembersOnCreate: true}})
	const with = `{"schemas":["` + scim.SchemaGroup + `"],"displayName":"x","members":[{"value":"$ada"}]}`
	const without = `{"schemas":["` + scim.SchemaGroup + `"],"displayName":"x"}`
	q.want(400, http.MethodPost, "/Groups", with)
	q.want(400, http.MethodPut, "/Groups/$staff", with)
	q.want(201, http.MethodPost, "/Groups", without)
	q.want(200, http.MethodPatch, "/Groups/$staff", patch(removeAda))
}

func TestWipeOnPathRemove(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{WipeOnPathRemove: true}})
	q.want(200, http.MethodPatch, "/Groups/$staff", patch(removeAda))
	if got := q.Members("staff"); len(got) != 0 {
		t.Errorf("members %v", got)
	}
}

func TestDuplicateMembers(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{DuplicateMembers: true}})
	const again = `{"op":"add","path":"members","value":[{"value":"$ada"}]}`
	q.want(400, http.MethodPatch, "/Groups/$staff", patch(again+`,{"op":"add","path":"nope","value":"x"}`))
	if diff := cmp.Diff([]string{"ada", "bob"}, q.Members("staff")); diff != "" {
		t.Errorf("undone (-want +got):\n%s", diff)
	}
	q.want(200, http.MethodPatch, "/Groups/$staff", patch(again))
	if got, _ := q.want(200, http.MethodGet, "/Groups/$staff", "")["members"].([]any); len(got) != 3 {
		t.Errorf("members %v", got)
	}
	q.want(200, http.MethodPatch, "/Groups/$staff", patch(removeAda+","+again))
	if diff := cmp.Diff([]string{"ada", "bob"}, q.Members("staff")); diff != "" {
		t.Errorf("removed and added (-want +got):\n%s", diff)
	}
}

func TestCursorPaging(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{CursorPaging: true}})
	if got := q.want(200, http.MethodGet, "/Users?count=1", ""); got["totalResults"] != 2.0 || got["nextCursor"] != nil {
		t.Errorf("by index: %v", got)
	}
	first := q.want(200, http.MethodGet, "/Users?count=1&cursor=", "")
	next, _ := first["nextCursor"].(string)
	if first["totalResults"] != nil || next == "" {
		t.Errorf("first page: %v", first)
	}
	if last := q.want(200, http.MethodGet, "/Users?count=1&cursor="+next, ""); last["nextCursor"] != nil || len(last["Resources"].([]any)) != 1 {
		t.Errorf("last page: %v", last)
	}
	if got := q.want(400, http.MethodGet, "/Users?cursor=x", ""); got["scimType"] != "invalidCursor" {
		t.Errorf("no cursor: %v", got)
	}
	unasked := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{CursorOnly: true}})
	if got := unasked.want(200, http.MethodGet, "/Users?startIndex=1&count=1", ""); got["totalResults"] != nil || got["nextCursor"] == nil {
		t.Errorf("unasked: %v", got)
	}
}

func TestNoPaging(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{NoPaging: true}})
	for _, path := range []string{"/Users?count=1", "/Users?count=1&startIndex=2"} {
		if got, _ := q.want(200, http.MethodGet, path, "")["Resources"].([]any); len(got) != 2 {
			t.Errorf("%s: %d resources", path, len(got))
		}
	}
}

func TestPatchActiveOnly(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{PatchActiveOnly: true}})
	q.want(200, http.MethodPatch, "/Users/$ada", patch(`{"op":"replace","path":"active","value":false}`))
	q.want(200, http.MethodPatch, "/Users/$ada", patch(`{"op":"replace","value":{"active":true}}`))
	q.want(400, http.MethodPatch, "/Users/$ada", patch(`{"op":"replace","path":"active","value":false},{"op":"replace","path":"title","value":"x"}`))
	q.want(400, http.MethodPatch, "/Users/$ada", patch(`{"op":"replace","value":{"title":"x"}}`))
	if ada, _ := q.User("ada"); ada["active"] != true || ada["title"] != nil {
		t.Errorf("ada %v", ada)
	}
	q.want(200, http.MethodPut, "/Users/$ada", userBody(`"userName":"ada","title":"x"`))
	q.want(200, http.MethodPatch, "/Groups/$staff", patch(`{"op":"replace","path":"displayName","value":"x"}`))
}

func TestDeleteDeactivatesAndIsGone(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{DeleteDeactivates: true, GoneWhenInactive: true}})
	q.want(204, http.MethodDelete, "/Users/$ada", "")
	q.want(404, http.MethodDelete, "/Users/$ada", "")
	q.want(404, http.MethodGet, "/Users/$ada", "")
	q.want(404, http.MethodPatch, "/Users/$ada", patch(`{"op":"replace","path":"title","value":"x"}`))
	for _, path := range []string{"/Users", "/Users?filter=userName+pr"} {
		if got := q.want(200, http.MethodGet, path, ""); got["totalResults"] != 1.0 {
			t.Errorf("%s: %v", path, got)
		}
	}
	q.want(200, http.MethodPatch, "/Users/$ada", patch(`{"op":"replace","path":"active","value":true}`))
	q.want(200, http.MethodGet, "/Users/$ada", "")
	q.want(204, http.MethodDelete, "/Users/$ada", "")
	if got := q.want(201, http.MethodPost, "/Users", userBody(`"userName":"ADA"`)); got["id"] != q.ada {
		t.Errorf("created %v, want the former account", got)
	}
	q.want(409, http.MethodPost, "/Users", userBody(`"userName":"ada"`))
	if got := q.Members("staff"); !slices.Equal(got, []string{"ADA", "bob"}) {
		t.Errorf("members %v", got)
	}
}

func TestImmutable(t *testing.T) {
	t.Parallel()
	q := newQuirky(t, scimtest.Options{Quirks: scimtest.Quirks{Immutable: []string{"userName", "title"}}})
	for _, op := range []string{`{"op":"replace","path":"userName","value":"x"}`, `{"op":"add","path":"title","value":"x"}`} {
		if got := q.want(400, http.MethodPatch, "/Users/$ada", patch(op)); got["scimType"] != "mutability" {
			t.Errorf("%s: %v", op, got)
		}
	}
	q.want(400, http.MethodPut, "/Users/$ada", userBody(`"userName":"x"`))
	q.want(200, http.MethodPut, "/Users/$ada", userBody(`"userName":"ada","nickName":"x"`))
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	limit := scim.Rate{RequestsPerSecond: 0.001, Burst: 1}
	q := newQuirky(t, scimtest.Options{RateLimits: map[scim.CallClass]scim.Rate{scim.ClassUserCreate: limit, scim.ClassGroupPatch: limit}})
	q.want(201, http.MethodPost, "/Users", userBody(`"userName":"eve"`))
	q.want(429, http.MethodPost, "/Users", userBody(`"userName":"fay"`))
	q.want(200, http.MethodPatch, "/Groups/$staff", patch(removeAda))
	q.want(429, http.MethodDelete, "/Groups/$staff", "")
	q.want(204, http.MethodDelete, "/Users/$ada", "")
	q.want(200, http.MethodGet, "/Users", "")
	if got := q.Count(scim.KindUser); got != 2 {
		t.Errorf("%d users, want bob and eve", got)
	}
	resp, err := http.Post(q.URL()+"/Users", scim.ContentType, strings.NewReader(userBody(`"userName":"fay"`)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got := resp.Header.Get("Retry-After"); got == "" || got == "0" {
		t.Errorf("Retry-After %q", got)
	}
}

func hostile(opts scimtest.Options) scimtest.Options {
	opts.Hostile = true
	return opts
}
