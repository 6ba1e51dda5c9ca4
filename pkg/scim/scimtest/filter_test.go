package scimtest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// filtered seeds three users and gives the names of those that a filter finds.
func filtered(t *testing.T, filter string) []string {
	t.Helper()
	s := New(Options{})
	s.Seed(scim.KindUser, map[string]any{
		"userName": "Ada", "externalId": "X1", "title": "Boss", "name": map[string]any{"familyName": "Lovelace"},
		"emails":                  []any{map[string]any{"type": "work", "value": "ada@work"}, map[string]any{"type": "home", "value": "ada@home"}},
		scim.SchemaEnterpriseUser: map[string]any{"department": "R"},
	})
	s.Seed(scim.KindUser, map[string]any{"userName": "bob", "externalId": "x1", "active": false, "emails": []any{map[string]any{"type": "home", "value": "bob@home"}}})
	s.Seed(scim.KindUser, map[string]any{"userName": `e"v\e`})
	e, err := parseFilter(userType, filter)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	views, total := s.store.list(scim.KindUser, e, 0, 10, projection{})
	for _, v := range views {
		names = append(names, v.attrs["userName"].(string))
	}
	if total != len(names) {
		t.Errorf("total %d, want %d", total, len(names))
	}
	return names
}

func TestFilter(t *testing.T) {
	t.Parallel()
	const ada, bob, eve = "Ada", "bob", `e"v\e`
	tests := []struct {
		filter string
		want   []string
	}{
		{`userName eq "ada"`, []string{ada}},
		{`USERNAME EQ "ADA"`, []string{ada}},
		{scim.SchemaUser + `:userName eq "ada"`, []string{ada}},
		{`userName eq "e\"v\\e"`, []string{eve}},
		{`externalId eq "x1"`, []string{bob}},
		{`title eq "boss"`, []string{ada}},
		{`title ne "boss"`, []string{bob, eve}},
		{`title pr`, []string{ada}},
		{`not (title pr)`, []string{bob, eve}},
		{`userName sw "a" or userName ew "b"`, []string{ada, bob}},
		{`userName co "d" and active eq true`, []string{ada}},
		{`active eq false`, []string{bob}},
		{`userName pr and active eq false or title pr`, []string{ada, bob}},
		{`userName pr and (active eq false or title pr)`, []string{ada, bob}},
		{`not(active eq true)`, []string{bob}},
		{`userName gt "b"`, []string{bob, eve}},
		{`userName ge "ada" and userName lt "c"`, []string{ada, bob}},
		{`emails eq "ADA@work"`, []string{ada}},
		{`emails.value co "@home"`, []string{ada, bob}},
		{`emails[type eq "home" and value co "bob"]`, []string{bob}},
		{`emails[type eq "work" and value co "home"]`, []string{}},
		{`emails[not (type eq "work")]`, []string{ada, bob}},
		{`name.familyName eq "lovelace"`, []string{ada}},
		{scim.SchemaEnterpriseUser + `:department eq "r"`, []string{ada}},
		{`meta.created gt "2001-01-01T00:00:00Z"`, []string{ada, bob, eve}},
		{`meta.created lt "2001-01-01T00:00:00Z"`, []string{}},
		{`title eq null`, []string{bob, eve}},
		{`meta.resourceType eq "User" and id pr`, []string{ada, bob, eve}},
	}
	for _, test := range tests {
		t.Run(test.filter, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, filtered(t, test.filter)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFilterRefuses(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{
		"userName", "userName eq", `userName eq ada`, `userName eq "ada`, `userName is "ada"`, `shoe eq "44"`, `userName eq 7`,
		`active eq "true"`, `active gt true`, `userName eq "a" and`, `(userName pr`, `userName pr)`, `not userName pr`, `name eq "x"`,
		`userName eq "a" "b"`, `emails[type eq "x"`, `emails[shoe eq "x"]`, `title[value eq "x"]`, `userName eq {}`, " ", `emails[type eq "x"].value`,
	} {
		if e, err := parseFilter(userType, filter); err == nil {
			t.Errorf("%q was read as %#v", filter, e)
		}
	}
}

func TestGroupFilters(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	u := s.Seed(scim.KindUser, map[string]any{"userName": "ada"})
	g := s.Seed(scim.KindGroup, map[string]any{"displayName": "g", "members": []any{map[string]any{"value": u}}})
	s.Seed(scim.KindGroup, map[string]any{"displayName": "h"})
	for filter, want := range map[string]int{
		`members.value eq "` + u + `"`:                   1,
		`members eq "` + u + `"`:                         1,
		`id eq "` + g + `" and members eq "` + u + `"`:   1,
		`members[value eq "` + u + `"]`:                  1,
		`members eq "nobody"`:                            0,
		`displayName eq "H"`:                             1,
		`displayName eq "h" and members.value eq "nope"`: 0,
	} {
		e, err := parseFilter(groupType, filter)
		if err != nil {
			t.Fatal(err)
		}
		if _, total := s.store.list(scim.KindGroup, e, 0, 10, projection{}); total != want {
			t.Errorf("%s finds %d, want %d", filter, total, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{`userName eq "a"`, `emails[type eq "work" and not (value pr)]`, `(a or b) and c`, `İ İİ`, `userName İQ "x"`, `active eq true`} {
		f.Add(seed)
	}
	r := &record{typ: userType, attrs: map[string]any{"userName": "a", "emails": []any{map[string]any{"type": "work", "value": "x"}}}, created: time.Unix(0, 0)}
	f.Fuzz(func(_ *testing.T, filter string) {
		if e, err := parseFilter(userType, filter); err == nil {
			e.eval(view{record: *r})
		}
		_, _ = parsePath(userType, filter)
		_, _ = parsePath(groupType, filter)
	})
}

func TestOrdered(t *testing.T) {
	t.Parallel()
	o := newOrdered[int]()
	for i := range 100 {
		o.add(string(rune('A'+i)), i)
	}
	for i := range 100 {
		if i%3 != 0 {
			o.remove(string(rune('A' + i)))
		}
	}
	o.remove("nothing")
	var got []int
	for _, v := range o.all() {
		got = append(got, v)
	}
	if len(got) != 34 || o.len() != 34 || got[0] != 0 || got[33] != 99 {
		t.Errorf("got %v", got)
	}
	if diff := cmp.Diff([]int{6, 9}, o.slice(2, 2)); diff != "" {
		t.Errorf("slice (-want +got):\n%s", diff)
	}
	if v, ok := o.get("A"); !ok || v != 0 || o.has("B") {
		t.Errorf("get %v %v", v, ok)
	}
}
