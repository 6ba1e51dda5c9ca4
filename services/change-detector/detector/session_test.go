package detector

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/status"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// visible is a directory that answers Confirm with the entries that it holds.
type visible struct {
	entries map[ID]*ldapsource.Entry
	asked   []ID
	fails   error
}

func (v *visible) Watch(context.Context, ldapsource.Sink) error { return nil }

func (v *visible) Confirm(_ context.Context, absent, known []ID) ([]*ldapsource.Entry, error) {
	v.asked = append(v.asked, absent...)
	if v.fails != nil {
		return nil, v.fails
	}
	for _, id := range known {
		if v.entries[id] == nil {
			return nil, fmt.Errorf("%w: %s", ldapsource.ErrCanary, id)
		}
	}
	var there []*ldapsource.Entry
	for _, id := range absent {
		if e := v.entries[id]; e != nil {
			there = append(there, e)
		}
	}
	return there, nil
}

// Holders finds the groups that name an entry by its DN.
func (v *visible) Holders(_ context.Context, dns []string) ([]*ldapsource.Entry, error) {
	var groups []*ldapsource.Entry
	for _, e := range v.entries {
		if slices.ContainsFunc(e.Attributes, func(a *directoryv1.Attribute) bool {
			return a.GetName() == "member" && slices.ContainsFunc(a.GetValues(), func(value []byte) bool { return slices.Contains(dns, string(value)) })
		}) {
			groups = append(groups, e)
		}
	}
	return groups, v.fails
}

// CheckAttributes knows every attribute.
func (v *visible) CheckAttributes(context.Context) error { return v.fails }

var _ directory = (*visible)(nil)

// newSession is a session of source x on a bus of its own, which has published
// what the model holds.
func newSession(t *testing.T, r *rules, dir *model) (*session, *visible) {
	t.Helper()
	return newSessionOn(t, r, dir, bustest.Start(t))
}

