package guard_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/guard"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	limits := guard.Limits{MaxRemovals: 500, MaxRemovalPercent: 5, Window: 24 * time.Hour}
	cases := []struct {
		name                  string
		count, earlier, total int
		want                  string
	}{
		{"nothing removed", 0, 0, 100, ""},
		{"nothing removed, after many", 0, 500, 100, ""},
		{"nothing there", 0, 0, 0, ""},
		{"the last person of a small directory", 1, 0, 1, ""},
		{"five of ten", 5, 0, 10, ""},
		{"six of ten", 6, 0, 10, "6 of 10 users would be removed, more than max_removal_percent (5 %)"},
		{"the sixth of ten, after five", 1, 5, 5, "1 of 5 users would be removed, after 5 in the last 24h0m0s, more than max_removal_percent (5 %)"},
		{"exactly five percent", 50, 0, 1000, ""},
		{"exactly five percent with the window", 20, 30, 970, ""},
		{"just over five percent", 51, 0, 1000, "max_removal_percent"},
		{"just over five percent with the window", 21, 30, 970, "max_removal_percent"},
		{"the absolute limit", 500, 0, 1_000_000, ""},
		{"over the absolute limit", 501, 0, 1_000_000, "max_removals (500)"},
		{"over the absolute limit with the window", 1, 500, 1_000_000, "max_removals (500)"},
		{"everybody", 100_000, 0, 100_000, "max_removals"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := limits.Check(guard.Removals{Of: guard.Users, Count: c.count, Earlier: c.earlier, Total: c.total})
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestCheckVanished(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name                   string
		from, earlier, holders int
		held                   bool
	}{
		{"ten of ten", 10, 0, 10, false},
		{"eleven of eleven", 11, 0, 11, true},
		{"five percent", 50, 0, 1000, false},
		{"over five percent", 51, 0, 1000, true},
		{"one more, after ten", 1, 10, 20, true},
		{"one more of many, after ten", 1, 10, 1000, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := guard.CheckVanished("mail", c.from, c.earlier, c.holders); (got != "") != c.held {
				t.Errorf("got %q, want held %v", got, c.held)
			}
		})
	}
}

var start = time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)

func morning() *provisioningv1.Window {
	w := &provisioningv1.Window{}
	guard.Count(w, guard.Users, 3, start, 24*time.Hour)
	guard.Count(w, guard.Users, 2, start.Add(30*time.Minute), 24*time.Hour)
	guard.Count(w, guard.Groups, 1, start.Add(2*time.Hour), 24*time.Hour)
	return w
}

func TestEarlier(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		of    string
		after time.Duration
		want  int
	}{
		{"at once", guard.Users, 0, 5},
		{"others are counted apart", guard.Groups, 3 * time.Hour, 1},
		{"within the window", guard.Users, 23 * time.Hour, 5},
		{"out of the window", guard.Users, 26 * time.Hour, 0},
		{"never removed", guard.Members, 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := guard.Earlier(morning(), c.of, start.Add(c.after), 24*time.Hour); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestSlotsThatLeftTheWindowAreDropped(t *testing.T) {
	t.Parallel()
	w := morning()
	guard.Count(w, guard.Users, 1, start.Add(48*time.Hour), 24*time.Hour)
	if len(w.GetSlots()) != 1 {
		t.Errorf("slots: %v", w.GetSlots())
	}
}
