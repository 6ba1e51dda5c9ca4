package detector

import (
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// crew is a group with the members that it names; one of them is never read.
func crew(members ...string) *ldapsource.Entry {
	pairs := []string{"cn", "staff", "objectclass", "groupOfNames", "member", "cn=admin,dc=elsewhere"}
	for _, m := range members {
		pairs = append(pairs, "member", m)
	}
	return ent(1, "cn=staff,dc=x", pairs...)
}

// members is how many members the group has on the stream, and in which version of it.
func members(t *testing.T, s *session) (count, sequence uint64) {
	t.Helper()
	mem, err := remember(t.Context(), s.bus, s.name)
	if err != nil {
		t.Fatal(err)
	}
	group := mem[directoryv1.Kind_KIND_GROUP][makeID(1)]
	return group.manifest.GetCount(), group.sequence
}

// Ann is renamed while the detectors change, and the new one reads her group before the
// server has written the name into it.
func TestTakeoverBetweenARenameAndItsGroups(t *testing.T) {
	t.Parallel()
	ann := func(uid string) *ldapsource.Entry { return ent(2, "uid="+uid+",dc=x", "uid", uid) }
	bob := ent(3, "uid=bob,dc=x", "uid", "bob")
	s, v := newSession(t, memberRules(t, connection.MemberDN, ""), &model{})
	readAll(t, s, []*ldapsource.Entry{crew("uid=ann,dc=x", "uid=bob,dc=x"), ann("ann"), bob})
	_, before := members(t, s)

	limits := s.limits
	s = successor(t, s)
	s.limits = limits
	for _, e := range []*ldapsource.Entry{crew("uid=ann,dc=x", "uid=bob,dc=x"), ann("anna"), bob} {
		v.entries[e.ID] = e
	}
	readAll(t, s, []*ldapsource.Entry{crew("uid=ann,dc=x", "uid=bob,dc=x"), ann("anna"), bob})
	if count, now := members(t, s); count != 2 || now != before {
		t.Fatalf("%d members in version %d, want 2 in version %d: nobody left", count, now, before)
	}
	// Later bob leaves, and the server has followed the rename.
	s.Put(crew("uid=anna,dc=x"))
	if err := s.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	if count, now := members(t, s); count != 1 || now == before {
		t.Errorf("%d members in version %d, want 1 in a new version", count, now)
	}
}

// Ann is renamed during a full read of a server whose pages are of different moments: she
// was read before, and her group after it.
func TestRenameBetweenTwoPagesOfAFullRead(t *testing.T) {
	t.Parallel()
	for name, scoped := range map[string][]string{"a group": nil, "a scope group": {"cn=staff,dc=x"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := memberRules(t, connection.MemberDN, "")
			r.users.scopeGroups = scoped
			ann, anna := ent(2, "uid=ann,dc=x", "uid", "ann"), ent(2, "uid=anna,dc=x", "uid", "anna")
			bob := ent(3, "uid=bob,dc=x", "uid", "bob")
			s, v := newSession(t, r, &model{})
			readAll(t, s, []*ldapsource.Entry{crew("uid=ann,dc=x", "uid=bob,dc=x"), ann, bob})
			_, before := members(t, s)
			for _, e := range []*ldapsource.Entry{crew("uid=anna,dc=x", "uid=bob,dc=x"), anna, bob} {
				v.entries[e.ID] = e
			}
			readAll(t, s, []*ldapsource.Entry{crew("uid=anna,dc=x", "uid=bob,dc=x"), ann, bob})
			if count, now := members(t, s); count != 2 || now != before {
				t.Errorf("%d members in version %d, want 2 in version %d: nobody left", count, now, before)
			}
			if _, users := on(t, s, makeID(1)); users != 2 {
				t.Errorf("%d users, want 2", users)
			}
			// Who really leaves does.
			readAll(t, s, []*ldapsource.Entry{crew("uid=anna,dc=x"), anna, bob})
			if count, _ := members(t, s); count != 1 {
				t.Errorf("%d members after one left, want 1", count)
			}
		})
	}
}
