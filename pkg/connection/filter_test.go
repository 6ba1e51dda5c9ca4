package connection

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCheckFilter(t *testing.T) {
	t.Parallel()
	tests := []struct{ filter, want string }{
		{"(uid=a)", ""},
		{"(objectClass=*)", ""},
		{"(cn=A*b*)", ""},
		{"(&(a=b)(|(c>=1)(d<=2)(e~=f))(!(g=h)))", ""},
		{"(&)", ""},
		{"(|)", ""},
		{"(cn;lang-fr=x)", ""},
		{"(1.2.840=x)", ""},
		{"(userAccountControl:1.2.840.113556.1.4.803:=2)", ""},
		{"(cn:dn:caseExactMatch:=x)", ""},
		{"(:caseExactMatch:=x)", ""},
		{`(cn=\28a\29\5c)`, ""},
		{"(cn=)", ""},
		{"(cn=Zoë)", ""},
		{"(memberOf=cn=g,dc=x)", ""},
		{`(!(isMemberOf=cn=\2a\5c,g,dc=x))`, ""},
		{"(memberOf:=cn=g,dc=x)", ""},
		{"(memberOf:1.2.840.113556.1.4.1941:=cn=g,dc=x)", ""},
		{"(manager:1.2.840.113556.1.4.1941:=cn=g,dc=x)", ""},
		{"(|" + namedGroups(6) + namedGroups(6) + ")", ""},
		{"(|" + namedGroups(7) + ")", "column 94: more than 6 groups are named by memberOf: use scope_groups"},
		{"(memberOf=*)", "can only name a group"},
		{"(memberof=cn=g*)", "write (memberof=<DN>) or (memberof:1.2.840.113556.1.4.1941:=<DN>), or use scope_groups"},
		{"(memberOf>=cn=g)", "can only name a group"},
		{"(memberOf:caseExactMatch:=cn=g)", "can only name a group"},
		{"(memberOf:dn:1.2.840.113556.1.4.1941:=cn=g)", "can only name a group"},
		{"(memberOf=staff)", "write the DN of a group"},
		{"(memberOf=)", "write the DN of a group"},
		{"(inGroup=*)", "can only name a group"},
		{"(cn:DN:caseExactMatch:=x)", "incomplete"},
		{"", "column 1: an opening parenthesis"},
		{"uid=a", "column 1: an opening parenthesis"},
		{"(uid=a", "a closing parenthesis"},
		{"(&(uid=a)", "a closing parenthesis"},
		{"(uid=a))", "column 8: something follows"},
		{"(uid=a)(b=c)", "something follows"},
		{"(uid)", "a comparison"},
		{"()", "a comparison"},
		{"(!)", "an opening parenthesis"},
		{"(!(a=b)(c=d))", "a closing parenthesis"},
		{"(a b=c)", `"a b" is no attribute`},
		{"(=c)", "is no attribute"},
		{"(cn>=a*)", `\2a`},
		{`(cn=\2)`, "two hexadecimal digits"},
		{`(cn=\zz)`, "two hexadecimal digits"},
		{"(:=x)", "incomplete"},
		{"(cn:a:b:=x)", "incomplete"},
		{"(cn:a b:=x)", "is no attribute or matching rule"},
		{"(cn=a\x00)", `\00`},
		{"(userPassword=*)", "holds passwords"},
		{"(unicodePwd:dn:=x)", "holds passwords"},
		{strings.Repeat("(!", 100) + "(a=b)" + strings.Repeat(")", 100), "nested too deep"},
		{"(a=" + strings.Repeat("b", 20_000) + ")", "more than"},
	}
	for _, tt := range tests {
		err := checkFilter(tt.filter, "inGroup")
		if tt.want == "" && err != nil {
			t.Errorf("%s: %v", tt.filter, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%.60s: %v; want %q", tt.filter, err, tt.want)
		}
	}
}

func namedGroups(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "(memberOf=cn=%d)", i)
	}
	return b.String()
}

func FuzzCheckFilter(f *testing.F) {
	f.Add("(&(a=b)(|(c>=1)(!(d:dn:e:=\\2a))))")
	f.Fuzz(func(t *testing.T, filter string) {
		if checkFilter(filter) == nil && strings.Count(filter, "(") != strings.Count(filter, ")") {
			t.Errorf("%q is accepted with unbalanced parentheses", filter)
		}
	})
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "5s": 5 * time.Second, "1h30m": 90 * time.Minute, "30d": 30 * day, "1d12h": 36 * time.Hour, "500ms": time.Second / 2,
	} {
		got, err := parseDuration(text)
		if err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
		if again, err := parseDuration(formatDuration(got)); err != nil || again != got {
			t.Errorf("%v is written as %q and read as %v, %v", got, formatDuration(got), again, err)
		}
	}
	for _, text := range []string{"5", "d", "-1s", "-1d", "1.5d", "1d-5h", "1y", "9999999999d", "106000d99999999h", "5 s"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

// TestKeysAreThoseOfTheTypes keeps the table and the Go types together.
func TestKeysAreThoseOfTheTypes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, k := range keys() {
		if k.meaning == "" || seen[k.path] {
			t.Errorf("%s has no meaning or stands twice", k.path)
		}
		seen[k.path] = true
	}
	for line := range strings.Lines(string(Reference())) {
		if path, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | "); ok {
			delete(seen, path)
		}
	}
	for path := range seen {
		t.Errorf("%s is described and is no key", path)
	}
}
