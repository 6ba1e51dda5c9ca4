package mapping_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, source, want string }{
		{"types that do not fit", `user.mail + 1`, "column 11: found no matching overload for '_+_'"},
		{"a syntax fault", `user.mail ==`, "Syntax error"},
		{"an unknown name", `mail`, "undeclared reference to 'mail'"},
		{"a misspelt function", `user.uid.lowerAscci()`, "there is no function lowerAscci; did you mean lowerAscii?"},
		{"a misspelt global function", `localpart(user.mail)`, "there is no function localpart; did you mean localPart?"},
		{"an unknown function", `user.uid.frobnicate()`, "there is no function frobnicate; docs/configuration.md lists the functions"},
		{"a short name that is no function", `sn`, "attributes are written user.mail, texts stand in quotes"},
		{"the other kind", `group.cn`, "the entry is named user here"},
		{"a password", `user.userPassword`, "column 1: userPassword holds passwords"},
		{"a password in has", `has(user.UNICODEPWD)`, "holds passwords"},
		{"a password list", `"a" in user.all.sambaNTPassword`, "holds passwords"},
		{"a password, optional", `user.?dBCSPwd.orValue("")`, "holds passwords"},
		{"an object identifier", "user.`2.5.4.35`", "undefined field"},
		{"the whole entry", `dyn(user).userPassword`, "user cannot be used as a whole"},
		{"all of the entry", `dyn(user.all).userPassword`, "user.all cannot be used as a whole"},
		{"all of the entry, optional", `user.?all.?userPassword`, "user.all cannot be used as a whole"},
		{"an index", `user["mail"]`, "found no matching overload for '_[_]'"},
		{"a choice of entries", `(true ? user : user).userPassword`, "user cannot be used as a whole"},
		{"a loop variable named user", `[1].map(user, string(user))`, "a loop variable cannot be named user"},
		{"an object", `rollcall.User{mail: "a"}`, "objects cannot be made"},
		{"a map", `{"a": "b"}`, "has no SCIM value"},
		{"a time", `timestamp("2024-01-01T00:00:00Z")`, "string(...)"},
		{"a list of lists", `[["a"]]`, "has no SCIM value"},
		{"nothing", "  ", "the expression is empty"},
		{"too long", `"` + strings.Repeat("a", 9000) + `"`, "size"},
		{"a huge pattern", `user.mail.matches("(abcdefgh){900}")`, "exceeds limit"},
		{"a bad pattern", `user.mail.matches("(")`, "matches argument; write an RE2 pattern"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := mapping.Compile(user, tt.source)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%s: %v; want %q", tt.source, err, tt.want)
			}
			if len(mapping.Faults(err)) == 0 {
				t.Errorf("%s: the error has no faults", tt.source)
			}
		})
	}
}

func TestCompileGroupRefusesUserFields(t *testing.T) {
	t.Parallel()
	for _, source := range []string{`group.enabled`, `group.groups`, `user.cn`} {
		if _, err := mapping.Compile(group, source); err == nil {
			t.Errorf("%s compiled for a group", source)
		}
	}
}

