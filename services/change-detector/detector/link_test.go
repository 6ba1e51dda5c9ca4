package detector

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

func person(n int) *ldapsource.Entry {
	uid := fmt.Sprintf("u%d", n)
	return ent(n, "uid="+uid+",dc=x", "uid", uid)
}

func team(members ...int) *ldapsource.Entry {
	pairs := []string{"cn", "team", "objectclass", "groupOfNames"}
	for _, n := range members {
		pairs = append(pairs, "member", person(n).DN)
	}
	return ent(100, "cn=team,dc=x", pairs...)
}

func TestLink(t *testing.T) {
	t.Parallel()
	id := makeID(100)
	for _, test := range []struct {
		name           string
		added, removed []string
		want           []string
		reread         bool
	}{
		{"join", []string{"UID=u3, DC=x"}, nil, []string{"uid=u1,dc=x", "uid=u2,dc=x", "uid=u3,dc=x"}, false},
		{"leave", nil, []string{"UID=U1,DC=X"}, []string{"uid=u2,dc=x"}, false},
		{"both", []string{"uid=u3,dc=x"}, []string{"uid=u1,dc=x"}, []string{"uid=u2,dc=x", "uid=u3,dc=x"}, false},
		{"join again", []string{"uid=u1,dc=x", "uid=u1,dc=x"}, nil, []string{"uid=u1,dc=x", "uid=u2,dc=x"}, false},
		{"everybody leaves", nil, []string{"uid=u1,dc=x", "uid=u2,dc=x"}, nil, false},
		{"who is not there", []string{"uid=ghost,dc=y"}, nil, []string{"uid=ghost,dc=y", "uid=u1,dc=x", "uid=u2,dc=x"}, false},
		{"leaves under another name", nil, []string{"uid=u9,dc=x"}, []string{"uid=u1,dc=x", "uid=u2,dc=x"}, true},
		{"no name", []string{"nobody"}, nil, []string{"uid=u1,dc=x", "uid=u2,dc=x"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(memberRules(t, connection.MemberDN, ""))
			for n := range 5 {
				m.Put(person(n))
			}
			m.Put(team(1, 2))
			clear(m.dirty)
			before := slices.Clone(m.entries[id].members)
			m.Link(id, test.added, test.removed)
			got := slices.Sorted(slices.Values(m.entries[id].members))
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
			_, dirty := m.dirty[id]
			_, reread := m.reread[id]
			if changed := !slices.Equal(before, m.entries[id].members); dirty != changed || reread != test.reread {
				t.Errorf("looked at again: %t, want %t; to be read: %t, want %t", dirty, changed, reread, test.reread)
			}
			for _, key := range []string{"uid=u1,dc=x", "uid=u2,dc=x", "uid=u3,dc=x"} {
				if holds := slices.Contains(slices.Collect(m.holders[key].all()), id); holds != slices.Contains(test.want, key) {
					t.Errorf("%s is held: %t", key, holds)
				}
			}
		})
	}
}

// What is no known group is read, and nothing is made up.
func TestLink_unknownGroup(t *testing.T) {
	t.Parallel()
	m := newMirror(memberRules(t, connection.MemberDN, ""))
	m.Put(person(1))
	clear(m.dirty)
	for _, n := range []int{1, 100} {
		m.Link(makeID(n), []string{"uid=u2,dc=x"}, nil)
		if _, reread := m.reread[makeID(n)]; !reread || len(m.dirty) > 0 || len(m.entries) != 1 {
			t.Errorf("%d: to be read %t, looked at %v", n, reread, m.dirty)
		}
	}
}

// Of a random history it makes no difference whether a group is told by its links or
// as a whole.
func TestLink_isWhatPutSays(t *testing.T) {
	t.Parallel()
	const n = 12
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	linked, put := newMirror(memberRules(t, connection.MemberDN, "")), newMirror(memberRules(t, connection.MemberDN, ""))
	var a, b stream
	both := func(e *ldapsource.Entry) {
		linked.Put(e)
		put.Put(e)
	}
	names := make([]string, n)
	for i := range n {
		both(person(i))
		names[i] = person(i).DN
	}
	group := func(members map[int]bool) *ldapsource.Entry {
		e := team()
		for i := range n {
			if members[i] {
				e = ent(100, e.DN, append(pairs(e), "member", names[i])...)
			}
		}
		return e
	}
	members := map[int]bool{}
	both(group(members))
	for step := range 300 {
		i := random.IntN(n)
		if random.IntN(4) == 0 { // renamed: the server follows in silence
			names[i] = fmt.Sprintf("uid=r%d,dc=x", step) // a name that somebody had makes it read the group again
			both(ent(i, names[i], "uid", fmt.Sprintf("u%d", i)))
		}
		if members[i] = !members[i]; members[i] {
			linked.Link(makeID(100), []string{names[i]}, nil)
		} else {
			linked.Link(makeID(100), nil, []string{names[i]})
		}
		put.Put(group(members))
		a.settle(t, linked)
		b.settle(t, put)
		if len(linked.reread) > 0 {
			t.Fatal("the group is to be read, though every name was told")
		}
	}
	if diff := gocmp.Diff(b.changes, a.changes, protocmp.Transform()); diff != "" {
		t.Errorf("(-put +link):\n%s", diff)
	}
}

// pairs are an entry's attributes as ent takes them.
func pairs(e *ldapsource.Entry) []string {
	var out []string
	for _, a := range e.Attributes {
		for _, v := range a.GetValues() {
			out = append(out, a.GetName(), string(v))
		}
	}
	return out
}
