package scim

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestBuiltInProfiles(t *testing.T) {
	t.Parallel()
	want := []string{"aws-identity-center", "generic", "github-enterprise", "gitlab", "keycloak", "permissive", "slack"}
	if diff := cmp.Diff(want, ProfileNames()); diff != "" {
		t.Errorf("profiles (-want +got):\n%s", diff)
	}
	if _, err := readProfiles(profileFiles); err != nil {
		t.Error(err)
	}
	if _, ok := FindProfile("none"); ok {
		t.Error("a profile that there is not is found")
	}
}

// TestProfilesDifferFromGenericBy names what each profile decides otherwise; what it
// only fixes is not among it.
func TestProfilesDifferFromGenericBy(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Profile){
		"permissive": func(p *Profile) { p.MembersOnCreate, p.Unique, p.CaseSensitive = false, UniqueNone, true },
		"aws-identity-center": func(p *Profile) {
			p.GroupPut, p.MaxMembersOnCreate, p.MembersReadable, p.MemberRemoveVouched, p.Cursor = false, 100, ReadableNo, true, true
			p.Rate = Rate{10, 10}
		},
		"github-enterprise": func(p *Profile) {
			p.Retry403, p.Rate, p.Rates = true, Rate{10, 10}, Rates{UserCreate: Rate{0.25, 100}}
		},
		"slack": func(p *Profile) {
			p.Delete, p.Rate = DeleteDisables, Rate{8, 20}
			p.Rates = Rates{Rate{3, 20}, Rate{3, 20}, Rate{3, 20}, Rate{3, 80}, Rate{5, 20}}
		},
		"gitlab": func(p *Profile) {
			p.PatchOnly, p.Put, p.GroupPut, p.Lookup = []string{"active", "externalId"}, false, false, map[string]string{"externalId": "id"}
		},
		"keycloak": func(p *Profile) {
			p.GroupPut, p.MembersOnCreate, p.MembersReadable = false, false, ReadableOnRequest
		},
	} {
		got, ok := FindProfile(name)
		want := Generic()
		want.Name, want.Fixed = name, got.Fixed
		change(&want)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestProfileIsReadStrictly(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"an unknown key":    "patches: true",
		"a wrong type":      "max_members: many",
		"no choice":         "members_readable: sometimes",
		"no path":           "drop: ['emails[']",
		"no path to ask by": "lookup: {userName: '1'}",
		"a class":           "rates: {users: {burst: 1}}",
	} {
		_, err := readProfiles(fstest.MapFS{"profiles/x.yaml": {Data: []byte(text)}})
		if err == nil || !strings.Contains(err.Error(), "profile x") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestProfileFixesWhatItNames(t *testing.T) {
	t.Parallel()
	p, err := parseProfile("x", []byte("patch: true\nmax_members: 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"max_members", "patch"}, p.Fixed); diff != "" {
		t.Errorf("fixed (-want +got):\n%s", diff)
	}
	if !p.IsFixed("patch") || p.IsFixed("put") {
		t.Errorf("fixed %v", p.Fixed)
	}
}

func TestZeroProfileIsGeneric(t *testing.T) {
	t.Parallel()
	got := Profile{}.withDefaults()
	want := Generic()
	want.MaxMembersOnCreate = want.MaxMembersPerRequest
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatAProfileCanChange(t *testing.T) {
	t.Parallel()
	const department = SchemaEnterpriseUser + ":department"
	gitlab, _ := FindProfile("gitlab")
	zoom := Generic()
	zoom.PatchOnly = []string{"active"}
	noExtension := Generic()
	noExtension.ExtensionPatch = ExtensionByPut
	fixed := Generic()
	fixed.Immutable, fixed.Drop = []string{"userName", "name"}, []string{`emails[type eq "home"]`}
	for _, row := range []struct {
		name                 string
		profile              Profile
		path                 string
		patches, keeps, drop bool
	}{
		{"generic", Generic(), "title", true, false, false},
		{"gitlab active", gitlab, "active", true, false, false},
		{"gitlab title", gitlab, "title", false, true, false},
		{"zoom title", zoom, "title", false, false, false},
		{"extension by put", noExtension, department, false, false, false},
		{"extension", Generic(), department, true, false, false},
		{"immutable", fixed, "username", true, true, false},
		{"part of an immutable", fixed, "name.givenName", true, true, false},
		{"dropped", fixed, `emails[type eq "home"].value`, true, false, true},
		{"not dropped", fixed, `emails[type eq "work"].value`, true, false, false},
	} {
		p, err := ParsePath(row.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]bool{row.profile.Patches(row.path), row.profile.Keeps(p), row.profile.Drops(p)}; got != [3]bool{row.patches, row.keeps, row.drop} {
			t.Errorf("%s: patches, keeps, drops %v", row.name, got)
		}
	}
}
