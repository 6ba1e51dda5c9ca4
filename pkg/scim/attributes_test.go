package scim_test

import (
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func TestPathMeant(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		kind     scim.Kind
		in       string
		standard bool
		meant    string
	}{
		{scim.KindUser, "displayName", true, ""},
		{scim.KindUser, "dispalyName", false, "displayName"},
		{scim.KindUser, "email[type eq \"work\"].value", false, `emails[type eq "work"].value`},
		{scim.KindUser, `emails[typ eq "work"].value`, false, `emails[type eq "work"].value`},
		{scim.KindUser, "name.givenNmae", false, "name.givenName"},
		{scim.KindUser, "addresses.postalCode", true, ""},
		{scim.KindUser, "name.postalCode", false, ""},
		{scim.KindUser, "department", false, enterprise + ":department"},
		{scim.KindUser, enterprise + ":departement", false, enterprise + ":department"},
		{scim.KindUser, enterprise + ":manager.value", true, ""},
		{scim.KindUser, "favouriteColour", false, ""},
		{scim.KindUser, "urn:acme:scim:2.0:Badge:colour", false, ""},
		{scim.KindUser, "members", false, ""},
		{scim.KindGroup, "displayName", true, ""},
		{scim.KindGroup, "externalID", true, ""},
		{scim.KindGroup, "externId", false, "externalId"},
	} {
		p, err := scim.ParsePath(row.in)
		if err != nil {
			t.Fatal(err)
		}
		if p.Standard(row.kind) != row.standard || p.Meant(row.kind) != row.meant {
			t.Errorf("%s %s: standard %v, meant %q; want %v, %q", row.kind, row.in, p.Standard(row.kind), p.Meant(row.kind), row.standard, row.meant)
		}
	}
}

// What is not standard is judged by the target's /Schemas, where it has them.
func TestDiscoveredKnows(t *testing.T) {
	t.Parallel()
	const badge = "urn:acme:scim:2.0:Badge"
	silent := scim.Discovered{}
	says := scim.Discovered{Attributes: []string{
		strings.ToLower(badge) + ":colour", strings.ToLower(badge) + ":desk", strings.ToLower(badge) + ":desk.floor", strings.ToLower(scim.SchemaUser) + ":username", strings.ToLower(scim.SchemaUser) + ":team",
	}}
	for _, row := range []struct {
		said  scim.Discovered
		in    string
		want  scim.Knowledge
		meant string
	}{
		{silent, "title", scim.AttributeKnown, ""},
		{silent, "team", scim.AttributeUnknown, ""},
		{silent, badge + ":colour", scim.AttributeUnsure, ""},
		{says, "title", scim.AttributeKnown, ""}, // RFC 7643 is enough
		{says, "team", scim.AttributeKnown, ""},
		{says, "squad", scim.AttributeUnknown, ""},
		{says, badge + ":colour", scim.AttributeKnown, ""},
		{says, badge + ":color", scim.AttributeUnknown, strings.ToLower(badge) + ":colour"},
		{says, badge + ":desk.floor", scim.AttributeKnown, ""},
		{says, "urn:other:scim:2.0:Thing:x", scim.AttributeUnknown, ""},
	} {
		p, err := scim.ParsePath(row.in)
		if err != nil {
			t.Fatal(err)
		}
		got, meant := row.said.Knows(scim.KindUser, p)
		if got != row.want || row.meant != "" && meant != row.meant {
			t.Errorf("%s: %v, %q; want %v, %q", row.in, got, meant, row.want, row.meant)
		}
	}
}

func TestDiscoverReadsTheAttributes(t *testing.T) {
	t.Parallel()
	d, err := newClient(t, scimtest.NewServer(t, scimtest.Options{}).URL()).Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"userName", "name.givenName", enterprise + ":department"} {
		p, err := scim.ParsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		schema := p.URN
		if schema == "" {
			schema = scim.SchemaUser
		}
		p.URN = ""
		if want := strings.ToLower(schema + ":" + p.String()); !strings.Contains(strings.Join(d.Attributes, " ")+" ", want+" ") {
			t.Errorf("%s is not among %q", want, d.Attributes)
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{})
	server.Seed(scim.KindUser, user("ann"))
	server.Seed(scim.KindUser, user("bob"))
	c := newClient(t, server.URL())
	if n, said, err := c.Count(t.Context(), scim.KindUser); n != 2 || !said || err != nil {
		t.Errorf("%d, %v, %v; want 2", n, said, err)
	}
	if calls := len(server.Requests()); calls != 1 {
		t.Errorf("%d requests, want 1", calls)
	}
}
