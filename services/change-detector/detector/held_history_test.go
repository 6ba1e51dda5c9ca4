package detector

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// TestHeldHistoriesConverge plays random histories against a guard that holds
// nearly everything, with reads that hide some entries and some members, and with
// detectors that take over. When the directory is whole again and everything that
// is held was approved, the streams hold what a fresh read publishes, and nothing
// is published any more.
func TestHeldHistoriesConverge(t *testing.T) {
	t.Parallel()
	for n := range 8 {
		what := story{
			nested: []string{connection.NestedFlatten, nestedPreserve, nestedIgnore}[n%3],
			scoped: n&1 > 0, joins: n&2 > 0,
		}
		t.Run(fmt.Sprintf("%d/%+v", n, what), func(t *testing.T) {
			t.Parallel()
			heldHistory(t, rand.Uint64(), what)
		})
	}
}

func heldHistory(t *testing.T, seed uint64, what story) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	r := what.rules(t, random)
	dir := &model{objects: map[ID]*object{}, joins: what.joins}
	s, v := newSession(t, r, dir)
	s.limits.MaxRemovals, s.pace = 2, pace{}
	attend(t, s)
	next := 0
	var told []string
	for step := range 60 {
		for range 1 + random.IntN(3) {
			told = append(told, fmt.Sprintf("step %d: %s", step, dir.step(random, s.mirror, &next)))
		}
		show(v, dir, func(*object) bool { return true })
		switch random.IntN(6) {
		case 0:
			hidden := random.IntN(3)
			sees := func(o *object) bool { return int(o.id[15])%3 != hidden }
			show(v, dir, sees)
			readShown(t, s, v)
			told = append(told, fmt.Sprintf("step %d: a third is hidden", step))
		case 1:
			limits := s.limits
			s = successor(t, s)
			s.limits, s.pace = limits, pace{}
			attend(t, s)
			readShown(t, s, v)
			told = append(told, fmt.Sprintf("step %d: a detector takes over", step))
		default:
			settled(t, s)
		}
	}
	show(v, dir, func(*object) bool { return true })
	for range 20 {
		readShown(t, s, v)
		if len(heldItems(t, s)) == 0 {
			break
		}
		say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
		settled(t, s)
	}
	if diff := gocmp.Diff(dir.desired(t, r), onStreams(t, s)); diff != "" || len(heldItems(t, s)) > 0 {
		t.Fatalf("seed %d\n%s\n%d held, -fresh +streams\n%s", seed, strings.Join(told, "\n"), len(heldItems(t, s)), diff)
	}
	before := sequences(t, s)
	readShown(t, s, v)
	s = successor(t, s)
	readShown(t, s, v)
	if diff := gocmp.Diff(before, sequences(t, s)); diff != "" {
		t.Errorf("seed %d: published though nothing changed: %s", seed, diff)
	}
}

// show makes the directory show some of its entries.
func show(v *visible, dir *model, sees func(*object) bool) {
	clear(v.entries)
	for id, o := range dir.objects {
		if sees(o) {
			v.entries[id] = dir.entry(o)
		}
	}
}

func readShown(t *testing.T, s *session, v *visible) {
	t.Helper()
	s.Begin()
	for _, e := range v.entries {
		s.Put(e)
	}
	s.Complete(ldapsource.Proof{})
	settled(t, s)
}

// onStreams is what the streams hold as present, as stream.content shows it.
func onStreams(t *testing.T, s *session) map[string]string {
	t.Helper()
	st := stream{changes: map[ID]*directoryv1.Change{}}
	for _, kind := range kinds {
		opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(kind, s.name)}}
		err := s.bus.Read(t.Context(), kind.Stream(), opts, func(stored *bus.Stored) error {
			var c directoryv1.Change
			if err := proto.Unmarshal(stored.Data, &c); err != nil {
				return err
			}
			st.changes[ID(c.GetEntryId())] = &c
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return st.content()
}
