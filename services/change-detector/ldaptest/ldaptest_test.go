package ldaptest

import (
	"strings"
	"testing"
)

func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{LDIF: "dn: uid=anna,ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\nuid: anna\ncn: Anna\nsn: A\n"})
	s.LDIF(t, "dn: uid=anna,ou=people,dc=example,dc=com\nchangetype: modify\nreplace: mail\nmail: anna@example.com\n")
	find := func() string {
		t.Helper()
		out, err := s.Search(t.Context(), s.ReaderDN, s.ReaderPassword, "-b", s.Suffix, "(uid=anna)", "mail")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := find(); !strings.Contains(got, "anna@example.com") {
		t.Errorf("after the change: %q", got)
	}
	url, pid := s.URL, s.PID()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.URL != url || s.PID() == pid || s.PID() == 0 {
		t.Errorf("restarted at %s as %d, was at %s as %d", s.URL, s.PID(), url, pid)
	}
	if got := find(); !strings.Contains(got, "anna@example.com") {
		t.Errorf("after the restart: %q", got)
	}
	if err := s.Load(t.Context(), ""); err == nil {
		t.Error("Load into a running server gave no error")
	}
}

func TestServer_hidesWhatTheACLHides(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	s.SetACL(`access to dn.subtree="ou=people,dc=example,dc=com" by * none`)
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, err := s.Search(t.Context(), s.ReaderDN, s.ReaderPassword, "-b", s.Suffix, "(objectClass=*)", "1.1")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "ou=people") || !strings.Contains(out, "ou=groups") {
		t.Errorf("the reader sees %q", out)
	}
}

func TestServer_limits(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{SizeLimit: 2})
	_, err := s.Search(t.Context(), s.LimitedDN, s.LimitedPassword, "-b", s.Suffix, "(objectClass=*)", "1.1")
	if err == nil || !strings.Contains(err.Error(), "Size limit exceeded") {
		t.Errorf("the limited account read everything: %v", err)
	}
}
