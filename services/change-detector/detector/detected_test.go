package detector

import (
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// What is published was detected when its cause was seen, which is often another entry
// than the one that is published: the latency is measured from then, and days may have
// gone by since the entry itself was read.
func TestDetectedIsWhenTheCauseWasSeen(t *testing.T) {
	t.Parallel()
	detected := func(t *testing.T, s *session, kind directoryv1.Kind, id ID) time.Time {
		t.Helper()
		stored, err := s.bus.Last(t.Context(), kind.Stream(), directoryv1.EntrySubject(kind, s.name, id[:]))
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339Nano, stored.Header[directoryv1.HeaderDetectedAt])
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, s *session, v *visible, dir *model, g *object)
	}{
		{"she leaves the scope group", func(t *testing.T, s *session, _ *visible, dir *model, g *object) {
			t.Helper()
			delete(g.members, makeID(0))
			s.Put(dir.entry(g))
			settled(t, s)
		}},
		{"she is deleted", func(t *testing.T, s *session, v *visible, _ *model, _ *object) {
			t.Helper()
			hideUsers(v, 1)
			s.Gone(makeID(0))
			settled(t, s)
		}},
		{"a full read finds it", func(t *testing.T, s *session, _ *visible, dir *model, g *object) {
			t.Helper()
			delete(g.members, makeID(0))
			sweep(t, s, dir, func(int) bool { return true })
		}},
		{"a person approves it", func(t *testing.T, s *session, v *visible, dir *model, _ *object) {
			t.Helper()
			hideUsers(v, 20)
			sweep(t, s, dir, func(n int) bool { return n >= 20 })
			if p := last(t, s); p.Held == 0 {
				t.Fatalf("%+v, want something held", p)
			}
			say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
			settled(t, s)
		}},
		{"it gathered in a burst", func(t *testing.T, s *session, v *visible, _ *model, _ *object) {
			t.Helper()
			s.pace, s.limits.MaxRemovalPercent = pace{refill: time.Hour, burst: time.Hour, quiet: time.Hour, longest: time.Hour}, 50
			for n := range 7 { // the first five flow
				n = (n + 3) % 7
				delete(v.entries, makeID(n))
				s.Gone(makeID(n))
				settled(t, s)
			}
			seen := time.Now()
			s.pace.quiet = 0
			s.rouse()
			awaitWake(t, s)
			settled(t, s)
			if _, users := on(t, s, makeID(1000)); users != 93 {
				t.Fatalf("%d users, want 93", users)
			}
			if at := detected(t, s, user, makeID(2)); at.After(seen) {
				t.Errorf("the last of those that gathered was detected %s after it was seen", at.Sub(seen))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, g := company(100)
			s, v := newSession(t, testRules(t, connection.NestedFlatten, []string{g.dn}, false), dir)
			attend(t, s)
			began := time.Now()
			c.change(t, s, v, dir, g)
			if at := detected(t, s, user, makeID(0)); at.Before(began) {
				t.Errorf("her removal was detected %s before its cause", began.Sub(at))
			}
			if at := detected(t, s, directoryv1.Kind_KIND_GROUP, g.id); at.Before(began) {
				t.Errorf("the group's new members were detected %s before their cause", began.Sub(at))
			}
		})
	}
}
