package guard_test

import (
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/guard"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	limits := guard.Limits{MaxRemovals: 500, MaxRemovalPercent: 5}
	cases := []struct {
		name            string
		removals, total int
		held            bool
	}{
		{"nothing removed", 0, 100, false},
		{"nothing there", 0, 0, false},
		{"the last person of a small directory", 1, 1, false},
		{"five of ten", 5, 10, false},
		{"six of ten", 6, 10, true},
		{"exactly five percent", 50, 1000, false},
		{"just over five percent", 51, 1000, true},
		{"the absolute limit", 500, 1_000_000, false},
		{"over the absolute limit", 501, 1_000_000, true},
		{"everybody", 100_000, 100_000, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if reason := limits.Check(c.removals, c.total); (reason != "") != c.held {
				t.Errorf("%d of %d: %q, want held %v", c.removals, c.total, reason, c.held)
			}
		})
	}
}
