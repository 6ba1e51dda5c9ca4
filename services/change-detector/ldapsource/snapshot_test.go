package ldapsource

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

func often(c *connection.Source) { c.Detection.Interval = 10 * time.Millisecond }

func TestSnapshot_pageSizes(t *testing.T) {
	t.Parallel()
	const n = 100
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(n - 1)})
	for _, size := range []int{0, 1, 7, n - 1, n, n + 1, 5000} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			cfg := config(srv, mode(ModeSnapshot), bases(people), func(c *connection.Source) { c.LDAP.PageSize = size })
			got := watch(t, source(t, cfg)).next(t)
			if len(got.entries) != n || got.proof.Entries != n {
				t.Errorf("%d entries, %+v", len(got.entries), got.proof)
			}
		})
	}
}

func TestSnapshot_passesAreIdenticalAndSeeChanges(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(30) + group("staff", "uid=u0000,"+people)})
	r := watch(t, source(t, config(srv, mode(ModeSnapshot), often)))
	first, second := r.next(t), r.next(t)
	if diff := cmp.Diff(first.entries, second.entries, protocmp.Transform()); diff != "" {
		t.Errorf("the second pass differs (-first +second):\n%s", diff)
	}
	srv.LDIF(t, user("late", people)+"dn: uid=u0000,"+people+"\nchangetype: delete\n")
	r.until(t, "the changes", func(s state) bool {
		return s.byDN("uid=late,"+people) != nil && s.byDN("uid=u0000,"+people) == nil
	})
}

// All modes say the same about one directory.
func TestSnapshot_isWhatOthersSay(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(200) + group("staff", "uid=u0000,"+people, "uid=u0001,"+people)})
	snapshot := watch(t, source(t, config(srv, mode(ModeSnapshot)))).next(t)
	for _, m := range []Mode{ModeSyncrepl, ModeTimestamp} {
		got := watch(t, source(t, config(srv, mode(m)))).next(t)
		if diff := cmp.Diff(snapshot.entries, got.entries, protocmp.Transform()); diff != "" {
			t.Errorf("(-snapshot +%s):\n%s", m, diff)
		}
	}
}

func TestSnapshot_sizeLimitIsNotAnEnd(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(600)})
	for _, m := range []Mode{ModeSyncrepl, ModeTimestamp, ModeSnapshot} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			err := watch(t, source(t, config(srv, mode(m), limited(srv)))).end(t)
			if !isCode(err, ldap.LDAPResultSizeLimitExceeded) || !strings.Contains(err.Error(), "raise the size limit of the account") ||
				!strings.Contains(err.Error(), "sources.corp.ldap.page_size") {
				t.Errorf("the session ended with %v", err)
			}
		})
	}
}

func TestSnapshot_halvesARefusedPageSize(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(600), SizeLimit: -1, PageLimit: 200})
	s := source(t, config(srv, mode(ModeSnapshot), limited(srv), often))
	r := watch(t, s)
	if got := r.next(t); len(got.entries) != 606 {
		t.Errorf("%d entries", len(got.entries))
	}
	if got := s.pageSize.Load(); got != 125 {
		t.Errorf("page size %d, want 125 of 1000", got)
	}
	r.next(t)
}

