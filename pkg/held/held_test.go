package held_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const user = directoryv1.Kind_KIND_USER

var id = []byte("0123456789abcdef")

func removal(sequence uint64, generation, reason string) *provisioningv1.Held {
	return &provisioningv1.Held{Action: "delete", Reason: reason, Sequence: sequence, Generation: generation}
}

func TestMarkIsVoidWhenTheRemovalIsAnother(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		next *provisioningv1.Held
		want provisioningv1.Mark
	}{
		{"the same removal", removal(7, "a", "too many"), provisioningv1.Mark_MARK_APPROVED},
		{"for another reason", removal(7, "a", "canaries"), provisioningv1.Mark_MARK_APPROVED},
		{"the entry changed", removal(8, "a", "too many"), provisioningv1.Mark_MARK_UNSPECIFIED},
		{"the configuration changed", removal(7, "b", "too many"), provisioningv1.Mark_MARK_UNSPECIFIED},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := held.OfConnection(bustest.Start(t), "wiki")
			if _, err := s.Hold(t.Context(), user, id, removal(7, "a", "too many")); err != nil {
				t.Fatal(err)
			}
			items, err := s.List(t.Context())
			if err != nil || len(items) != 1 {
				t.Fatalf("list: %v %v", items, err)
			}
			if err := s.Mark(t.Context(), items[0], provisioningv1.Mark_MARK_APPROVED, "one"); err != nil {
				t.Fatal(err)
			}
			got, err := s.Hold(t.Context(), user, id, c.next)
			if err != nil || got.GetMark() != c.want {
				t.Errorf("mark %v, want %v (%v)", got.GetMark(), c.want, err)
			}
		})
	}
}

func TestMarkOfWhatIsNoLongerThereConflicts(t *testing.T) {
	t.Parallel()
	s := held.OfSource(bustest.Start(t), "corp")
	if _, err := s.Hold(t.Context(), user, id, removal(7, "a", "too many")); err != nil {
		t.Fatal(err)
	}
	items, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(t.Context(), user, id); err != nil {
		t.Fatal(err)
	}
	if err := s.Mark(t.Context(), items[0], provisioningv1.Mark_MARK_APPROVED, "one"); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("mark of a dropped item: %v", err)
	}
	if h, err := s.Get(t.Context(), user, id); h != nil || err != nil {
		t.Errorf("dropped: %v %v", h, err)
	}
}

func TestReplicasShareOneWindow(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	limits := guard.Limits{MaxRemovals: 20, MaxRemovalPercent: 100, Window: time.Hour}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		s := held.OfConnection(b, "wiki")
		wg.Go(func() {
			for range 10 {
				reason, err := s.Reserve(t.Context(), limits, guard.Removals{Of: guard.Users, Count: 1, Total: 1000})
				if err != nil {
					t.Error(err)
				}
				if reason == "" {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := passed.Load(); got != 20 {
		t.Errorf("%d of 40 removals passed, want 20", got)
	}
	if n, err := held.OfConnection(b, "wiki").Earlier(t.Context(), limits, guard.Users); n != 20 || err != nil {
		t.Errorf("%d counted (%v), want 20", n, err)
	}
}

// Another replica may hold a newer removal while an older change is done.
func TestDropLeavesWhatIsAboutSomethingElse(t *testing.T) {
	t.Parallel()
	s := held.OfConnection(bustest.Start(t), "wiki")
	if _, err := s.Hold(t.Context(), user, id, removal(7, "a", "too many")); err != nil {
		t.Fatal(err)
	}
	older := func(h *provisioningv1.Held) (bool, error) { return h.GetSequence() > 6, nil }
	changedMeanwhile := func(h *provisioningv1.Held) (bool, error) {
		if h.GetSequence() == 7 {
			_, err := s.Hold(t.Context(), user, id, removal(8, "a", "too many"))
			return false, err
		}
		return true, nil
	}
	for _, keep := range []func(*provisioningv1.Held) (bool, error){older, changedMeanwhile} {
		if err := s.DropUnless(t.Context(), user, id, keep); err != nil {
			t.Fatal(err)
		}
		if h, err := s.Get(t.Context(), user, id); h == nil || err != nil {
			t.Fatalf("dropped: %v", err)
		}
	}
	same := func(h *provisioningv1.Held) (bool, error) { return h.GetSequence() > 8, nil }
	for range 2 {
		if err := s.DropUnless(t.Context(), user, id, same); err != nil {
			t.Fatal(err)
		}
	}
	if h, err := s.Get(t.Context(), user, id); h != nil || err != nil {
		t.Errorf("%v, %v: want it dropped", h, err)
	}
}