func newSessionOn(t *testing.T, r *rules, dir *model, b *bus.Bus) (*session, *visible) {
	t.Helper()
	v := &visible{entries: map[ID]*ldapsource.Entry{}}
	for id, o := range dir.objects {
		v.entries[id] = dir.entry(o)
	}
	metrics, err := newMetrics("x")
	if err != nil {
		t.Fatal(err)
	}
	d := &detector{
		name: "x", owner: "test", generation: "generation", rules: r, directory: v, bus: b, metrics: metrics,
		log: slog.New(slog.DiscardHandler), limits: guard.Limits{MaxRemovals: 50, MaxRemovalPercent: 5, Window: 24 * time.Hour},
	}
	p, err := newPublisher(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	s := openSession(d, p, func() {})
	t.Cleanup(s.close)
	sweep(t, s, dir, func(int) bool { return true })
	return s, v
}

// sweep is a full read that sees some of the users, and the pass that follows.
func sweep(t *testing.T, s *session, dir *model, sees func(n int) bool) {
	t.Helper()
	s.Begin()
	dir.tell(s.Put, sees)
	s.Complete(ldapsource.Proof{Mode: ldapsource.ModeSnapshot})
	if err := s.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// last is the result of the last pass, as status shows it.
func last(t *testing.T, s *session) status.Pass {
	t.Helper()
	p, err := status.LastPass(t.Context(), s.bus, s.name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// on is how many members a group has on the stream, and how many users there are.
func on(t *testing.T, s *session, group ID) (members uint64, users int) {
	t.Helper()
	mem, err := remember(t.Context(), s.bus, s.name)
	if err != nil {
		t.Fatal(err)
	}
	return mem[directoryv1.Kind_KIND_GROUP][group].manifest.GetCount(), mem.present(directoryv1.Kind_KIND_USER)
}

func TestWhatIsNotProvedToBeGoneChangesNothing(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		hide   func(v *visible, dir *model) // from Confirm
		sees   func(n int) bool             // what the read finds
		held   int
		reason string
	}{
		{"there after all", func(*visible, *model) {}, func(n int) bool { return n > 2 }, 0, ""},
		{"too many", func(v *visible, _ *model) { hideUsers(v, 20) }, func(n int) bool { return n >= 20 }, 20, "max_removal_percent"},
		{"more than the limit are not asked for", func(v *visible, _ *model) { hideUsers(v, 60) }, func(n int) bool { return n >= 60 }, 60, "max_removals (50)"},
		{"canaries are hidden, too", func(v *visible, _ *model) { clear(v.entries) }, func(n int) bool { return n > 2 }, 3, "known entries are not visible"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, g := company(100)
			s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
			c.hide(v, dir)
			sweep(t, s, dir, c.sees)
			if members, users := on(t, s, g.id); members != 100 || users != 100 {
				t.Errorf("%d members, %d users on the stream, want 100 each", members, users)
			}
			if p := last(t, s); p.Held != c.held || p.Published != 0 || !strings.Contains(p.HeldReason, c.reason) {
				t.Errorf("%+v, want %d held because of %q, nothing published", p, c.held, c.reason)
			}
			sweep(t, s, dir, func(int) bool { return true })
			if p := last(t, s); p.Held != 0 || p.Published != 0 || p.HeldReason != "" || len(s.mirror.ghosts) != 0 {
				t.Errorf("after the cure %+v with %d ghosts", p, len(s.mirror.ghosts))
			}
		})
	}
}

func hideUsers(v *visible, n int) {
	for i := range n {
		delete(v.entries, makeID(i))
	}
}

func TestConfirmedRemovalsArePublishedWithTheirMembership(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	hideUsers(v, 3)
	sweep(t, s, dir, func(n int) bool { return n > 2 })
	if members, users := on(t, s, g.id); members != 97 || users != 97 || len(s.mirror.ghosts) != 0 {
		t.Errorf("%d members, %d users, %d ghosts, want 97, 97, 0", members, users, len(s.mirror.ghosts))
	}
	if p := last(t, s); p.Published != 4 || p.Held != 0 {
		t.Errorf("%+v, want 3 removals and their group published", p)
	}
}

// Each kind is below the limit, both together are over it: every one is asked for.
func TestConfirmCountsPerKind(t *testing.T) {
	t.Parallel()
	dir, _ := company(1000)
	for i := range 1000 {
		id := makeID(3000 + i)
		dir.objects[id] = &object{id: id, group: true, cn: fmt.Sprintf("g%d", i), dn: fmt.Sprintf("cn=g%d,%s", i, groupsBase), members: map[ID]bool{}}
	}
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	v.asked = nil
	for i := range 40 {
		s.Gone(makeID(i))
		s.Gone(makeID(3000 + i))
	}
	if err := s.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(v.asked) != 80 || len(s.mirror.ghosts) != 0 {
		t.Errorf("%d asked for, %d ghosts, want 80, which are all there", len(v.asked), len(s.mirror.ghosts))
	}
	if _, users := on(t, s, makeID(1000)); users != 1000 {
		t.Errorf("%d users, want 1000: those that passed had not been asked for", users)
	}
}

func TestNothingIsGoneWhereNothingIsVisible(t *testing.T) {
	t.Parallel()
	dir, _ := company(3)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	clear(v.entries)
	sweep(t, s, &model{}, nil)
	if p := last(t, s); p.Held != 4 || !strings.HasPrefix(p.HeldReason, "nothing else is visible either") {
		t.Errorf("%+v, want 4 held", p)
	}
}

func TestContainersAreCanaries(t *testing.T) {
	t.Parallel()
	dir, _ := company(3)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	clear(v.entries)
	container := &ldapsource.Entry{ID: makeID(5000), DN: people}
	v.entries[container.ID] = container
	s.Begin()
	s.Put(container)
	s.Complete(ldapsource.Proof{})
	if err := s.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The container proves that the account sees something. That no user at all is
	// left is held all the same, and whatever else the pass would remove.
	if p := last(t, s); p.Held != 4 || p.Users != 3 || p.Groups != 1 || !strings.HasPrefix(p.HeldReason, "no user is left in scope") {
		t.Errorf("%+v, want everything held", p)
	}
}

func TestVanishedScopeGroupHoldsItsMembers(t *testing.T) {
	t.Parallel()
	dir, g := company(4)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, []string{g.dn}, false), dir)
	delete(v.entries, g.id)
	delete(dir.objects, g.id)
	sweep(t, s, dir, func(int) bool { return true })
	p := last(t, s)
	if p.Held != 4 || p.Users != 4 || !strings.HasPrefix(p.HeldReason, "sources.x.users.scope_groups: "+g.dn) {
		t.Errorf("%+v, want 4 users held because of the scope group", p)
	}
	if strings.Contains(p.HeldReason, "uid=") {
		t.Errorf("the reason names members: %s", p.HeldReason)
	}
	g.id = makeID(1001)
	dir.objects[g.id], v.entries[g.id] = g, dir.entry(g)
	sweep(t, s, dir, func(int) bool { return true })
	if p := last(t, s); p.Held != 0 || p.Users != 4 {
		t.Errorf("the scope group is back: %+v", p)
	}
}

// A scope group counts though it is none of the groups that are published.
func TestScopeGroupOutsideTheGroupFilter(t *testing.T) {
	t.Parallel()
	r := testRules(t, connection.NestedFlatten, []string{"cn=roll,dc=x"}, false)
	m := newMirror(r)
	var st stream
	m.Put(ent(1, "uid=ann,"+people, "uid", "ann"))
	m.Put(ent(2, "cn=roll,dc=x", "objectclass", "groupOfMembers", "member", "uid=ann,"+people))
	st.settle(t, m)
	if len(st.changes) != 1 || st.changes[makeID(1)] == nil {
		t.Errorf("published %v, want ann", st.content())
	}
}

// More than the guard lets pass are reported gone at once: none of them passes
// unasked, neither the first few of a burst nor what a person's no leaves over.
func TestNothingPassesUnasked(t *testing.T) {
	t.Parallel()
	dir, g := company(900)
	s, _ := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	for n := range 60 {
		s.Gone(makeID(n))
	}
	settled(t, s)
	if members, users := on(t, s, g.id); members != 900 || users != 900 {
		t.Errorf("a burst: %d members, %d users, want 900 each", members, users)
	}
	sweep(t, s, dir, func(n int) bool { return n >= 60 })
	n := 0
	say(t, s, provisioningv1.Mark_MARK_REJECTED, func(held.Item) bool { n++; return n <= 20 })
	settled(t, s)
	if members, users := on(t, s, g.id); members != 900 || users != 900 {
		t.Errorf("some rejected: %d members, %d users, want 900 each", members, users)
	}
	if p := last(t, s); p.Held != 0 {
		t.Errorf("%+v, want nothing held: the others were asked for and are there", p)
	}
}
