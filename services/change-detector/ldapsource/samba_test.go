//go:build directories

package ldapsource

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/samba"
)

const (
	adPeople = "OU=people," + samba.Suffix
	adGroups = "OU=groups," + samba.Suffix
	adOther  = "OU=other," + samba.Suffix // under no base
)

const otherUnit = "dn: " + adOther + "\nobjectClass: organizationalUnit\n\n"

// account is who reads the domain, and what is true of him.
type account struct {
	mode     Mode
	name     string
	dn, word func(*samba.Server) string
	blind    bool // sees no deleted entries
	linked   bool // hears of members one by one
}

var (
	syncer  = account{ModeDirSync, "syncer", func(s *samba.Server) string { return s.SyncerDN }, func(s *samba.Server) string { return s.SyncerPassword }, true, true}
	admin   = account{ModeDirSync, "administrator", func(s *samba.Server) string { return s.AdminDN }, func(s *samba.Server) string { return s.AdminPassword }, false, true}
	auditor = account{ModeDirSync, "auditor", func(s *samba.Server) string { return s.AuditorDN }, func(s *samba.Server) string { return s.AuditorPassword }, false, true}
	reader  = account{ModeDirSync, "reader", func(s *samba.Server) string { return s.ReaderDN }, func(s *samba.Server) string { return s.ReaderPassword }, true, true}
)

func (a account) by(m Mode) account {
	a.mode, a.linked = m, m == ModeDirSync
	return a
}

// accounts runs a test for each account and mode, at a server of its own.
func accounts(t *testing.T, test func(t *testing.T, srv *samba.Server, a account)) {
	t.Helper()
	for _, a := range []account{syncer, admin, auditor, reader, auditor.by(ModeUSN), reader.by(ModeUSN)} {
		t.Run(string(a.mode)+" "+a.name, func(t *testing.T) {
			t.Parallel()
			srv := samba.Start(t, samba.Options{LDIF: otherUnit + adUsers(5) + adGroup("staff", "u0", "u1")})
			// A tombstone, so that who may see them sees one.
			srv.LDIF(t, adUser("early")+"dn: CN=early,"+adPeople+"\nchangetype: delete\n")
			test(t, srv, a)
		})
	}
}

func adUser(name string) string {
	return fmt.Sprintf("dn: CN=%[1]s,%[2]s\nobjectClass: user\nsAMAccountName: %[1]s\nsn: %[1]s\nmail: %[1]s@example.test\n\n", name, adPeople)
}

func adUsers(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(adUser(fmt.Sprintf("u%d", i)))
	}
	return b.String()
}

func adGroup(name string, members ...string) string {
	text := fmt.Sprintf("dn: CN=%[1]s,%[2]s\nobjectClass: group\nsAMAccountName: %[1]s\n", name, adGroups)
	for _, m := range members {
		text += "member: CN=" + m + "," + adPeople + "\n"
	}
	return text + "\n"
}

func adConfig(srv *samba.Server, a account) *connection.Source {
	return &connection.Source{
		Name:   "corp",
		LDAP:   connection.LDAP{URLs: []string{srv.URL}, BindDN: a.dn(srv), PageSize: 1000},
		ID:     connection.IDAttribute{Attribute: "objectGUID", Encoding: "microsoft"},
		Users:  connection.UserSource{BaseDNs: []string{adPeople}, Filter: "(objectClass=user)"},
		Groups: connection.GroupSource{BaseDNs: []string{adGroups}, Filter: "(objectClass=group)", Members: "member"},
		Detection: connection.Detection{
			Mode: string(a.mode), Interval: 20 * time.Millisecond,
		},
	}
}

func adSource(tb testing.TB, srv *samba.Server, a account, change ...func(*connection.Source)) *Source {
	tb.Helper()
	cfg := adConfig(srv, a)
	for _, f := range change {
		f(cfg)
	}
	s, err := New(cfg, []string{"sAMAccountName", "cn", "sn", "mail", "userAccountControl"}, Deps{
		Log:      slog.New(slog.NewTextHandler(tb.Output(), nil)),
		Password: func(context.Context) (string, error) { return a.word(srv), nil },
	})
	if err != nil {
		tb.Fatal(err)
	}
	s.census = 100 * time.Millisecond
	return s
}

