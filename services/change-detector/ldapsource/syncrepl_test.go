package ldapsource

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

func TestSyncrepl_followsEveryKindOfChange(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(20) + group("staff", "uid=u0000,"+people) +
		"dn: ou=full," + people + "\nobjectClass: organizationalUnit\nou: full\n\n" + user("child", "ou=full,"+people)})
	r := watch(t, source(t, config(srv)))
	first := r.next(t)
	if first.proof.Mode != ModeSyncrepl || first.proof.Entries != 29 || len(first.entries) != 29 {
		t.Fatalf("full read: %+v, %d entries", first.proof, len(first.entries))
	}
	if first.log[0] != "begin" || first.log[len(first.log)-1] != "complete" {
		t.Errorf("the read is not between begin and complete: %v", first.log)
	}
	old := first.byDN("uid=u0001," + people)

	steps := []struct {
		name, ldif string
		log        string
		check      func(state) bool
	}{
		{"add", user("zoe", people), "put uid=zoe," + people, nil},
		{
			"modify", "dn: uid=u0001," + people + "\nchangetype: modify\nreplace: sn\nsn: Bond\n", "put uid=u0001," + people,
			func(s state) bool {
				e := s.byDN("uid=u0001," + people)
				return string(e.Values("sn")[0]) == "Bond" && e.ID == old.ID && e.Version > old.Version
			},
		},
		{
			"rename", "dn: uid=u0001," + people + "\nchangetype: modrdn\nnewrdn: uid=james\ndeleteoldrdn: 1\n", "put uid=james," + people,
			func(s state) bool { return s.byDN("uid=james,"+people).ID == old.ID },
		},
		{"new container", "dn: ou=left," + people + "\nobjectClass: organizationalUnit\nou: left\n", "put ou=left," + people, nil},
		{
			"move", "dn: uid=james," + people + "\nchangetype: modrdn\nnewrdn: uid=james\ndeleteoldrdn: 0\nnewsuperior: ou=left," + people + "\n",
			"put uid=james,ou=left," + people,
			func(s state) bool { return s.byDN("uid=james,ou=left,"+people).ID == old.ID },
		},
		{
			"rename of the container is one message", "dn: ou=full," + people + "\nchangetype: modrdn\nnewrdn: ou=renamed\ndeleteoldrdn: 1\n",
			"put ou=renamed," + people, nil,
		},
		{"group change", "dn: cn=staff," + groups + "\nchangetype: modify\nadd: member\nmember: uid=u0002," + people + "\n", "put cn=staff," + groups, nil},
		{"delete", "dn: uid=u0003," + people + "\nchangetype: delete\n", "gone uid=u0003," + people, nil},
	}
	for _, step := range steps {
		t.Log(step.name)
		srv.LDIF(t, step.ldif)
		s := r.next(t)
		if diff := cmp.Diff([]string{step.log}, s.log); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", step.name, diff)
		}
		if step.check != nil && !step.check(s) {
			t.Errorf("%s: the entry is not as it should be", step.name)
		}
	}
}

func TestSyncrepl_neverReadsPasswords(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: user("anna", people)})
	cfg := config(srv, func(c *connection.Source) { c.LDAP.BindDN = srv.AdminDN })
	if _, err := New(cfg, []string{"userPassword;x"}, Deps{}); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("a mapping of userPassword: %v", err)
	}
	s := watch(t, source(t, cfg)).next(t)
	for _, e := range s.entries {
		if e.Values("userpassword") != nil {
			t.Errorf("%s came with its password", e.DN)
		}
	}
	want := []string{"cn", "mail", "objectclass", "sn", "uid"}
	var got []string
	for _, a := range s.byDN("uid=anna," + people).Attributes {
		got = append(got, a.GetName())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}

// A restart ends the session; the next one reads everything, also what happened
// in between.
func TestSyncrepl_restart(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(5)})
	s := source(t, config(srv))
	r := watch(t, s)
	r.next(t)
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.end(t); err == nil {
		t.Error("the session ended without an error")
	}
	srv.LDIF(t, "dn: uid=u0004,"+people+"\nchangetype: delete\n\n"+user("new", people))
	got := r.watch(t, s).next(t)
	if got.byDN("uid=u0004,"+people) != nil || got.byDN("uid=new,"+people) == nil {
		t.Errorf("after the restart: %v", got.dns())
	}
}

