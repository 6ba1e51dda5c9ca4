package mapping_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// of evaluates a function of one argument over a value of the directory.
func of(t *testing.T, call, value string) (any, error) {
	t.Helper()
	e, err := mapping.Compile(user, call)
	if err != nil {
		t.Fatalf("compile %s: %v", call, err)
	}
	u := &directoryv1.User{Attributes: []*directoryv1.Attribute{attribute("x", value)}}
	return e.Eval(mapping.UserObject(u, nil))
}

func TestIdentityFunctions(t *testing.T) {
	t.Parallel()
	tests := []struct{ call, value, want string }{
		{`cn(user.x)`, `CN=Ann,OU=People,DC=a`, "Ann"},
		{`cn(user.x)`, `cn=Smith\, Ann \2B Bob,ou=x`, "Smith, Ann + Bob"},
		{`cn(user.x)`, `cn=Zo\c3\ab,ou=x`, "Zoë"},
		{`cn(user.x)`, `uid=ann+cn=Ann Smith , ou=x`, "Ann Smith"},
		{`cn(user.x)`, `uid=ann,ou=x`, "ann"},
		{`cn(user.x)`, `2.5.4.3=Ann`, "Ann"},
		{`cn(user.x)`, `cn=a=b,ou=x`, "a=b"},
		{`cn(user.x)`, `cn= a b\ ,ou=x`, "a b "},
		{`localPart(user.x)`, "ann@example.com", "ann"},
		{`localPart(user.x)`, "ann", "ann"},
		{`localPart(user.x)`, `"a@b"@example.com`, `"a@b"`},
		{`localPart(user.x)`, "@example.com", ""},
		{`normalizeDiacritics(user.x)`, "Ærøskøbing Straße Łódź Çağrı Þór", "AEroskobing Strasse Lodz Cagri Thor"},
		{`normalizeDiacritics(user.x)`, "日本 Ann", "日本 Ann"},
		{`formatDate(user.x, "date")`, "20240131235959Z", "2024-01-31"},
		{`formatDate(user.x, "datetime")`, "20240131235959.123Z", "2024-01-31T23:59:59Z"},
		{`formatDate(user.x, "datetime")`, "20240131235959,5+0130", "2024-01-31T22:29:59Z"},
		{`formatDate(user.x, "datetime")`, "2024013123-02", "2024-02-01T01:00:00Z"},
		{`formatDate(user.x, "datetime")`, "202401312359Z", "2024-01-31T23:59:00Z"},
		{`formatDate(user.x, "unix")`, "19700101000100Z", "60"},
		{`formatDate(user.x, "datetime")`, "133511328000000000", "2024-01-31T00:00:00Z"},
		{`formatDate(user.x, "d.M.yy HH:mm:ss.SSS")`, "20240203040506.789Z", "3.2.24 04:05:06.789"},
		{`formatDate(user.x, "yyyy-MM-dd'T'HH:mm:ss'Z'")`, "20240203040506Z", "2024-02-03T04:05:06Z"},
	}
	for _, tt := range tests {
		t.Run(tt.call+" "+tt.value, func(t *testing.T) {
			t.Parallel()
			if got, err := of(t, tt.call, tt.value); err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestIdentityFunctionsRefuse(t *testing.T) {
	t.Parallel()
	tests := []struct{ call, value string }{
		{`cn(user.x)`, " "},
		{`cn(user.x)`, "Ann"},
		{`cn(user.x)`, `cn=a\`},
		{`cn(user.x)`, `cn=a,`},
		{`cn(user.x)`, `cn=a\zb`},
		{`cn(user.x)`, `cn="a"`},
		{`cn(user.x)`, `cn=a"b`},
		{`cn(user.x)`, `1..2=a`},
		{`formatDate(user.x, "date")`, "20241331000000Z"},
		{`formatDate(user.x, "date")`, "20240131000000"},
		{`formatDate(user.x, "date")`, "9223372036854775807"},
		{`formatDate(user.x, "date")`, "0"},
		{`formatDate(user.x, "yyyy'")`, "20240131000000Z"},
		{`formatDate(user.x, "tomorrow")`, "20240131000000Z"},
	}
	for _, tt := range tests {
		if got, err := of(t, tt.call, tt.value); err == nil {
			t.Errorf("%s over %q = %q; want an error", tt.call, tt.value, got)
		}
	}
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"userPassword": true, "USERPASSWORD": true, "userPassword;x-a": true, "unicodePwd": true,
		"ms-Mcs-AdmPwd": true, "mail": false, "pwdChangedTime": false, "": false,
	} {
		if got := mapping.Forbidden(name); got != want {
			t.Errorf("Forbidden(%s) = %v", name, got)
		}
	}
}

func TestEvalConcurrently(t *testing.T) {
	t.Parallel()
	e, err := mapping.Compile(user, `normalizeDiacritics(user.x + user.?absent.orValue("-")) + user.y`)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			value := "é" + strconv.Itoa(i)
			u := &directoryv1.User{Attributes: []*directoryv1.Attribute{attribute("x", value)}}
			for range 200 {
				if _, err := e.Eval(mapping.UserObject(u, nil)); !isAbsent(err) {
					t.Errorf("error %v; want that y is absent", err)
				}
			}
			u.Attributes = append(u.Attributes, attribute("y", "!"))
			for range 200 {
				got, err := e.Eval(mapping.UserObject(u, nil))
				if want := "e" + strconv.Itoa(i) + "-!"; err != nil || got != want {
					t.Errorf("got %v, %v; want %s", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzCheckDN(f *testing.F) {
	f.Add(`cn=Smith\, Ann+uid=a,ou=x;dc=y`)
	f.Add(`cn=\c3\ab, o= x `)
	f.Fuzz(func(_ *testing.T, dn string) {
		_ = mapping.CheckDN(dn)
	})
}
