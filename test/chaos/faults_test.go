package chaos

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

const (
	faultyEvents   = 1000
	faultyReplicas = 3
	faultyWindow   = 30
	faultPercent   = 5
	// stormPercent is for the creation of a group, which few requests are, and of which
	// the target would keep two.
	stormPercent = 50
)

// TestFaultyTarget is a random history at a target that throttles, fails and cuts
// connections, before and after it did what it was asked, while three replicas of
// each worker are killed in turn. The target becomes equal, nothing is there twice,
// strangers are what they were to the byte, and the calls stay within a bound that
// knows events and faults, but no time. Then everything is delivered again, and
// nothing is written.
func TestFaultyTarget(t *testing.T) {
	r, seed := random(t)
	b, nats := external(t)
	s := &storm{site: newSite(t, nats, unreachable), r: r, bus: b, crowd: newCrowd(r, 100, 10), events: faultyEvents, window: faultyWindow, here: map[int]bool{}}
	s.SetLatency(time.Millisecond)
	s.settle(s.world, []int{0, 1, 2})
	s.deliverAgain()
	w := &weather{r: rand.New(rand.NewPCG(seed, 1)), seen: make([]int, len(climate))}
	s.SetFault(w.fault)
	s.rage(faultyReplicas)
	s.SetFault(nil)
	for i, n := range w.seen {
		if n == 0 {
			t.Errorf("this fault never came: %+v", climate[i])
		}
	}
	calls, bound := len(s.Requests()), s.tally.bound(w.count(), s.kills)
	t.Logf("%d calls, at most %d allowed, %d faults, %+v", calls, bound, w.count(), s.tally)
	if calls > bound {
		t.Errorf("%d calls, want at most %d: %v", calls, bound, s.Counts())
	}
	s.again()
}

// bound is how many calls a history may cost: one for each entry that changed or was
// asked for, and one for each team that follows a person; three more for a fault (it
// is sent again, or looked for, read and sent again); and for a kill, the same for
// what one replica has under way. To be delivered again costs nothing.
func (c tally) bound(faults, kills int) int {
	return c.changed + c.echoes + c.asked + callsOfFault*(faults+kills*underWay)
}

const (
	callsOfFault = 3
	underWay     = 8
)

// climate is every fault of a target.
var climate = []scimtest.Fault{
	{Status: http.StatusTooManyRequests, RetryAfter: time.Second},
	{Status: http.StatusTooManyRequests},
	{Status: http.StatusInternalServerError},
	{Status: http.StatusInternalServerError, AfterCommit: true},
	{Status: http.StatusBadGateway, Body: "<html>bad gateway</html>", AfterCommit: true},
	{Status: http.StatusServiceUnavailable},
	{Reset: scimtest.ResetBeforeCommit},
	{Reset: scimtest.ResetAfterCommit},
}

// weather chooses the faults.
type weather struct {
	mu   sync.Mutex
	r    *rand.Rand
	seen []int // how often each of the climate came
}

func (w *weather) fault(r scimtest.Request) *scimtest.Fault {
	percent := faultPercent
	if r.Method == http.MethodPost && r.Path == "/Groups" {
		percent = stormPercent
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.r.IntN(100) >= percent {
		return nil
	}
	n := w.r.IntN(len(climate))
	w.seen[n]++
	return &climate[n]
}

func (w *weather) count() (all int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.seen {
		all += n
	}
	return all
}
