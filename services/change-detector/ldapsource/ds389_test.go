//go:build directories

package ldapsource

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/ds389"
)

func ds389Source(t *testing.T, srv *ds389.Server, m Mode) *Source {
	t.Helper()
	s, err := New(&connection.Source{
		Name:      "corp",
		LDAP:      connection.LDAP{URLs: []string{srv.URL}, BindDN: srv.ReaderDN, PageSize: 1000},
		ID:        connection.IDAttribute{Attribute: "nsUniqueId", Encoding: "text"},
		Users:     connection.UserSource{BaseDNs: []string{people}},
		Groups:    connection.GroupSource{BaseDNs: []string{groups}, Members: "member"},
		Detection: connection.Detection{Mode: string(m), Interval: 20 * time.Millisecond},
	}, []string{"uid", "cn", "sn", "mail"}, Deps{
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		Password: func(context.Context) (string, error) { return srv.ReaderPassword, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.census = 100 * time.Millisecond
	return s
}

// Both modes that 389 Directory Server can do see every kind of change.
func TestDS389_followsEveryKindOfChange(t *testing.T) {
	t.Parallel()
	for m, want := range map[Mode]Mode{ModeAuto: ModeSyncrepl, ModeTimestamp: ModeTimestamp} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			srv := ds389.Start(t, ds389.Options{LDIF: users(5) + unit("sub", people) + unit("outside", suffix) + group("g", "uid=u0000,"+people)})
			s := ds389Source(t, srv, m)
			r := watch(t, s)
			first := r.next(t)
			if first.proof.Mode != want || len(first.entries) != 9 {
				t.Errorf("%+v, %v", first.proof, first.dns())
			}
			id := first.byDN("uid=u0001," + people).ID
			at := func(dn string) func(state) bool {
				return func(s state) bool { return s.entries[id] != nil && s.entries[id].DN == dn }
			}
			var got state
			for _, step := range []struct {
				name, ldif string
				done       func(state) bool
			}{
				{"add", user("zoe", people), func(s state) bool { return s.byDN("uid=zoe,"+people) != nil }},
				{
					"modify", "dn: uid=u0001," + people + "\nchangetype: modify\nreplace: sn\nsn: Bond\n",
					func(s state) bool { return string(s.entries[id].Values("sn")[0]) == "Bond" },
				},
				{"rename", rename("uid=u0001,"+people, "uid=james", people), at("uid=james," + people)},
				{"move", rename("uid=james,"+people, "uid=james", "ou=sub,"+people), at("uid=james,ou=sub," + people)},
				{"move out", rename("uid=james,ou=sub,"+people, "uid=james", "ou=outside,"+suffix), func(s state) bool { return s.entries[id] == nil }},
				{"move in", rename("uid=james,ou=outside,"+suffix, "uid=james", people), at("uid=james," + people)},
				{
					"join", "dn: cn=g," + groups + "\nchangetype: modify\nadd: member\nmember: uid=u0002," + people + "\n",
					func(s state) bool { return len(s.byDN("cn=g,"+groups).Values("member")) == 2 },
				},
				{"delete", "dn: uid=u0003," + people + "\nchangetype: delete\n", func(s state) bool { return s.byDN("uid=u0003,"+people) == nil }},
				{"last", user("last", people), func(s state) bool { return s.byDN("uid=last,"+people) != nil }},
			} {
				srv.LDIF(t, step.ldif)
				got = r.until(t, step.name, step.done)
			}
			fresh := watch(t, ds389Source(t, srv, ModeSnapshot)).next(t)
			if diff := cmp.Diff(fresh.dns(), got.dns()); diff != "" {
				t.Errorf("(-snapshot +followed):\n%s", diff)
			}
		})
	}
}
