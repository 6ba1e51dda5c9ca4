package connection_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
)

const genericLine = "      profile: generic"

func TestOverridesStandOnTheProfile(t *testing.T) {
	t.Parallel()
	c := edited(t, genericLine, "      overrides: {max_members: 20, lookup: {emails.value: emails}, rates: {read: {requests_per_second: 2}}}\n      profile: keycloak")
	want, _ := scim.FindProfile("keycloak")
	want.MaxMembersPerRequest, want.Lookup, want.Rates.Read.RequestsPerSecond = 20, map[string]string{"emails.value": "emails"}, 2
	want = want.WithFixed("max_members", "lookup", "rates")
	got, ok := c.Connections["wiki"].Target.Ways()
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOverridesOfOneConnectionAreItsOwn(t *testing.T) {
	t.Parallel()
	c := edited(t, genericLine, genericLine+"\n      overrides: {lookup: {emails.value: emails}, drop: [title]}")
	if diff := cmp.Diff([]string{"title"}, c.Connections["wiki"].Target.Overrides.Drop); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p := scim.Generic(); len(p.Drop) != 0 || len(p.Lookup) != 0 || len(p.Fixed) != 0 {
		t.Errorf("the built-in profile changed: %+v", p)
	}
}

func TestRateComesFromTheProfile(t *testing.T) {
	t.Parallel()
	const rate = "      rate: {requests_per_second: 10, burst: 10}\n"
	data := strings.Replace(strings.Replace(design(t), rate, "", 1), genericLine, "      profile: slack", 1)
	c, err := connection.Parse("rollcall.yaml", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Connections["wiki"].Target.Rate, (scim.Rate{RequestsPerSecond: 8, Burst: 20}); got != want {
		t.Errorf("rate %+v, want %+v", got, want)
	}
	if got, want := edited(t, genericLine, "      profile: slack").Connections["wiki"].Target.Rate, (scim.Rate{RequestsPerSecond: 10, Burst: 10}); got != want {
		t.Errorf("rate of the file %+v, want %+v", got, want)
	}
}

func TestOverridesFaults(t *testing.T) {
	t.Parallel()
	for overrides, want := range map[string]string{
		"{max_member: 3}":                       "overrides.max_member: is no key of the configuration; did you mean max_members?",
		"{max_members: 0}":                      "overrides.max_members: is out of range; use 1 to 100000",
		"{max_members: many}":                   `overrides.max_members: must be a whole number and is the text "many"`,
		"{members_readable: some}":              `overrides.members_readable: "some" is no choice; use`,
		"{drop: ['emails[']}":                   "overrides.drop[0]",
		"{lookup: {'1': emails}}":               "overrides.lookup.1",
		"{lookup: {emails.value: '1'}}":         "overrides.lookup.emails.value",
		"{rates: {users: {burst: 1}}}":          "overrides.rates.users: is no key of the configuration",
		"{patch_only: title}":                   "overrides.patch_only: must be a list",
		"{drop: [userName]}":                    "overrides.drop[0]: SCIM requires userName",
		"{external_id: false, unique: '1'}":     "overrides.unique",
		"{rate: {burst: 1}}":                    "overrides.rate: is no key of the configuration; ",
		"{patch: false, put: false}":            "overrides.put: neither PATCH nor PUT of a user works",
		"{delete: disable}":                     "users.remove: this target does not delete users",
		"{group_patch: false, group_put: no}":   "overrides.group_put: must be true or false",
		"{group_patch: false, group_put: false": "is no YAML",
	} {
		data := strings.Replace(design(t), genericLine, genericLine+"\n      overrides: "+overrides, 1)
		data = strings.Replace(data, "remove: disable", "remove: delete", 1)
		_, err := connection.Parse("rollcall.yaml", []byte(data))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "rollcall.yaml:") {
			t.Errorf("%s: %v\nwant %s", overrides, err, want)
		}
	}
}

func TestHashSeesWhatOverridesDecide(t *testing.T) {
	t.Parallel()
	generic := load(t).Hash("wiki")
	for edit, changes := range map[string]bool{
		genericLine + "\n      overrides: {}":                                                                         false,
		genericLine + "\n      overrides: {max_members: 100, patch: true, drop: []}":                                  false,
		genericLine + "\n      overrides: {page_size: 7, cursor: true, user_agent: x}":                                false,
		genericLine + "\n      overrides: {rates: {read: {burst: 1}}, omit_members_on_write: true}":                   false,
		genericLine + "\n      overrides: {max_members: 99}":                                                          true,
		genericLine + "\n      overrides: {drop: [title]}":                                                            true,
		genericLine + "\n      overrides: {members_readable: no}":                                                     true,
		genericLine + "\n      users_path: /Users/":                                                                   false,
		genericLine + "\n      users_path: /Persons":                                                                  true,
		"      profile: keycloak":                                                                                     true,
		"      profile: keycloak\n      overrides: {members_on_create: true, group_put: true, members_readable: yes}": false,
	} {
		if got := edited(t, genericLine, edit).Hash("wiki"); (got != generic) != changes {
			t.Errorf("%s: hash %s, of the generic profile %s", edit, got, generic)
		}
	}
}

func TestPrintedOverridesAreThoseOfTheFile(t *testing.T) {
	t.Parallel()
	c := edited(t, genericLine, "      profile: keycloak\n      overrides: {max_members: 20, patch: true, put: true, lookup: {emails.value: emails}}")
	encoded, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var printed struct {
		Connections map[string]struct {
			Target struct{ Overrides map[string]any }
		}
	}
	if err := yaml.Unmarshal(encoded, &printed); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"max_members": 20, "put": true, "lookup": map[string]any{"emails.value": "emails"}}
	if diff := cmp.Diff(want, printed.Connections["wiki"].Target.Overrides); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWaysReachTheMapping(t *testing.T) {
	t.Parallel()
	c := edited(t, genericLine, genericLine+"\n      overrides: {drop: [title], immutable: [name]}")
	compiled, err := c.Compile()
	if err != nil {
		t.Fatal(err)
	}
	on := map[string]string{}
	for _, a := range compiled.Connections["wiki"].Users {
		on[a.Path.String()] = a.On
	}
	if on["title"] != "" || on["name.givenName"] != connection.OnCreate || on["userName"] != connection.OnAlways {
		t.Errorf("compiled %v", on)
	}
}
