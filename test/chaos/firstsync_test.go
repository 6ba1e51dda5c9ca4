package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

const (
	people   = 500
	teams    = 20
	accounts = 5 // that are on the target before, and are adopted
)

// TestKillDuringFirstSync kills one of the services, or all of them at once, while
// a directory is synchronized for the first time, at a creation that the target
// loses, carries out late, or answers to nobody.
func TestKillDuringFirstSync(t *testing.T) {
	t.Parallel()
	_, seed := random(t)
	for i := range *runsFlag {
		t.Run(fmt.Sprintf("seed %d run %d", seed, i), func(t *testing.T) {
			t.Parallel()
			newFirstSync(t, rand.New(rand.NewPCG(seed, uint64(i))), i).run()
		})
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

// victims are the programs that are killed in turn.
var victims = []string{detector, userSync, groupSync, allInOne}

// everyKill is how many runs it takes until each victim was killed at each moment.
const everyKill = 4 * int(nrMoments)

func newFirstSync(t *testing.T, r *rand.Rand, number int) *firstSync {
	t.Helper()
	w := newWorld(r, people, teams)
	directory := ldaptest.Start(t, ldaptest.Options{LDIF: w.ldif(), MemberOf: "overlay"})
	f := &firstSync{r: r, world: w, directory: directory, running: map[string]*running{}}
	f.victim, f.trap = chooseKill(r, number)
	nats := ""
	if f.victim != allInOne {
		_, nats = external(t)
	}
	f.site = newSite(t, nats, ldapLine(directory))
	f.settle(w, []int{0, 1, 2, 3, 4})
	t.Logf("%s is killed at POST %s %d, whose answer is %s", f.victim, f.trap.path, f.trap.nth, f.trap.moment)
	return f
}

// chooseKill takes the victim and the moment in turn, and the creation at random.
// It is one that comes: the accounts and the first team are adopted, not created.
func chooseKill(r *rand.Rand, number int) (victim string, at trap) {
	victim = victims[number%len(victims)]
	at = trap{method: http.MethodPost, path: "/Users", nth: 1 + r.IntN(people-accounts), moment: moment(number / len(victims) % int(nrMoments))}
	if victim == groupSync || victim == allInOne && r.IntN(3) == 0 {
		at.path, at.nth = "/Groups", 1+r.IntN(teams-1)
	}
	return victim, at
}

// TestChooseKill takes every victim at every moment, and only creations that come.
func TestChooseKill(t *testing.T) {
	t.Parallel()
	most := map[string]int{}
	seen := map[string]bool{}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 1000 * everyKill {
		victim, at := chooseKill(r, i)
		most[at.path] = max(most[at.path], at.nth)
		if i < everyKill {
			seen[victim+" "+at.moment.String()] = true
		}
	}
	if want := map[string]int{"/Users": people - accounts, "/Groups": teams - 1}; !maps.Equal(most, want) {
		t.Errorf("the last creations are %v, want %v", most, want)
	}
	if len(seen) != everyKill {
		t.Errorf("%d runs kill at %d moments, want each once: %v", everyKill, len(seen), seen)
	}
}

// run kills the victim at the trap, lets another one take its place, and waits until
// the target is equal.
func (f *firstSync) run() {
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
		f.t.Fatalf("POST %s %d did not come: %d users and %d groups are there; %s\n%s",
			f.trap.path, f.trap.nth, f.Count(scim.KindUser), f.Count(scim.KindGroup), f.difference(f.world), f.troubles())
	}
	f.directory.LDIF(f.t, f.meanwhile())
	f.start(f.victim)
	f.converge(f.world)
	f.directory.LDIF(f.t, f.afterwards())
	f.converge(f.world)
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
