package ldapsource

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

func entryOf(pairs ...string) *Entry {
	e := &Entry{}
	for pair := range slices.Chunk(pairs, 2) {
		var values [][]byte
		for v := range strings.SplitSeq(pair[1], "|") {
			values = append(values, []byte(v))
		}
		e.Attributes = append(e.Attributes, &directoryv1.Attribute{Name: pair[0], Values: values})
	}
	slices.SortFunc(e.Attributes, func(a, b *directoryv1.Attribute) int { return strings.Compare(a.GetName(), b.GetName()) })
	return e
}

func TestFilter_Match(t *testing.T) {
	t.Parallel()
	e := entryOf("objectclass", "inetOrgPerson", "cn", "Anna  Maria Doe|Annie", "cn;lang-fr", "Hélène", "employeenumber", "9",
		"mail", "anna@example.com", "member", `cn=Doe\2c John,ou=People`, "telephonenumber", "+1 555-01 23",
		"useraccountcontrol", "514", "homedirectory", "/home/Anna", "uidnumber", "42", "userid2", "x",
		"entryuuid", "51aff640-7b97-1041-9023-b9c8f7b2df86")
	for _, test := range []struct {
		filter string
		want   bool
	}{
		{"(cn=anna maria doe)", true},
		{"(cn= ANNA   MARIA  DOE )", true},
		{"(cn=annie)", true},
		{"(cn=hélène)", true},
		{"(cn;lang-fr=HÉLÈNE)", true},
		{"(cn;lang-fr=annie)", false},
		{"(commonName=annie)", true},
		{"(2.5.4.3=annie)", true},
		{"(cn=anna*)", true},
		{"(cn=*ria d*)", true},
		{"(cn=*doe)", true},
		{"(cn=anna*maria*doe)", true},
		{"(cn=anna*anna*)", false},
		{"(cn~=ANNIE)", true},
		{"(objectClass=person)", true},
		{"(objectClass=top)", true},
		{"(objectClass=groupOfNames)", false},
		{"(objectClass=*)", true},
		{"(sn=*)", false},
		{"(!(sn=x))", true},
		{"(employeeNumber>=10)", false},
		{"(employeeNumber<=10)", true},
		{"(uidNumber=42)", true},
		{"(uidNumber=042)", false},
		{"(!(uidNumber=abc))", false},
		{"(uidNumber>=41)", true},
		{`(member=CN=doe\5c, john,OU=people)`, true},
		{"(member=not a name)", false},
		{"(!(member=not a name))", false},
		{"(!(member=cn=other))", true},
		{"(telephoneNumber=+15550123)", true},
		{"(telephoneNumber=+1555*)", true},
		{"(homeDirectory=/home/anna)", false},
		{"(homeDirectory=/home/Anna)", true},
		{"(userAccountControl:1.2.840.113556.1.4.803:=2)", true},
		{"(!(userAccountControl:1.2.840.113556.1.4.803:=3))", true},
		{"(userAccountControl:1.2.840.113556.1.4.804:=3)", true},
		{"(entryUUID=51AFF640-7b97-1041-9023-b9c8f7b2df86)", true},
		{"(&(cn=annie)(|(mail=x)(mail=anna@example.com)))", true},
		{"(&)", true},
		{"(|)", false},
		{`(cn=\41nnie)`, true},
	} {
		f, err := ParseFilter(test.filter)
		if err != nil {
			t.Errorf("%s: %v", test.filter, err)
			continue
		}
		if got := f.Match(e); got != test.want {
			t.Errorf("%s: %v", test.filter, got)
		}
	}
}

