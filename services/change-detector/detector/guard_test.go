package detector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

const user = directoryv1.Kind_KIND_USER

// attend lets the session learn what people say, for the length of the test.
func attend(t *testing.T, s *session) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	var running sync.WaitGroup
	if err := s.attend(ctx, &running, cancel); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel(nil)
		running.Wait()
	})
}

// say marks everything that is held for which which says so, and waits until the
// session is woken.
func say(t *testing.T, s *session, mark provisioningv1.Mark, which func(held.Item) bool) {
	t.Helper()
	all, err := s.store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[held.Key]bool{}
	for _, i := range all {
		if !which(i) {
			continue
		}
		if err := s.store.Mark(t.Context(), i, mark, "approval-1"); err != nil {
			t.Fatal(err)
		}
		want[held.Key{Kind: i.Kind, ID: [16]byte(i.ID)}] = true
	}
	await(t, func() string {
		for k := range want {
			if s.board.Get(k).GetMark() != mark {
				return "the session does not know of every mark"
			}
		}
		return ""
	})
	awaitWake(t, s)
}

func awaitWake(t *testing.T, s *session) {
	t.Helper()
	select {
	case <-s.Wake():
	case <-time.After(patienceOfTests):
		t.Fatal("the session is not woken")
	}
}

func anyItem(held.Item) bool { return true }

func settled(t *testing.T, s *session) {
	t.Helper()
	if err := s.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// onStreamNow is a user's last message.
func onStreamNow(t *testing.T, s *session, id ID) (*directoryv1.Change, map[string]string) {
	t.Helper()
	stored, err := s.bus.Last(t.Context(), directoryv1.StreamUsers, directoryv1.EntrySubject(user, s.name, id[:]))
	if err != nil {
		t.Fatal(err)
	}
	var c directoryv1.Change
	if err := proto.Unmarshal(stored.Data, &c); err != nil {
		t.Fatal(err)
	}
	return &c, stored.Header
}

func heldItems(t *testing.T, s *session) []held.Item {
	t.Helper()
	all, err := s.store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func everybody(int) bool { return true }

func TestRemovalsOfEarlierPassesCount(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	hideUsers(v, 5)
	sweep(t, s, dir, func(n int) bool { return n >= 5 })
	if p := last(t, s); p.Users != 95 || p.Held != 0 {
		t.Fatalf("%+v, want five removed", p)
	}
	d := *s.detector
	p, err := newPublisher(t.Context(), &d)
	if err != nil {
		t.Fatal(err)
	}
	next := openSession(&d, p, func() {})
	t.Cleanup(next.close)
	hideUsers(v, 6)
	sweep(t, next, dir, func(n int) bool { return n >= 6 })
	if p := last(t, next); p.Users != 95 || p.Held != 1 || !strings.Contains(p.HeldReason, "1 of 95 users would be removed, after 5 in the last 24h0m0s") {
		t.Errorf("%+v, want the sixth held, though another detector removed the five", p)
	}
}

// A publication that fails after it was counted is not counted again.
func TestFailedPublicationCountsOnce(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	fence, err := s.bus.TakeFence(t.Context(), user, s.name, "another")
	if err != nil {
		t.Fatal(err)
	}
	hideUsers(v, 5)
	s.Begin()
	dir.tell(s.Put, func(n int) bool { return n >= 5 })
	s.Complete(ldapsource.Proof{})
	for range 3 {
		if err := s.Settled(t.Context()); !errors.Is(err, bus.ErrFenced) {
			t.Fatalf("published behind another one's fence: %v", err)
		}
	}
	s.publisher.fences[user] = fence
	settled(t, s)
	if _, users := on(t, s, makeID(1000)); users != 95 {
		t.Errorf("%d users, want 95", users)
	}
	if n, err := s.store.Earlier(t.Context(), s.limits, guard.Users); n != 5 || err != nil {
		t.Errorf("%d counted (%v), want 5", n, err)
	}
}

func TestBurstGathers(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name        string
		users, gone int
		flow        int
		left, held  int
	}{
		{"too many of few", 100, 20, 5, 95, 15},
		{"few of many", 1000, 20, 10, 980, 0},
		{"a tenth", 1000, 100, 10, 990, 90},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, g := company(c.users)
			s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
			s.pace = pace{refill: time.Hour, burst: time.Hour, quiet: time.Hour, longest: time.Hour}
			for n := range c.gone {
				delete(v.entries, makeID(n))
				s.Gone(makeID(n))
				settled(t, s)
			}
			if members, users := on(t, s, g.id); users != c.users-c.flow || members != uint64(c.users-c.flow) {
				t.Errorf("%d users, %d members while the others gather, want all but %d", users, members, c.flow)
			}
			if n := len(heldItems(t, s)); n != 0 {
				t.Errorf("%d held while they gather: %v", n, heldItems(t, s)[0].Held)
			}
			s.pace.quiet = 0
			s.rouse()
			awaitWake(t, s)
			settled(t, s)
			if members, users := on(t, s, g.id); users != c.left || members != uint64(c.left) {
				t.Errorf("%d users, %d members, want %d", users, members, c.left)
			}
			if n := len(heldItems(t, s)); n != c.held {
				t.Errorf("%d held, want %d", n, c.held)
			}
		})
	}
}

