package scimtest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// do sends a request as it stands and gives the status and the body.
func do(t *testing.T, s *scimtest.Server, method, path, body string, header ...string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", scim.ContentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if len(data) > 0 {
		if err := json.Unmarshal(data, &out); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, data)
		}
	}
	return resp.StatusCode, out
}

func patch(ops string) string {
	return `{"schemas":["` + scim.SchemaPatchOp + `"],"Operations":[` + ops + `]}`
}

const (
	enterprise = scim.SchemaEnterpriseUser
	before     = `{"schemas":["` + scim.SchemaUser + `","` + enterprise + `"],"userName":"ada","title":"Boss",
		"name":{"givenName":"Ada","familyName":"L"},
		"emails":[{"type":"work","value":"w@x","primary":true},{"type":"home","value":"h@x"}],
		"` + enterprise + `":{"department":"R"}}`
)

// TestPatchUser is RFC 7644 section 3.5.2 as a table. want holds what differs from
// before; null means that the attribute is gone.
func TestPatchUser(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, ops string
		want      string // differences, or the scimType of the refusal
	}{
		{"replace", `{"op":"replace","path":"title","value":"CEO"}`, `{"title":"CEO"}`},
		{"op in capitals", `{"op":"Replace","path":"TITLE","value":"CEO"}`, `{"title":"CEO"}`},
		{"replace what is not there adds", `{"op":"replace","path":"nickName","value":"A"}`, `{"nickName":"A"}`},
		{"add", `{"op":"add","path":"nickName","value":"A"}`, `{"nickName":"A"}`},
		{"remove", `{"op":"remove","path":"title"}`, `{"title":null}`},
		{"remove what is not there", `{"op":"remove","path":"nickName"}`, `{}`},
		{"sub-attribute", `{"op":"replace","path":"name.givenName","value":"Ann"}`, `{"name":{"givenName":"Ann","familyName":"L"}}`},
		{"complex value keeps what is not named", `{"op":"replace","path":"name","value":{"givenName":"Ann"}}`, `{"name":{"givenName":"Ann","familyName":"L"}}`},
		{"remove a sub-attribute", `{"op":"remove","path":"name.givenName"}`, `{"name":{"familyName":"L"}}`},
		{"remove the last sub-attribute", `{"op":"remove","path":"name.givenName"},{"op":"remove","path":"name.familyName"}`, `{"name":null}`},
		{"without a path", `{"op":"replace","value":{"title":"CEO","name":{"givenName":"Ann"}}}`, `{"title":"CEO","name":{"givenName":"Ann","familyName":"L"}}`},
		{"extension by URN", `{"op":"replace","path":"` + enterprise + `:department","value":"S"}`, `{"` + enterprise + `":{"department":"S"}}`},
		{"extension without a path", `{"op":"add","value":{"` + enterprise + `":{"costCenter":"7"}}}`, `{"` + enterprise + `":{"department":"R","costCenter":"7"}}`},
		{"extension as a whole", `{"op":"remove","path":"` + enterprise + `"}`, `{"` + enterprise + `":null,"schemas":["` + scim.SchemaUser + `"]}`},
		{"last attribute of an extension", `{"op":"remove","path":"` + enterprise + `:department"}`, `{"` + enterprise + `":null,"schemas":["` + scim.SchemaUser + `"]}`},
		{"manager", `{"op":"replace","path":"` + enterprise + `:manager","value":{"value":"m"}}`, `{"` + enterprise + `":{"department":"R","manager":{"value":"m"}}}`},
		{"whole array", `{"op":"replace","path":"emails","value":[{"type":"work","value":"n@x","primary":true}]}`, `{"emails":[{"type":"work","value":"n@x","primary":true}]}`},
		{"add to an array", `{"op":"add","path":"emails","value":[{"type":"other","value":"o@x"}]}`, `{"emails":[{"type":"work","value":"w@x","primary":true},{"type":"home","value":"h@x"},{"type":"other","value":"o@x"}]}`},
		{"add what is there already", `{"op":"add","path":"emails","value":[{"type":"home","value":"h@x"}]}`, `{}`},
		{"a new primary demotes the old one", `{"op":"add","path":"emails","value":{"type":"other","value":"o@x","primary":true}}`, `{"emails":[{"type":"work","value":"w@x","primary":false},{"type":"home","value":"h@x"},{"type":"other","value":"o@x","primary":true}]}`},
		{"a value by filter", `{"op":"replace","path":"emails[type eq \"work\"].value","value":"n@x"}`, `{"emails":[{"type":"work","value":"n@x","primary":true},{"type":"home","value":"h@x"}]}`},
		{"primary by filter", `{"op":"replace","path":"emails[type eq \"home\"].primary","value":true}`, `{"emails":[{"type":"work","value":"w@x","primary":false},{"type":"home","value":"h@x","primary":true}]}`},
		{"replace a whole value by filter", `{"op":"replace","path":"emails[value sw \"h\"]","value":{"value":"n@x"}}`, `{"emails":[{"type":"work","value":"w@x","primary":true},{"value":"n@x"}]}`},
		{"remove by filter", `{"op":"remove","path":"emails[type eq \"home\"]"}`, `{"emails":[{"type":"work","value":"w@x","primary":true}]}`},
		{"remove by filter that matches nothing", `{"op":"remove","path":"emails[type eq \"other\"]"}`, `{}`},
		{"remove all by filter", `{"op":"remove","path":"emails[value pr]"}`, `{"emails":null}`},
		{"remove a sub-attribute by filter", `{"op":"remove","path":"emails[type eq \"work\"].primary"}`, `{"emails":[{"type":"work","value":"w@x"},{"type":"home","value":"h@x"}]}`},
		{"disable", `{"op":"replace","path":"active","value":false}`, `{"active":false}`},
		{"in order", `{"op":"replace","path":"title","value":"a"},{"op":"replace","path":"title","value":"b"}`, `{"title":"b"}`},

		{"replace by filter that matches nothing", `{"op":"replace","path":"emails[type eq \"other\"].value","value":"o"}`, "noTarget"},
		{"remove without a path", `{"op":"remove"}`, "noTarget"},
		{"unknown attribute", `{"op":"replace","path":"shoeSize","value":"44"}`, "invalidPath"},
		{"unknown attribute without a path", `{"op":"replace","value":{"shoeSize":"44"}}`, "invalidPath"},
		{"dotted name without a path", `{"op":"replace","value":{"name.givenName":"x"}}`, "invalidPath"},
		{"unknown sub-attribute", `{"op":"replace","path":"name.shoe","value":"44"}`, "invalidPath"},
		{"broken path", `{"op":"replace","path":"emails[type eq","value":"44"}`, "invalidPath"},
		{"filter on a single value", `{"op":"replace","path":"title[value eq \"x\"]","value":"44"}`, "invalidPath"},
		{"rest behind the path", `{"op":"replace","path":"title x","value":"44"}`, "invalidPath"},
		{"read-only", `{"op":"replace","path":"id","value":"1"}`, "mutability"},
		{"read-only sub-attribute", `{"op":"replace","path":"meta.created","value":"1"}`, "mutability"},
		{"groups of a user", `{"op":"add","path":"groups","value":[{"value":"1"}]}`, "mutability"},
		{"required", `{"op":"remove","path":"userName"}`, "mutability"},
		{"boolean as a string", `{"op":"replace","path":"active","value":"False"}`, "invalidValue"},
		{"string as a number", `{"op":"replace","path":"title","value":7}`, "invalidValue"},
		{"null", `{"op":"replace","path":"title","value":null}`, "invalidValue"},
		{"no value", `{"op":"add","path":"title"}`, "invalidValue"},
		{"array for a single value", `{"op":"replace","path":"title","value":["x"]}`, "invalidValue"},
		{"object for an array", `{"op":"replace","path":"emails","value":{"value":"x"}}`, "invalidValue"},
		{"empty userName", `{"op":"replace","path":"userName","value":""}`, "invalidValue"},
		{"two primaries", `{"op":"replace","path":"emails","value":[{"value":"a","primary":true},{"value":"b","primary":true}]}`, "invalidValue"},
		{"unknown operation", `{"op":"set","path":"title","value":"x"}`, "invalidSyntax"},
		{"taken", `{"op":"replace","path":"userName","value":"BOB"}`, "uniqueness"},
		{"the first is undone when the second fails", `{"op":"replace","path":"title","value":"CEO"},{"op":"replace","path":"shoeSize","value":"44"}`, "invalidPath"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := scimtest.NewServer(t, scimtest.Options{Hostile: true})
			s.Seed(scim.KindUser, map[string]any{"userName": "bob"})
			_, created := do(t, s, http.MethodPost, "/Users", before)
			id, _ := created["id"].(string)
			status, answer := do(t, s, http.MethodPatch, "/Users/"+id, patch(test.ops))
			_, after := do(t, s, http.MethodGet, "/Users/"+id, "")
			want := created
			if strings.HasPrefix(test.want, "{") {
				want = changed(t, created, test.want)
				if status != http.StatusOK || !cmp.Equal(answer, after) {
					t.Errorf("answered %d %v", status, answer)
				}
			} else if status != http.StatusBadRequest && status != http.StatusConflict || answer["scimType"] != test.want {
				t.Errorf("answered %d %v, want %s", status, answer, test.want)
			}
			delete(want, "meta")
			delete(after, "meta")
			if diff := cmp.Diff(want, after); diff != "" {
				t.Errorf("afterwards (-want +got):\n%s", diff)
			}
		})
	}
}