func TestCompileBool(t *testing.T) {
	t.Parallel()
	tests := []struct {
		source string
		want   string // empty: it compiles
	}{
		{`true`, ""},
		{`user.enabled`, ""},
		{`!("left" in user.all.employeeType)`, ""},
		{`has(user.x) && user.x == "a"`, ""},
		{`has(user.x) && (user.y != "b" || true)`, "user.y may be absent"},
		{`has(user.x) && user.X == "a"`, ""},
		{`has(user.x) && has(user.y) && user.x == user.y`, ""},
		{`user.z == "" && has(user.x) && has(user.y)`, `write user.?z.orValue("") or user.all.z, or put has(user.z) && before it`},
		{`has(user.x) ? user.x == "a" : false`, ""},
		{`!has(user.x) ? true : user.x == "a"`, ""},
		{`has(user.x) ? false : user.x == "a"`, "user.x may be absent"},
		{`!has(user.x) || user.x == "a"`, ""},
		{`has(user.x) || user.x == "a"`, "user.x may be absent"},
		{`user.x == "a" && has(user.x)`, "user.x may be absent"},
		{`(has(user.x) || has(user.y)) && user.x == "a"`, "user.x may be absent"},
		{`((has(user.x) && has(user.y)) || has(user.x)) && user.x == "a"`, ""},
		{`!(has(user.x) && has(user.y)) || user.x == user.y`, ""},
		{`user.?x.hasValue() && user.x == "a"`, ""},
		{`user.?x.orValue("") == "a"`, ""},
		{`user.all.x.exists(v, v == user.y)`, "user.y may be absent"},
		{`has(user.y) && user.all.x.exists(v, v == user.y)`, ""},
		{`user.all.x[0] == "a"`, "user.x may be absent"},
		{`has(user.x) && user.all.x[0] == "a"`, ""},
		{`user.?x.value() == "a"`, "user.x may be absent"},
		{"user.`ms-x` == \"a\"", "write user.?`ms-x`.orValue(\"\") or user.all.`ms-x`, or put has(user.`ms-x`)"},
		{`user.mail`, "must be a bool and is of type string"},
		{`dyn(true)`, "must be a bool and is of type dyn"},
		{`"wiki" in user.groups`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.source, func(t *testing.T) {
			t.Parallel()
			e, err := mapping.CompileBool(user, tt.source)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("%v; want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Bool(mapping.UserObject(exampleUser(), nil)); err != nil {
				t.Errorf("evaluate: %v", err)
			}
		})
	}
}

func TestCompileReportsEveryFault(t *testing.T) {
	t.Parallel()
	_, err := mapping.CompileBool(user, "user.a == \"\" &&\n user.b == \"\"")
	faults := mapping.Faults(err)
	if len(faults) != 2 || faults[0].Line != 1 || faults[0].Column != 1 || faults[1].Line != 2 || faults[1].Column != 2 {
		t.Errorf("faults %v", faults)
	}
}

func FuzzCompile(f *testing.F) {
	for _, fn := range mapping.Functions() {
		f.Add(fn.Example)
	}
	f.Add(`has(user.x) && user.x == "a"`)
	f.Add("user.`ms-x` + 1")
	f.Add(`user.all.x[0] ? user : {"a": user.?b}`)
	f.Fuzz(func(t *testing.T, source string) {
		o := mapping.UserObject(exampleUser(), nil)
		if e, err := mapping.Compile(user, source); err == nil {
			_, _ = e.Eval(o)
			for _, name := range e.Attributes() {
				if mapping.Forbidden(name) {
					t.Fatalf("%q reads %s", source, name)
				}
			}
		}
		checkNeverAbsent(t, source)
	})
}

// checkNeverAbsent proves the promise of CompileBool on an entry without any
// attribute.
func checkNeverAbsent(t *testing.T, source string) {
	t.Helper()
	e, err := mapping.CompileBool(user, source)
	if err != nil {
		return
	}
	if _, err := e.Bool(mapping.UserObject(emptyUser(), nil)); isAbsent(err) {
		t.Fatalf("%q is absent: %v", source, err)
	}
}

func emptyUser() *directoryv1.User { return &directoryv1.User{Id: make([]byte, 16)} }

func isAbsent(err error) bool { return errors.Is(err, mapping.ErrAbsent) }

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := mapping.CompileBool(user, `!("left" in user.all.employeeType)`); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEval(b *testing.B) {
	for _, source := range []string{
		`user.mail`,
		`!("left" in user.all.employeeType)`,
		`user.?displayName.orValue(user.cn)`,
		`normalizeDiacritics(user.givenName + "." + user.sn).lowerAscii()`,
	} {
		b.Run(source, func(b *testing.B) {
			e, err := mapping.Compile(user, source)
			if err != nil {
				b.Fatal(err)
			}
			o := mapping.UserObject(exampleUser(), mapping.NewSet(e.Attributes()))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Eval(o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