func TestApprovedRemovalsPass(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	item := heldItems(t, s)[0]
	if item.GetAction() != "remove from the source: deleted from the directory" || item.GetGeneration() != "generation" || item.GetSequence() == 0 {
		t.Errorf("held: %v", item.Held)
	}
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	if members, users := on(t, s, g.id); users != 80 || members != 80 {
		t.Errorf("%d users, %d members, want 80", users, members)
	}
	if change, header := onStreamNow(t, s, makeID(3)); change.GetOp() != directoryv1.Op_OP_ABSENT || header[directoryv1.HeaderApproval] != "approval-1" {
		t.Errorf("published %v with %v", change, header)
	}
	if n, err := s.store.Earlier(t.Context(), s.limits, guard.Users); n != 0 || err != nil {
		t.Errorf("%d counted (%v), want none of those that were approved", n, err)
	}
	if left := heldItems(t, s); len(left) != 0 || s.metrics.held.Load() != 0 {
		t.Errorf("held still: %v", left)
	}
}

// Who approves some of a wave does not let the others pass, though few are left.
func TestApprovingSomeLeavesTheOthers(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	n := 0
	say(t, s, provisioningv1.Mark_MARK_APPROVED, func(held.Item) bool { n++; return n <= 18 })
	settled(t, s)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	if p := last(t, s); p.Users != 82 || p.Held != 2 {
		t.Errorf("%+v, want 18 removed and two held", p)
	}
}

// Nor does it when another detector takes over.
func TestApprovingSomeLeavesTheOthersToTheNext(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	n := 0
	say(t, s, provisioningv1.Mark_MARK_APPROVED, func(held.Item) bool { n++; return n <= 18 })
	settled(t, s)
	next := successor(t, s)
	next.limits = s.limits
	attend(t, next)
	sweep(t, next, dir, func(n int) bool { return n >= 20 })
	if p := last(t, next); p.Users != 82 || p.Held != 2 {
		t.Errorf("%+v, want 82 users, and two held", p)
	}
}

// Who rejects some of a wave does not let the others pass either.
func TestRejectingSomeLeavesTheOthers(t *testing.T) {
	t.Parallel()
	for users, gone := range map[int]int{100: 20, 5: 5} {
		dir, _ := company(users)
		s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
		attend(t, s)
		hideUsers(v, gone)
		remain := func(n int) bool { return n >= gone }
		sweep(t, s, dir, remain)
		n := 0
		say(t, s, provisioningv1.Mark_MARK_REJECTED, func(held.Item) bool { n++; return n <= gone-2 })
		settled(t, s)
		sweep(t, s, dir, remain)
		next := successor(t, s)
		next.limits = s.limits
		attend(t, next)
		sweep(t, next, dir, remain)
		if p := last(t, next); p.Users != users || p.Held != 2 {
			t.Errorf("%d of %d gone: %+v, want none removed and two that wait", gone, users, p)
		}
	}
}

