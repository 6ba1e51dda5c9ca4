package detector

import (
	"fmt"
	"os"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

const newHire = "dn: uid=u99,ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\nuid: u99\ncn: u99\nsn: u99\n"

// The password is read at each connect: whoever rotates it changes the file and the
// directory, and restarts nothing of ours.
func TestPasswordIsReadAgain(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: staff(10)})
	b := bustest.Start(t)
	cfg := realConfig(t, srv)
	start(t, cfg, b)
	first := awaitPass(t, b, status.Pass{}, func(p status.Pass) bool { return p.Users == 10 })
	srv.LDIF(t, fmt.Sprintf("dn: %s\nchangetype: modify\nreplace: userPassword\nuserPassword: rotated\n", srv.ReaderDN))
	if err := os.WriteFile(cfg.Sources["corp"].LDAP.BindPassword.File(), []byte("rotated\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv.LDIF(t, newHire)
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPass(t, b, first, func(p status.Pass) bool { return p.Users == 11 })
}

// The second server takes over when the first one ends. It has the same entries but
// for the one that was added last: nobody is removed because of that.
func TestFailoverToAServerThatIsBehind(t *testing.T) {
	t.Parallel()
	one := ldaptest.Start(t, ldaptest.Options{LDIF: staff(10)})
	data, err := one.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := ldaptest.Start(t, ldaptest.Options{})
	if err := other.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := other.Reset(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	one.LDIF(t, newHire)
	b := bustest.Start(t)
	start(t, realConfig(t, one, [2]string{fmt.Sprintf("urls: [%q]", one.URL), fmt.Sprintf("urls: [%q, %q]", one.URL, other.URL)}), b)
	first := awaitPass(t, b, status.Pass{}, func(p status.Pass) bool { return p.Users == 11 && p.Server == one.URL })
	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	awaitPass(t, b, first, func(p status.Pass) bool {
		return p.Server == other.URL && p.Users == 11 && p.Held == 1 && p.HeldReason == behind
	})
}
