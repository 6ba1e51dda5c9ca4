package mapping_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

const (
	user  = directoryv1.Kind_KIND_USER
	group = directoryv1.Kind_KIND_GROUP
)

func attribute(name string, values ...string) *directoryv1.Attribute {
	a := &directoryv1.Attribute{Name: name}
	for _, v := range values {
		a.Values = append(a.Values, []byte(v))
	}
	return a
}

func exampleUser() *directoryv1.User {
	return &directoryv1.User{
		Id:      []byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"),
		Dn:      "uid=zmuller,ou=people,dc=example,dc=com",
		Enabled: true,
		Attributes: []*directoryv1.Attribute{
			attribute("cn", "Zoë Müller"),
			attribute("createtimestamp", "20240131120000Z"),
			attribute("employeenumber", "42"),
			attribute("employeetype", "staff", "admin"),
			attribute("givenname", "Zoë"),
			attribute("jpegphoto", "\xff\xd8\xff\xe0"),
			attribute("mail", "zoe.muller@example.com", "zm@example.com"),
			attribute("manager", `cn=Jones\, Bob,ou=people,dc=example,dc=com`),
			attribute("msds-x", "odd"),
			attribute("sn", "Müller"),
			attribute("telephonenumber", "+49 30 1234"),
			attribute("uid", "ZMuller"),
		},
		Groups: []string{"staff", "wiki-editors"},
	}
}

func eval(t *testing.T, source string, set mapping.Set) (any, error) {
	t.Helper()
	e, err := mapping.Compile(user, source)
	if err != nil {
		t.Fatalf("compile %s: %v", source, err)
	}
	return e.Eval(mapping.UserObject(exampleUser(), set))
}

func TestFunctionExamples(t *testing.T) {
	t.Parallel()
	for _, f := range mapping.Functions() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			got, err := eval(t, f.Example, nil)
			if err != nil {
				t.Fatalf("%s: %v", f.Example, err)
			}
			encoded, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(f.Result, string(encoded)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", f.Example, diff)
			}
		})
	}
}

func TestEval(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, source string
		want         any
	}{
		{"first value", `user.mail`, "zoe.muller@example.com"},
		{"any case", `user.MAIL`, "zoe.muller@example.com"},
		{"odd name", "user.`msDS-X`", "odd"},
		{"odd name in a list", "user.all.`msDS-X`", []any{"odd"}},
		{"odd name, optional", "user.?`msDS-X`.orValue(\"\")", "odd"},
		{"odd name, has", "has(user.`msDS-X`)", true},
		{"all values", `user.all.mail`, []any{"zoe.muller@example.com", "zm@example.com"}},
		{"all values of nothing", `user.all.mobile`, []any{}},
		{"a list index", `user.all.mail[1]`, "zm@example.com"},
		{"an optional list index", `user.all.mail[?1]`, "zm@example.com"},
		{"distinguished name", `user.dn`, "uid=zmuller,ou=people,dc=example,dc=com"},
		{"entry id", `user.id`, "000102030405060708090a0b0c0d0e0f"},
		{"enabled", `user.enabled`, true},
		{"groups", `user.groups`, []any{"staff", "wiki-editors"}},
		{"an attribute named like a field", `user.all.groups`, []any{}},
		{"binary", `user.jpegPhoto`, "/9j/4A=="},
		{"has", `has(user.mobile)`, false},
		{"has of a list", `has(user.all.mobile)`, false},
		{"has of what is always there", `has(user.dn)`, true},
		{"an optional value", `user.?mobile.orValue("-")`, "-"},
		{"an optional list", `user.all.?mobile.hasValue()`, false},
		{"an optional as the result", `user.?mail`, "zoe.muller@example.com"},
		{"absent does not matter", `user.mobile == "1" || user.sn == "Müller"`, true},
		{"a condition", `has(user.mobile) ? user.mobile : user.telephoneNumber`, "+49 30 1234"},
		{"int", `1 + 2`, int64(3)},
		{"double", `1.5 * 2.0`, 3.0},
		{"a leading dot", `.user.sn`, "Müller"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := eval(t, tt.source, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.source, diff)
			}
		})
	}
}

func TestEvalAbsent(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		`user.mobile`,
		`user.mobile + "x"`,
		`"x" + user.mobile`,
		`user.mobile.lowerAscii()`,
		`cn(user.mobile)`,
		`[user.mail, user.mobile]`,
		`user.mobile == "a"`,
		`!(user.mobile == "a")`,
		`user.mobile == "a" && user.sn == "Müller"`,
		`user.mobile == "a" ? "x" : "y"`,
		`user.all.mail.map(m, m + user.mobile)`,
		`user.all.mail.exists(m, m == user.mobile)`,
		`string(user.mobile)`,
		`user.?mobile`,
		`user.?mobile.or(user.?pager)`,
		`user.all.mail[?9]`,
		`"%s".format([user.mobile])`,
	} {
		if got, err := eval(t, source, nil); !errors.Is(err, mapping.ErrAbsent) || errors.Is(err, mapping.ErrUnknown) {
			t.Errorf("%s = %v, %v; want ErrAbsent", source, got, err)
		}
	}
}