func TestSamba_followsEveryKindOfChange(t *testing.T) {
	t.Parallel()
	accounts(t, func(t *testing.T, srv *samba.Server, a account) {
		t.Helper()
		s := adSource(t, srv, a)
		r := watch(t, s)
		first := r.next(t)
		if first.proof.Mode != a.mode || len(first.proof.Server) != 32 || first.proof.Server != s.session.Load().controller.origin {
			t.Errorf("full read: %+v", first.proof)
		}
		if s.first("blind") == a.blind {
			t.Errorf("reported as blind: %t, want %t", !a.blind, a.blind)
		}
		u0, u1 := first.byDN("CN=u0,"+adPeople).ID, first.byDN("CN=u1,"+adPeople).ID
		staff := first.byDN("CN=staff," + adGroups).ID
		value := func(id ID, name string) func(state) string {
			return func(s state) string {
				var all []string
				for _, v := range s.entries[id].Values(name) {
					all = append(all, string(v))
				}
				slices.Sort(all)
				return strings.Join(all, " ")
			}
		}
		is := func(get func(state) string, want string) func(state) bool {
			return func(s state) bool { return get(s) == want }
		}
		named := func(id ID, dn string) func(state) bool {
			return func(s state) bool { return s.entries[id] != nil && s.entries[id].DN == dn }
		}
		change := func(dn, kind, attribute string, values ...string) string {
			text := fmt.Sprintf("dn: %s\nchangetype: modify\n%s: %s\n", dn, kind, attribute)
			for _, v := range values {
				text += attribute + ": " + v + "\n"
			}
			return text + "-\n"
		}
		move := func(dn, rdn, to string) string {
			return fmt.Sprintf("dn: %s\nchangetype: modrdn\nnewrdn: %s\ndeleteoldrdn: 1\nnewsuperior: %s\n", dn, rdn, to)
		}
		for _, step := range []struct {
			name, ldif string
			done       func(state) bool
		}{
			{"add", adUser("zoe"), func(s state) bool { return s.byDN("CN=zoe,"+adPeople) != nil }},
			{"modify", change("CN=u0,"+adPeople, "replace", "mail", "new@example.test"), is(value(u0, "mail"), "new@example.test")},
			{"clear", change("CN=u0,"+adPeople, "replace", "mail"), is(value(u0, "mail"), "")},
			{"disable", change("CN=u0,"+adPeople, "replace", "userAccountControl", "514"), is(value(u0, "useraccountcontrol"), "514")},
			{"join", change("CN=staff,"+adGroups, "add", "member", "CN=u2,"+adPeople), is(value(staff, "member"), "CN=u0,"+adPeople+" CN=u1,"+adPeople+" CN=u2,"+adPeople)},
			{"leave", change("CN=staff,"+adGroups, "delete", "member", "CN=u0,"+adPeople), is(value(staff, "member"), "CN=u1,"+adPeople+" CN=u2,"+adPeople)},
			{
				"join and more", change("CN=staff,"+adGroups, "add", "member", "CN=u0,"+adPeople) + "replace: mail\nmail: staff@example.test\n",
				func(s state) bool {
					return is(value(staff, "mail"), "staff@example.test")(s) && strings.Contains(value(staff, "member")(s), "u0")
				},
			},
			{"new container", "dn: OU=sub," + adPeople + "\nobjectClass: organizationalUnit\n", func(s state) bool { return s.byDN("OU=sub,"+adPeople) != nil }},
			{"rename", move("CN=u1,"+adPeople, "CN=james", adPeople), named(u1, "CN=james,"+adPeople)},
			{"move", move("CN=james,"+adPeople, "CN=james", "OU=sub,"+adPeople), named(u1, "CN=james,OU=sub,"+adPeople)},
			{"rename of the container", move("OU=sub,"+adPeople, "OU=renamed", adPeople), func(s state) bool { return s.byDN("OU=renamed,"+adPeople) != nil }},
			{"move out of the bases", move("CN=u0,"+adPeople, "CN=u0", adOther), func(s state) bool { return s.entries[u0] == nil }},
			{"move in again", move("CN=u0,"+adOther, "CN=u0", adPeople), named(u0, "CN=u0,"+adPeople)},
			{"container out of the bases", move("OU=renamed,"+adPeople, "OU=renamed", adOther), func(s state) bool { return s.entries[u1] == nil }},
			{"container in again", move("OU=renamed,"+adOther, "OU=renamed", adPeople), named(u1, "CN=james,OU=renamed,"+adPeople)},
			{"delete", "dn: CN=u0," + adPeople + "\nchangetype: delete\n", func(s state) bool { return s.entries[u0] == nil }},
			{"delete of a group", "dn: CN=staff," + adGroups + "\nchangetype: delete\n", func(s state) bool { return s.entries[staff] == nil }},
		} {
			srv.LDIF(t, step.ldif)
			got := r.until(t, step.name, step.done)
			if (step.name == "join" || step.name == "leave") && !a.blind && a.linked != slices.ContainsFunc(got.log, isLink) {
				t.Errorf("%s: %v", step.name, got.log)
			}
		}
	})
}

