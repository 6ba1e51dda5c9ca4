//go:build directories

package conformance

import (
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/ds389"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/samba"
)

// Denials for an account. An attribute is named by its schemaIDGUID.
const (
	denyMail    = "(OD;;RP;bf967961-0de6-11d0-a285-00aa003049e2;;SID)"
	denyEntry   = "(D;;RPLCLORC;;;SID)"
	denyListing = "(D;;LC;;;SID)"
)

func TestActiveDirectory_harm(t *testing.T) {
	t.Parallel()
	for _, m := range []struct {
		mode    string
		account func(*samba.Server) (dn, password string)
	}{
		{connection.ModeSnapshot, reader},
		{connection.ModeUSN, reader},
		{connection.ModeDirSync, syncer},
	} {
		t.Run(m.mode, func(t *testing.T) {
			t.Parallel()
			srv := samba.Start(t, samba.Options{})
			dn, password := m.account(srv)
			p := placeAt(srv, dn, password)
			p.hire(t)
			deny := func(h harm, entry string, objects ...string) harm {
				h.slow = len(objects) > 1
				h.do = func(t *testing.T) {
					t.Helper()
					if err := srv.Permit(t.Context(), dn, entry, objects...); err != nil {
						t.Fatal(err)
					}
				}
				h.undo = func(t *testing.T) {
					t.Helper()
					if err := srv.Revoke(t.Context(), dn, entry, objects...); err != nil {
						t.Fatal(err)
					}
				}
				return h
			}
			testHarms(t, p, m.mode, []harm{
				deny(harm{name: "people unreadable", reason: "no user is left in scope", held: workforce}, denyListing, p.base("people")),
				deny(harm{name: "mail unreadable", reason: "mail vanished", held: workforce}, denyMail, p.everybody()...),
				deny(harm{name: "a tenth unreadable", reason: "max_removal_percent", held: workforce / 10}, denyEntry, p.tenth()...),
				deny(harm{name: "scope group unreadable", scoped: true, kind: directoryv1.Kind_KIND_USER, held: workforce}, denyEntry, p.staffDN()),
			})
		})
	}
}

func Test389DS_harm(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{connection.ModeSyncrepl, connection.ModeSnapshot, connection.ModeTimestamp} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			srv := ds389.Start(t, ds389.Options{})
			p := ds389Place(srv)
			p.hire(t)
			deny := func(h harm, target string) harm {
				rule := attribute{"aci", []string{target + `(version 3.0; acl "harm"; deny (all) userdn="ldap:///` + p.dn + `";)`}}
				h.do = func(t *testing.T) { t.Helper(); p.change(t, modify(p.suffix, "add", rule)) }
				h.undo = func(t *testing.T) { t.Helper(); p.change(t, modify(p.suffix, "delete", rule)) }
				return h
			}
			testHarms(t, p, mode, []harm{
				deny(harm{name: "people unreadable", reason: "no user is left in scope", held: workforce}, `(target="ldap:///uid=*,`+p.base("people")+`")(targetattr!="aci")`),
				deny(harm{name: "mail unreadable", reason: "mail vanished", held: workforce}, `(targetattr="mail")`),
				deny(harm{name: "a tenth unreadable", reason: "max_removal_percent", held: workforce / 10}, `(targetfilter="(sn=p9*)")(targetattr!="aci")`),
				deny(harm{name: "scope group unreadable", scoped: true, kind: directoryv1.Kind_KIND_USER, held: workforce}, `(target="ldap:///`+p.staffDN()+`")(targetattr!="aci")`),
			})
		})
	}
}

// testHarms does one harm after the other to one server; the last are not undone.
func testHarms(t *testing.T, p *place, mode string, harms []harm) {
	t.Helper()
	common := commonHarms(p)
	for _, h := range append(harms, common[1], common[0]) {
		t.Run(h.name, func(t *testing.T) { h.test(t, p, mode) }) //nolint:paralleltest // one server
	}
}

// An account that may not see tombstones learns nothing when somebody is deleted: it
// is noticed all the same, and nobody else is removed.
func TestActiveDirectory_deletionWithoutTombstones(t *testing.T) {
	t.Parallel()
	for _, m := range []string{connection.ModeSnapshot, connection.ModeUSN, connection.ModeDirSync} {
		t.Run(m, func(t *testing.T) {
			t.Parallel()
			srv := samba.Start(t, samba.Options{})
			p := placeAt(srv, srv.ReaderDN, srv.ReaderPassword)
			p.hire(t)
			s := settings{mode: m, interval: "1s", nested: "flatten"}
			b := bustest.Start(t)
			run(t, p.config(t, s), b)
			if first := awaitPass(t, b); first.Users != workforce {
				t.Fatalf("the first pass is %+v", first)
			}
			p.change(t, remove(p.personDN(3)))
			if diff := p.unlikeFresh(t, s, b); diff != "" {
				t.Fatalf("one is deleted: -fresh +followed\n%s", diff)
			}
			if left := len(published(t, b)); left != workforce-1+1 {
				t.Errorf("%d users and groups are left, want all but one", left)
			}
		})
	}
}
