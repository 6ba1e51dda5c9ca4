package detector

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// object is an entry of the model directory.
type object struct {
	id      ID
	dn      string
	uid, cn string
	left    bool
	group   bool
	members map[ID]bool     // by DN
	values  map[string]bool // by id or uid, as they were written
	joined  map[ID]bool     // groups that a user names on its own side
	number  int             // end of the security identifier
	primary int             // that of the primary group, which may not be there
}

// model is a directory that cleans DNs up in silence, as real ones do; ids and
// uids it leaves as they were written.
type model struct {
	objects map[ID]*object
	values  string // member_values; empty for DNs
	joins   bool   // member_of
	primary bool   // users have a primary group
}

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
	names := func(ids map[ID]bool) (dns []string) {
		for id := range ids {
			if target := m.objects[id]; target != nil {
				dns = append(dns, target.dn)
			}
		}
		slices.Sort(dns)
		return dns
	}
	set("cn", o.cn)
	if o.left {
		set("employeetype", "left")
	}
	if m.primary {
		set("objectsid", sidOf(o.number))
		set("primarygroupid", strconv.Itoa(o.primary))
	}
	if o.group {
		set("member", append(names(o.members), slices.Sorted(maps.Keys(o.values))...)...)
		set("objectclass", "groupOfNames")
	} else {
		set("uid", o.uid)
		set("memberof", names(o.joined)...)
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
	derived
	mem     memory
	changes map[ID]*directoryv1.Change
}

// settle does what a session does, without the network.
func (st *stream) settle(tb testing.TB, m *mirror) {
	tb.Helper()
	st.settleIf(tb, m, func(*publication) bool { return true })
}

