package scim_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func nested() scim.Profile {
	p := scim.Generic()
	p.ExtensionPatch = scim.ExtensionNested
	return p
}

// Several attributes of an extension go in one object: a target that replaces the whole
// extension would lose those that an operation of their own had set.
func TestNestedExtensionIsOneOperation(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{Quirks: scimtest.Quirks{ReplaceExtensions: true}})
	id := server.Seed(scim.KindUser, user("ada"))
	ops := scim.Operations([]scim.Unit{
		{Path: "title", Value: "Clerk"}, {Path: enterprise + ":department", Value: "Sales"}, {Path: enterprise + ":division", Value: "North"},
	}, nil)
	client := newClient(t, server.URL(), func(c *scim.Config) { c.Profile = nested() })
	if _, err := client.Patch(t.Context(), scim.KindUser, id, ops); err != nil {
		t.Fatal(err)
	}
	ada, _ := server.User("ada")
	if diff := cmp.Diff(map[string]any{"department": "Sales", "division": "North"}, ada[enterprise]); diff != "" || ada["title"] != "Clerk" {
		t.Errorf("title %v, extension (-want +got):\n%s", ada["title"], diff)
	}
	if body := server.Writes()[0].Body; strings.Count(body, `"op"`) != 2 {
		t.Errorf("operations: %s", body)
	}
}

func TestWhatIsSentTogether(t *testing.T) {
	t.Parallel()
	units := []scim.Unit{{Path: "title"}, {Path: enterprise + ":department"}, {Path: "nickName"}, {Path: enterprise + ":division"}}
	sizes := func(p scim.Profile) (n []int) {
		for _, part := range p.Together(units) {
			n = append(n, len(part))
		}
		return n
	}
	if diff := cmp.Diff([]int{1, 2, 1}, sizes(nested())); diff != "" {
		t.Errorf("nested (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{1, 1, 1, 1}, sizes(scim.Generic())); diff != "" {
		t.Errorf("by path (-want +got):\n%s", diff)
	}
	if !nested().SentWith(enterprise+":division", []string{enterprise + ":department"}) || nested().SentWith("title", []string{enterprise + ":department"}) {
		t.Error("an extension is sent with what else it holds, and with nothing else")
	}
}

// What a target holds without a value is not sent back to it: it may refuse that.
func TestReplacementLeavesOutElementsWithoutAValue(t *testing.T) {
	t.Parallel()
	r := &scim.Resource{ID: "1", Attributes: map[string]any{
		"userName": "ada", "nickName": "", "roles": []any{map[string]any{"value": ""}},
		"phoneNumbers": []any{map[string]any{"type": "work", "value": ""}, map[string]any{"type": "home", "value": "1"}},
	}}
	got, err := r.Replacement(scim.KindUser, nil, nil)
	want := map[string]any{
		"schemas": []any{scim.SchemaUser}, "id": "1", "userName": "ada", "phoneNumbers": []any{map[string]any{"type": "home", "value": "1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
