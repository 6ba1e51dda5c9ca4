package scim_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

const enterprise = scim.SchemaEnterpriseUser

func TestParsePath(t *testing.T) {
	t.Parallel()
	work := &scim.ValueFilter{Attribute: "type", Value: "work"}
	tests := []struct {
		name, in string
		want     scim.Path
		text     string // canonical form; the input when empty
	}{
		{name: "simple", in: "userName", want: scim.Path{Attribute: "userName"}},
		{name: "known names get their case", in: "USERNAME", want: scim.Path{Attribute: "userName"}, text: "userName"},
		{name: "sub-attribute", in: "Name.GIVENNAME", want: scim.Path{Attribute: "name", Sub: "givenName"}, text: "name.givenName"},
		{name: "value filter", in: `emails[type eq "work"].value`, want: scim.Path{Attribute: "emails", Filter: work, Sub: "value"}},
		{name: "spaces in the filter", in: `emails[ TYPE  EQ  "work" ].value`, want: scim.Path{Attribute: "emails", Filter: work, Sub: "value"}, text: `emails[type eq "work"].value`},
		{name: "filter alone", in: `emails[type eq "work"]`, want: scim.Path{Attribute: "emails", Filter: work}},
		{name: "brackets and colons in a filter", in: `emails[type eq "a]:b\"c"].value`, want: scim.Path{Attribute: "emails", Filter: &scim.ValueFilter{Attribute: "type", Value: `a]:b"c`}, Sub: "value"}},
		{name: "core schema is dropped", in: scim.SchemaUser + ":userName", want: scim.Path{Attribute: "userName"}, text: "userName"},
		{name: "extension", in: enterprise + ":department", want: scim.Path{URN: enterprise, Attribute: "department"}},
		{name: "extension in any case", in: strings.ToUpper(enterprise) + ":DEPARTMENT", want: scim.Path{URN: enterprise, Attribute: "department"}, text: enterprise + ":department"},
		{name: "sub-attribute of an extension", in: enterprise + ":manager.value", want: scim.Path{URN: enterprise, Attribute: "manager", Sub: "value"}},
		{name: "other extension", in: "urn:acme:scim:2.0:Badge:Colour", want: scim.Path{URN: "urn:acme:scim:2.0:Badge", Attribute: "Colour"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := scim.ParsePath(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("path (-want +got):\n%s", diff)
			}
			want := test.text
			if want == "" {
				want = test.in
			}
			if got.String() != want {
				t.Errorf("String() = %q, want %q", got, want)
			}
		})
	}
}

func TestParsePathRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, cure string }{
		{"nothing", "", "userName"},
		{"number first", "1x", "letter"},
		{"filter on a single value", `title[type eq "work"]`, "drop the filter"},
		{"sub-attribute of a simple one", "userName.value", "no sub-attributes"},
		{"other operator", `emails[type co "work"].value`, `[type eq "work"]`},
		{"filter without quotes", `emails[type eq work]`, `[type eq "work"]`},
		{"open string", `emails[type eq "work].value`, `[type eq "work"]`},
		{"schema alone", enterprise, "add an attribute"},
		{"half a URN", "urn:x", "incomplete"},
		{"injection", `userName eq "x"`, "unexpected"},
		{"two subs", "name.givenName.x", "unexpected"},
		{"too long", strings.Repeat("a", 2000), "1024"},
		{"not UTF-8", "user\xffName", "UTF-8"},
		{"dot at the end", "name.", "name.givenName"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := scim.ParsePath(test.in)
			if err == nil || !strings.Contains(err.Error(), test.cure) {
				t.Errorf("error %v, want one that says %q", err, test.cure)
			}
		})
	}
}

func TestUnitPath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"userName":                     "userName",
		"name.givenName":               "name.givenName",
		`emails[type eq "work"].value`: "emails",
		"emails":                       "emails",
		"emails.value":                 "emails",
		enterprise + ":department":     enterprise + ":department",
		enterprise + ":manager.value":  enterprise + ":manager",
		"urn:acme:scim:2.0:X:a.b":      "urn:acme:scim:2.0:X:a.b",
	} {
		if got, err := scim.UnitPath(in); err != nil || got != want {
			t.Errorf("UnitPath(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{"userName", "name.givenName", `emails[type eq "wo\"rk"].value`, enterprise + ":manager.value", "urn:a:b:c", `x[a eq "\u0000"]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		p, err := scim.ParsePath(in)
		if err != nil {
			return
		}
		again, err := scim.ParsePath(p.String())
		if len(p.String()) <= 1024 && (err != nil || cmp.Diff(p, again) != "") {
			t.Errorf("%q reads as %q, which reads as %q, %v", in, p, again, err)
		}
		_, _ = scim.UnitPath(in)
	})
}
