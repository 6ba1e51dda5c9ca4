//go:build directories

package samba

import (
	"strings"
	"testing"
)

const anna = "dn: CN=Anna,OU=people," + Suffix + "\nobjectClass: user\nsAMAccountName: anna\nmail: anna@example.test\n"

// tombstones asks for deleted entries, as an account.
func tombstones(t *testing.T, s *Server, dn, password string) string {
	t.Helper()
	out, err := s.Search(t.Context(), dn, password, "-b", Suffix, "-E", "!1.2.840.113556.1.4.417", "(&(isDeleted=TRUE)(objectClass=user))", "sAMAccountName")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// people asks for the users under OU=people, as the reader.
func people(t *testing.T, s *Server) string {
	t.Helper()
	out, err := s.Search(t.Context(), s.ReaderDN, s.ReaderPassword, "-b", "OU=people,"+Suffix, "(objectClass=user)", "sAMAccountName", "mail")
	if err != nil && !strings.Contains(err.Error(), "No such object") {
		t.Fatal(err)
	}
	return out
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{LDIF: anna})
	if got := people(t, s); !strings.Contains(got, "anna@example.test") {
		t.Errorf("the reader sees %q", got)
	}
	url, pid := s.URL, s.PID()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.URL != url || s.PID() == pid || s.PID() == 0 {
		t.Errorf("restarted at %s as %d, was at %s as %d", s.URL, s.PID(), url, pid)
	}
	if got := people(t, s); !strings.Contains(got, "anna@example.test") {
		t.Errorf("after the restart the reader sees %q", got)
	}
	if other := Start(t, Options{}); other.URL == s.URL || strings.Contains(people(t, other), "anna") {
		t.Errorf("a second server is at %s, the first at %s", other.URL, s.URL)
	}
}

func TestServer_tombstones(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{LDIF: anna})
	s.LDIF(t, "dn: CN=Anna,OU=people,"+Suffix+"\nchangetype: delete\n")
	if got := tombstones(t, s, s.ReaderDN, s.ReaderPassword); strings.Contains(got, "anna") {
		t.Errorf("the reader sees a tombstone: %q", got)
	}
	if got := tombstones(t, s, s.AuditorDN, s.AuditorPassword); !strings.Contains(got, "anna") {
		t.Errorf("the auditor sees no tombstone: %q", got)
	}
}

func TestServer_replication(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{LDIF: anna})
	dirsync := []string{"-b", Suffix, "-E", "!dirSync=0/1000", "(sAMAccountName=anna)", "mail"}
	if out, err := s.Search(t.Context(), s.SyncerDN, s.SyncerPassword, dirsync...); err != nil || !strings.Contains(out, "anna@") {
		t.Errorf("the syncer gets %q, %v", out, err)
	}
	if out, err := s.Search(t.Context(), s.ReaderDN, s.ReaderPassword, dirsync...); err == nil {
		t.Errorf("the reader, without the right, gets %q", out)
	}
}

func TestServer_permissions(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, entry, object string }{
		{"subtree", "(D;CI;RPLCLORC;;;SID)", "OU=people," + Suffix},
		{"entry", "(D;;RPLCLORC;;;SID)", "CN=Anna,OU=people," + Suffix},
		{"mail", "(OD;;RP;bf967961-0de6-11d0-a285-00aa003049e2;;SID)", "CN=Anna,OU=people," + Suffix},
	}
	s := Start(t, Options{LDIF: anna})
	for _, tt := range tests { // one after the other: they hide the same entry
		if err := s.Permit(t.Context(), s.ReaderDN, tt.entry, tt.object); err != nil {
			t.Fatal(err)
		}
		if got := people(t, s); strings.Contains(got, "anna@example.test") {
			t.Errorf("%s: hidden, and the reader sees %q", tt.name, got)
		}
		if err := s.Revoke(t.Context(), s.ReaderDN, tt.entry, tt.object); err != nil {
			t.Fatal(err)
		}
		if got := people(t, s); !strings.Contains(got, "anna@example.test") {
			t.Errorf("%s: shown again, and the reader sees %q", tt.name, got)
		}
		if err := s.Revoke(t.Context(), s.ReaderDN, tt.entry, tt.object); err == nil {
			t.Errorf("%s: revoked twice without an error", tt.name)
		}
	}
}
