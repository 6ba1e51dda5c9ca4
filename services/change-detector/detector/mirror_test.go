package detector

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

const (
	people     = "ou=people,dc=x"
	groupsBase = "ou=groups,dc=x"
)

// testRules are the rules of a source with these settings.
func testRules(tb testing.TB, nested string, scopeGroups []string, usesGroups bool) *rules {
	tb.Helper()
	enabled, err := mapping.CompileBool(directoryv1.Kind_KIND_USER, `!("left" in user.all.employeeType)`)
	if err != nil {
		tb.Fatal(err)
	}
	names := []string{"uid", "cn", "employeetype"}
	if usesGroups {
		names = append(names, mapping.GroupsMarker)
	}
	source := &connection.Source{
		Users:  connection.UserSource{BaseDNs: []string{people}, Filter: "(uid=*)", ScopeGroups: scopeGroups, Nested: true, Exclude: []string{"ou=robots," + people}},
		Groups: connection.GroupSource{BaseDNs: []string{groupsBase}, Filter: "(objectClass=groupOfNames)", Members: "member", MemberValues: connection.MemberDN, Nested: nested},
	}
	r, err := newRules(source, enabled, mapping.NewSet(names), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func makeID(n int) ID {
	var id ID
	copy(id[:], fmt.Sprintf("%016d", n))
	return id
}

// object is an entry of the model directory.
type object struct {
	id      ID
	dn      string
	uid, cn string
	left    bool
	group   bool
	members map[ID]bool
}

// model is a directory that cleans references up in silence, as real ones do.
type model struct{ objects map[ID]*object }

func (m *model) entry(o *object) *ldapsource.Entry {
	e := &ldapsource.Entry{ID: o.id, DN: o.dn}
	set := func(name string, values ...string) {
		if len(values) == 0 {
			return
		}
		a := &directoryv1.Attribute{Name: name}
		for _, v := range values {
			a.Values = append(a.Values, []byte(v))
		}
		e.Attributes = append(e.Attributes, a)
	}
	set("cn", o.cn)
	if o.left {
		set("employeetype", "left")
	}
	if o.group {
		var members []string
		for id := range o.members {
			if target := m.objects[id]; target != nil {
				members = append(members, target.dn)
			}
		}
		slices.Sort(members)
		set("member", members...)
		set("objectclass", "groupOfNames")
	} else {
		set("uid", o.uid)
	}
	return e
}

// desired is what a fresh full read publishes.
func (m *model) desired(tb testing.TB, r *rules) map[string]string {
	tb.Helper()
	fresh := newMirror(r)
	fresh.Begin()
	for _, o := range m.objects {
		fresh.Put(m.entry(o))
	}
	fresh.Complete()
	var s stream
	s.settle(tb, fresh)
	return s.content()
}

// stream is what was published, and the state of the session that publishes.
type stream struct {
	mem     memory
	changes map[ID]*directoryv1.Change
	scope   closures
}

// settle does what a session does, without the network.
func (st *stream) settle(tb testing.TB, m *mirror) {
	tb.Helper()
	if st.mem == nil {
		st.mem = memory{directoryv1.Kind_KIND_USER: {}, directoryv1.Kind_KIND_GROUP: {}}
		st.changes = map[ID]*directoryv1.Change{}
	}
	s := &session{mirror: m, scope: st.scope}
	ids := s.affected(m.full)
	st.scope = s.scope
	p, err := diff(m, st.mem, ids, s.scope)
	if err != nil {
		tb.Fatal(err)
	}
	for _, pub := range append(p.upserts, p.removals...) {
		id := ID(pub.change.GetEntryId())
		st.changes[id] = pub.change
		st.mem[pub.change.GetKind()][id] = &published{hash: pub.hash, present: !pub.removal(), manifest: pub.change.GetGroup().GetMembers()}
	}
	m.full = false
	clear(m.dirty)
}

// content is what is published as present, readable. How many chunks a group has
// depends on its history.
func (st *stream) content() map[string]string {
	out := map[string]string{}
	for id, change := range st.changes {
		if change.GetOp() != directoryv1.Op_OP_PRESENT {
			continue
		}
		shown := proto.CloneOf(change)
		if m := shown.GetGroup().GetMembers(); m.GetCount() == 0 && m != nil {
			m.ChunkCount, m.ChunkHashes = 0, nil
		}
		out[change.GetKind().Token()+" "+id.String()] = shown.String()
	}
	return out
}

// TestIncrementalEqualsFresh plays random histories, reported as a server reports
// them, and compares what was published step by step with what a fresh read of
// the same directory publishes.
func TestIncrementalEqualsFresh(t *testing.T) {
	t.Parallel()
	for _, nested := range []string{nestedPreserve, connection.NestedFlatten, nestedIgnore} {
		for _, scoped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s scoped=%v", nested, scoped), func(t *testing.T) {
				t.Parallel()
				for range 5 {
					seed := rand.Uint64()
					if !history(t, seed, nested, scoped) {
						t.Fatalf("seed %d", seed)
					}
				}
			})
		}
	}
}

