package console

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	watched := status.Source{Name: "corp", Detector: "one"}
	wiki := func(change func(*status.Connection)) status.Status {
		c := status.Connection{Name: "wiki", Users: &worker.Summary{Active: 3}, Groups: &worker.Summary{Active: 1}}
		change(&c)
		return status.Status{Sources: []status.Source{watched}, Connections: []status.Connection{c}}
	}
	since := time.Date(2026, 3, 2, 8, 15, 0, 0, time.UTC)
	for _, test := range []struct {
		name    string
		in      status.Status
		level   string
		summary string
		reason  string
	}{
		{"all is done", wiki(func(*status.Connection) {}), "ok", "Everything is applied.", ""},
		{"without groups", wiki(func(c *status.Connection) { c.Groups = nil }), "ok", "Everything is applied.", ""},
		{"a backlog", wiki(func(c *status.Connection) { c.Users.Backlog = 2; c.Groups.Retrying = 1 }), "busy", "Work is under way: 2 changes wait, 1 are tried again.", ""},
		{"nobody watches", status.Status{Sources: []status.Source{{Name: "corp"}}}, "person", "Something waits for a person.", "Source corp: nobody watches it. Is a change-detector running?"},
		{"held in the source", status.Status{Sources: []status.Source{{Name: "corp", Detector: "one", Held: 7}}}, "person", "", "Source corp: 7 removals are held; see `rollcall held`."},
		{"held in the connection", wiki(func(c *status.Connection) { c.Groups.Held = 2 }), "person", "", "Connection wiki: removals of 2 groups are held; see `rollcall held`."},
		{"parked and blocked", wiki(func(c *status.Connection) { c.Users.Parked = 1; c.Users.Blocked = 2 }), "person", "", "Connection wiki: 3 users cannot be applied; see `rollcall parked`."},
		{"refused members", wiki(func(c *status.Connection) { c.Groups.RefusedMembers = 4 }), "person", "", "Connection wiki: the target refuses 4 members; see `rollcall parked`."},
		{"refused", wiki(func(c *status.Connection) { c.Refused = "another source" }), "person", "", "Connection wiki: its configuration is refused: another source."},
		{"paused", wiki(func(c *status.Connection) { c.Paused = &status.Pause{Reason: "outage", Since: since} }), "person", "", "Connection wiki is paused (outage) since 2026-03-02 08:15:00 UTC."},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := judge(&test.in)
			if got.Level != test.level || !strings.HasPrefix(got.Summary, test.summary) {
				t.Errorf("%s: %s, want %s: %s", got.Level, got.Summary, test.level, test.summary)
			}
			if want := test.reason; want == "" && len(got.Reasons) > 0 || want != "" && !slices.Equal(got.Reasons, []string{want}) {
				t.Errorf("reasons %q, want %q", got.Reasons, want)
			}
		})
	}
}
