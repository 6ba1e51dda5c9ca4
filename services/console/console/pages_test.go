package console

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker"
)

func drifted(repaired bool) *worker.DriftReport {
	return &worker.DriftReport{
		Kind: "users", Counts: map[string]int{worker.DriftMissing: 1}, Findings: []worker.Finding{{What: worker.DriftMissing, Repaired: repaired}},
	}
}

// Everything that a page can say, once.
func TestPageShowsAll(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 2, 8, 15, 0, 0, time.UTC)
	s := &status.Status{
		Sources: []status.Source{{Name: "corp", Detector: "one", LastPass: &status.Pass{At: at, Mode: "usn", Users: 12, Groups: 3, HeldReason: "too many"}, Held: 7, Warnings: []string{"no group cn=staff"}, Outage: &status.Outage{Since: at, Reason: status.OutageUnreachable, Error: "connection refused"}}},
		Connections: []status.Connection{{
			Name: "wiki", Generation: 2, Warnings: []string{"no attribute titel"}, DryRun: true, FirstRun: true, Recovery: &status.Recovery{Reason: "a copy", Since: at}, Refused: "another source", Paused: &status.Pause{Reason: "outage", Message: "502", Since: at},
			Users: &worker.Summary{Active: 4, RefusedMembers: 1}, Drift: []*worker.DriftReport{drifted(false)},
			Problems: []worker.ProblemOf{{Kind: "users", Entry: "0102", State: "parked", Message: "400 Bad Request"}},
		}},
	}
	server := httptest.NewServer(routes(newReader(func() (*status.Status, error) { return s, nil }), slog.New(slog.NewTextHandler(t.Output(), nil))))
	defer server.Close()
	page := get(t, server.URL+"/")
	for _, want := range []string{
		"Something waits for a person.", "held: too many", "not followed (unreachable) since 2026-03-02 08:15:00 UTC: connection refused", "warning: no group cn=staff", "warning: no attribute titel", "dry run: nothing is sent", "first run: nothing is disabled or deleted", "recovery since 2026-03-02 08:15:00 UTC: a copy", "refused: another source",
		"paused (outage) since 2026-03-02 08:15:00 UTC: 502", "users compared with the target", "1 missing", "Not applied in wiki", "<code>0102</code>", "400 Bad Request",
	} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if page.code != http.StatusOK || t.Failed() {
		t.Errorf("%d %s", page.code, page.body)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	watched := status.Source{Name: "corp", Detector: "one", LastPass: &status.Pass{}}
	wiki := func(change func(*status.Connection)) status.Status {
		c := status.Connection{Name: "wiki", Generation: 1, Users: &worker.Summary{Active: 3}, Groups: &worker.Summary{Active: 1}}
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
		{"all is done", wiki(func(*status.Connection) {}), "ok", "All that was found is applied.", ""},
		{"without groups", wiki(func(c *status.Connection) { c.Groups = nil }), "ok", "All that was found is applied.", ""},
		{"a backlog", wiki(func(c *status.Connection) { c.Users.Backlog = 2; c.Groups.Retrying = 1 }), "busy", "Work is under way: 2 changes wait, 1 are tried again.", ""},
		{"nobody watches", status.Status{Sources: []status.Source{{Name: "corp"}}}, "person", "Something waits for a person.", "Source corp: nobody watches it. Is a change-detector running?"},
		{"never read", status.Status{Sources: []status.Source{{Name: "corp", Detector: "one"}}}, "busy", "The first read has not ended.", ""},
		{"not read for long", status.Status{Sources: []status.Source{{Name: "corp", Detector: "one", LastPass: &status.Pass{At: since}, Overdue: true}}}, "person", "", "Source corp: it was last read whole at 2026-03-02 08:15:00 UTC. Does the directory answer? See `rollcall check`."},
		{"not followed", status.Status{Sources: []status.Source{{Name: "corp", Detector: "one", LastPass: &status.Pass{At: since}, Overdue: true, Outage: &status.Outage{Since: since, Reason: status.OutageCredentials}}}}, "person", "", "Source corp is not followed (credentials) since 2026-03-02 08:15:00 UTC."},
		{"never followed", status.Status{Sources: []status.Source{{Name: "corp", Detector: "one", Outage: &status.Outage{Since: since, Reason: status.OutageUnreachable}}}}, "person", "", "Source corp is not followed (unreachable) since 2026-03-02 08:15:00 UTC."},
		{"not begun", wiki(func(c *status.Connection) { c.Generation = 0 }), "busy", "The first read has not ended.", ""},
		{"a dry run", wiki(func(c *status.Connection) { c.DryRun = true }), "person", "", "Connection wiki is a dry run: nothing is sent."},
		{"drift", wiki(func(c *status.Connection) { c.Drift = []*worker.DriftReport{drifted(false)} }), "person", "", "Connection wiki: users were not as they were left (1 missing); see `rollcall drift wiki`."},
		{"drift that is repaired", wiki(func(c *status.Connection) { c.Drift = []*worker.DriftReport{drifted(true)} }), "ok", "", ""},
		{"held in the source", status.Status{Sources: []status.Source{{Name: "corp", Detector: "one", LastPass: &status.Pass{}, Held: 7}}}, "person", "", "Source corp: 7 removals are held; see `rollcall held`."},
		{"a mistake in the source", status.Status{Sources: []status.Source{{Name: "corp", Detector: "one", LastPass: &status.Pass{}, Warnings: []string{"no group cn=staff"}}}}, "person", "", "Source corp: no group cn=staff."},
		{"a mistake in the connection", wiki(func(c *status.Connection) { c.Warnings = []string{"no attribute titel"} }), "person", "", "Connection wiki: no attribute titel."},
		{"held in the connection", wiki(func(c *status.Connection) { c.Groups.Held = 2 }), "person", "", "Connection wiki: removals of 2 groups are held; see `rollcall held`."},
		{"parked and blocked", wiki(func(c *status.Connection) { c.Users.Parked = 1; c.Users.Blocked = 2 }), "person", "", "Connection wiki: 3 users cannot be applied; see `rollcall parked`."},
		{"attributes without effect", wiki(func(c *status.Connection) { c.Users.Unapplied = 2 }), "person", "", "Connection wiki: the target did not apply 2 attributes of users; see `rollcall parked`."},
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
