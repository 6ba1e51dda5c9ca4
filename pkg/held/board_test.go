package held_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/held"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// run keeps a board up to date for the length of the test.
func run(t *testing.T, s *held.Store) (*held.Board, <-chan struct{}) {
	t.Helper()
	marked := make(chan struct{}, 100)
	b := s.Board(func() { marked <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx, func() { close(ready) }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	<-ready
	return b, marked
}

func many(n int, reason string) map[held.Key]*provisioningv1.Held {
	all := map[held.Key]*provisioningv1.Held{}
	for i := range n {
		all[held.Key{Kind: user, ID: [16]byte([]byte(fmt.Sprintf("%016d", i)))}] = removal(uint64(i), "a", reason)
	}
	return all
}

// list is what is stored, by key, with the revision of each.
func list(t *testing.T, s *held.Store) map[string]string {
	t.Helper()
	all, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, i := range all {
		out[string(i.ID)] = fmt.Sprint(i.GetSince().AsTime().UnixNano(), i.GetReason(), i.GetMark())
	}
	return out
}

func TestBoardWritesWhatChanged(t *testing.T) {
	t.Parallel()
	s := held.OfSource(bustest.Start(t), "corp")
	b, _ := run(t, s)
	if err := b.Replace(t.Context(), many(2500, "2500 too many")); err != nil {
		t.Fatal(err)
	}
	before := list(t, s)
	if len(before) != 2500 || b.Len() != 2500 {
		t.Fatalf("%d stored, %d on the board, want 2500", len(before), b.Len())
	}
	if err := b.Replace(t.Context(), many(2501, "2501 too many")); err != nil {
		t.Fatal(err)
	}
	after := list(t, s)
	for id, was := range before {
		if after[id] != was {
			t.Fatalf("written again for a number: %s, was %s", after[id], was)
		}
	}
	if len(after) != 2501 {
		t.Errorf("%d stored, want the new one, too", len(after))
	}
	if err := b.Replace(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if left := list(t, s); len(left) > 0 || b.Len() != 0 {
		t.Errorf("%d are left", len(left))
	}
	if err := b.Replace(t.Context(), many(1, "again")); err != nil || len(list(t, s)) != 1 {
		t.Errorf("held again after it was dropped: %v", err)
	}
}

func TestBoardLearnsMarksAndFormerItems(t *testing.T) {
	t.Parallel()
	s := held.OfSource(bustest.Start(t), "corp")
	former, _ := run(t, s)
	if err := former.Replace(t.Context(), many(3, "too many")); err != nil {
		t.Fatal(err)
	}
	b, marked := run(t, s)
	if b.Len() != 3 {
		t.Errorf("%d on a new board, want 3", b.Len())
	}
	items, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mark(t.Context(), items[1], provisioningv1.Mark_MARK_APPROVED, "one"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-marked:
	case <-time.After(10 * time.Second):
		t.Fatal("the mark is not told")
	}
	now := many(3, "for another reason")
	if err := b.Replace(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if h, err := s.Get(t.Context(), user, items[1].ID); err != nil || h.GetMark() != provisioningv1.Mark_MARK_APPROVED || h.GetReason() != "for another reason" {
		t.Errorf("%v, %v: want the mark to stay while it is the same removal", h, err)
	}
}

// A mark that is written at the same time wins over a write that does not know it.
func TestBoardDoesNotOverwriteMarks(t *testing.T) {
	t.Parallel()
	s := held.OfSource(bustest.Start(t), "corp")
	deaf := s.Board(func() {})
	if err := deaf.Replace(t.Context(), many(3, "too many")); err != nil {
		t.Fatal(err)
	}
	items, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mark(t.Context(), items[0], provisioningv1.Mark_MARK_REJECTED, "one"); err != nil {
		t.Fatal(err)
	}
	if err := deaf.Replace(t.Context(), many(3, "for another reason")); err != nil {
		t.Fatal(err)
	}
	if h, err := s.Get(t.Context(), user, items[0].ID); err != nil || h.GetMark() != provisioningv1.Mark_MARK_REJECTED {
		t.Errorf("%v, %v: the mark is lost", h, err)
	}
}