// settleIf is settle with a guard: it holds the removals that may not pass.
func (st *stream) settleIf(tb testing.TB, m *mirror, may func(*publication) bool) {
	tb.Helper()
	if st.mem == nil {
		st.mem = memory{directoryv1.Kind_KIND_USER: {}, directoryv1.Kind_KIND_GROUP: {}}
		st.changes = map[ID]*directoryv1.Change{}
	}
	flow := func(pub *publication) error {
		st.take(pub)
		return nil
	}
	err := settle(m, &st.derived, st.mem, flow, func(p *pass) error {
		st.held = map[ID]struct{}{}
		for _, pub := range append(p.upserts, p.removals...) {
			id := ID(pub.change.GetEntryId())
			if pub.removal() && !may(pub) {
				st.held[id] = struct{}{}
				continue
			}
			st.take(pub)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// take remembers a publication as the stream does.
func (st *stream) take(pub *publication) {
	id := ID(pub.change.GetEntryId())
	st.changes[id] = pub.change
	st.mem[pub.change.GetKind()][id] = &published{hash: pub.hash, present: !pub.removal(), manifest: pub.change.GetGroup().GetMembers()}
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

// story is what a random history is about.
type story struct {
	nested  string
	scoped  bool
	values  string // member_values; empty for DNs
	joins   bool   // member_of
	holding bool   // removals wait now and then
	primary bool   // users have a primary group
	filter  string // of users; empty for every one
}

// filtersOfStories name no groups, or some, in every place.
var filtersOfStories = []string{
	"(uid=*)",
	"(&(uid=*)(memberOf=cn=g0," + groupsBase + "))",
	"(&(uid=*)(!(memberOf:1.2.840.113556.1.4.1941:=cn=g1," + groupsBase + ")))",
	"(&(uid=*)(|(memberOf:1.2.840.113556.1.4.1941:=cn=g0," + groupsBase + ")(memberOf=cn=g2," + groupsBase + ")(employeeType=left)))",
}

// TestIncrementalEqualsFresh plays random histories, reported as a server reports
// them, and compares what was published step by step with what a fresh read of
// the same directory publishes.
func TestIncrementalEqualsFresh(t *testing.T) {
	t.Parallel()
	for _, nested := range []string{nestedPreserve, connection.NestedFlatten, nestedIgnore} {
		for _, values := range []string{"", membersByID, membersByUID} {
			for n := range 16 {
				what := story{nested: nested, values: values, scoped: n&1 > 0, joins: n&2 > 0, holding: n&4 > 0, primary: n&8 > 0}
				what.filter = filtersOfStories[rand.IntN(len(filtersOfStories))]
				t.Run(fmt.Sprintf("%+v", what), func(t *testing.T) {
					t.Parallel()
					for range 2 { // with 144 stories: many seeds in each run
						seed := rand.Uint64()
						if !history(t, seed, what) {
							t.Fatalf("seed %d", seed)
						}
					}
				})
			}
		}
	}
}

func (w story) rules(t *testing.T, random *rand.Rand) *rules {
	t.Helper()
	var scope []string
	if w.scoped {
		scope = []string{"cn=g0," + groupsBase}
	}
	r := testRules(t, w.nested, scope, random.IntN(2) == 0)
	if w.values != "" {
		r.memberValues = w.values
	}
	if w.joins {
		r.memberOfName = "memberof"
	}
	if w.primary {
		r.primaryGroup = "primarygroupid"
	}
	if err := r.users.filterBy("users", cmp.Or(w.filter, "(uid=*)"), ""); err != nil {
		t.Fatal(err)
	}
	return r
}

func history(t *testing.T, seed uint64, what story) bool {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	r := what.rules(t, random)
	dir := &model{objects: map[ID]*object{}, values: what.values, joins: what.joins, primary: what.primary}
	live := newMirror(r)
	live.Begin()
	live.Complete()
	var published stream
	published.settle(t, live)
	next := 0
	var told []string
	for step := range 60 {
		for range 1 + random.IntN(3) {
			told = append(told, fmt.Sprintf("step %d: %s", step, dir.step(random, live, &next)))
		}
		for id := range live.reread {
			if o := dir.objects[id]; o != nil {
				live.Put(dir.entry(o))
			}
		}
		clear(live.reread)
		if shared := (&entry{extra: &nothing}); !shared.same(&entry{extra: new(extra)}) {
			t.Fatalf("seed %d: the extra that entries share was changed: %+v", seed, nothing)
		}
		if what.holding && random.IntN(3) > 0 {
			published.settleIf(t, live, func(*publication) bool { return random.IntN(2) == 0 })
			continue
		}
		published.settle(t, live)
		if diff := gocmp.Diff(dir.desired(t, r), published.content()); diff != "" || len(live.ghosts) > 0 {
			t.Errorf("seed %d, %+v\n%s\n%d ghosts, -fresh +incremental\n%s", seed, what, strings.Join(told, "\n"), len(live.ghosts), diff)
			return false
		}
	}
	return true
}

// step changes the directory and reports to the mirror what a server reports.
func (m *model) step(random *rand.Rand, live *mirror, next *int) string {
	switch random.IntN(12) {
	case 0, 1:
		n := *next
		*next++
		return m.add(live, &object{id: makeID(n), number: n, primary: random.IntN(n + 1), uid: fmt.Sprintf("u%d", n), joined: map[ID]bool{}, dn: fmt.Sprintf("uid=u%d,%s", random.IntN(12), people)})
	case 2:
		n := *next
		*next++
		return m.add(live, &object{
			id: makeID(n), number: n, group: true, cn: fmt.Sprintf("g%d", n), members: map[ID]bool{}, values: map[string]bool{},
			dn: fmt.Sprintf("cn=g%d,%s", random.IntN(5), groupsBase),
		})
	case 3, 4:
		return m.toggleMember(live, m.pick(random, true), m.pick(random, random.IntN(4) == 0))
	case 5:
		return m.toggleLeft(live, m.pick(random, false))
	case 6:
		return m.rename(random, live, m.pick(random, random.IntN(3) == 0))
	case 7:
		return m.remove(live, m.pick(random, random.IntN(3) == 0))
	case 8:
		return m.toggleJoined(live, m.pick(random, true), m.pick(random, false))
	case 9:
		return m.changeUID(live, m.pick(random, false), fmt.Sprintf("u%d", random.IntN(*next+1)))
	case 10:
		return m.changePrimary(live, m.pick(random, false), random.IntN(*next+1))
	default:
		live.Begin()
		for _, id := range m.ids() {
			live.Put(m.entry(m.objects[id]))
		}
		live.Complete()
		return "sweep"
	}
}

func (m *model) ids() []ID {
	return slices.SortedFunc(maps.Keys(m.objects), func(a, b ID) int { return cmp.Compare(a.String(), b.String()) })
}

// pick is some user or some group; nil when there is none.
func (m *model) pick(random *rand.Rand, group bool) *object {
	var some []*object
	for _, id := range m.ids() {
		if m.objects[id].group == group {
			some = append(some, m.objects[id])
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[random.IntN(len(some))]
}

// taken says whether an entry has the DN or the uid.
func (m *model) taken(dn, uid string) bool {
	for _, o := range m.objects {
		if o.dn == dn || uid != "" && o.uid == uid {
			return true
		}
	}
	return false
}

func (m *model) add(live *mirror, o *object) string {
	if m.taken(o.dn, o.uid) {
		return ""
	}
	m.objects[o.id] = o
	live.Put(m.entry(o))
	return "add " + o.dn
}

func (m *model) toggleMember(live *mirror, g, o *object) string {
	if g == nil || o == nil {
		return ""
	}
	switch m.values {
	case membersByID:
		toggle(g.values, o.id.String())
	case membersByUID:
		toggle(g.values, cmp.Or(o.uid, "nobody"))
	default:
		toggle(g.members, o.id)
	}
	live.Put(m.entry(g))
	return fmt.Sprintf("toggle %s in %s", o.dn, g.dn)
}

func (m *model) toggleLeft(live *mirror, o *object) string {
	if o == nil {
		return ""
	}
	o.left = !o.left
	live.Put(m.entry(o))
	return "toggle left " + o.dn
}

func (m *model) rename(random *rand.Rand, live *mirror, o *object) string {
	if o == nil {
		return ""
	}
	dn := fmt.Sprintf("uid=r%d,%s", random.IntN(50), people)
	switch {
	case o.group:
		dn = fmt.Sprintf("cn=h%d,%s", random.IntN(20), groupsBase)
	case random.IntN(4) == 0:
		dn = fmt.Sprintf("uid=r%d,%s", random.IntN(50), []string{"ou=robots," + people, "ou=away,dc=x"}[random.IntN(2)])
	}
	if m.taken(dn, "") {
		return ""
	}
	from := o.dn
	o.dn = dn
	live.Put(m.entry(o))
	return "rename " + from + " to " + dn
}

func (m *model) remove(live *mirror, o *object) string {
	if o == nil {
		return ""
	}
	delete(m.objects, o.id)
	for _, other := range m.objects {
		delete(other.members, o.id)
		delete(other.joined, o.id)
	}
	live.Gone(o.id)
	return "delete " + o.dn
}
