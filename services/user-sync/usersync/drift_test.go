package usersync_test

import (
	"encoding/hex"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// The schedule compares in one of the replicas, says what differs, and repairs it
// where it may.
func TestScheduledComparisonRepairs(t *testing.T) {
	t.Parallel()
	for name, repair := range map[string]bool{"reports": false, "repairs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "", scimtest.Options{})
			c := b.Config.Connections["wiki"]
			c.Drift.Interval, c.Drift.Repair = 300*time.Millisecond, repair
			b.Start(usersync.Run)
			b.Start(usersync.Run)
			b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
			id := b.Link(user, 1).GetResourceId()
			if err := b.Target.Patch(scim.KindUser, id, scim.Operation{Op: "replace", Path: "title", Value: "Chief"}); err != nil {
				t.Fatal(err)
			}
			b.Eventually("the comparison finds it", func() bool {
				r, err := worker.LastDrift(t.Context(), b.Bus, "wiki", user)
				return err == nil && r.Counts[worker.DriftChanged] == 1
			})
			if repair {
				b.Eventually("it is repaired", func() bool { u, _ := b.Target.User("ann"); return u["title"] == "Cook" })
				b.Eventually("the next comparison finds nothing", func() bool {
					r, err := worker.LastDrift(t.Context(), b.Bus, "wiki", user)
					return err == nil && r.Counts != nil && !r.Drifted() && r.Counts[worker.DriftChanged] == 0
				})
			} else if u, _ := b.Target.User("ann"); u["title"] != "Chief" {
				t.Errorf("title %v: nobody asked for a repair", u["title"])
			}
		})
	}
}

// A repair that was asked for is made although another request took the place of the one
// that asks for it.
func TestRepairSurvivesAnotherRequest(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	stop := b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
	stop()
	if err := b.Target.Patch(scim.KindUser, b.Link(user, 1).GetResourceId(), scim.Operation{Op: "replace", Path: "title", Value: "Chief"}); err != nil {
		t.Fatal(err)
	}
	d := comparison(t, b)
	if n, err := d.Repair(t.Context(), compare(t, d)); n != 1 || err != nil {
		t.Fatalf("%d repairs were requested: %v", n, err)
	}
	if err := b.Bus.Request(t.Context(), user, "wiki", workertest.ID(1), "members"); err != nil { // of an entry only the newest is kept
		t.Fatal(err)
	}
	b.Start(usersync.Run)
	b.Eventually("it is repaired", func() bool { u, _ := b.Target.User("ann"); return u["title"] == "Cook" })
	b.Until(user, 1, func(l *provisioningv1.Link) bool { return !l.GetRepairWanted() && l.GetClaim() == nil })
}

// comparison is what a process of its own compares the users with.
func comparison(t *testing.T, b *workertest.Bench) *worker.Drift {
	t.Helper()
	process, err := worker.NewProcess(b.Bus, b.Config, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Close)
	c := b.Config.Connections["wiki"]
	compiled, err := b.Config.Compile()
	if err != nil {
		t.Fatal(err)
	}
	key, err := process.HashKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	target, err := process.Target(c)
	if err != nil {
		t.Fatal(err)
	}
	d, err := process.Drift(user, c, b.Config.Hash("wiki"), usersync.NewComparer(c, compiled.Connections["wiki"], target, key))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func compare(t *testing.T, d *worker.Drift) *worker.DriftReport {
	t.Helper()
	r, err := d.Compare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// found are the findings in short.
func found(r *worker.DriftReport) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, strings.TrimRight(f.What+" "+f.Name+" "+strings.Join(f.Attributes, ","), " "))
	}
	return out
}

func tamper(t *testing.T, b *workertest.Bench, n int, path string, value any) {
	t.Helper()
	if err := b.Target.Patch(scim.KindUser, b.Link(user, n).GetResourceId(), scim.Operation{Op: "replace", Path: path, Value: value}); err != nil {
		t.Fatal(err)
	}
}

// A mapped externalId that has no value for a user is the entry's id: the account is
// never without the mark of whose it is.
func TestExternalIDWithoutAValueIsTheEntryID(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Map("externalId", "user.title")
	b.Start(usersync.Run)
	entry := hex.EncodeToString(workertest.ID(1))
	for _, step := range []struct{ title, want string }{{"", entry}, {"Cook", "Cook"}, {"", entry}} {
		b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", step.title, "ann@x"))))
		if u, _ := b.Target.User("ann"); u["externalId"] != step.want {
			t.Errorf("title %q: externalId %v, want %s", step.title, u["externalId"], step.want)
		}
		if got := found(compare(t, comparison(t, b))); len(got) > 0 {
			t.Errorf("title %q: drift %v", step.title, got)
		}
	}
}

func TestComparisonNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	people(b, 6)
	b.Publish(workertest.Gone(user, 5))
	b.Until(user, 5, func(l *provisioningv1.Link) bool { return l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED })
	tamper(t, b, 0, "title", "Chief")
	tamper(t, b, 1, "active", false)
	tamper(t, b, 5, "active", true)
	for _, n := range []int{3, 2} {
		if err := b.Target.Remove(scim.KindUser, b.Link(user, n).GetResourceId()); err != nil {
			t.Fatal(err)
		}
	}
	d := comparison(t, b)
	b.Target.ResetLog()
	r := compare(t, d)
	want := []string{"changed u0 title", "disabled u1", "enabled u5", "missing u2", "missing u3"}
	if diff := cmp.Diff(want, found(r)); diff != "" {
		t.Errorf("nobody's resources are there: -want +got\n%s", diff)
	}
	if writes := b.Target.Writes(); len(writes) > 0 {
		t.Errorf("a comparison wrote: %v", writes)
	}

	twin, _ := b.Target.User("u4")
	id := b.Target.Seed(scim.KindUser, map[string]any{"userName": "zoe", "externalId": twin["externalId"]})
	r = compare(t, d)
	want = append(slices.Insert(want, 2, "duplicate zoe externalId, as "+b.Link(user, 4).GetResourceId()), "unknown zoe")
	if diff := cmp.Diff(want, found(r)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	before, _ := b.Target.User("zoe")
	if n, err := d.Repair(t.Context(), r); err != nil || n != 5 {
		t.Fatalf("%d repairs were requested, %v; want 5", n, err)
	}
	b.Eventually("what is ours is repaired", func() bool {
		r := compare(t, d)
		return r.Pending == 0 && cmp.Equal(found(r), []string{"duplicate zoe externalId, as " + b.Link(user, 4).GetResourceId(), "unknown zoe"})
	})
	if after, _ := b.Target.User("zoe"); !cmp.Equal(before, after) || after["id"] != id {
		t.Errorf("nobody's resource was touched: %s", cmp.Diff(before, after))
	}
}

