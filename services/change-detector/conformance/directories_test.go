//go:build directories

package conformance

import (
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/ds389"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/samba"
)

// activeDirectory is a domain controller and an account of it.
func activeDirectory(account func(*samba.Server) (dn, password string)) func(t *testing.T) *place {
	return func(t *testing.T) *place {
		t.Helper()
		srv := samba.Start(t, samba.Options{})
		dn, password := account(srv)
		return placeAt(srv, dn, password)
	}
}

func placeAt(srv *samba.Server, dn, password string) *place {
	return &place{
		url: srv.URL, suffix: srv.Suffix, dn: dn, password: password, preset: connection.PresetActiveDirectory, apply: srv.Apply,
		userRDN: "cn", odd: ", Jür",
		user: func(name string) []attribute {
			return []attribute{
				{"objectClass", []string{"user"}}, {"sAMAccountName", []string{name}}, {"userAccountControl", []string{"544"}},
				{"sn", []string{name}}, {"mail", []string{name + "@example.test"}},
			}
		},
		group: func(name string) []attribute {
			return []attribute{{"objectClass", []string{"group"}}, {"sAMAccountName", []string{name}}}
		},
		enabled: func(on bool) attribute {
			if on {
				return attribute{"userAccountControl", []string{"544"}}
			}
			return attribute{"userAccountControl", []string{"546"}}
		},
		editable: []string{"title", "givenName", "displayName", "department", "employeeID"},
	}
}

func reader(s *samba.Server) (dn, password string)  { return s.ReaderDN, s.ReaderPassword }
func syncer(s *samba.Server) (dn, password string)  { return s.SyncerDN, s.SyncerPassword }
func auditor(s *samba.Server) (dn, password string) { return s.AuditorDN, s.AuditorPassword }

func TestActiveDirectory_history(t *testing.T) {
	t.Parallel()
	testHistories(t, []row{
		{"snapshot", activeDirectory(reader), connection.ModeSnapshot},
		{"dirsync", activeDirectory(syncer), connection.ModeDirSync},
		{"dirsync without the right", activeDirectory(reader), connection.ModeDirSync},
		{"usn", activeDirectory(auditor), connection.ModeUSN},
		{"usn without tombstones", activeDirectory(reader), connection.ModeUSN},
	})
}

// ds is a 389 Directory Server.
func ds(t *testing.T) *place {
	t.Helper()
	return ds389Place(ds389.Start(t, ds389.Options{}))
}

func ds389Place(srv *ds389.Server) *place {
	return &place{
		url: srv.URL, suffix: srv.Suffix, dn: srv.ReaderDN, password: srv.ReaderPassword, preset: connection.Preset389DS, apply: srv.Apply,
		userRDN: "uid", odd: ", Jr", user: inetOrgPerson, // a plug-in wants uids in ASCII
		group: func(string) []attribute { return []attribute{{"objectClass", []string{"groupOfNames"}}} },
		enabled: func(on bool) attribute {
			if on {
				return attribute{name: "nsAccountLock"}
			}
			return attribute{"nsAccountLock", []string{"true"}}
		},
		editable: []string{"title", "givenName", "displayName", "employeeNumber"}, restart: srv.Restart, rootedUnits: true,
	}
}

func Test389DS_history(t *testing.T) {
	t.Parallel()
	testHistories(t, []row{
		{"syncrepl", ds, connection.ModeSyncrepl},
		{"snapshot", ds, connection.ModeSnapshot},
		{"timestamp", ds, connection.ModeTimestamp},
	})
}
