//go:build directories

package detector

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/samba"
)

const (
	adPeople = "OU=people," + samba.Suffix
	adStaff  = "CN=staff,OU=groups," + samba.Suffix
)

// adConfig watches a domain in a mode, by an account.
func adConfig(t *testing.T, srv *samba.Server, mode, dn, password string) *connection.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := connection.Parse("rollcall.yaml", fmt.Appendf(nil, `
sources:
  corp:
    ldap: {urls: [%q], bind_dn: %q, bind_password: "${file:%s}"}
    preset: active-directory
    detection: {mode: %s, interval: 1s}
    users: {base_dns: [%q]}
    groups: {base_dns: ["OU=groups,%s"]}
connections:
  wiki:
    source: corp
    target: {url: "http://127.0.0.1:1/scim/v2", insecure: true}
    users: {attributes: {userName: user.sAMAccountName}}
    groups: {name: group.cn}
`, srv.URL, dn, file, mode, adPeople, samba.Suffix))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// adWorkforce are n people and a group that holds them all.
func adWorkforce(n int) string {
	var b, members strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "dn: CN=u%[1]d,%[2]s\nobjectClass: user\nsAMAccountName: u%[1]d\nuserAccountControl: 512\nuserPassword: Passw0rd!%[1]d\n\n", i, adPeople)
		fmt.Fprintf(&members, "member: CN=u%d,%s\n", i, adPeople)
	}
	return b.String() + "dn: " + adStaff + "\nobjectClass: group\nsAMAccountName: staff\n" + members.String() + "\n"
}

// What is published is what the domain says, also of members that come and go one by
// one, under changing names, and in silence.
func TestSamba_publishesWhatChanges(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"dirsync", "usn"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			srv := samba.Start(t, samba.Options{LDIF: adWorkforce(10)})
			srv.LDIF(t, "dn: CN=u9,"+adPeople+"\nchangetype: delete\n") // what shows that the account sees deletions
			cfg, b := adConfig(t, srv, mode, srv.AuditorDN, srv.AuditorPassword), bustest.Start(t)
			stop := start(t, cfg, b)
			first := awaitPass(t, b, status.Pass{}, anyPass)
			if first.Mode != mode || first.Users != 9 || first.Groups != 1 || first.Held != 0 {
				t.Fatalf("first pass %+v", first)
			}
			member := func(how, dn string) string {
				return fmt.Sprintf("dn: %s\nchangetype: modify\n%s: member\nmember: %s\n\n", adStaff, how, dn)
			}
			rename := func(from, to string) string {
				return fmt.Sprintf("dn: CN=%s,%s\nchangetype: modrdn\nnewrdn: CN=%s\ndeleteoldrdn: 1\n\n", from, adPeople, to)
			}
			for _, step := range []struct {
				ldif    string
				members uint64
			}{
				{member("delete", "CN=u0,"+adPeople), 8},
				{member("add", "CN=u0,"+adPeople), 9},
				{"dn: CN=u1," + adPeople + "\nchangetype: delete\n", 8},
				{rename("u2", "james") + member("delete", "CN=james,"+adPeople), 7},
				{member("add", "CN=james,"+adPeople) + rename("james", "jim") + rename("u3", "ann") + member("delete", "CN=ann,"+adPeople), 7},
				{"dn: CN=u1," + adPeople + "\nobjectClass: user\nsAMAccountName: u1\n\n" + member("add", "CN=u1,"+adPeople), 8},
			} {
				srv.LDIF(t, step.ldif)
				await(t, func() string {
					if s := readStreams(t, b); s.Members != step.members {
						return fmt.Sprintf("%d members, want %d after\n%s", s.Members, step.members, step.ldif)
					}
					return ""
				})
			}
			before := readStreams(t, b)
			stop()
			stop = start(t, cfg, b)
			second := awaitPass(t, b, first, anyPass)
			if diff := gocmp.Diff(before, readStreams(t, b)); second.Published != 0 || second.Held != 0 || diff != "" {
				t.Errorf("a full read published what was not followed: %+v\n-before +after\n%s", second, diff)
			}
			stop()
		})
	}
}

// An access control entry hides all people: nothing is removed, and nobody leaves the
// group.
func TestSamba_hiddenPeopleChangeNothing(t *testing.T) {
	t.Parallel()
	const hide = "(D;CI;RPLCLORC;;;SID)"
	srv := samba.Start(t, samba.Options{LDIF: adWorkforce(10)})
	cfg, b := adConfig(t, srv, "auto", srv.ReaderDN, srv.ReaderPassword), bustest.Start(t)
	stop := start(t, cfg, b)
	first := awaitPass(t, b, status.Pass{}, anyPass)
	before := readStreams(t, b)
	people := make([]string, 10)
	for i := range people {
		people[i] = fmt.Sprintf("CN=u%d,%s", i, adPeople)
	}
	if err := srv.Permit(t.Context(), srv.ReaderDN, hide, people...); err != nil {
		t.Fatal(err)
	}
	stop()
	stop = start(t, cfg, b)
	hidden := awaitPass(t, b, first, anyPass)
	if hidden.Held != 10 || hidden.Published != 0 || hidden.HeldReason == "" {
		t.Errorf("%+v, want 10 held and nothing published", hidden)
	}
	if diff := gocmp.Diff(before, readStreams(t, b)); diff != "" {
		t.Errorf("the streams changed: -before +after\n%s", diff)
	}
	if err := srv.Revoke(t.Context(), srv.ReaderDN, hide, people...); err != nil {
		t.Fatal(err)
	}
	stop()
	stop = start(t, cfg, b)
	cured := awaitPass(t, b, hidden, func(p status.Pass) bool { return p.Held == 0 })
	if diff := gocmp.Diff(before, readStreams(t, b)); cured.Published != 0 || diff != "" {
		t.Errorf("cured: %+v\n-before +after\n%s", cured, diff)
	}
	stop()
}
