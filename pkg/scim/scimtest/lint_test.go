package scimtest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// proper are the headers of a request that is right.
var proper = []string{"User-Agent", "rollcall", "Accept", scim.ContentType + ", application/json;q=0.9"}

// TestLint has a row for each rule; an empty want is a request that is right.
func TestLint(t *testing.T) {
	t.Parallel()
	const user, group = `{"schemas":["` + scim.SchemaUser + `"],`, `{"schemas":["` + scim.SchemaGroup + `"],`
	const both = `{"schemas":["` + scim.SchemaUser + `","` + enterprise + `"],`
	const add = `{"op":"add","path":"members","value":[{"value":"b"}]}`
	tests := []struct {
		name, method, path, body string
		want                     string
	}{
		{"a listing", "GET", "/Users?startIndex=1&count=10", "", ""},
		{"a look-up", "GET", `/Users?filter=userName+eq+%22a%26b%22`, "", ""},
		{"a filter that is none", "GET", `/Users?filter=userName+eq+a`, "", "filter: "},
		{"an empty filter", "GET", `/Users?filter=`, "", "filter: "},
		{"both projections", "GET", "/Users?attributes=id&excludedAttributes=name", "", "attributes and excludedAttributes"},
		{"a page that is none", "GET", "/Users?startIndex=0", "", "startIndex"},
		{"a user", "POST", "/Users", user + `"userName":"a","active":true,"emails":[{"value":"x","primary":true},{"value":"y"}]}`, ""},
		{"an extension", "POST", "/Users", both + `"userName":"a","` + enterprise + `":{"department":"x"}}`, ""},
		{"no schemas", "POST", "/Users", `{"userName":"a"}`, "schemas are []"},
		{"a schema too few", "POST", "/Users", user + `"userName":"a","` + enterprise + `":{"department":"x"}}`, "schemas are "},
		{"a schema too many", "POST", "/Users", both + `"userName":"a"}`, "schemas are "},
		{"null", "POST", "/Users", user + `"userName":"a","title":null}`, "title is null"},
		{"an empty text", "POST", "/Users", user + `"userName":"a","name":{"givenName":""}}`, "givenName is empty"},
		{"an empty array", "POST", "/Users", user + `"userName":"a","emails":[]}`, "emails is an empty array"},
		{"an empty object", "POST", "/Users", both + `"userName":"a","` + enterprise + `":{"manager":{}}}`, "manager is an empty object"},
		{"an id", "POST", "/Users", user + `"userName":"a","id":"1"}`, "id is read-only"},
		{"groups of a user", "POST", "/Users", user + `"userName":"a","groups":[{"value":"1"}]}`, "groups is read-only"},
		{"a dotted key", "POST", "/Users", user + `"userName":"a","name.givenName":"x"}`, "has a dot"},
		{"a text for a boolean", "POST", "/Users", user + `"userName":"a","active":"True"}`, "no boolean"},
		{"two primaries", "POST", "/Users", user + `"userName":"a","emails":[{"value":"x","primary":true},{"value":"y","primary":true}]}`, "2 primary values"},
		{"no object", "POST", "/Users", `[]`, "no JSON object"},
		{"PUT", "PUT", "/Users/1", user + `"id":"1","userName":"a","active":false}`, ""},
		{"PUT without active", "PUT", "/Users/1", user + `"userName":"a"}`, "PUT without active"},
		{"PUT of a group", "PUT", "/Groups/1", group + `"displayName":"a"}`, ""},
		{"too many members", "POST", "/Groups", group + `"displayName":"a","members":[{"value":"1"},{"value":"2"},{"value":"3"},{"value":"4"}]}`, "4 members"},
		{"a member twice", "POST", "/Groups", group + `"displayName":"a","members":[{"value":"1"},{"value":"1"}]}`, "twice"},
		{"PATCH", "PATCH", "/Users/1", patch(`{"op":"replace","path":"name.givenName","value":"x"},{"op":"remove","path":"title"}`), ""},
		{"PATCH of an extension", "PATCH", "/Users/1", patch(`{"op":"replace","path":"` + enterprise + `:manager","value":{"value":"1"}}`), ""},
		{"PATCH of an extension without a path", "PATCH", "/Users/1", patch(`{"op":"replace","value":{"` + enterprise + `":{"department":"x"}}}`), ""},
		{"no PatchOp", "PATCH", "/Users/1", user + `"Operations":[{"op":"remove","path":"title"}]}`, "schemas are "},
		{"no operations", "PATCH", "/Users/1", patch(``), "no Operations"},
		{"an op in capitals", "PATCH", "/Users/1", patch(`{"op":"Replace","path":"title","value":"x"}`), "op is "},
		{"no path", "PATCH", "/Users/1", patch(`{"op":"replace","value":{"title":"x"}}`), "replace of title without a path"},
		{"a removal without a path", "PATCH", "/Users/1", patch(`{"op":"remove"}`), "remove without a path"},
		{"a removal with a value", "PATCH", "/Users/1", patch(`{"op":"remove","path":"title","value":"x"}`), "a value is there: true"},
		{"no value", "PATCH", "/Users/1", patch(`{"op":"replace","path":"title"}`), "a value is there: false"},
		{"a path that is none", "PATCH", "/Users/1", patch(`{"op":"remove","path":"emails["}`), "path: "},
		{"a path twice", "PATCH", "/Users/1", patch(`{"op":"remove","path":"title"},{"op":"remove","path":"title"}`), "twice"},
		{"a read-only path", "PATCH", "/Users/1", patch(`{"op":"remove","path":"meta.created"}`), "read-only"},
		{"a text for active", "PATCH", "/Users/1", patch(`{"op":"replace","path":"active","value":"False"}`), "no boolean"},
		{"members", "PATCH", "/Groups/1", patch(add + `,{"op":"remove","path":"members[value eq \"b\"]"}`), ""},
		{"all members", "PATCH", "/Groups/1", patch(`{"op":"remove","path":"members"}`), "remove of all members"},
		{"members by another filter", "PATCH", "/Groups/1", patch(`{"op":"remove","path":"members[type eq \"User\"]"}`), "remove of all members"},
		{"other members", "PATCH", "/Groups/1", patch(`{"op":"replace","path":"members","value":[{"value":"b"}]}`), "replace of all members"},
		{"too many changes", "PATCH", "/Groups/1", patch(`{"op":"add","path":"members","value":[{"value":"1"},{"value":"2"},{"value":"3"}]},{"op":"remove","path":"members[value eq \"4\"]"}`), "4 members"},
		{"a body where none belongs", "DELETE", "/Users/1", `{}`, "a body"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := scimtest.NewServer(t, scimtest.Options{Hostile: true, MaxMembers: 3})
			s.Lint()
			do(t, s, test.method, test.path, test.body, proper...)
			s.Close()
			faults := strings.Join(s.Faults(), "\n")
			if (test.want == "") != (faults == "") || !strings.Contains(faults, test.want) {
				t.Errorf("faults %q, want %q", faults, test.want)
			}
		})
	}
}

