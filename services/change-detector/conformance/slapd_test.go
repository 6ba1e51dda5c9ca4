package conformance

import (
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// openLDAP is a slapd that keeps memberOf and the members of groups up to date, or
// one that leaves both to others.
func openLDAP(memberOf string) func(t *testing.T) *place {
	return func(t *testing.T) *place {
		t.Helper()
		srv := ldaptest.Start(t, ldaptest.Options{MemberOf: memberOf, SessionLog: 100})
		return &place{
			url: srv.URL, suffix: srv.Suffix, dn: srv.ReaderDN, password: srv.ReaderPassword, preset: connection.PresetOpenLDAP, apply: srv.Apply,
			options: `, enabled: '!("left" in user.all.employeeType)'`,
			userRDN: "uid", odd: ", Jür", user: inetOrgPerson,
			group: func(string) []attribute {
				return []attribute{{"objectClass", []string{"groupOfNames"}}, {"member", []string{srv.ReaderDN}}} // it may not be empty
			},
			enabled: func(on bool) attribute {
				if on {
					return attribute{name: "employeeType"}
				}
				return attribute{"employeeType", []string{"left"}}
			},
			editable: []string{"title", "givenName", "displayName", "employeeNumber"},
		}
	}
}

func TestOpenLDAP_history(t *testing.T) {
	t.Parallel()
	testHistories(t, []row{
		{"syncrepl", openLDAP("overlay"), connection.ModeSyncrepl},
		{"syncrepl without clean-up of members", openLDAP("none"), connection.ModeSyncrepl},
		{"snapshot", openLDAP("overlay"), connection.ModeSnapshot},
		{"timestamp", openLDAP("overlay"), connection.ModeTimestamp},
	})
}
