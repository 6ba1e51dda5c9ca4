package ldapsource

import (
	"strings"
	"testing"
)

func TestNormalizeDN(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, want string }{
		{"root", "", ""},
		{"plain", "uid=anna,ou=people,dc=example,dc=com", "uid=anna,ou=people,dc=example,dc=com"},
		{"case", "UID=Anna,OU=People,DC=Example,DC=COM", "uid=anna,ou=people,dc=example,dc=com"},
		{"spaces", " UID = Anna  Maria , OU= People ", "uid=anna maria,ou=people"},
		{"escaped comma", `CN=Doe\, John,OU=People`, `cn=doe\2c john,ou=people`},
		{"escaped comma in hex", `cn=Doe\2C John,ou=people`, `cn=doe\2c john,ou=people`},
		{"escaped space at the end", `cn=a\ ,ou=x`, `cn=a,ou=x`},
		{"backslash before the comma", `cn=a\\,ou=x`, `cn=a\5c,ou=x`},
		{"equals sign in the value", `cn=a=b,ou=x`, `cn=a=b,ou=x`},
		{"equals sign escaped", `cn=a\=b,ou=x`, `cn=a=b,ou=x`},
		{"hash", `cn=\#a,ou=x`, `cn=\23a,ou=x`},
		{"BER value", `1.3.6.1=#04024A8F`, `1.3.6.1=#04024a8f`},
		{"multi-valued", `uid=b+cn=A,ou=x`, `cn=a+uid=b,ou=x`},
		{"plus in a value", `cn=a\+b`, `cn=a\2bb`},
		{"UTF-8 escaped", `cn=Jos\C3\A9`, `cn=josé`},
		{"upper case beyond ASCII", `cn=JOSÉ`, `cn=josé`},
		{"composed and decomposed", "cn=jose\u0301", `cn=josé`},
		{"long names of types", `commonName=a,organizationalUnitName=b,2.5.4.3=c`, `cn=a,ou=b,cn=c`},
		{"tombstone", `CN=victim\0ADEL:1,CN=Deleted Objects`, `cn=victim\0adel:1,cn=deleted objects`},
		{"empty value", `cn=,ou=x`, `cn=,ou=x`},
		{"not UTF-8", `cn=\FF,ou=x`, `cn=\ff,ou=x`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := NormalizeDN(test.in)
			if err != nil || got != test.want {
				t.Fatalf("NormalizeDN(%q) = %q, %v; want %q", test.in, got, err, test.want)
			}
			if again, err := NormalizeDN(got); err != nil || again != got {
				t.Errorf("again: %q, %v", again, err)
			}
		})
	}
}

func TestNormalizeDN_refuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"anna", "uid=anna,", ",uid=anna", `uid="anna"`, "uid=a;ou=b", "=a", "u id=a", `uid=a\`, "uid=#zz", "uid=a,,ou=b", "uid=a+"} {
		if got, err := NormalizeDN(in); err == nil {
			t.Errorf("NormalizeDN(%q) = %q, no error", in, got)
		}
	}
}

func TestUnder(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		dn, base string
		want     bool
	}{
		{"uid=a,ou=b", "ou=b", true},
		{"ou=b", "ou=b", true},
		{"uid=a,ou=b", "", true},
		{"ou=b", "uid=a,ou=b", false},
		{"uid=a,xou=b", "ou=b", false},
		{`uid=a\2cou=b`, "ou=b", false},
	} {
		if got := Under(test.dn, test.base); got != test.want {
			t.Errorf("Under(%q, %q) = %v", test.dn, test.base, got)
		}
	}
	if got := Parent("uid=a,ou=b,dc=c"); got != "ou=b,dc=c" {
		t.Errorf("Parent = %q", got)
	}
	if got := Parent("dc=c"); got != "" {
		t.Errorf("Parent of the top = %q", got)
	}
}

func TestRebase(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		dn, from, to, want string
		ok                 bool
	}{
		{`CN=Doe\, John,OU=A,DC=x`, "ou=a, dc=x", "OU=B,DC=x", `CN=Doe\, John,OU=B,DC=x`, true},
		{"cn=a,ou=b,ou=c,dc=x", "ou=c,dc=x", "ou=c,ou=d,dc=x", "cn=a,ou=b,ou=c,ou=d,dc=x", true},
		{"ou=a,dc=x", "ou=a,dc=x", "ou=b,dc=x", "", false},
		{"cn=a,ou=b,dc=x", "ou=c,dc=x", "ou=d,dc=x", "", false},
		{"cn=a,ou=b", "", "ou=d", "", false},
	} {
		got, ok := Rebase(test.dn, test.from, test.to)
		if got != test.want || ok != test.ok {
			t.Errorf("Rebase(%q, %q, %q) = %q, %v", test.dn, test.from, test.to, got, ok)
		}
	}
}

func FuzzNormalizeDN(f *testing.F) {
	for _, seed := range []string{"", "uid=a,ou=b", `CN=Doe\, John + UID=x , OU=\C3\A9`, `cn=#0402`, `cn=\ a\ `, "cn=İſK,ou=ß", "cn=a  b\t", "Gn=0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, dn string) {
		once, err := NormalizeDN(dn)
		if err != nil {
			return
		}
		twice, err := NormalizeDN(once)
		if err != nil || twice != once {
			t.Fatalf("NormalizeDN(%q) = %q, again %q, %v", dn, once, twice, err)
		}
		if !Under(once, Parent(once)) || !Under(once, once) {
			t.Errorf("%q is not under its parent or itself", once)
		}
		if depth := strings.Count(once, ","); once != "" {
			parts, err := splitDN(once)
			if err != nil || len(parts) != depth+1 {
				t.Errorf("%q: %d parts, %v; want %d", once, len(parts), err, depth+1)
			}
		}
	})
}

func BenchmarkNormalizeDN(b *testing.B) {
	for name, dn := range map[string]string{
		"lower": "uid=u000123,ou=people,dc=example,dc=org", "mixed": "UID=u000123,OU=people,DC=example,DC=org", "escaped": `CN=Doe\, John,OU=People,DC=example`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NormalizeDN(dn); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestRDNValue(t *testing.T) {
	t.Parallel()
	for dn, want := range map[string]string{
		"cn=Staff, dc=x": "Staff", `cn=R\2C D,dc=x`: "R, D", "cn=a+uid=b,dc=x": "a", "": "", "nonsense": "nonsense", `cn="a",dc=x`: `cn="a",dc=x`,
	} {
		if got := RDNValue(dn); got != want {
			t.Errorf("%q: %q, want %q", dn, got, want)
		}
	}
}