func TestLintOfHeaders(t *testing.T) {
	t.Parallel()
	body := userBody(`"userName":"a"`)
	for name, test := range map[string]struct{ header, want string }{
		"no name":            {"User-Agent", "no User-Agent"},
		"any answer":         {"Accept", "Accept is"},
		"another media type": {"Content-Type", "Content-Type is"},
	} {
		s := scimtest.NewServer(t, scimtest.Options{Hostile: true})
		s.Lint()
		do(t, s, http.MethodPost, "/Users", body, append(append([]string{}, proper...), test.header, "application/json")...)
		if test.header == "User-Agent" {
			do(t, s, http.MethodGet, "/Users", "", "User-Agent", "", "Accept", scim.ContentType)
		}
		if faults := strings.Join(s.Faults(), "\n"); !strings.Contains(faults, test.want) {
			t.Errorf("%s: faults %q", name, faults)
		}
	}
}

// recorder is a test that notes what fails.
type recorder struct {
	scimtest.TB

	failed   []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, _ ...any) {
	r.failed = append(r.failed, format)
}

func TestServerOfATestFailsIt(t *testing.T) {
	t.Parallel()
	for _, hostile := range []bool{false, true} {
		r := &recorder{TB: t}
		s := scimtest.NewServer(r, scimtest.Options{Hostile: hostile})
		do(t, s, http.MethodPost, "/Users", `{}`, proper...)
		for _, f := range r.cleanups {
			f()
		}
		if (len(r.failed) == 0) != hostile {
			t.Errorf("hostile %v: %d failures", hostile, len(r.failed))
		}
	}
}