func TestRejectedRemovalsStaySilently(t *testing.T) {
	t.Parallel()
	dir, _ := company(200)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	say(t, s, provisioningv1.Mark_MARK_REJECTED, anyItem)
	settled(t, s)
	if p := last(t, s); p.Held != 0 || p.HeldReason != "" || s.metrics.held.Load() != 0 {
		t.Errorf("%+v, want nothing that waits", p)
	}
	hideUsers(v, 22)
	sweep(t, s, dir, func(n int) bool { return n >= 22 })
	if p := last(t, s); p.Users != 198 || p.Held != 0 || p.HeldReason != "" || len(heldItems(t, s)) != 20 {
		t.Errorf("%+v, want the rejected ones there, in silence, and two others removed", p)
	}
	s.generation = "another"
	sweep(t, s, dir, func(n int) bool { return n >= 22 })
	if p := last(t, s); p.Users != 198 || p.Held != 20 {
		t.Errorf("%+v, want to be asked again under another configuration", p)
	}
}

func TestMarkIsVoidUnderAnotherConfiguration(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	s.generation = "another"
	say(t, s, provisioningv1.Mark_MARK_APPROVED, anyItem)
	settled(t, s)
	if _, users := on(t, s, makeID(1000)); users != 100 {
		t.Errorf("%d users, want 100", users)
	}
	for _, i := range heldItems(t, s) {
		if i.GetMark() != provisioningv1.Mark_MARK_UNSPECIFIED || i.GetGeneration() != "another" {
			t.Fatalf("held: %v", i.Held)
		}
	}
}

func TestWhatIsHeldIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	hideUsers(v, 20)
	sweep(t, s, dir, func(n int) bool { return n >= 20 })
	before := heldItems(t, s)
	next := successor(t, s)
	next.limits = s.limits
	attend(t, next)
	sweep(t, next, dir, func(n int) bool { return n >= 20 })
	settled(t, next)
	if diff := gocmp.Diff(fmt.Sprint(before), fmt.Sprint(heldItems(t, next))); diff != "" || len(before) != 20 {
		t.Errorf("%d held: -before +after the restart\n%s", len(before), diff)
	}
	sweep(t, next, dir, everybody)
	if left := heldItems(t, next); len(left) > 0 {
		t.Errorf("cured, and held still: %v", left)
	}
}

// The account became another one: nothing that is not found is gone.
func TestAnotherIdentityRemovesNothing(t *testing.T) {
	t.Parallel()
	dir, g := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	v.fails = fmt.Errorf("%w: it was ann and is bob", ldapsource.ErrIdentity)
	hideUsers(v, 1)
	delete(g.members, makeID(50))
	sweep(t, s, dir, func(n int) bool { return n > 0 })
	if members, users := on(t, s, g.id); members != 100 || users != 100 {
		t.Errorf("%d members, %d users, want 100 each", members, users)
	}
	if p := last(t, s); p.Held != 2 || !strings.Contains(p.HeldReason, "it was ann and is bob") {
		t.Errorf("%+v, want the user and the membership held", p)
	}
	v.fails = errors.New("no answer")
	s.mirror.full = true
	if err := s.Settled(t.Context()); err == nil {
		t.Error("a failure of the directory is no error")
	}
}

// A person said no. What else changes of the entry is published, and the no stays.
func TestRejectionOutlivesOtherChanges(t *testing.T) {
	t.Parallel()
	dir, _ := company(100)
	s, v := newSession(t, testRules(t, connection.NestedFlatten, nil, false), dir)
	attend(t, s)
	for n := range 20 {
		dir.objects[makeID(n)].left = true
	}
	sweep(t, s, dir, everybody)
	say(t, s, provisioningv1.Mark_MARK_REJECTED, anyItem)
	settled(t, s)
	dir.objects[makeID(3)].cn = "Carol"
	hideUsers(v, 1)
	for range 2 {
		sweep(t, s, dir, func(n int) bool { return n > 0 })
	}
	next := successor(t, s)
	next.limits = s.limits
	attend(t, next)
	sweep(t, next, dir, func(n int) bool { return n > 0 })
	carol, _ := onStreamNow(t, next, makeID(3))
	if !carol.GetUser().GetEnabled() || first(carol.GetUser().GetAttributes(), "cn") != "Carol" {
		t.Errorf("published %v, want her enabled, with her new name", carol)
	}
	if p := last(t, next); p.Held != 0 || len(heldItems(t, next)) != 19 {
		t.Errorf("%+v, %d items, want 19 rejected and nothing that waits", p, len(heldItems(t, next)))
	}
}