func changed(t *testing.T, base map[string]any, differences string) map[string]any {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal([]byte(differences), &d); err != nil {
		t.Fatal(err)
	}
	for name, value := range d {
		if value == nil {
			delete(base, name)
		} else {
			base[name] = value
		}
	}
	return base
}

func TestPatchMembers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, ops string
		want      []string
		refusal   string
	}{
		{"add", `{"op":"add","path":"members","value":[{"value":"$c"}]}`, []string{"a", "b", "c"}, ""},
		{"add one that is there", `{"op":"add","path":"members","value":[{"value":"$a"}]}`, []string{"a", "b"}, ""},
		{"add without a path", `{"op":"add","value":{"members":[{"value":"$c"}]}}`, []string{"a", "b", "c"}, ""},
		{"remove by filter", `{"op":"remove","path":"members[value eq \"$a\"]"}`, []string{"b"}, ""},
		{"remove who is none", `{"op":"remove","path":"members[value eq \"$c\"]"}`, []string{"a", "b"}, ""},
		{"remove by another filter", `{"op":"remove","path":"members[type eq \"User\" and value ne \"$a\"]"}`, []string{"a"}, ""},
		{"remove all", `{"op":"remove","path":"members"}`, []string{}, ""},
		{"a remove with values removes all", `{"op":"remove","path":"members","value":[{"value":"$a"}]}`, []string{}, ""},
		{"replace", `{"op":"replace","path":"members","value":[{"value":"$c"},{"value":"$b"}]}`, []string{"b", "c"}, ""},
		{"remove and add", `{"op":"remove","path":"members[value eq \"$a\"]"},{"op":"add","path":"members","value":[{"value":"$c"}]}`, []string{"b", "c"}, ""},
		{"unknown member", `{"op":"add","path":"members","value":[{"value":"nobody"}]}`, []string{"a", "b"}, "invalidValue"},
		{"itself", `{"op":"add","path":"members","value":[{"value":"$group"}]}`, []string{"a", "b"}, "invalidValue"},
		{"no value", `{"op":"add","path":"members","value":[{"display":"x"}]}`, []string{"a", "b"}, "invalidValue"},
		{"members do not change", `{"op":"replace","path":"members[value eq \"$a\"].value","value":"$c"}`, []string{"a", "b"}, "mutability"},
		{"undone: add", `{"op":"add","path":"members","value":[{"value":"$c"}]},{"op":"add","path":"nope","value":"x"}`, []string{"a", "b"}, "invalidPath"},
		{"undone: remove all", `{"op":"remove","path":"members"},{"op":"add","path":"members","value":[{"value":"nobody"}]}`, []string{"a", "b"}, "invalidValue"},
		{"undone: remove", `{"op":"remove","path":"members[value eq \"$a\"]"},{"op":"remove","path":"displayName"}`, []string{"a", "b"}, "mutability"},
		{"too many", `{"op":"add","path":"members","value":[{"value":"$a"},{"value":"$b"},{"value":"$c"},{"value":"$a"}]}`, []string{"a", "b"}, "invalidValue"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := scimtest.NewServer(t, scimtest.Options{Hostile: true, MaxMembers: 3})
			ops := test.ops
			var members []any
			for _, name := range []string{"a", "b", "c"} {
				id := s.Seed(scim.KindUser, map[string]any{"userName": name})
				ops = strings.ReplaceAll(ops, "$"+name, id)
				if name != "c" {
					members = append(members, map[string]any{"value": id})
				}
			}
			group := s.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": members})
			status, answer := do(t, s, http.MethodPatch, "/Groups/"+group, patch(strings.ReplaceAll(ops, "$group", group)))
			if got, _ := answer["scimType"].(string); got != test.refusal || (status == http.StatusOK) != (test.refusal == "") {
				t.Errorf("answered %d %v", status, answer)
			}
			if diff := cmp.Diff(test.want, s.Members("staff")); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
			for _, u := range s.Users() {
				in := strings.Contains(strings.Join(test.want, ""), u["userName"].(string))
				if groups, _ := u["groups"].([]any); (len(groups) == 1) != in {
					t.Errorf("%s is shown in %v", u["userName"], groups)
				}
			}
		})
	}
}
