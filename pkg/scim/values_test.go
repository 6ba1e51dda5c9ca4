package scim_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

func TestUnits(t *testing.T) {
	t.Parallel()
	type object = map[string]any
	tests := []struct {
		name string
		in   scim.Values
		want []scim.Unit
	}{
		{name: "nothing", in: scim.Values{}, want: []scim.Unit{}},
		{name: "empty values are absent", in: scim.Values{"title": "", "nickName": nil, "emails": []string{""}, "active": []any{}}, want: []scim.Unit{}},
		{
			name: "sorted, one a path",
			in:   scim.Values{"title": "Boss", "NAME.givenname": "Ada", "active": "TRUE"},
			want: []scim.Unit{{"active", true}, {"name.givenName", "Ada"}, {"title", "Boss"}},
		},
		{name: "numbers become strings where the schema says so", in: scim.Values{enterprise + ":employeeNumber": 7}, want: []scim.Unit{{enterprise + ":employeeNumber", "7"}}},
		{name: "numbers stay where it does not", in: scim.Values{"urn:acme:scim:2.0:X:floor": 3.0}, want: []scim.Unit{{"urn:acme:scim:2.0:X:floor", int64(3)}}},
		{name: "a single value is primary", in: scim.Values{`emails[type eq "home"].value`: "a@x"}, want: []scim.Unit{{"emails", []any{object{"type": "home", "value": "a@x", "primary": true}}}}},
		{
			name: "work is first and primary",
			in:   scim.Values{`emails[type eq "home"].value`: "h@x", `emails[type eq "work"]`: []string{"w@x", "v@x", "w@x"}},
			want: []scim.Unit{{"emails", []any{
				object{"type": "work", "value": "w@x", "primary": true}, object{"type": "work", "value": "v@x"}, object{"type": "home", "value": "h@x"},
			}}},
		},
		{
			name: "the mapping says what is primary",
			in:   scim.Values{`emails[type eq "home"].value`: "h@x", `emails[type eq "home"].primary`: true, `emails[type eq "work"].value`: "w@x"},
			want: []scim.Unit{{"emails", []any{object{"type": "work", "value": "w@x"}, object{"type": "home", "value": "h@x", "primary": true}}}},
		},
		{name: "without a type", in: scim.Values{"emails.value": "a@x"}, want: []scim.Unit{{"emails", []any{object{"value": "a@x", "primary": true}}}}},
		{
			name: "an address",
			in:   scim.Values{`addresses[type eq "work"].locality`: "Bern", `addresses[type eq "work"].country`: "CH"},
			want: []scim.Unit{{"addresses", []any{object{"type": "work", "locality": "Bern", "country": "CH", "primary": true}}}},
		},
		{name: "manager", in: scim.Values{enterprise + ":manager": "id1"}, want: []scim.Unit{{enterprise + ":manager", object{"value": "id1"}}}},
		{name: "manager by value", in: scim.Values{enterprise + ":manager.value": "id1"}, want: []scim.Unit{{enterprise + ":manager", object{"value": "id1"}}}},
		{name: "members are never primary", in: scim.Values{"members": []string{"1", "2"}}, want: []scim.Unit{{"members", []any{object{"value": "1"}, object{"value": "2"}}}}},
		{name: "a list of one", in: scim.Values{"title": []any{"Boss"}}, want: []scim.Unit{{"title", "Boss"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := test.in.Units()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("units (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnitsRefuse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   scim.Values
		says string
	}{
		{"read-only", scim.Values{"id": "1"}, "only the target sets it"},
		{"an object as a whole", scim.Values{"name": "Ada"}, "name.givenName"},
		{"several values for one", scim.Values{"title": []string{"a", "b"}}, "use the first one"},
		{"no boolean", scim.Values{"active": "yes"}, "use true or false"},
		{"the same twice", scim.Values{"emails": "a", "emails.value": "b"}, "names the same"},
		{"the same twice by case", scim.Values{"title": "a", "TITLE": "b"}, "names the same"},
		{"manager twice", scim.Values{enterprise + ":manager": "1", enterprise + ":manager.value": "1"}, "names the same"},
		{"no JSON", scim.Values{"title": func() {}}, "no JSON value"},
		{"a list in a list", scim.Values{"emails": []any{[]any{"x"}}}, "inside a list"},
		{"several values in one sub-attribute", scim.Values{`addresses[type eq "work"].locality`: []string{"a", "b"}}, "single value"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := test.in.Units(); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want one that says %q", err, test.says)
			}
		})
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	in := scim.Values{
		"userName": "ada", "active": true, "name.givenName": "Ada", "name.familyName": "L<>&",
		`emails[type eq "work"].value`: "a@x", enterprise + ":department": "R&D", enterprise + ":manager": "m",
	}
	got, err := in.Body(scim.KindUser)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"active":true,"emails":[{"primary":true,"type":"work","value":"a@x"}],
		"name":{"familyName":"L<>&","givenName":"Ada"},"userName":"ada",
		"schemas":["` + scim.SchemaUser + `","` + enterprise + `"],
		"` + enterprise + `":{"department":"R&D","manager":{"value":"m"}}}`
	if diff := cmp.Diff(fromJSON(t, want), throughJSON(t, got)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	group, err := scim.Values{"displayName": "staff"}.Body(scim.KindGroup)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON(t, `{"schemas":["`+scim.SchemaGroup+`"],"displayName":"staff"}`), throughJSON(t, group)); diff != "" {
		t.Errorf("group (-want +got):\n%s", diff)
	}
}

func TestReplacement(t *testing.T) {
	t.Parallel()
	r := &scim.Resource{ID: "1", Attributes: map[string]any{
		"id": "1", "meta": map[string]any{}, "groups": []any{}, "USERNAME": "ada", "title": "Boss", "custom": "kept",
		"name": map[string]any{"givenName": "Ada", "familyName": "L"}, enterprise: map[string]any{"department": "R"},
	}}
	got, err := r.Replacement(scim.KindUser, []scim.Unit{{"name.givenName", "Ann"}, {"userName", "ann"}}, []string{"title", enterprise + ":department"})
	if err != nil {
		t.Fatal(err)
	}
	want := fromJSON(t, `{"id":"1","userName":"ann","custom":"kept","name":{"givenName":"Ann","familyName":"L"},"schemas":["`+scim.SchemaUser+`"]}`)
	if diff := cmp.Diff(want, throughJSON(t, got)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if _, ok := r.Value("title"); !ok {
		t.Error("the resource itself was changed")
	}
}

func fromJSON(t *testing.T, s string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func throughJSON(t *testing.T, v any) map[string]any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return fromJSON(t, string(data))
}
