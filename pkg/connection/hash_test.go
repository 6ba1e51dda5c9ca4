package connection_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
)

func design(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// edited parses the design's example after replacing old by new.
func edited(t *testing.T, old, changed string) *connection.Config {
	t.Helper()
	data := design(t)
	if !strings.Contains(data, old) {
		t.Fatalf("%q does not stand in the example", old)
	}
	c, err := connection.Parse("rollcall.yaml", []byte(strings.Replace(data, old, changed, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHashIsStable(t *testing.T) {
	t.Parallel()
	if got, want := load(t).Hash("wiki"), "1e54f8eaafea"; got != want {
		t.Errorf("hash %s, want %s: a new hash makes every target be looked at again", got, want)
	}
	if got := load(t).Hash("none"); got != "" {
		t.Errorf("hash %q of a connection that is not there", got)
	}
}

func TestHashIgnores(t *testing.T) {
	t.Parallel()
	want := load(t).Hash("wiki")
	for name, edit := range map[string][2]string{
		"comments":            {"connections:", "# a comment\nconnections:"},
		"order of keys":       {"      create: true\n      update: true\n", "      update: true\n      create: true\n"},
		"order of attributes": {"        name.givenName: user.givenName\n        name.familyName: user.sn\n", "        name.familyName: user.sn\n        name.givenName: user.givenName\n"},
		"spelling of a path":  {"        userName: user.uid", "        urn:ietf:params:scim:schemas:core:2.0:User:username: user.uid"},
		"a default written":   {"      provision_disabled: false\n", ""},
		"white space in cel":  {"userName: user.uid", "userName: ' user.uid '"},
		"secrets":             {"${env:WIKI_TOKEN}", "${env:OTHER}"},
		"authentication":      {"{bearer: {token: \"${env:WIKI_TOKEN}\"}}", "{none: {}}"},
		"rate":                {"requests_per_second: 10", "requests_per_second: 11"},
		"concurrency":         {"concurrency: 16", "concurrency: 17"},
		"guard":               {"    guard: {max_removals: 500", "    guard: {max_removals: 5"},
		"drift":               {"interval: 24h", "interval: 25h"},
		"detection":           {"interval: 5s", "interval: 6s"},
		"directory's address": {"dc1.example.com", "dc2.example.com"},
		"trailing slash":      {"example.com/scim/v2", "example.com:443/scim/v2/"},
		"telemetry":           {"level: info", "level: debug"},
		"mask":                {"mask: true", "mask: false"},
		"another connection":  {"workers:", "  other: {source: corp, target: {url: \"https://o.example.com\"}}\nworkers:"},
	} {
		if got := edited(t, edit[0], edit[1]).Hash("wiki"); got != want {
			t.Errorf("%s: the hash changed", name)
		}
	}
}

func TestHashSees(t *testing.T) {
	t.Parallel()
	want := load(t).Hash("wiki")
	for name, edit := range map[string][2]string{
		"mapping":     {"userName: user.uid", "userName: user.cn"},
		"on":          {"on: create", "on: always"},
		"default":     {"default: none", "default: any"},
		"scope":       {"External", "Extern"},
		"enabled":     {"left", "gone"},
		"filter":      {"inetOrgPerson)", "person)"},
		"base":        {"\"ou=people,", "\"ou=staff,"},
		"scope group": {"cn=staff", "cn=all"},
		"match":       {"match: [userName]", "match: [externalId, userName]"},
		"remove":      {"remove: disable", "remove: delete"},
		"create":      {"      create: true", "      create: false"},
		"groups":      {"name: group.cn", "name: group.ou"},
		"no groups":   {"    groups: {scope: \"\", create: true, update: true, remove: delete, name: group.cn, match: [displayName]}\n", ""},
		"nested":      {"nested: flatten", "nested: ignore"},
		"profile":     {"profile: generic", "profile: permissive"},
		"target":      {"wiki.example.com", "wiki2.example.com"},
		"dry run":     {"dry_run: false", "dry_run: true"},
		"primary":     {"member_of: \"\"", "primary_group: primaryGroupID"},
		"identity":    {"attribute: entryUUID", "attribute: uid"},
	} {
		if got := edited(t, edit[0], edit[1]).Hash("wiki"); got == want || len(got) != 12 {
			t.Errorf("%s: the hash is %s", name, got)
		}
	}
}

func TestAttributeSet(t *testing.T) {
	t.Parallel()
	c := load(t)
	want := []string{"cn", "departmentnumber", "employeetype", "givenname", "mail", "manager", "sn", "title", "uid"}
	if diff := cmp.Diff(want, c.AttributeSet("corp").Names()); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if c.UsesGroups("corp") {
		t.Error("nothing uses user.groups")
	}
	if diff := cmp.Diff([]string{"manager"}, c.References("corp")); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
	if got := c.AttributeSet("none"); got == nil || len(got) != 0 {
		t.Errorf("set %v of a source that is not there", got)
	}
	withGroups := edited(t, "userName: user.uid", "userName: user.uid\n        nickName: 'user.groups.join(\",\")'")
	if !withGroups.UsesGroups("corp") || !withGroups.AttributeSet("corp").Contains(mapping.GroupsMarker) {
		t.Error("user.groups is not seen")
	}
}

func TestCompile(t *testing.T) {
	t.Parallel()
	compiled, err := load(t).Compile()
	if err != nil {
		t.Fatal(err)
	}
	wiki := compiled.Connections["wiki"]
	if compiled.Sources["corp"].Enabled == nil || wiki.Scope == nil || wiki.Groups.Scope != nil || wiki.Groups.Name == nil {
		t.Errorf("compiled %+v", wiki)
	}
	var paths []string
	for _, a := range wiki.Users {
		paths = append(paths, a.Path.String()+" = "+a.Value.String())
	}
	want := []string{
		`emails[type eq "work"].value = user.mail`,
		"name.familyName = user.sn",
		"name.givenName = user.givenName",
		"title = user.title",
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department = user.departmentNumber",
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value = user.manager",
		"userName = user.uid",
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
}

func TestCompileReportsWhatDoesNot(t *testing.T) {
	t.Parallel()
	c := load(t)
	c.Connections["wiki"].Scope = "user.mail"
	if _, err := c.Compile(); err == nil || !strings.Contains(err.Error(), "connections.wiki") {
		t.Errorf("error %v", err)
	}
}

func TestSourceHashIsAboutTheSource(t *testing.T) {
	t.Parallel()
	want := load(t).SourceHash("corp")
	if want == "" || load(t).SourceHash("none") != "" {
		t.Errorf("hash %q, and %q of a source that is not there", want, load(t).SourceHash("none"))
	}
	if got := edited(t, "userName: user.uid", "userName: user.cn").SourceHash("corp"); got != want {
		t.Errorf("a mapping changes the hash of the source: %s, was %s", got, want)
	}
	if got := edited(t, "(objectClass=inetOrgPerson)", "(objectClass=person)").SourceHash("corp"); got == want {
		t.Error("another filter does not change the hash of the source")
	}
}

func TestNeedsAreOfOneConnection(t *testing.T) {
	t.Parallel()
	c := load(t)
	needs, set := c.Needs("wiki"), c.AttributeSet("corp")
	if len(needs) == 0 || len(c.Needs("none")) != 0 {
		t.Errorf("needs %v, and %v of a connection that is not there", needs.Names(), c.Needs("none").Names())
	}
	for name := range needs {
		if !set.Contains(name) {
			t.Errorf("%s is needed and not in the set of the source %v", name, set.Names())
		}
	}
}