func isLink(call string) bool { return strings.HasPrefix(call, "link ") }

// Of a random history, whatever the mode, the mirror is in the end what a fresh read
// finds.
func TestSamba_losesNothing(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	accounts(t, func(t *testing.T, srv *samba.Server, a account) {
		t.Helper()
		r := watch(t, adSource(t, srv, a))
		r.next(t)
		h := history{random: rand.New(rand.NewPCG(seed, 0)), place: map[string]string{}}
		for i := range 5 {
			h.place[fmt.Sprintf("u%d", i)] = adPeople
		}
		done := make(chan error, 1)
		go func() {
			for range 4 {
				if err := srv.Apply(t.Context(), h.write(15)); err != nil {
					done <- err
					return
				}
			}
			done <- srv.Apply(t.Context(), adUser("last"))
		}()
		fresh := func() map[string]string {
			return summary(watch(t, adSource(t, srv, account{ModeSnapshot, a.name, a.dn, a.word, false, false}, rarely)).next(t))
		}
		var want map[string]string
		var got state
		r.until(t, "the end of the history", func(s state) bool {
			if s.byDN("CN=last,"+adPeople) == nil {
				return false
			}
			if want == nil {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				want = fresh()
			}
			got = s
			return cmp.Equal(want, summary(s))
		})
		if diff := cmp.Diff(want, summary(got)); diff != "" {
			t.Errorf("(-server +mirror):\n%s", diff)
		}
	})
}

func rarely(c *connection.Source) { c.Detection.Interval = time.Hour }

// summary is what a state says of each entry. Members are left out where a server
// changes them in silence.
func summary(s state) map[string]string {
	out := map[string]string{}
	for _, e := range s.entries {
		text := e.DN
		for _, a := range e.Attributes {
			if a.GetName() == "member" {
				continue
			}
			text += fmt.Sprintf(" %s=%q", a.GetName(), a.GetValues())
		}
		out[e.ID.String()] = text
	}
	return out
}

// history writes random changes of a domain.
type history struct {
	random *rand.Rand
	place  map[string]string // of each user
	n      int
}

