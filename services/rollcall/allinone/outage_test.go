package allinone_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

const (
	user   = directoryv1.Kind_KIND_USER
	group  = directoryv1.Kind_KIND_GROUP
	people = 50
	teams  = 3
)

// publishCompany publishes people and the teams that they are in: the first one
// holds everybody, the second every second one, and so on.
func publishCompany(b *workertest.Bench) {
	for n := range people {
		b.Publish(workertest.User(n, fmt.Sprintf("u%02d", n), "", ""))
	}
	for team := range teams {
		var members []int
		for n := 0; n < people; n += team + 1 {
			members = append(members, n)
		}
		b.Group(1000+team, fmt.Sprintf("team%d", team), members...)
	}
}

// wantCompany waits until the target holds the company, and looks for duplicates
// and for what was parked.
func wantCompany(t *testing.T, b *workertest.Bench) {
	t.Helper()
	b.Eventually("the target holds the company", func() bool {
		for team := range teams {
			if len(b.Target.Members(fmt.Sprintf("team%d", team))) != (people+team)/(team+1) {
				return false
			}
		}
		return b.Provisioned(user) == people && b.Provisioned(group) == teams
	})
	if users, groups := b.Target.Count(scim.KindUser), b.Target.Count(scim.KindGroup); users != people || groups != teams {
		t.Errorf("%d users and %d groups on the target, want %d and %d", users, groups, people, teams)
	}
}

// wantUnblamed looks for entries that an outage was held against.
func wantUnblamed(t *testing.T, b *workertest.Bench, attempts uint32) {
	t.Helper()
	for _, kind := range []directoryv1.Kind{user, group} {
		for id, l := range b.Links(kind) {
			if workertest.Parked(l) || l.GetAttempts() > attempts {
				t.Errorf("%v %s has %d attempts: %v", kind, id, l.GetAttempts(), l.GetProblem())
			}
		}
	}
}

func TestTargetThatIsAwayLosesNothing(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Breaker = workertest.Quick
	b.Down()
	publishCompany(b)
	b.Start(usersync.Run, groupsync.Run)
	b.Start(usersync.Run, groupsync.Run)
	b.PausedFor(provisioningv1.PauseReason_PAUSE_REASON_OUTAGE)
	for name, g := range b.Consumers() {
		b.Eventually(name+" is paused", func() bool { return b.Consumers()[name].Paused || g.Paused })
	}
	wantUnblamed(t, b, 1)
	b.Up()
	b.Resumed()
	wantCompany(t, b)
}

func TestTenSecondsOfOutageCostAHandfulOfCalls(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	var down atomic.Bool
	down.Store(true)
	b.Target.SetFault(func(scimtest.Request) *scimtest.Fault {
		if down.Load() {
			return &scimtest.Fault{Status: http.StatusInternalServerError, Detail: "the database is away"}
		}
		return nil
	})
	publishCompany(b)
	b.Start(usersync.Run, groupsync.Run)
	b.Start(usersync.Run, groupsync.Run)
	pause := b.PausedFor(provisioningv1.PauseReason_PAUSE_REASON_OUTAGE)
	if want := "look a User up by userName: GET /Users: 500 Internal Server Error: the database is away"; pause.GetMessage() != want {
		t.Errorf("message %q, want %q", pause.GetMessage(), want)
	}
	opened := len(b.Target.Requests())
	<-time.After(10 * time.Second)
	during := len(b.Target.Requests())
	wantUnblamed(t, b, 1)
	down.Store(false)
	back := time.Now()
	b.Resumed()
	resumed := time.Since(back)
	b.Eventually("work goes on", func() bool { return b.Target.Count(scim.KindUser) > 0 })
	first := time.Since(back)
	wantCompany(t, b)
	t.Logf("%d calls until the pause, %d during 10 s of it; resumed %s after the return, first user after %s, all after %s",
		opened, during-opened, resumed, first, time.Since(back))
	if opened > 80 || during-opened > 6 {
		t.Errorf("%d calls until the pause and %d during it are more than a handful", opened, during-opened)
	}
	if first-resumed > 3*time.Second {
		t.Errorf("work went on %s after the resume", first-resumed)
	}
}

func TestMaintenanceLastsAsLongAsTheTargetSays(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	const length = 6 * time.Second
	begin := time.Now()
	b.Target.SetFault(func(scimtest.Request) *scimtest.Fault {
		if left := length - time.Since(begin); left > 0 {
			return &scimtest.Fault{Status: http.StatusServiceUnavailable, RetryAfter: max(left, length)}
		}
		return nil
	})
	publishCompany(b)
	b.Start(usersync.Run, groupsync.Run)
	b.PausedFor(provisioningv1.PauseReason_PAUSE_REASON_OUTAGE)
	b.Resumed()
	if took := time.Since(begin); took < length {
		t.Errorf("resumed after %s, the target asked for %s", took, length)
	}
	calls := 0
	for _, r := range b.Target.Requests() {
		if r.Status == http.StatusServiceUnavailable {
			calls++
		}
	}
	t.Logf("%d calls during the maintenance", calls)
	if calls > 40 {
		t.Errorf("%d calls during the maintenance", calls)
	}
	wantCompany(t, b)
	wantUnblamed(t, b, 0)
}

// faulty is how many calls a flaky target fails among: the last entries would meet
// failures only, and wait longer each time.
const faulty = 80

func TestFlakyTargetLosesNothing(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, seed))
	cases := map[string]func(call int) *scimtest.Fault{
		"500 to every third call": func(call int) *scimtest.Fault {
			if call%3 == 0 {
				return &scimtest.Fault{Status: http.StatusInternalServerError, AfterCommit: call%2 == 0}
			}
			return nil
		},
		"connections cut before and after the work is done": func(int) *scimtest.Fault {
			resets := []scimtest.Reset{scimtest.ResetBeforeCommit, scimtest.ResetAfterCommit, scimtest.ResetNone, scimtest.ResetNone, scimtest.ResetNone}
			return &scimtest.Fault{Reset: resets[random.IntN(len(resets))]}
		},
	}
	for name, fault := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			b.Breaker = workertest.Quick
			var mu sync.Mutex
			calls := 0
			b.Target.SetFault(func(scimtest.Request) *scimtest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if calls++; calls > faulty {
					return nil
				}
				return fault(calls)
			})
			publishCompany(b)
			b.Start(usersync.Run, groupsync.Run)
			b.Start(usersync.Run, groupsync.Run)
			wantCompany(t, b)
			wantUnblamed(t, b, 9)
		})
	}
}

func TestPauseSurvivesEveryReplica(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Breaker = workertest.Quick
	stop := b.Start(usersync.Run, groupsync.Run)
	b.Down()
	publishCompany(b)
	b.PausedFor(provisioningv1.PauseReason_PAUSE_REASON_OUTAGE)
	stop()
	b.Up()
	if b.Paused() == nil {
		t.Fatal("resumed while nobody ran")
	}
	b.Start(usersync.Run, groupsync.Run)
	b.Resumed()
	wantCompany(t, b)
	if names := b.Target.Members("team0"); !slices.Contains(names, "u00") {
		t.Errorf("members %v", names)
	}
}