// While a user is written to nobody knows what the target should hold: nothing is found,
// and that is said. One user with two differences counts once.
func TestWhatIsBeingWrittenIsNotJudged(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	people(b, 2)
	tamper(t, b, 1, "title", "Chief")
	tamper(t, b, 1, "active", false)
	d := comparison(t, b)
	r := compare(t, d)
	if diff := cmp.Diff([]string{"changed u1 title", "disabled u1"}, found(r)); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	written, release := b.Hold(http.MethodPatch, "")
	if _, err := d.Repair(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	<-written
	if r := compare(t, d); r.Pending != 1 || r.InWords() != "all that was judged as it was left" {
		t.Errorf("while it is repaired: %d not judged, found %v", r.Pending, found(r))
	}
	release()
	b.Eventually("u1 is repaired", func() bool {
		r := compare(t, d)
		return r.Pending == 0 && len(r.Findings) == 0
	})
	if u, _ := b.Target.User("u1"); u["title"] == "Chief" || u["active"] != true {
		t.Errorf("user %v", u)
	}
}

// A listing may be cut off, and say so or not: what it does not hold is read by its id,
// and compared as everything else.
func TestCutOffListingIsCompletedByReads(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		quirks     scimtest.Quirks
		incomplete bool
		listed     int
	}{
		{"it repeats the first page", scimtest.Quirks{StuckPaging: true}, true, 4},
		{"it claims to be whole", scimtest.Quirks{MaxListed: 3}, false, 3},
		{"it is refused", scimtest.Quirks{ListByFilterOnly: true}, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "", scimtest.Options{MaxPage: 4})
			b.Start(usersync.Run)
			people(b, 6)
			tamper(t, b, 3, "active", false)
			tamper(t, b, 4, "title", "Chief")
			if err := b.Target.Remove(scim.KindUser, b.Link(user, 5).GetResourceId()); err != nil {
				t.Fatal(err)
			}
			b.Target.SetQuirks(c.quirks)
			r := compare(t, comparison(t, b))
			if (r.Incomplete != "") != c.incomplete || r.Listed != c.listed || r.Unlisted != 5-c.listed || r.Compared != 5 {
				t.Errorf("incomplete %q, %d listed, %d read, %d compared", r.Incomplete, r.Listed, r.Unlisted, r.Compared)
			}
			want := []string{"changed u4 title", "disabled u3", "missing u5"}
			if diff := cmp.Diff(want, found(r)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// Somebody enables all leavers by hand. To disable them again is a removal as any
// other, and the nine that left are in the window already.
func TestRepairIsGuarded(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	guard := b.Config.Connections["wiki"].Guard
	b.Unguarded()
	stop := b.Start(usersync.Run)
	people(b, 20)
	leave(b, 9)
	for n := range 9 {
		b.Until(user, n, func(l *provisioningv1.Link) bool {
			return l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED && l.GetClaim() == nil
		})
	}
	stop()
	b.Config.Connections["wiki"].Guard = guard
	b.Start(usersync.Run)
	for n := range 9 {
		tamper(t, b, n, "active", true)
	}
	d := comparison(t, b)
	r := compare(t, d)
	if r.Counts[worker.DriftEnabled] != 9 {
		t.Fatalf("found %v, want 9 enabled", found(r))
	}
	if _, err := d.Repair(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	b.Eventually("all are held: the window is used up", func() bool { return len(b.Held(user)) == 9 })
	if n := active(b); n != 20 {
		t.Errorf("%d users are active, want 20: nobody approved anything", n)
	}
	b.Mark(user, provisioningv1.Mark_MARK_APPROVED)
	b.Eventually("who is approved is disabled", func() bool { return active(b) == 11 && len(b.Held(user)) == 0 })
}

// A target that asks for a longer pause than a call may last does not end a
// comparison that has read a part of it.
func TestComparisonOutwaitsTheTarget(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{MaxPage: 4})
	b.Start(usersync.Run)
	people(b, 10)
	tamper(t, b, 9, "title", "Chief")
	var pages atomic.Int32
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodGet && r.Path == "/Users" && pages.Add(1) == 2 {
			return &scimtest.Fault{Status: http.StatusTooManyRequests, RetryAfter: 3 * time.Second}
		}
		return nil
	})
	r := compare(t, comparison(t, b))
	if got := found(r); r.Listed != 10 || len(got) != 1 || got[0] != "changed u9 title" {
		t.Errorf("listed %d, found %v", r.Listed, got)
	}
	if n := pages.Load(); n != 4 {
		t.Errorf("%d pages were asked for, want 3 and one again", n)
	}
}

// A pause stops everything, the schedule too.
func TestPausedConnectionIsNotCompared(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.Config.Connections["wiki"].Drift.Interval = 100 * time.Millisecond
	b.Start(usersync.Run)
	people(b, 1)
	b.Eventually("it is compared", func() bool {
		r, err := worker.LastDrift(t.Context(), b.Bus, "wiki", user)
		return err == nil && r.Compared == 1
	})
	if _, err := worker.Pause(t.Context(), b.Bus, "wiki", &provisioningv1.Pause{Reason: provisioningv1.PauseReason_PAUSE_REASON_MANUAL}); err != nil {
		t.Fatal(err)
	}
	b.PausedFor(provisioningv1.PauseReason_PAUSE_REASON_MANUAL)
	var last time.Time
	b.Eventually("the schedule stands still", func() bool {
		r, err := worker.LastDrift(t.Context(), b.Bus, "wiki", user)
		if err != nil {
			return false
		}
		still := r.At.Equal(last) && time.Since(last) > 500*time.Millisecond
		last = r.At
		return still
	})
	if _, err := worker.Resume(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
	b.Eventually("it goes on", func() bool {
		r, err := worker.LastDrift(t.Context(), b.Bus, "wiki", user)
		return err == nil && r.At.After(last)
	})
}

// An element without a value means the same as none: it is no drift, and nothing is
// sent about it.
func TestEmptyElementsAreNoDrift(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", "ann@x"))))
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.User(2, "bob", "Cook", ""))))
	b.Target.SetQuirks(scimtest.Quirks{EmptyElements: []string{"emails", "phoneNumbers"}})
	d := comparison(t, b)
	if got := found(compare(t, d)); len(got) > 0 {
		t.Errorf("drift %v", got)
	}
	b.Target.ResetLog()
	for _, n := range []int{1, 2} {
		if err := b.Bus.Request(t.Context(), user, "wiki", workertest.ID(n), worker.ReasonDrift); err != nil {
			t.Fatal(err)
		}
	}
	b.Eventually("both were read", func() bool { return len(b.Target.Requests()) >= 2 })
	b.Eventually("both are settled", func() bool { r := compare(t, d); return r.Pending == 0 })
	if writes := b.Target.Writes(); len(writes) > 0 {
		t.Errorf("sent: %v", writes)
	}
}
