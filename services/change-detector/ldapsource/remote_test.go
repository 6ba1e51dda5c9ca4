package ldapsource

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// person is a user whose cn is not the uid.
func person(uid, cn string) string {
	return fmt.Sprintf("dn: uid=%s,%s\nobjectClass: inetOrgPerson\nuid: %[1]s\ncn: %[3]s\nsn: %[1]s\n\n", uid, people, cn)
}

func userFilter(filter string) func(*connection.Source) {
	return func(c *connection.Source) { c.Users.Filter = filter }
}

func every(d time.Duration) func(*connection.Source) {
	return func(c *connection.Source) { c.Detection.Interval = d }
}

// matching are the uids of the people that match the filter of users.
func (s state) matching(t *testing.T, filter string) string {
	t.Helper()
	f, err := ParseFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	var uids []string
	for _, e := range s.entries {
		if uid := e.Values("uid"); len(uid) > 0 && f.With(e.Schema).Match(e) {
			uids = append(uids, string(uid[0]))
		}
	}
	slices.Sort(uids)
	return strings.Join(uids, " ")
}

// What only the directory can evaluate is what it says, wherever the clause stands.
func TestRemoteClauses(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: person("a", "Anna") + person("b", "anna") + person("c", "Carl")})
	for _, mode := range []Mode{ModeSyncrepl, ModeSnapshot} {
		for filter, want := range map[string]string{
			"(cn:caseExactMatch:=Anna)":                                 "a",
			"(&(uid=*)(!(cn:caseExactMatch:=Anna)))":                    "b c",
			"(&(uid=*)(!(|(cn:caseExactMatch:=Anna)(uid=c))))":          "b",
			"(|(cn:caseExactMatch:=anna)(uid=c))":                       "b c",
			"(!(!(cn:caseExactMatch:=anna)))":                           "b",
			"(:caseExactMatch:=Carl)":                                   "c",
			"(&(uid=*)(ou:dn:=people))":                                 "a b c",
			"(&(uid=*)(!(ou:dn:=groups)))":                              "a b c",
			"(&(cn:caseExactMatch:=Anna)(cn:2.5.13.2:=ANNA))":           "a",
			"(cn:1.2.3.4:=x)":                                           "",
			"(&(uid=*)(!(cn:1.2.3.4:=x)))":                              "", // no such rule: undefined
			"(&(uid=*)(|(sn:caseExactMatch:=a)(sn:caseExactMatch:=a)))": "a",
		} {
			t.Run(string(mode)+filter, func(t *testing.T) {
				t.Parallel()
				s := source(t, config(srv, userFilter(filter), func(c *connection.Source) { c.Detection.Mode = string(mode) }))
				if got := watch(t, s).next(t).matching(t, filter); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			})
		}
	}
}

// Between two full reads the directory is asked about entries that are new or
// changed; the others keep what it said.
func TestRemoteClauses_changes(t *testing.T) {
	t.Parallel()
	const filter = "(&(objectClass=person)(cn:caseExactMatch:=Anna))"
	for _, m := range []Mode{ModeSyncrepl, ModeSnapshot} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			srv := ldaptest.Start(t, ldaptest.Options{LDIF: person("a", "Anna") + person("b", "anna")})
			r := watch(t, source(t, config(srv, mode(m), userFilter(filter), every(100*time.Millisecond))))
			expect := func(what, want string) {
				t.Helper()
				r.until(t, what, func(s state) bool { return s.matching(t, filter) == want })
			}
			expect("the full read", "a")
			srv.LDIF(t, person("c", "Anna")+person("d", "ANNA"))
			expect("new entries", "a c")
			srv.LDIF(t, "dn: uid=b,"+people+"\nchangetype: modify\nreplace: cn\ncn: Anna\n\ndn: uid=a,"+people+"\nchangetype: modify\nreplace: cn\ncn: x\n")
			expect("changed entries", "b c")
			srv.LDIF(t, "dn: uid=b,"+people+"\nchangetype: modify\nreplace: sn\nsn: other\n\ndn: uid=c,"+people+"\nchangetype: delete\n")
			expect("a deleted one", "b")
		})
	}
}

// An entry that the directory seems to have lost is asked about when it is found.
func TestRemoteClauses_confirmed(t *testing.T) {
	t.Parallel()
	const filter = "(cn:caseExactMatch:=Anna)"
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: person("a", "Anna") + person("b", "anna")})
	s := source(t, config(srv, userFilter(filter)))
	var ids []ID
	for id := range watch(t, s).next(t).entries {
		ids = append(ids, id)
	}
	s.remotes.mu.Lock()
	clear(s.remotes.marks)
	s.remotes.mu.Unlock()
	found, err := s.Confirm(t.Context(), ids, nil)
	if err != nil || len(found) != len(ids) {
		t.Fatalf("%d of %d entries, %v", len(found), len(ids), err)
	}
	for _, e := range found {
		if matches := len(e.Matches) == 1; matches != (e.DN == "uid=a,"+people) {
			t.Errorf("%s: %v", e.DN, e.Matches)
		}
	}
}

// Nothing is concluded from a search that the server did not finish, and the error
// says which clause of which key it was.
func TestRemoteClauses_incomplete(t *testing.T) {
	t.Parallel()
	const filter = "(&(objectClass=*)(sn:caseExactMatch:=x))"
	var ldif strings.Builder
	for i := range 20 {
		ldif.WriteString(strings.Replace(person(fmt.Sprintf("u%d", i), "x"), fmt.Sprintf("sn: u%d", i), "sn: x", 1))
	}
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: ldif.String(), SizeLimit: 10})
	for _, m := range []Mode{ModeSyncrepl, ModeSnapshot} {
		r := watch(t, source(t, config(srv, mode(m), limited(srv), userFilter(filter))))
		if err := r.end(t); err == nil || !strings.Contains(err.Error(), "sources.corp.users.filter: evaluate (sn:caseExactMatch:=x): read ") {
			t.Errorf("%s: %v", m, err)
		}
		if len(r.mirror) > 0 {
			t.Errorf("%s: %d entries were put", m, len(r.mirror))
		}
	}
}

// The log says once which clauses the directory evaluates.
func TestRemoteClauses_told(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{})
	s := source(t, config(srv, mode(ModeSnapshot), userFilter("(|(cn:caseExactMatch:=a)(!(sn:caseExactMatch:=b)))")))
	var said bytes.Buffer
	s.deps.Log = slog.New(slog.NewTextHandler(&said, nil))
	for range 2 {
		r := watch(t, s)
		r.next(t)
		r.stop(t)
	}
	for _, part := range []string{"key=sources.corp.users.filter", `clause="(cn:caseExactMatch:=a)" every=1h0m0s`, `clause="(!(sn:caseExactMatch:=b))"`} {
		if n := strings.Count(said.String(), part); n != 1 && part[0] != 'k' || n == 0 {
			t.Errorf("%q is said %d times in\n%s", part, n, said.String())
		}
	}
	if _, err := New(config(srv, userFilter("(|"+exact(17)+")")), nil, s.deps); err == nil || !strings.Contains(err.Error(), "sources.corp.users.filter: more than 16 clauses") {
		t.Errorf("17 clauses: %v", err)
	}
}

func exact(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "(cn:caseExactMatch:=%d)", i)
	}
	return b.String()
}
