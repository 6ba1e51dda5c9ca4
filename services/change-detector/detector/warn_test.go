package detector

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// awaitWarning waits until the record of the source holds a warning with this text, or,
// for an empty one, none at all.
func awaitWarning(t *testing.T, b *bus.Bus, text string) status.Pass {
	t.Helper()
	var p status.Pass
	await(t, func() string {
		var err error
		if p, err = status.LastPass(t.Context(), b, "corp"); err != nil {
			return err.Error()
		}
		if text == "" && len(p.Warnings) == 0 || text != "" && slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, text) }) {
			return ""
		}
		return fmt.Sprintf("the warnings are %q, want one with %q", p.Warnings, text)
	})
	return p
}

// An expression over an attribute that the schema does not know is absent for every
// entry, so that a mapping of it would clear what the target has. The configuration is
// refused: at the start, and where an edited one follows one that was right.
func TestAttributesThatTheSchemaDoesNotKnowPublishNothing(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(20)})
	wrong := realConfig(t, srv, [2]string{oneMapping, "{userName: user.uid, displayName: user.displayNmae}"})
	const names = "displaynmae (connections.wiki.users.attributes.displayName): did you mean displayname?"

	fresh := bustest.Start(t)
	stop := start(t, wrong, fresh)
	if p := awaitOutage(t, fresh, status.OutageConfiguration, names); !p.At.IsZero() {
		t.Errorf("%+v, want a refusal and no full read", p)
	}
	stop()
	if got := generationOf(t, fresh, "wiki"); got != "" {
		t.Errorf("the refused configuration is the current generation %s", got)
	}

	b := bustest.Start(t)
	right := realConfig(t, srv)
	stop = start(t, right, b)
	awaitPass(t, b, status.Pass{}, anyPass)
	awaitGeneration(t, b, right, "wiki")
	stop()
	before := readAllStreams(t, b)
	stop = start(t, wrong, b)
	awaitOutage(t, b, status.OutageConfiguration, names)
	stop()
	sameStreams(t, "refused", before, readAllStreams(t, b))
	if got := generationOf(t, b, "wiki"); got != right.Hash("wiki") {
		t.Errorf("the generation is %s, want that of the configuration before", got)
	}
	start(t, right, b)
	awaitFollowed(t, b)
}

// What an earlier configuration read is read on, and refuses nothing: its spelling may
// be what was corrected, or the schema may have lost it.
func TestAttributesOfAnEarlierConfigurationAreNotRefused(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(3)})
	b := bustest.Start(t)
	if err := b.PutText(t.Context(), "sources", currentSetKey("corp"), "displaynmae\nuid", 0); err != nil {
		t.Fatal(err)
	}
	start(t, realConfig(t, srv), b)
	if p := awaitPass(t, b, status.Pass{}, anyPass); p.Users != 3 || len(p.Warnings) > 0 {
		t.Errorf("%+v, want three users and no warning", p)
	}
}

// A mistake in the scope is shown for as long as it holds, and no longer.
func TestWarningsHoldAsLongAsTheirCause(t *testing.T) {
	t.Parallel()
	const group = "cn=wiki,ou=groups,dc=example,dc=com"
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(20)})
	b := bustest.Start(t)
	log := &output{also: t.Output()}
	cfg := realConfig(t, srv, [2]string{`"(objectClass=inetOrgPerson)"`, `"(objectClass=inetOrgPerson)", scope_groups: ["` + group + `"]`})
	startLogging(t, cfg, b, log)
	p := awaitWarning(t, b, "sources.corp.users.scope_groups: there is no group "+group)
	if diff := gocmp.Diff([]string{
		"sources.corp.users.scope_groups: there is no group " + group + ", or the account may not read it; correct the name, or give the account the right to read it",
		"sources.corp.users.scope_groups: none of the 20 users that match the filter is a member of them; correct the names, or fill the groups",
	}, p.Warnings); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if missing := log.lacks("there is no group " + group); missing != "" {
		t.Error(missing)
	}
	// The group comes: no full read is needed for the warning to go.
	if err := srv.Apply(t.Context(), "dn: "+group+"\nobjectClass: groupOfNames\ncn: wiki\nmember: uid=u1,ou=people,dc=example,dc=com\n\n"); err != nil {
		t.Fatal(err)
	}
	awaitWarning(t, b, "")
}

// Nothing below the base, a filter that nothing matches, a connection's scope that
// leaves nobody out or in: each is named with its key.
func TestWarningsNameTheKey(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: "dn: ou=robots,dc=example,dc=com\nobjectClass: organizationalUnit\nou: robots\n\n" + workforce(20)})
	for _, c := range []struct{ name, from, to, want string }{
		{"an empty base", `groups: {base_dns: ["dc=example,dc=com"]`, `groups: {base_dns: ["ou=robots,dc=example,dc=com"]`, "sources.corp.groups.base_dns: no entry lies below"},
		{"a filter that matches nothing", "(objectClass=inetOrgPerson)", "(&(objectClass=inetOrgPerson)(title=nobody))", "sources.corp.users.filter: matches none of the 2"},
		{"a scope that matches nothing", "source: corp", "source: corp\n    scope: user.?title.orValue(\"\") == \"nobody\"", "connections.wiki.scope: matches none of the 20 users"},
		{"a scope of groups that matches nothing", "groups: {name: group.cn}", "groups: {name: group.cn, scope: 'group.dn == \"\"'}", "connections.wiki.groups.scope: matches none of the"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			survey, err := Probe(t.Context(), realConfig(t, srv, [2]string{c.from, c.to}), "corp")
			if err != nil {
				t.Fatal(err)
			}
			if len(survey.Found.Warnings) != 1 || !strings.HasPrefix(survey.Found.Warnings[0], c.want) {
				t.Errorf("warnings %q, want one that begins with %q", survey.Found.Warnings, c.want)
			}
		})
	}
}
