package ldapsource

import (
	"errors"
	"fmt"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

func mapper(t *testing.T, id connection.IDAttribute, attributes ...string) *Source {
	t.Helper()
	s, err := New(&connection.Source{
		Name: "corp", LDAP: connection.LDAP{URLs: []string{"ldap://localhost"}}, ID: id,
		Users: connection.UserSource{BaseDNs: []string{suffix}},
	}, attributes, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEntry_id(t *testing.T) {
	t.Parallel()
	const want = "51aff6407b9710419023b9c8f7b2df86"
	for _, test := range []struct {
		encoding, value string
		ok              bool
	}{
		{"text", "51aff640-7b97-1041-9023-b9c8f7b2df86", true},
		{"text", "{51AFF640-7B97-1041-9023-B9C8F7B2DF86}", true},
		{"text", "51aff640-7b971041-9023b9c8-f7b2df86", true},
		{"", "51aff640-7b97-1041-9023-b9c8f7b2df86", true},
		{"text", "51aff640-7b97-1041-9023-b9c8f7b2df8", false},
		{"text", "51aff640-7b97-1041-9023-b9c8f7b2df86aa", false},
		{"text", "00000000-0000-0000-0000-000000000000", false},
		{"text", "anna", false},
		{"bytes", "\x51\xaf\xf6\x40\x7b\x97\x10\x41\x90\x23\xb9\xc8\xf7\xb2\xdf\x86", true},
		{"microsoft", "\x40\xf6\xaf\x51\x97\x7b\x41\x10\x90\x23\xb9\xc8\xf7\xb2\xdf\x86", true},
		{"bytes", "short", false},
		{"microsoft", "", false},
	} {
		s := mapper(t, connection.IDAttribute{Attribute: "GUID", Encoding: test.encoding})
		e, err := s.entry(ldap.NewEntry("cn=x", map[string][]string{"guid": {test.value}}))
		if !test.ok {
			if !errors.Is(err, errNoID) {
				t.Errorf("%s %q: %v", test.encoding, test.value, err)
			}
			continue
		}
		if err != nil || e.ID.String() != want {
			t.Errorf("%s %q: %v, %v", test.encoding, test.value, e, err)
		}
	}
	s := mapper(t, connection.IDAttribute{Attribute: "guid"})
	if _, err := s.entry(ldap.NewEntry("cn=x", nil)); !errors.Is(err, errNoID) {
		t.Errorf("no id: %v", err)
	}
}

func TestIDFilter(t *testing.T) {
	t.Parallel()
	id, err := textID([]byte("51aff640-7b97-1041-9023-b9c8f7b2df86"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ attribute, encoding, want string }{
		{"entryUUID", "text", "(|(entryuuid=51aff640-7b97-1041-9023-b9c8f7b2df86))"},
		{"nsUniqueId", "text", "(|(nsuniqueid=51aff640-7b971041-9023b9c8-f7b2df86))"},
		{"objectGUID", "microsoft", `(|(objectguid=\40\f6\af\51\97\7b\41\10\90\23\b9\c8\f7\b2\df\86))`},
		{"guid", "bytes", `(|(guid=\51\af\f6\40\7b\97\10\41\90\23\b9\c8\f7\b2\df\86))`},
	} {
		s := mapper(t, connection.IDAttribute{Attribute: test.attribute, Encoding: test.encoding})
		if got := s.idFilter([]ID{id}); got != test.want {
			t.Errorf("%s: %s, want %s", test.attribute, got, test.want)
		}
	}
}

func TestEntry_attributes(t *testing.T) {
	t.Parallel()
	s := mapper(t, connection.IDAttribute{Attribute: "entryUUID"}, "CN", "mail", "member")
	got, err := s.entry(&ldap.Entry{DN: "cn=X", Attributes: []*ldap.EntryAttribute{
		ldap.NewEntryAttribute("entryUUID", []string{"51aff640-7b97-1041-9023-b9c8f7b2df86"}),
		ldap.NewEntryAttribute("entryCSN", []string{"20261123143840.195711Z#000000#000#000000"}),
		ldap.NewEntryAttribute("hasSubordinates", []string{"TRUE"}),
		ldap.NewEntryAttribute("userPassword", []string{"x"}),
		ldap.NewEntryAttribute("Mail", []string{"b", "a"}),
		ldap.NewEntryAttribute("cn;lang-FR", []string{"é"}),
		ldap.NewEntryAttribute("CN", []string{"X"}),
		ldap.NewEntryAttribute("member", nil),
		ldap.NewEntryAttribute("MAIL", []string{"c"}),
		ldap.NewEntryAttribute("unasked", []string{"x"}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	attribute := func(name string, values ...string) *directoryv1.Attribute {
		a := &directoryv1.Attribute{Name: name}
		for _, v := range values {
			a.Values = append(a.Values, []byte(v))
		}
		return a
	}
	want := &Entry{
		ID: ID{0x51, 0xaf, 0xf6, 0x40, 0x7b, 0x97, 0x10, 0x41, 0x90, 0x23, 0xb9, 0xc8, 0xf7, 0xb2, 0xdf, 0x86},
		DN: "cn=X", Version: "20261123143840.195711Z#000000#000#000000",
		Attributes: []*directoryv1.Attribute{attribute("cn", "X"), attribute("cn;lang-fr", "é"), attribute("mail", "b", "a", "c")},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestJoinRanges(t *testing.T) {
	t.Parallel()
	values := func(from, to int) []string {
		var list []string
		for i := from; i < to; i++ {
			list = append(list, fmt.Sprintf("cn=%d", i))
		}
		return list
	}
	parts := map[string]*ldap.Entry{
		"Member;range=3-*": ldap.NewEntry("", map[string][]string{"Member;range=3-5": values(3, 6)}),
		"Member;range=6-*": ldap.NewEntry("", map[string][]string{"Member;range=6-*": values(6, 8)}),
	}
	first := &ldap.Entry{DN: "cn=g", Attributes: []*ldap.EntryAttribute{
		ldap.NewEntryAttribute("member", nil), ldap.NewEntryAttribute("Member;range=0-2", values(0, 3)), ldap.NewEntryAttribute("cn", []string{"g"}),
	}}
	fetch := func(name string) (*ldap.Entry, error) { return parts[name], nil }
	if !hasRange(first) {
		t.Error("hasRange is false")
	}
	got, err := joinRanges(first, fetch)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(values(0, 8), got.GetEqualFoldAttributeValues("member")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if hasRange(got) || len(got.Attributes) != 2 || len(got.Attributes[0].ByteValues) != 8 {
		t.Errorf("%d attributes", len(got.Attributes))
	}
	for name, part := range map[string]*ldap.Entry{
		"missing": ldap.NewEntry("", nil), "no progress": ldap.NewEntry("", map[string][]string{"member;range=0-2": values(0, 3)}),
	} {
		if _, err := joinRanges(first, func(string) (*ldap.Entry, error) { return part, nil }); !errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
