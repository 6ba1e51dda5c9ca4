//go:build directories

package conformance

import (
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/samba"
)

// An administrator who names the whole domain gets its people and groups, and nothing
// that every domain has: no computers, no built-in accounts and groups.
func TestActiveDirectory_presetLeavesOutWhatEveryDomainHas(t *testing.T) {
	t.Parallel()
	srv := samba.Start(t, samba.Options{})
	p := placeAt(srv, srv.ReaderDN, srv.ReaderPassword)
	computer := []attribute{{"objectClass", []string{"computer"}}, {"sAMAccountName", []string{"pc1$"}}, {"userAccountControl", []string{"4096"}}}
	p.change(t, add("cn=anna,"+p.base("people"), p.user("anna"))+add("cn=pc1,"+p.base("people"), computer)+
		add("cn=bob,CN=Users,"+p.suffix, p.user("bob"))+add("cn=staff,"+p.base("groups"), p.group("staff")))
	b := bustest.Start(t)
	run(t, p.config(t, settings{mode: "auto", interval: "1s", nested: "flatten", base: p.suffix}), b)
	awaitPass(t, b)
	got := map[string][]string{}
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		read(t, b, kind, directoryv1.EntryFilter(kind, "corp"), func(_ directoryv1.Subject, data []byte) {
			var c directoryv1.Change
			if err := proto.Unmarshal(data, &c); err != nil {
				t.Fatal(err)
			}
			got[kind.Token()] = append(got[kind.Token()], fmt.Sprint(c.GetUser().GetDn(), c.GetGroup().GetDn()))
		})
		slices.Sort(got[kind.Token()])
	}
	want := map[string][]string{
		"users": {
			"CN=anna,OU=people," + p.suffix, "CN=auditor,OU=system," + p.suffix, "CN=bob,CN=Users," + p.suffix,
			"CN=reader,OU=system," + p.suffix, "CN=syncer,OU=system," + p.suffix,
		},
		"groups": {"CN=staff,OU=groups," + p.suffix},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
