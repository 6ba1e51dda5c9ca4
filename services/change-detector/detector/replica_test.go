package detector

import (
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// sweepAt is a full read of a server that does not have some of the users.
func sweepAt(t *testing.T, s *session, dir *model, server string, without ...ID) {
	t.Helper()
	s.Begin()
	for id, o := range dir.objects {
		missing := false
		for _, gone := range without {
			missing = missing || gone == id
		}
		if !missing {
			s.Put(dir.entry(o))
		}
	}
	s.Complete(ldapsource.Proof{Mode: ldapsource.ModeSnapshot, Server: server})
	settled(t, s)
}

// After a failover, what the new server does not have may only not have reached it:
// it is held until the server had time to catch up, and the server is asked again.
func TestAbsenceAfterAFailover(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"deleted", "caught up"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			dir, g := company(100)
			s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
			sweepAt(t, s, dir, "dc1")
			late := makeID(7)
			delete(v.entries, late)
			s.replica.lag = time.Millisecond
			sweepAt(t, s, dir, "dc2", late)
			if got := last(t, s); got.Users != 100 || got.Held != 1 || got.HeldReason != behind || got.Server != "dc2" {
				t.Fatalf("right after the failover: %+v", got)
			}
			if end == "caught up" {
				v.entries[late] = dir.entry(dir.objects[late])
			}
			awaitWake(t, s)
			settled(t, s)
			want := 99
			if end == "caught up" {
				want = 100
			}
			if _, users := on(t, s, g.id); users != want {
				t.Errorf("%d users are published, want %d", users, want)
			}
			if got := last(t, s); got.Held != 0 {
				t.Errorf("still held: %+v", got)
			}
		})
	}
}

// Who reads the same server again believes it at once, in another process too.
func TestAbsenceOnTheSameServer(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	sweepAt(t, s, dir, "dc1")
	attend(t, s)
	if s.replica.server != "dc1" {
		t.Errorf("recalled %q", s.replica.server)
	}
	delete(v.entries, makeID(7))
	sweepAt(t, s, dir, "dc1", makeID(7))
	if _, users := on(t, s, g.id); users != 99 {
		t.Errorf("%d users are published", users)
	}
}
