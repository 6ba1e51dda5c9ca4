package worker

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/defect"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// The limiter's times are those of the server that leads the bucket. That clock may be
// set, and another server with another clock may lead the bucket next. When it goes back
// by an hour, what was stored before lies an hour ahead, and nobody meant that. So each
// state says when it was written:
//
//	written later than now            the clock went back since: all its times go back as far
//	further ahead than is possible    an older version wrote it: nothing is waited for
//
// A clock that goes forward ends waits too early: at worst one burst.

const (
	// clockSlack is by how much the clocks of servers may differ, and of what replicas
	// know of them, without being put right: so long somebody may wait in vain.
	clockSlack = 2 * time.Second
	// mostReplicas bounds how many replicas are expected to call one target.
	mostReplicas = 64
)

// timely is the state of a lane as it has to be understood now, and by how much its times
// were ahead of any that can be meant.
func timely(state *provisioningv1.Lane, r scim.Rate, now time.Time) (*provisioningv1.Lane, time.Duration) {
	if defect.Back(defect.Clock) {
		return state, 0
	}
	var ahead time.Duration
	if state.GetWritten() > 0 {
		ahead = time.Unix(0, state.GetWritten()).Sub(now)
	}
	queue := time.Unix(0, state.GetNext()).Sub(now)
	switch {
	case ahead > clockSlack:
	case queue > longestQueue(r):
		ahead = queue
	default:
		return state, 0
	}
	state = proto.CloneOf(state)
	state.Next -= ahead.Nanoseconds()
	state.Changed = min(state.GetChanged(), now.UnixNano())
	return state, ahead
}

// longestQueue is how far ahead the places in time can lie that all replicas have taken:
// each has those that it uses and those that it takes next.
func longestQueue(r scim.Rate) time.Duration {
	gap := time.Duration(float64(time.Second) / (r.RequestsPerSecond * leastFactor))
	return 2 * mostReplicas * max(batchTime, gap)
}

// waitOf is for how long a closure still holds, and whether that can be meant: it never
// holds for longer than when it was written.
func waitOf(c *provisioningv1.Closure, now time.Time) (wait time.Duration, meant bool) {
	until, longest := time.Unix(0, c.GetUntil()), scim.MaxRetryAfter
	if c.GetWritten() > 0 {
		longest = min(longest, until.Sub(time.Unix(0, c.GetWritten())))
	}
	wait = until.Sub(now)
	if defect.Back(defect.Clock) {
		return wait, true
	}
	return min(wait, longest), wait <= longest+clockSlack
}