func (h *history) write(n int) string {
	var b strings.Builder
	for range n {
		h.n++
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range h.place {
				if !yield(name) {
					return
				}
			}
		})
		name := names[h.random.IntN(len(names))]
		dn := "CN=" + name + "," + h.place[name]
		switch h.random.IntN(6) {
		case 0:
			fresh := fmt.Sprintf("n%d", h.n)
			h.place[fresh] = adPeople
			b.WriteString(adUser(fresh))
		case 1:
			to := []string{adPeople, adGroups, adOther}[h.random.IntN(3)]
			fmt.Fprintf(&b, "dn: %s\nchangetype: modrdn\nnewrdn: CN=%s\ndeleteoldrdn: 1\nnewsuperior: %s\n\n", dn, name, to)
			h.place[name] = to
		case 2:
			if len(names) > 3 {
				fmt.Fprintf(&b, "dn: %s\nchangetype: delete\n\n", dn)
				delete(h.place, name)
			}
		case 3:
			fmt.Fprintf(&b, "dn: CN=staff,%s\nchangetype: modify\nreplace: member\nmember: %s\n\n", adGroups, dn)
		default:
			fmt.Fprintf(&b, "dn: %s\nchangetype: modify\nreplace: sn\nsn: s%d\n\n", dn, h.n)
		}
	}
	return b.String()
}

func TestSamba_auto(t *testing.T) {
	t.Parallel()
	srv := samba.Start(t, samba.Options{})
	for _, test := range []struct {
		account account
		change  func(*connection.Source)
		want    Mode
		reason  string
	}{
		{syncer.by(ModeAuto), rarely, ModeDirSync, "offers DirSync"},
		{reader.by(ModeAuto), rarely, ModeDirSync, "no right Replicating Directory Changes"},
		{reader.by(ModeUSN), rarely, ModeUSN, "uSNChanged"},
	} {
		got, err := adSource(t, srv, test.account, test.change).Probe(t.Context())
		if err != nil || got.Mode != test.want || !strings.Contains(got.Reason, test.reason) {
			t.Errorf("%s: %+v, %v", test.account.name, got, err)
		}
	}
	_, err := adSource(t, srv, reader.by(ModeSyncrepl)).Probe(t.Context())
	if err == nil || !strings.Contains(err.Error(), "sources.corp.detection.mode") {
		t.Errorf("syncrepl at Samba: %v", err)
	}
	name := func(c *connection.Source) { c.ID = connection.IDAttribute{Attribute: "entryUUID"} }
	_, err = adSource(t, srv, reader.by(ModeDirSync), name).Probe(t.Context())
	if err == nil || !strings.Contains(err.Error(), "sources.corp.id.attribute") {
		t.Errorf("an id that tombstones do not have: %v", err)
	}
}

// A restart ends the session; the next one reads everything anew.
func TestSamba_restart(t *testing.T) {
	t.Parallel()
	srv := samba.Start(t, samba.Options{LDIF: adUsers(3)})
	for _, m := range []Mode{ModeDirSync, ModeUSN} {
		s := adSource(t, srv, syncer.by(m))
		r := watch(t, s)
		before := r.next(t)
		if err := srv.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.end(t); err == nil {
			t.Error("the session ended without an error")
		}
		srv.LDIF(t, adUser("new"+string(m))+"dn: CN=u0,"+adPeople+"\nchangetype: modify\nreplace: sn\nsn: "+string(m)+"\n")
		got := r.watch(t, s).next(t)
		if len(got.entries) != len(before.entries)+1 || string(got.byDN("CN=u0," + adPeople).Values("sn")[0]) != string(m) {
			t.Errorf("after the restart: %v", got.dns())
		}
	}
}

// A domain in which nothing happens is asked and the sink hears nothing.
func TestSamba_idleDirectoryIsQuiet(t *testing.T) {
	t.Parallel()
	srv := samba.Start(t, samba.Options{LDIF: adUsers(3)})
	for _, m := range []Mode{ModeDirSync, ModeUSN} {
		s := adSource(t, srv, syncer.by(m))
		f, r := follow(t, s)
		srv.LDIF(t, "dn: "+adOther+"\nchangetype: add\nobjectClass: organizationalUnit\n\ndn: "+adOther+"\nchangetype: delete\n")
		r.log, f.unsaid = nil, false
		for range 2 {
			if err := f.poll(t.Context()); err != nil || len(r.log) > 0 || f.unsaid {
				t.Errorf("%s: nothing happened under the bases, and the sink was told %v, %v", m, r.log, err)
			}
		}
	}
}