func TestEvalUnknown(t *testing.T) {
	t.Parallel()
	set := mapping.NewSet([]string{"MAIL", "sn"})
	for _, source := range []string{
		`user.mobile`, `has(user.mobile)`, `user.?mobile.orValue("")`, `user.all.mobile`,
		`user.mobile == "a" || true`, `user.groups`, `size(user.groups)`,
	} {
		if got, err := eval(t, source, set); !errors.Is(err, mapping.ErrUnknown) || errors.Is(err, mapping.ErrAbsent) {
			t.Errorf("%s = %v, %v; want ErrUnknown", source, got, err)
		}
	}
	for _, source := range []string{`user.mail`, `user.SN`, `user.dn`, `user.enabled`} {
		if _, err := eval(t, source, set); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
	withGroups := mapping.NewSet([]string{mapping.GroupsMarker})
	if _, err := eval(t, `user.groups`, withGroups); err != nil {
		t.Errorf("user.groups with the marker: %v", err)
	}
}

func TestEvalOtherErrors(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		`user.all.mail[7]`, `int(user.sn)`, `1 / (size(user.all.mobile))`, `cn(user.sn)`,
		`formatDate(user.sn, "date")`, `formatDate(user.createTimestamp, "qqq")`, `user.sn.substring(99)`,
	} {
		_, err := eval(t, source, nil)
		if err == nil || errors.Is(err, mapping.ErrAbsent) || errors.Is(err, mapping.ErrUnknown) {
			t.Errorf("%s: %v; want another error", source, err)
		}
	}
}

func TestEvalRefusesTheOtherKind(t *testing.T) {
	t.Parallel()
	e, err := mapping.Compile(group, `group.cn`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Eval(mapping.UserObject(exampleUser(), nil)); err == nil {
		t.Error("a user was evaluated as a group")
	}
	if _, err := e.Eval(mapping.Object{}); err == nil {
		t.Error("nothing was evaluated as a group")
	}
	g := &directoryv1.Group{Attributes: []*directoryv1.Attribute{attribute("cn", "staff")}}
	if got, err := e.Eval(mapping.GroupObject(g, nil)); err != nil || got != "staff" {
		t.Errorf("group.cn = %v, %v", got, err)
	}
}

func TestEvalIsBounded(t *testing.T) {
	t.Parallel()
	u := exampleUser()
	many := &directoryv1.Attribute{Name: "member"}
	for range 5000 {
		many.Values = append(many.Values, []byte(strings.Repeat("a", 100)))
	}
	u.Attributes = append(u.Attributes, many)
	e, err := mapping.Compile(user, `user.all.member.exists(a, user.all.member.exists(b, a + b == "x"))`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Eval(mapping.UserObject(u, nil)); err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("25 million steps: %v; want the cost limit", err)
	}
}

func TestEvalBoundsPatternsOfTheDirectory(t *testing.T) {
	t.Parallel()
	u := &directoryv1.User{Attributes: []*directoryv1.Attribute{attribute("x", "(abcdefgh){900}")}}
	for _, source := range []string{`user.dn.matches(user.x)`, `regex.replace(user.dn, user.x, "")`} {
		e, err := mapping.Compile(user, source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.Eval(mapping.UserObject(u, nil)); err == nil {
			t.Errorf("%s = %v; want that the pattern is too large", source, got)
		}
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	e, err := mapping.Compile(user, "has(user.B) && user.a == \"\" && user.?`C-d`.hasValue() && \"x\" in user.all.e && size(user.groups) > 0 && user.dn != user.id")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c-d", "e"}, e.Attributes()); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if !e.UsesGroups() || e.UsesEnabled() {
		t.Errorf("groups %v, enabled %v; want true, false", e.UsesGroups(), e.UsesEnabled())
	}
	if !e.Set().Contains(mapping.GroupsMarker) {
		t.Error("the set lacks the groups marker")
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	a, b := mapping.NewSet([]string{"mail", "CN"}), mapping.NewSet([]string{"cn", "Mail", "mail"})
	if a.ID() != b.ID() || len(a.ID()) != 16 {
		t.Errorf("ids %s and %s differ for the same names", a.ID(), b.ID())
	}
	if a.ID() == mapping.NewSet([]string{"cn"}).ID() {
		t.Error("different names have the same id")
	}
	if !a.Contains("MAIL") || a.Contains("sn") {
		t.Error("Contains is wrong")
	}
	var everything mapping.Set
	if !everything.Contains("sn") || everything.ID() != "" || mapping.NewSet(nil).Contains("sn") {
		t.Error("nil must hold everything, and the empty set nothing")
	}
	both := a.Union(mapping.NewSet([]string{mapping.GroupsMarker}))
	if diff := cmp.Diff([]string{"cn", "mail"}, both.Attributes()); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"cn", "mail", mapping.GroupsMarker}, both.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}
