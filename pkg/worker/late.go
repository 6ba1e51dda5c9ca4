package worker

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/defect"
	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// NetworkMaximum is how long a request is expected to stay in the network, its proxies
// included, after its sender has gone: the maximum segment lifetime of TCP (RFC 9293
// section 3.4.2).
const NetworkMaximum = 2 * time.Minute

// LookAgainAfter is how long after the take-over of an abandoned write the resource is
// read again: the time-out of an HTTP request, which its sender may have begun as its
// last act, and NetworkMaximum.
//
// Who takes over looks at the target first. A request that is still in the network then
// arrives after that look, and overwrites what the successor wrote: an older value, or a
// deletion. The second look compares the resource with what was last applied and repairs
// it through the same path, guard included.
const LookAgainAfter = scim.DefaultTimeout + NetworkMaximum

// reasonLate is the reason of the request that comes when a second look is due.
const reasonLate = "late"

// expectLateWrite schedules a second look where the job takes an abandoned write over: of
// another worker, or of an earlier delivery in this process, which was cut in the middle
// and left its claim. tried says that this delivery has tried already; what it finds of
// its own claim then had an answer. The schedule makes the request; the link holds the
// time as well, because another request may take the place of that one.
func (w *Worker) expectLateWrite(ctx context.Context, j *Job, tried bool) error {
	cut := !tried && w.deps.Links.Claimed(j.Record.Link)
	if !cut && !w.deps.Links.Abandoned(j.Record.Link) {
		return nil
	}
	return w.lookLater(ctx, j)
}

// lookLater schedules a second look at a resource for which a request may still be in the
// network.
func (w *Worker) lookLater(ctx context.Context, j *Job) error {
	if defect.Back(defect.Late) {
		return nil
	}
	at := time.Now().Add(w.cfg.LookAgain)
	if err := j.RequestAt(ctx, reasonLate, at.Add(time.Second)); err != nil { // schedules know whole seconds
		return err
	}
	j.second = false
	j.Record.Link.LookAgainAt = timestamppb.New(at)
	j.stored.LookAgainAt = j.Record.Link.GetLookAgainAt()
	return nil
}

// secondLookDue says whether the resource is to be read again now: the request for it
// has come, or its time by this worker's clock. A request that NATS published before that
// time is of an earlier abandoned write, and waited here while the later one was made.
func secondLookDue(j *Job, d *bus.Delivery) bool {
	at := j.Record.Link.GetLookAgainAt()
	if at == nil {
		return false
	}
	asked := lookAsked(d) && !d.Published.Before(at.AsTime())
	return asked || !time.Now().Before(at.AsTime())
}

func lookAsked(d *bus.Delivery) bool { return d.Request && d.Reason() == reasonLate }

// lookStill schedules the second look once more where the request that has come is of an
// earlier write: an entry has one schedule, and another worker may have set it back.
func (j *Job) lookStill(ctx context.Context, d *bus.Delivery) error {
	at := j.Record.Link.GetLookAgainAt()
	if at == nil || j.second || !lookAsked(d) {
		return nil
	}
	return j.RequestAt(ctx, reasonLate, at.AsTime().Add(time.Second))
}

// NameTwins says in the log where a creation that arrived late has made a second
// resource of the entry, which bears the same externalId. It is nobody's, and stays:
// `rollcall drift` shows it as a duplicate. Only a second look asks.
func (j *Job) NameTwins(ctx context.Context, target finder, kind scim.Kind, externalID string) error {
	if !j.second || externalID == "" || !j.Record.Linked() {
		return nil
	}
	call, cancel := j.Target(ctx)
	defer cancel()
	found, err := target.Find(call, kind, "externalId", externalID)
	if scim.IsRejected(err) || scim.IsUnsupported(err) {
		return nil // it cannot search by it
	}
	if err != nil {
		return err
	}
	for _, r := range found {
		if r.ID != j.Record.Link.GetResourceId() {
			j.Log().WarnContext(ctx, "a creation that arrived late has made a second resource of an entry", "scim_id", r.ID,
				"linked_scim_id", j.Record.Link.GetResourceId(), "cure", "delete it on the target; `rollcall drift` lists it as a duplicate")
		}
	}
	return nil
}
