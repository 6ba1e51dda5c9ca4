package ldapsource

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

func TestParseDefinition(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]definition{
		"( 2.5.4.3 NAME ( 'cn' 'commonName' ) DESC 'a ( b' SUP name )": {"": {"2.5.4.3"}, "NAME": {"cn", "commonname"}, "SUP": {"name"}},
		"(2.5.4.3 NAME 'cn' DESC 'SUP x')":                             {"": {"2.5.4.3"}, "NAME": {"cn"}},
		"( 1.2.3 DESC 'nameless' )":                                    {"": {"1.2.3"}},
		"( 1.2 SYNTAX '1.3.6' SINGLE-VALUE )":                          {"": {"1.2"}, "SYNTAX": {"1.3.6"}},
		"( 1.2 NAME 'x' SUP ( a $ b ) AUXILIARY MAY ( sup $ name ) )":  {"": {"1.2"}, "NAME": {"x"}, "SUP": {"a", "b"}},
		"":              {},
		"( 1.2 NAME":    {"": {"1.2"}, "NAME": nil},
		"( 1.2 NAME 'x": {"": {"1.2"}, "NAME": {"x"}},
		"( )":           {},
	} {
		if diff := cmp.Diff(want, parseDefinition(text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// adTypes are attribute types as Active Directory's aggregate schema writes them.
var adTypes = []string{
	"( 2.5.4.0 NAME 'objectClass' SYNTAX '1.3.6.1.4.1.1466.115.121.1.38' NO-USER-MODIFICATION )",
	"( 2.5.4.3 NAME 'cn' SYNTAX '1.3.6.1.4.1.1466.115.121.1.15' SINGLE-VALUE )",
	"( 1.2.840.113556.1.4.8 NAME 'userAccountControl' SYNTAX '1.3.6.1.4.1.1466.115.121.1.27' SINGLE-VALUE )",
	"( 1.2.840.113556.1.4.159 NAME 'accountExpires' SYNTAX '1.2.840.113556.1.4.906' SINGLE-VALUE )",
	"( 1.2.840.113556.1.4.782 NAME 'objectCategory' SYNTAX '1.3.6.1.4.1.1466.115.121.1.12' SINGLE-VALUE )",
	"( 0.9.2342.19200300.100.1.10 NAME 'manager' SYNTAX '1.3.6.1.4.1.1466.115.121.1.12' SINGLE-VALUE )",
	"( 1.2.840.113556.1.4.146 NAME 'objectSid' SYNTAX '1.3.6.1.4.1.1466.115.121.1.40' SINGLE-VALUE )",
	"( 1.2.840.113556.1.2.2 NAME 'whenCreated' SYNTAX '1.3.6.1.4.1.1466.115.121.1.24' SINGLE-VALUE )",
	"( 1.2.840.113556.1.9.1 NAME 'msCorpBadge' SYNTAX '1.3.6.1.4.1.1466.115.121.1.27' SINGLE-VALUE )",
	"( 1.2.840.113556.1.9.2 NAME 'msCorpFlag' SYNTAX '1.3.6.1.4.1.1466.115.121.1.7' SINGLE-VALUE )",
}

var adClasses = []string{
	"( 2.5.6.6 NAME 'person' SUP top STRUCTURAL MUST (cn ) )", "( 2.5.6.7 NAME 'organizationalPerson' SUP person STRUCTURAL )",
	"( 1.2.840.113556.1.5.9 NAME 'user' SUP organizationalPerson STRUCTURAL )", "( 2.5.6.0 NAME 'top' ABSTRACT )",
}

// Where the schema names only syntaxes, they say how values compare.
func TestFilter_bySyntax(t *testing.T) {
	t.Parallel()
	const category, raw = "CN=Person,CN=Schema,CN=Configuration,DC=x", `\01\02\00\00\00\00\00\05\20\00\00\00\20\02\00\00`
	schema := ParseSchema(adTypes, adClasses, DialectStandard)
	e := entryOf("objectclass", "top|person|organizationalPerson|user", "cn", "Ann  Lee", "useraccountcontrol", "514", "accountexpires", "9223372036854775807",
		"objectcategory", category, "manager", "CN=Bob,DC=x", "whencreated", "20240131120000.0Z",
		"objectsid", "\x01\x02\x00\x00\x00\x00\x00\x05\x20\x00\x00\x00\x20\x02\x00\x00", "mscorpbadge", "9", "mscorpflag", "TRUE")
	for filter, want := range map[string]bool{
		"(cn=ann lee)":                       true,
		"(cn>=ann)":                          true,
		"(cn=ann*)":                          true,
		"(userAccountControl>=99)":           true,
		"(accountExpires>=100)":              true,
		"(msCorpBadge<=10)":                  true, // a number, though nobody knows it
		"(msCorpBadge=09)":                   false,
		"(msCorpFlag=TRUE)":                  true,
		"(objectCategory=person)":            true,
		"(objectCategory=user)":              true,
		"(objectCategory=" + category + ")":  true,
		"(objectCategory=group)":             false,
		"(manager=cn=bob, dc=x)":             true,
		"(whenCreated>=20240131115959Z)":     true,
		"(whenCreated=20240131130000+0100)":  true,
		"(objectSid=S-1-5-32-544)":           true,
		"(objectSid=" + raw + ")":            true,
		"(objectClass=person)":               true,
		"(objectClass=1.2.840.113556.1.5.9)": true,
		"(!(objectClass=computer))":          false, // no such class in this schema: undefined
		"(!(badge=x))":                       false, // no such attribute
		"(!(manager=*x))":                    false, // no parts in names
	} {
		f, err := ParseFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.With(schema).Match(e); got != want {
			t.Errorf("%s: %v", filter, got)
		}
	}
}

// What servers do with the same schema, each in its own way; seen at 389 DS 2.3,
// Samba 4.17 and OpenLDAP 2.5.
func TestFilter_dialects(t *testing.T) {
	t.Parallel()
	types := []string{
		"( 1.1 NAME 'name' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )", "( 1.2 NAME 'cn' SUP name )",
		"( 1.3 NAME 'number' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 )",
		"( 1.4 NAME 'locked' EQUALITY booleanMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.7 )",
	}
	e := entryOf("cn", "b", "number", "10", "locked", "TRUE")
	for filter, want := range map[string]string{
		"(name=b)":        "standard openldap samba",
		"(cn>=a)":         "standard 389 samba",
		"(number>=9)":     "standard samba",
		"(locked=true)":   "standard 389 samba",
		"(!(nosuch=x))":   "389 samba",
		"(!(number=x))":   "389 samba",
		"(!(number=9))":   "standard openldap 389 samba",
		"(nosuch=x)":      "",
		"(!(locked=*))":   "",
		"(!(nosuch=a*b))": "389 samba",
	} {
		f, err := ParseFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, vendor := range []string{"Active Directory", "OpenLDAP", "389 Project 389-Directory/2.3.1", "Samba Team (https://www.samba.org)"} {
			if f.With(ParseSchema(types, nil, dialectOf(vendor))).Match(e) {
				got = append(got, []string{"standard", "openldap", "389", "samba"}[i])
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
}

// A chain of superiors without an end ends.
func TestParseSchema_cycle(t *testing.T) {
	t.Parallel()
	schema := ParseSchema([]string{"( 1 NAME 'a' SUP b )", "( 2 NAME 'b' SUP a )"}, []string{"( 3 NAME 'c' SUP d )", "( 4 NAME 'd' SUP c )"}, DialectOpenLDAP)
	for _, filter := range []string{"(a=x)", "(objectClass=c)"} {
		f, err := ParseFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if f.With(schema).Match(entryOf("b", "x", "objectclass", "d")) != (filter != "(a=x)") { // a has no rule
			t.Errorf("%s", filter)
		}
	}
}

func FuzzParseSchema(f *testing.F) {
	f.Add(adTypes[0], adClasses[0], "(cn=a*)")
	f.Add("( 1.2 NAME ( 'a' 'b' ) SUP b )", "( 1.2 NAME 'x' SUP ( a $ x ) )", "(&(a>=1)(objectClass=x)(b:1.2.840.113556.1.4.803:=1))")
	e := entryOf("cn", "a b c", "a", "5", "b;x", "6", "objectclass", "x|y")
	f.Fuzz(func(_ *testing.T, attributeType, class, text string) {
		filter, err := ParseFilter(text)
		if err != nil {
			return
		}
		for dialect := range DialectSamba + 1 {
			filter.With(ParseSchema([]string{attributeType, adTypes[0]}, []string{class}, dialect)).Table(e)
		}
	})
}

// A session works without a schema, and says so once.
func TestWatch_unreadableSchema(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: user("anna", people), GlobalACL: []string{`access to dn.base="cn=Subschema" by * none`, "access to * by * read"}})
	var said bytes.Buffer
	cfg := config(srv, mode(ModeSnapshot))
	s, err := New(cfg, []string{"uid", "surname"}, source(t, cfg).deps)
	if err != nil {
		t.Fatal(err)
	}
	s.deps.Log = slog.New(slog.NewTextHandler(&said, nil))
	for range 2 {
		r := watch(t, s)
		if e := r.next(t).byDN("uid=anna," + people); e == nil || e.Schema != nil {
			t.Fatalf("%+v", e)
		}
		r.stop(t)
	}
	if n := strings.Count(said.String(), "without the directory's schema"); n != 1 {
		t.Errorf("said %d times: %s", n, said.String())
	}
}
