//go:build directories

package ds389

import (
	"strings"
	"testing"
)

const anna = "dn: uid=anna,ou=people," + Suffix + "\nobjectClass: inetOrgPerson\nuid: anna\ncn: Anna\nsn: A\nmail: anna@example.com\n"

func search(t *testing.T, s *Server, args ...string) string {
	t.Helper()
	out, err := s.Search(t.Context(), s.ReaderDN, s.ReaderPassword, append([]string{"-b", Suffix}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{LDIF: anna})
	url, pid := s.URL, s.PID()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.URL != url || s.PID() == pid || s.PID() == 0 {
		t.Errorf("restarted at %s as %d, was at %s as %d", s.URL, s.PID(), url, pid)
	}
	if got := search(t, s, "(uid=anna)", "mail", "nsUniqueId"); !strings.Contains(got, "anna@example.com") || !strings.Contains(got, "nsUniqueId") {
		t.Errorf("after the restart the reader sees %q", got)
	}
	if other := Start(t, Options{}); other.URL == s.URL || strings.Contains(search(t, other, "(uid=anna)"), "anna") {
		t.Errorf("a second server is at %s, the first at %s", other.URL, s.URL)
	}
}

func TestServer_plugIns(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{LDIF: anna + "\ndn: cn=staff,ou=groups," + Suffix + "\nobjectClass: groupOfNames\ncn: staff\nmember: uid=anna,ou=people," + Suffix + "\n"})
	if got := search(t, s, "(uid=anna)", "memberOf"); !strings.Contains(got, "memberOf: cn=staff") {
		t.Errorf("memberOf is not written: %q", got)
	}
	if got := search(t, s, "-E", "!sync=ro", "(uid=anna)", "uid"); !strings.Contains(got, "uid: anna") {
		t.Errorf("content synchronization answers %q", got)
	}
	s.LDIF(t, "dn: uid=anna,ou=people,"+Suffix+"\nchangetype: delete\n")
	if got := search(t, s, "(cn=staff)", "member"); strings.Contains(got, "anna") {
		t.Errorf("referential integrity keeps the member: %q", got)
	}
	out, err := s.Search(t.Context(), s.AdminDN, s.AdminPassword, "-b", "cn=changelog", "(changeType=delete)", "targetUniqueId")
	if err != nil || !strings.Contains(out, "targetUniqueId") {
		t.Errorf("the retro changelog holds %q, %v", out, err)
	}
}
