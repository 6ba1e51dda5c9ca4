package ldapsource

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

func rename(dn, rdn, to string) string {
	return fmt.Sprintf("dn: %s\nchangetype: modrdn\nnewrdn: %s\ndeleteoldrdn: 1\nnewsuperior: %s\n\n", dn, rdn, to)
}

func unit(name, parent string) string {
	return fmt.Sprintf("dn: ou=%[1]s,%[2]s\nobjectClass: organizationalUnit\nou: %[1]s\n\n", name, parent)
}

// Every session begins with everything, so that it makes no difference what a server
// remembers of changes: nothing, a few, or enough.
func TestSyncrepl_sessionLog(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 2, 1000} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(10), SessionLog: size})
			s := source(t, config(srv))
			proxy := newProxy(t, srv.URL, 0)
			s.cfg.LDAP.URLs = []string{proxy.url}
			r := watch(t, s)
			r.next(t)
			proxy.cut()
			if err := r.end(t); err == nil {
				t.Error("the session ended without an error")
			}
			var b strings.Builder
			for i := range 4 {
				fmt.Fprintf(&b, "dn: uid=u%04d,%s\nchangetype: delete\n\n", i, people)
			}
			srv.LDIF(t, b.String()+user("new", people)+rename("uid=u0009,"+people, "uid=james", people))
			got := r.watch(t, s).next(t)
			want := watch(t, source(t, config(srv, mode(ModeSnapshot)))).next(t)
			if diff := cmp.Diff(want.dns(), got.dns()); diff != "" {
				t.Errorf("(-snapshot +second session):\n%s", diff)
			}
		})
	}
}

func TestSyncrepl_entryMovesOutAndIn(t *testing.T) {
	t.Parallel()
	outside := "ou=outside," + suffix
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(3) + unit("outside", suffix)})
	r := watch(t, source(t, config(srv, bases(people))))
	id := r.next(t).byDN("uid=u0001," + people).ID
	srv.LDIF(t, rename("uid=u0001,"+people, "uid=u0001", outside))
	if got := r.next(t); got.entries[id] != nil || len(got.log) != 1 {
		t.Errorf("moved out: %v", got.log)
	}
	srv.LDIF(t, rename("uid=u0001,"+outside, "uid=u0001", people))
	if got := r.next(t); got.entries[id] == nil || len(got.log) != 1 {
		t.Errorf("moved in: %v", got.log)
	}
}

// What happens outside of the bases is only a cookie, and nothing is settled.
func TestSyncrepl_noiseOutside(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(3) + group("g", "uid=u0000,"+people)})
	r := watch(t, source(t, config(srv, bases(people))))
	r.next(t)
	for i := range 5 {
		srv.LDIF(t, fmt.Sprintf("dn: cn=g,%s\nchangetype: modify\nreplace: description\ndescription: %d\n\n", groups, i)+
			user("noise", groups)+"dn: uid=noise,"+groups+"\nchangetype: delete\n")
	}
	srv.LDIF(t, user("new", people))
	if diff := cmp.Diff([]string{"put uid=new," + people}, r.next(t).log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A container that is empty, new or renamed, brings nothing along: no sweep.
func TestSyncrepl_emptyContainer(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(3)})
	r := watch(t, source(t, config(srv)))
	r.next(t)
	for _, step := range []struct{ ldif, want string }{
		{unit("empty", people), "put ou=empty," + people},
		{rename("ou=empty,"+people, "ou=hollow", people), "put ou=hollow," + people},
		{rename("ou=hollow,"+people, "ou=hollow", suffix), "put ou=hollow," + suffix},
		{user("last", people), "put uid=last," + people},
	} {
		srv.LDIF(t, step.ldif)
		if diff := cmp.Diff([]string{step.want}, r.next(t).log); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// A size limit holds for the refresh, not for what is followed after it.
func TestSyncrepl_limitedAccountFollows(t *testing.T) {
	t.Parallel()
	const limit = 20
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(5), SizeLimit: limit})
	r := watch(t, source(t, config(srv, mode(ModeSyncrepl), limited(srv))))
	r.next(t)
	for i := range 3 * limit {
		srv.LDIF(t, fmt.Sprintf("dn: uid=u0001,%s\nchangetype: modify\nreplace: sn\nsn: %d\n", people, i))
		r.until(t, "the change", func(s state) bool { return string(s.byDN("uid=u0001," + people).Values("sn")[0]) == strconv.Itoa(i) })
	}
}

// Who keeps references in order writes them in silence: a group is not sent when its
// member goes or is renamed, nor a user when he joins a group.
func TestSyncrepl_silentReferences(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{MemberOf: "overlay", LDIF: users(5) + group("g", "uid=u0000,"+people, "uid=u0001,"+people)})
	s := source(t, config(srv))
	r := watch(t, s)
	group := r.next(t).byDN("cn=g," + groups)
	for _, step := range []struct{ name, ldif, want string }{
		{"join", "dn: cn=g," + groups + "\nchangetype: modify\nadd: member\nmember: uid=u0002," + people + "\n", "put cn=g," + groups},
		{"rename", rename("uid=u0001,"+people, "uid=james", people), "put uid=james," + people},
		{"delete", "dn: uid=u0000," + people + "\nchangetype: delete\n", "gone uid=u0000," + people},
		{"last", user("last", people), "put uid=last," + people},
	} {
		srv.LDIF(t, step.ldif)
		if diff := cmp.Diff([]string{step.want}, r.next(t).log); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", step.name, diff)
		}
	}
	there, err := s.Confirm(t.Context(), []ID{group.ID}, nil)
	if err != nil || len(there) != 1 || len(there[0].Values("member")) != 2 {
		t.Errorf("the group is %v, %v", there, err)
	}
}