// What an access rule hides is not there and no error either; that is for the
// canaries to find. A hidden base is an error.
func TestSnapshot_lostAccess(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(10)})
	s := source(t, config(srv, mode(ModeSnapshot)))
	all := watch(t, s).next(t)
	srv.SetACL(`access to dn.subtree="ou=people,dc=example,dc=com" by * none`)
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := watch(t, s).next(t); len(got.entries) != len(all.entries)-11 {
		t.Errorf("%d entries of %d", len(got.entries), len(all.entries))
	}
	err := watch(t, source(t, config(srv, mode(ModeSnapshot), bases(people)))).end(t)
	if !isCode(err, ldap.LDAPResultNoSuchObject) || !strings.Contains(err.Error(), "users.base_dns") {
		t.Errorf("a hidden base: %v", err)
	}
	id := all.byDN("uid=u0000," + people).ID
	if _, err := s.Confirm(t.Context(), []ID{id}, []ID{all.byDN("uid=u0001," + people).ID}); !errors.Is(err, ErrCanary) {
		t.Errorf("Confirm with a hidden canary: %v", err)
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(250)})
	s := source(t, config(srv))
	all := watch(t, s).next(t)
	var ids []ID
	for id := range all.entries {
		ids = append(ids, id)
	}
	srv.LDIF(t, "dn: uid=u0007,"+people+"\nchangetype: delete\n")
	there, err := s.Confirm(t.Context(), ids, []ID{all.byDN(people).ID})
	if err != nil {
		t.Fatal(err)
	}
	if len(there) != len(ids)-1 {
		t.Errorf("%d of %d are there", len(there), len(ids))
	}
}

func TestHolders(t *testing.T) {
	t.Parallel()
	odd := `uid=o\, (x)*,` + people
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(250) +
		"dn: cn=staff,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: staff\nmember: uid=u0007," + people + "\nmember: " + odd + "\n\n" +
		"dn: cn=others,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: others\nmember: uid=u0008," + people + "\n\n"})
	s := source(t, config(srv))
	var many []string
	for n := range 250 {
		if n != 7 && n != 8 {
			many = append(many, fmt.Sprintf("uid=u%04d,%s", n, people))
		}
	}
	for _, tt := range []struct {
		name string
		dns  []string
		want string
	}{
		{"nobody's", many, ""},
		{"somebody's among many", append(many, "uid=u0007,"+people), "cn=staff"},
		{"to be escaped", []string{odd}, "cn=staff"},
	} {
		groups, err := s.Holders(t.Context(), tt.dns)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, g := range groups {
			name, _, _ := strings.Cut(g.DN, ",")
			names = append(names, name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestSnapshot_referralsAreCounted(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{
		LDIF: users(3) + "dn: cn=ref," + people + "\nobjectClass: referral\nobjectClass: extensibleObject\ncn: ref\nref: ldap://192.0.2.1/dc=example,dc=com\n\n",
	})
	for _, m := range []Mode{ModeSyncrepl, ModeTimestamp, ModeSnapshot} {
		if got := watch(t, source(t, config(srv, mode(m), bases(people)))).next(t); got.proof.Referrals != 1 || len(got.entries) != 4 {
			t.Errorf("%s: %+v, %v", m, got.proof, got.dns())
		}
	}
}

// A server without the paging control: one search, whose result is the proof.
func TestSnapshot_unpaged(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(50)})
	s := source(t, config(srv))
	c, err := s.dial(t.Context(), endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	r := &recorder{mirror: map[ID]*Entry{}}
	if err := s.pass(t.Context(), c, &Server{}, r, func(int, *Entry, container) {}); err != nil {
		t.Fatal(err)
	}
	if len(r.mirror) != 56 || r.proof.Entries != 56 {
		t.Errorf("%d entries, %+v", len(r.mirror), r.proof)
	}
}

// The server takes the account for another one than at the start of the session:
// what it does not show says nothing, though the canaries are there.
func TestConfirmChecksWhoWeAre(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(3)})
	s := source(t, config(srv, mode(ModeSnapshot)))
	all := watch(t, s).next(t)
	known := all.byDN("uid=u0001," + people).ID
	if _, err := s.Confirm(t.Context(), []ID{{1}}, []ID{known}); err != nil {
		t.Fatal(err)
	}
	other := *s.session.Load()
	other.Identity = "dn:cn=somebody else"
	s.session.Store(&other)
	if _, err := s.Confirm(t.Context(), []ID{{1}}, []ID{known}); !errors.Is(err, ErrIdentity) {
		t.Errorf("got %v, want %v", err, ErrIdentity)
	}
}