func history(t *testing.T, seed uint64, nested string, scoped bool) bool {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	var scope []string
	if scoped {
		scope = []string{"cn=g0," + groupsBase}
	}
	r := testRules(t, nested, scope, random.IntN(2) == 0)
	dir := &model{objects: map[ID]*object{}}
	live := newMirror(r)
	live.Begin()
	live.Complete()
	var published stream
	published.settle(t, live)
	next := 0
	for step := range 80 {
		for range 1 + random.IntN(3) {
			what := dir.step(random, live, &next)
			if what != "" {
				t.Logf("seed %d step %d: %s", seed, step, what)
			}
		}
		for id := range live.reread {
			if o := dir.objects[id]; o != nil {
				live.Put(dir.entry(o))
			}
		}
		clear(live.reread)
		published.settle(t, live)
		if diff := gocmp.Diff(dir.desired(t, r), published.content()); diff != "" {
			t.Errorf("seed %d, step %d: -fresh +incremental\n%s", seed, step, diff)
			return false
		}
	}
	return true
}

// step changes the directory and reports to the mirror what a server reports.
func (m *model) step(random *rand.Rand, live *mirror, next *int) string {
	ids := slices.SortedFunc(maps.Keys(m.objects), func(a, b ID) int { return cmp.Compare(a.String(), b.String()) })
	pick := func(group bool) *object {
		var some []*object
		for _, id := range ids {
			if m.objects[id].group == group {
				some = append(some, m.objects[id])
			}
		}
		if len(some) == 0 {
			return nil
		}
		return some[random.IntN(len(some))]
	}
	report := func(o *object) { live.Put(m.entry(o)) }
	switch random.IntN(9) {
	case 0, 1:
		o := &object{id: makeID(*next), uid: fmt.Sprintf("u%d", *next), dn: fmt.Sprintf("uid=u%d,%s", random.IntN(12), people)}
		*next++
		for _, other := range m.objects {
			if other.dn == o.dn {
				return ""
			}
		}
		m.objects[o.id] = o
		report(o)
		return "hire " + o.dn
	case 2:
		o := &object{id: makeID(*next), group: true, cn: fmt.Sprintf("g%d", *next), members: map[ID]bool{}, dn: fmt.Sprintf("cn=g%d,%s", random.IntN(5), groupsBase)}
		*next++
		for _, other := range m.objects {
			if other.dn == o.dn {
				return ""
			}
		}
		m.objects[o.id] = o
		report(o)
		return "found " + o.dn
	case 3, 4:
		g, o := pick(true), pick(random.IntN(4) == 0)
		if g == nil || o == nil {
			return ""
		}
		if g.members[o.id] {
			delete(g.members, o.id)
		} else {
			g.members[o.id] = true
		}
		report(g)
		return fmt.Sprintf("toggle %s in %s", o.dn, g.dn)
	case 5:
		o := pick(false)
		if o == nil {
			return ""
		}
		o.left = !o.left
		report(o)
		return "toggle left " + o.dn
	case 6:
		o := pick(random.IntN(3) == 0)
		if o == nil {
			return ""
		}
		parent := people
		rdn := fmt.Sprintf("uid=r%d", random.IntN(50))
		if o.group {
			parent, rdn = groupsBase, fmt.Sprintf("cn=h%d", random.IntN(20))
		}
		if random.IntN(4) == 0 && !o.group {
			parent = []string{"ou=robots," + people, "ou=away,dc=x"}[random.IntN(2)]
		}
		dn := rdn + "," + parent
		for _, other := range m.objects {
			if other.dn == dn {
				return ""
			}
		}
		from := o.dn
		o.dn = dn
		report(o)
		return "rename " + from + " to " + dn
	case 7:
		o := pick(random.IntN(3) == 0)
		if o == nil {
			return ""
		}
		delete(m.objects, o.id)
		for _, g := range m.objects {
			delete(g.members, o.id)
		}
		live.Gone(o.id)
		return "delete " + o.dn
	default:
		live.Begin()
		for _, id := range ids {
			report(m.objects[id])
		}
		live.Complete()
		return "sweep"
	}
}

