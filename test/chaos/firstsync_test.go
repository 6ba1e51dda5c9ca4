package chaos

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

const (
	people   = 500
	teams    = 20
	accounts = 5 // that are on the target before, and are adopted
)

// TestKillDuringFirstSync kills one of the services, or all of them at once, while
// a directory is synchronized for the first time. At least a quarter of the kills
// happen while a creation is under way.
func TestKillDuringFirstSync(t *testing.T) { //nolint:tparallel // the one subtest is there to wait for all the runs
	t.Parallel()
	_, seed := random(t)
	var inFlight atomic.Int64
	t.Run("runs", func(t *testing.T) {
		for i := range *runsFlag {
			t.Run(fmt.Sprintf("seed %d run %d", seed, i), func(t *testing.T) {
				t.Parallel()
				if newFirstSync(t, rand.New(rand.NewPCG(seed, uint64(i)))).run() {
					inFlight.Add(1)
				}
			})
		}
	})
	t.Logf("%d of %d kills with a creation in flight", inFlight.Load(), *runsFlag)
	if int(inFlight.Load()) < *runsFlag/4 {
		t.Errorf("only %d of %d kills happened with a creation in flight", inFlight.Load(), *runsFlag)
	}
}

// firstSync is one run.
type firstSync struct {
	*site

	r         *rand.Rand
	world     *world
	directory *ldaptest.Server
	victim    string
	trap      trap
	running   map[string]*running
}

func newFirstSync(t *testing.T, r *rand.Rand) *firstSync {
	t.Helper()
	w := newWorld(r, people, teams)
	directory := ldaptest.Start(t, ldaptest.Options{LDIF: w.ldif(), MemberOf: "overlay"})
	f := &firstSync{r: r, world: w, directory: directory, running: map[string]*running{}}
	f.victim = []string{detector, userSync, groupSync, allInOne}[r.IntN(4)]
	nats := ""
	if f.victim != allInOne {
		_, nats = external(t)
	}
	f.site = newSite(t, nats, ldapLine(directory))
	f.settle(w, []int{0, 1, 2, 3, 4})
	f.trap = trap{method: http.MethodPost, path: "/Users", nth: 1 + r.IntN(people), moment: moment(r.IntN(int(nrMoments)))}
	if f.victim == groupSync || f.victim == allInOne && r.IntN(3) == 0 {
		f.trap.path, f.trap.nth = "/Groups", 1+r.IntN(teams-1)
	}
	t.Logf("%s is killed at POST %s %d, whose answer is %s", f.victim, f.trap.path, f.trap.nth, f.trap.moment)
	return f
}

// run says whether the victim was killed with a creation of its own in flight.
func (f *firstSync) run() (inFlight bool) {
	f.t.Helper()
	killed := make(chan struct{})
	f.trap.spring = func() {
		f.running[f.victim].Kill()
		close(killed)
	}
	names := []string{allInOne}
	if f.victim != allInOne {
		names = []string{detector, userSync, groupSync}
	}
	for _, name := range names {
		f.running[name] = f.start(name)
	}
	f.arm(f.trap)
	select {
	case <-killed:
	case <-time.After(patience()):
		f.t.Fatalf("there is no such request: %s", f.difference(f.world))
	}
	f.directory.LDIF(f.t, f.meanwhile())
	f.start(f.victim)
	f.converge(f.world)
	f.directory.LDIF(f.t, f.afterwards())
	f.converge(f.world)
	return f.victim != detector
}

// meanwhile is what happens in the directory while the service is dead, to anybody
// but those who are adopted.
func (f *firstSync) meanwhile() string {
	text := ""
	for range f.r.IntN(5) {
		text += f.world.retitle(f.anybody(), fmt.Sprintf("Title %d", f.r.IntN(100))) + f.world.join(f.world.anyTeam(f.r), f.anybody()) + f.world.add()
	}
	return text
}

// afterwards is what happens when the first run is over: only then may something be
// removed.
func (f *firstSync) afterwards() string {
	text := ""
	for range 5 {
		text += f.world.rename(f.anybody()) + f.world.leave(f.world.anyTeam(f.r), f.anybody())
	}
	return text + f.world.fire(f.anybody())
}

func (f *firstSync) anybody() int { return accounts + f.r.IntN(people-accounts) }