func TestSyncrepl_cutConnectionIsAnError(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(5)})
	proxy := newProxy(t, srv.URL, 0)
	r := watch(t, source(t, config(srv, func(c *connection.Source) { c.LDAP.URLs = []string{proxy.url} })))
	r.next(t)
	proxy.cut()
	if err := r.end(t); err == nil {
		t.Error("the session ended without an error")
	}
}

// A read that is cut at any point never says Complete.
func TestSyncrepl_cutReadIsNeverComplete(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(300)})
	for _, m := range []Mode{ModeSyncrepl, ModeTimestamp, ModeSnapshot} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			for limit := 2000; limit < 60_000; limit += 4_000 {
				proxy := newProxy(t, srv.URL, limit)
				s := source(t, config(srv, mode(m), func(c *connection.Source) { c.LDAP.URLs = []string{proxy.url} }))
				r := watch(t, s)
				if err := r.end(t); err == nil {
					t.Errorf("cut after %d bytes: no error", limit)
				}
				if slices.Contains(r.log, "complete") {
					t.Errorf("cut after %d bytes: complete", limit)
				}
			}
		})
	}
}

func TestSyncrepl_frozenServerEndsTheSession(t *testing.T) {
	t.Parallel()
	for _, m := range []Mode{ModeSyncrepl, ModeTimestamp} {
		srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(5)})
		s := source(t, config(srv, mode(m), func(c *connection.Source) { c.LDAP.ReadTimeout = 200 * time.Millisecond }))
		s.heartbeat = 50 * time.Millisecond
		r := watch(t, s)
		r.next(t)
		if err := srv.Freeze(); err != nil {
			t.Fatal(err)
		}
		if err := r.end(t); !errors.Is(err, errFrozen) {
			t.Errorf("%s: the session ended with %v", m, err)
		}
	}
}

// The stream is cut off silently while the other connections live.
func TestSyncrepl_deafStreamEndsTheSession(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(5)})
	proxy := newProxy(t, srv.URL, 0)
	s := source(t, config(srv, func(c *connection.Source) {
		c.LDAP.URLs = []string{proxy.url}
		c.Users.BaseDNs, c.Groups.BaseDNs = []string{people}, nil
	}))
	s.heartbeat = 300 * time.Millisecond
	r := watch(t, s)
	r.next(t)
	srv.LDIF(t, group("heard", "uid=u0000,"+people)) // outside the base: a cookie only
	proxy.mute()
	for i := 0; ; i++ {
		srv.LDIF(t, user(fmt.Sprintf("unheard%d", i), people))
		select {
		case err := <-r.ended:
			if !errors.Is(err, errDeaf) {
				t.Errorf("the session ended with %v", err)
			}
			return
		default:
		}
	}
}

func TestPulse(t *testing.T) {
	t.Parallel()
	type beat struct {
		csn   string
		heard uint64
	}
	for _, test := range []struct {
		name  string
		beats []beat
		want  bool
	}{
		{"nothing happens", []beat{{"1", 5}, {"1", 5}, {"1", 5}}, false},
		{"change heard late", []beat{{"1", 5}, {"2", 5}, {"2", 6}}, false},
		{"change heard before it was seen", []beat{{"1", 5}, {"2", 6}, {"2", 6}}, false},
		{"change not heard", []beat{{"1", 5}, {"2", 5}, {"2", 5}}, true},
		{"second change not heard", []beat{{"1", 5}, {"2", 6}, {"3", 6}, {"3", 6}}, true},
		{"the first beat knows nothing", []beat{{"1", 0}, {"1", 0}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var p pulse
			got := false
			for _, b := range test.beats {
				got = got || p.deaf(b.csn, b.heard)
			}
			if got != test.want {
				t.Errorf("deaf = %v, want %v", got, test.want)
			}
		})
	}
}

func TestSyncrepl_sweepRepairs(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(10)})
	r := watch(t, source(t, config(srv, func(c *connection.Source) { c.Detection.SweepInterval = 50 * time.Millisecond })))
	first := r.next(t)
	second := r.next(t)
	if second.proof.Mode != ModeSyncrepl || second.log[0] != "begin" {
		t.Fatalf("no sweep came: %+v %v", second.proof, second.log)
	}
	if diff := cmp.Diff(first.dns(), second.dns()); diff != "" {
		t.Errorf("the sweep differs (-first +sweep):\n%s", diff)
	}
	srv.LDIF(t, user("late", people)+"dn: uid=u0000,"+people+"\nchangetype: delete\n")
	r.until(t, "the changes", func(s state) bool {
		return s.byDN("uid=late,"+people) != nil && s.byDN("uid=u0000,"+people) == nil
	})
}