func TestContainerRenameTakesItsPeopleAlong(t *testing.T) {
	t.Parallel()
	r := testRules(t, connection.NestedFlatten, nil, false)
	m := newMirror(r)
	put := func(n int, dn string, attributes ...*directoryv1.Attribute) {
		m.Put(&ldapsource.Entry{ID: makeID(n), DN: dn, Attributes: attributes})
	}
	put(1, "ou=East,"+people)
	put(2, "uid=ann,ou=East,"+people, &directoryv1.Attribute{Name: "uid", Values: [][]byte{[]byte("ann")}})
	put(3, "cn=staff,"+groupsBase, &directoryv1.Attribute{Name: "member", Values: [][]byte{[]byte("UID=Ann, OU=east, " + people)}},
		&directoryv1.Attribute{Name: "objectclass", Values: [][]byte{[]byte("groupOfNames")}})
	put(1, "ou=Orient,"+people)
	ann := m.entries[makeID(2)]
	if ann.dn != "uid=ann,ou=Orient,"+people || ann.name != "uid=ann,ou=orient,"+people {
		t.Errorf("ann is at %q (%q)", ann.dn, ann.name)
	}
	members := m.membersOf(m.entries[makeID(3)])
	if len(members) != 1 || members[0].id != makeID(2) {
		t.Errorf("members %v, want ann", members)
	}
	if _, ok := m.dirty[makeID(2)]; !ok {
		t.Error("ann is not looked at again")
	}
}

func TestPackSpreadsAndGrows(t *testing.T) {
	t.Parallel()
	cases := []struct {
		members, atLeast, want int
	}{{0, 0, 0}, {0, 4, 4}, {1, 0, 1}, {2048, 0, 1}, {2049, 0, 2}, {2049, 8, 8}, {100_000, 0, 64}, {2_000_000, 0, 512}}
	for _, c := range cases {
		members := make([]member, c.members)
		for i := range members {
			members[i] = member{makeID(i), directoryv1.Kind_KIND_USER}
		}
		chunks := pack(members, c.atLeast)
		if len(chunks) != c.want {
			t.Errorf("%d members, %d chunks before: %d chunks, want %d", c.members, c.atLeast, len(chunks), c.want)
		}
		if got := manifest(chunks).GetCount(); got != uint64(c.members) {
			t.Errorf("manifest counts %d of %d members", got, c.members)
		}
	}
}

func TestOlderStateIsIgnored(t *testing.T) {
	t.Parallel()
	m := newMirror(testRules(t, connection.NestedFlatten, nil, false))
	put := func(version, uid string) {
		m.Put(&ldapsource.Entry{
			ID: makeID(1), DN: "uid=x," + people, Version: version,
			Attributes: []*directoryv1.Attribute{{Name: "uid", Values: [][]byte{[]byte(uid)}}},
		})
	}
	put("20261123120000.000002Z", "new")
	put("20261123120000.000001Z", "old")
	attributes, err := m.entries[makeID(1)].attributes()
	if err != nil || string(attributes[0].GetValues()[0]) != "new" {
		t.Errorf("got %v, %v", attributes, err)
	}
}

func BenchmarkDigestAndDiff(b *testing.B) {
	r := testRules(b, connection.NestedFlatten, nil, false)
	dir := &model{objects: map[ID]*object{}}
	entries := make([]*ldapsource.Entry, 10_000)
	for i := range entries {
		o := &object{id: makeID(i), uid: fmt.Sprintf("u%d", i), dn: fmt.Sprintf("uid=u%d,%s", i, people)}
		entries[i] = dir.entry(o)
	}
	for b.Loop() {
		m := newMirror(r)
		m.Begin()
		for _, e := range entries {
			m.Put(e)
		}
		m.Complete()
		new(stream).settle(b, m)
	}
}
