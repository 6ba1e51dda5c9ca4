package usersync_test

import (
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
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