// A server reports a moved container and says nothing of the entries in it.
func TestSyncrepl_containerMovesInAndOut(t *testing.T) {
	t.Parallel()
	outside := "ou=outside," + suffix
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: "dn: " + outside + "\nobjectClass: organizationalUnit\nou: outside\n\n" +
		user("inside", people) + user("bob", outside)})
	r := watch(t, source(t, config(srv, bases(people))))
	if got := r.next(t); got.byDN("uid=bob,"+outside) != nil {
		t.Fatalf("outside of the base: %v", got.dns())
	}
	srv.LDIF(t, "dn: "+outside+"\nchangetype: modrdn\nnewrdn: ou=outside\ndeleteoldrdn: 0\nnewsuperior: "+people+"\n")
	r.until(t, "the entries of the container", func(s state) bool { return s.byDN("uid=bob,ou=outside,"+people) != nil })
	srv.LDIF(t, "dn: ou=outside,"+people+"\nchangetype: modrdn\nnewrdn: ou=outside\ndeleteoldrdn: 0\nnewsuperior: "+suffix+"\n")
	r.until(t, "the entries to be gone", func(s state) bool {
		return len(s.entries) == 2 && s.byDN("uid=inside,"+people) != nil
	})
}

func TestSyncrepl_severalBases(t *testing.T) {
	t.Parallel()
	other := "ou=other," + suffix
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: "dn: " + other + "\nobjectClass: organizationalUnit\nou: other\n\n" +
		users(50) + user("bob", other) + group("staff", "uid=bob,"+other)})
	r := watch(t, source(t, config(srv, bases(people, other, "ou=sub,"+people), func(c *connection.Source) {
		c.Users.ScopeGroups = []string{"CN=Staff, " + groups}
	})))
	first := r.next(t)
	if first.proof.Bases != 3 || len(first.entries) != 54 {
		t.Fatalf("full read: %+v, %d entries", first.proof, len(first.entries))
	}
	id := first.byDN("uid=bob," + other).ID
	for range 10 { // which of two connections speaks first is a matter of luck
		for _, move := range [][2]string{{other, people}, {people, other}} {
			srv.LDIF(t, "dn: uid=bob,"+move[0]+"\nchangetype: modrdn\nnewrdn: uid=bob\ndeleteoldrdn: 0\nnewsuperior: "+move[1]+"\n")
			r.until(t, "the move", func(s state) bool {
				if _, ok := s.entries[id]; !ok {
					t.Fatal("the entry was gone for a moment")
				}
				return s.entries[id].DN == "uid=bob,"+move[1]
			})
		}
	}
	srv.LDIF(t, "dn: uid=bob,"+other+"\nchangetype: delete\n")
	r.until(t, "the deletion", func(s state) bool { return s.entries[id] == nil })
}

func TestSyncrepl_wrongIDAttributeIsRefused(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: strings.Replace(user("anna", people), "sn: anna", "sn: anna\nemployeeNumber: 11111111-2222-3333-4444-555555555555", 1)})
	r := watch(t, source(t, config(srv, mode(ModeSyncrepl), func(c *connection.Source) { c.ID.Attribute = "employeeNumber" })))
	if err := r.end(t); err == nil || !strings.Contains(err.Error(), "sources.corp.id.attribute") {
		t.Errorf("the session ended with %v", err)
	}
}

func TestSyncrepl_entriesWithoutIDAreLeftOut(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{
		LDIF: users(3),
		ACL:  []string{`access to dn.exact="uid=u0001,ou=people,dc=example,dc=com" attrs=entryUUID by * none`},
	})
	for _, m := range []Mode{ModeSyncrepl, ModeTimestamp, ModeSnapshot} {
		got := watch(t, source(t, config(srv, mode(m), bases(people)))).next(t)
		if got.proof.WithoutID != 1 || len(got.entries) != 3 || got.byDN("uid=u0001,"+people) != nil {
			t.Errorf("%s: %+v, %v", m, got.proof, got.dns())
		}
	}
}
