package detector

import (
	"fmt"
	"log/slog"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// hundred is a directory in which membership is written in one of several ways:
// a hundred users in the group sub, which is in the group top.
func hundred(values string, joins bool) []*ldapsource.Entry {
	sub := ent(1001, "cn=sub,dc=x", "cn", "sub", "objectclass", "groupOfNames")
	all := []*ldapsource.Entry{sub}
	members := &directoryv1.Attribute{Name: "member"}
	for n := range 100 {
		dn, uid := fmt.Sprintf("cn=u%d,dc=x", n), fmt.Sprintf("u%d", n)
		u := ent(n, dn, "uid", uid)
		if joins {
			u = ent(n, dn, "uid", uid, "memberof", "cn=sub,dc=x")
		}
		all = append(all, u)
		members.Values = append(members.Values, []byte(map[string]string{
			connection.MemberDN: dn, connection.MemberID: makeID(n).String(), connection.MemberUID: uid,
		}[values]))
	}
	if !joins {
		sub.Attributes = append(sub.Attributes, members)
	}
	top := map[string]string{connection.MemberDN: "cn=sub,dc=x", connection.MemberID: makeID(1001).String(), connection.MemberUID: "u1"}[values]
	return append(all, ent(1002, "cn=top,dc=x", "cn", "top", "objectclass", "groupOfNames", "member", top))
}

// A detector that starts while entries are hidden publishes nothing of them, nor
// of the groups that they are in; nor when they are visible again.
func TestNewDetectorKeepsTheEdgesOfHiddenEntries(t *testing.T) {
	t.Parallel()
	someUsers := func(e *ldapsource.Entry) bool { return e.ID.String() > makeID(40).String() }
	theGroup := func(e *ldapsource.Entry) bool { return e.ID != makeID(1001) }
	cases := []struct {
		name   string
		values string
		joins  bool
		set    []string
		sees   func(*ldapsource.Entry) bool
	}{
		{"users by DN", connection.MemberDN, false, []string{"uid", "cn"}, someUsers},
		{"users by id", connection.MemberID, false, []string{"uid", "cn"}, someUsers},
		{"users by uid", connection.MemberUID, false, []string{"uid", "cn"}, someUsers},
		{"users by uid, which is not published", connection.MemberUID, false, []string{"cn"}, someUsers},
		{"users that name their groups", connection.MemberDN, true, []string{"uid", "cn"}, someUsers},
		{"a nested group by DN", connection.MemberDN, false, []string{"cn"}, theGroup},
		{"a nested group by id", connection.MemberID, false, []string{"cn"}, theGroup},
		{"a group that users name", connection.MemberDN, true, []string{"cn"}, theGroup},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			memberOf := ""
			if c.joins {
				memberOf = "memberOf"
			}
			r := memberRules(t, c.values, memberOf)
			r.set, r.usesGroups = mapping.NewSet(c.set), false
			s, _ := newSession(t, r, &model{})
			all := hundred(c.values, c.joins)
			readAll(t, s, all)
			before := s.publisher.memory

			s = successor(t, s)
			var seen []*ldapsource.Entry
			for _, e := range all {
				if c.sees(e) {
					seen = append(seen, e)
				}
			}
			for range 2 {
				readAll(t, s, seen)
				checkUnchanged(t, s, before, len(all)-len(seen))
			}
			readAll(t, s, all)
			checkUnchanged(t, s, before, 0)
			if len(s.mirror.ghosts) != 0 {
				t.Errorf("%d ghosts are left", len(s.mirror.ghosts))
			}
		})
	}
}

// successor is the session of a detector that takes over and lets no removal pass.
func successor(t *testing.T, s *session) *session {
	t.Helper()
	d := *s.detector
	d.limits.MaxRemovals, d.log = 0, slog.New(slog.DiscardHandler)
	p, err := newPublisher(t.Context(), &d)
	if err != nil {
		t.Fatal(err)
	}
	next := openSession(&d, p, func() {})
	t.Cleanup(next.close)
	return next
}

func checkUnchanged(t *testing.T, s *session, before memory, held int) {
	t.Helper()
	after, err := remember(t.Context(), s.bus, s.name)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		show := func(m memory) map[string]string {
			out := map[string]string{}
			for id, p := range m[kind] {
				out[id.String()] = fmt.Sprint(p.sequence, " ", p.manifest.GetCount())
			}
			return out
		}
		if diff := gocmp.Diff(show(before), show(after)); diff != "" {
			t.Errorf("%s on the stream: -before +after\n%s", kind.Token(), diff)
		}
	}
	if len(s.held) != held {
		t.Errorf("%d held, want %d", len(s.held), held)
	}
}

func readAll(t *testing.T, s *session, entries []*ldapsource.Entry) {
	t.Helper()
	s.Begin()
	for _, e := range entries {
		s.Put(e)
	}
	s.Complete(ldapsource.Proof{})
	if err := s.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
}