func TestParseFilter(t *testing.T) {
	t.Parallel()
	f, err := ParseFilter(" (&(objectClass=person)(!(CommonName=x*))(|(mail>=a)(uid;x=b)(l=*))) ")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"cn", "l", "mail", "objectclass", "uid;x"}, f.Attributes()); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	for filter, want := range map[string]string{
		"":                                 "parse the filter",
		"uid=a":                            "parse the filter",
		"(uid=a":                           "parse the filter",
		"(memberOf=*)":                     "write (memberof=<DN>)",
		"(memberOf=cn=a*)":                 "write (memberof=<DN>)",
		"(memberOf>=cn=a)":                 "write (memberof=<DN>)",
		"(memberOf=staff)":                 "write the DN of the group",
		"(memberOf=)":                      "write the DN of the group",
		"(memberOf:caseIgnoreMatch:=cn=a)": "write (memberof=<DN>) or",
		"(memberOf:dn:1.2.840.113556.1.4.1941:=cn=a)": "write (memberof=<DN>) or",
		"(|" + memberships(7) + ")":                   "use scope_groups",
		"(cn:a b:=x)":                                 "is not an attribute with a matching rule",
		"(:=x)":                                       "parse",
		"(userPassword:1.2.3:=x)":                     "password",
		"(userPassword=x)":                            "password",
		"(u id=a)":                                    "not an attribute name",
		strings.Repeat("(!", 200) + "(a=b)" + strings.Repeat(")", 200): "nested deeper",
	} {
		if _, err := ParseFilter(filter); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFilter(%.40q): %v, want %q", filter, err, want)
		}
	}
}

// What the configuration accepts is understood here, and the other way round.
func TestParseFilter_asTheConfiguration(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]bool{
		"(cn=a)": true, "(&(cn=a*b)(!(sn>=c))(|(l~=d)(o<=e)(ou=*)))": true, `(cn=\2a)`: true, "(cn;lang-fr=x)": true, "(2.5.4.3=x)": true,
		"(cn:=x)": true, "(cn:caseExactMatch:=x)": true, "(cn:dn:2.5.13.5:=x)": true, "(:caseExactMatch:=x)": true, "(cn:dn:=x)": true,
		"(a:1.2.840.113556.1.4.803:=2)": true, "(manager:1.2.840.113556.1.4.1941:=cn=x)": true,
		"(memberOf=cn=a)": true, "(memberOf:=cn=a)": true, "(memberOf:1.2.840.113556.1.4.1941:=cn=a)": true, "(inGroup=cn=a)": true,
		"(memberOf=*)": false, "(inGroup=*)": false, "(memberOf=a*)": false, "(memberOf~=cn=a)": false, "(memberOf=a)": false, "(memberOf=)": false,
		"(memberOf:2.5.13.1:=cn=a)": false, "(memberOf:dn:=cn=a)": false, "(|" + memberships(6) + ")": true, "(|" + memberships(7) + ")": false,
		"(cn:DN:caseExactMatch:=x)": false, "(:=x)": false, "(:dn:=x)": false, "(cn:a b:=x)": false, "(userPassword=x)": false, "(cn=a": false, "cn=a": false,
		"(unicodePwd:dn:=x)": false, "(a b=c)": false,
	} {
		text := fmt.Sprintf("sources: {corp: {ldap: {urls: ['ldap://127.0.0.1']}, users: {base_dns: ['dc=x'], member_of: inGroup, filter: '%s'}}}\n"+
			"connections: {wiki: {source: corp, target: {url: 'https://x'}}}\n", filter)
		if _, err := connection.Parse("rollcall.yaml", []byte(text)); (err == nil) != want {
			t.Errorf("the configuration says of %s: %v", filter, err)
		}
		if _, err := ParseFilter(filter, "inGroup", ""); (err == nil) != want {
			t.Errorf("%s: %v", filter, err)
		}
	}
}

// memberships are clauses about n groups.
func memberships(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "(memberOf=cn=g%d)", i)
	}
	return b.String()
}

func FuzzParseFilter(f *testing.F) {
	for _, seed := range []string{"(cn=a*b*c)", "(&(a=b)(!(c>=d)))", `(member=cn=\2a)`, "(a:1.2.840.113556.1.4.803:=2)", "(cn=*)"} {
		f.Add(seed)
	}
	e := entryOf("cn", "a b c", "member", "cn=x", "uidnumber", "4")
	f.Fuzz(func(_ *testing.T, text string) {
		filter, err := ParseFilter(text)
		if err != nil {
			return
		}
		filter.Match(e)
		filter.Attributes()
	})
}
