package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/rollcall-scim/rollcall/pkg/links"
)

// Invariants of the claim protocol (docs/model) that a worker checks itself, in
// production too. None can be broken unless Rollcall, or NATS, has a fault; where one is,
// the entry is parked before anything more is sent for it, and an alert is raised.
const (
	invariantSequence = "sequence"     // the sequence of a link never goes back
	invariantOwner    = "owner"        // a resource has one owner
	invariantClaim    = "claim"        // nothing is sent without a claim
	invariantCommit   = "acknowledged" // nothing is acknowledged without a commit
)

var invariants = []string{invariantSequence, invariantOwner, invariantClaim, invariantCommit}

// violation says that an invariant is broken.
type violation struct{ invariant, reason string }

func (v *violation) Error() string {
	return "broken invariant " + v.invariant + ": " + v.reason + "; nothing is sent for the entry until `rollcall parked retry`, please report it with the log"
}

// violate notes that an invariant is broken: the job ends with it, whatever becomes of
// the rest.
func (j *Job) violate(ctx context.Context, invariant, format string, args ...any) error {
	v := &violation{invariant: invariant, reason: fmt.Sprintf(format, args...)}
	if j.violated == nil {
		j.violated = v
		j.worker.metrics.violation(ctx, invariant)
		j.Log().ErrorContext(ctx, "an invariant is broken, the entry is parked", "invariant", invariant, "reason", v.reason)
	}
	return v
}

// checkSequence checks that the link is not written for an older change than the one
// that was applied.
func (j *Job) checkSequence(ctx context.Context) error {
	l := j.stored
	if l.GetEpoch() == j.worker.epoch && l.GetSequence() > j.Sequence {
		return j.violate(ctx, invariantSequence, "change %d was applied, and %d would be now", l.GetSequence(), j.Sequence)
	}
	return nil
}

// checkOwner checks that no other entry has the resource that the link stands for. A
// resource that moves to another entry does so in one write with this link, which is
// therefore read once more before anything is concluded.
func (j *Job) checkOwner(ctx context.Context) error {
	resource := j.stored.GetResourceId()
	if !links.HasResource(j.stored) || resource == "" {
		return nil
	}
	owner, _, err := j.Links().Owner(ctx, j.Record.Kind, resource)
	if err != nil || owner == nil || bytes.Equal(owner, j.Record.ID) {
		return err
	}
	for _, id := range [][]byte{owner, j.Record.ID} {
		r, err := j.Links().Get(ctx, j.Record.Kind, id)
		if err != nil || !r.Linked() || r.Link.GetResourceId() != resource {
			return err
		}
	}
	return j.violate(ctx, invariantOwner, "resource %s stands in its link and in that of entry %x, which owns it", resource, owner)
}

// checkClaim checks that the link bears this worker's claim.
func (j *Job) checkClaim(ctx context.Context) error {
	if j.claimed() && j.Links().Claimed(j.stored) {
		return nil
	}
	return j.violate(ctx, invariantClaim, "a request would be sent without a claim")
}

// checkCommitted checks that what a job was to apply is durable.
func (j *Job) checkCommitted(ctx context.Context) error {
	l := j.stored
	if l.GetClaim() == nil && l.GetEpoch() == j.worker.epoch && l.GetSequence() == j.Sequence {
		return nil
	}
	return j.violate(ctx, invariantCommit, "change %d would be acknowledged, and its link is at %d", j.Sequence, l.GetSequence())
}

// Write is Target for a request that changes something: it needs the claim. Without one
// the context is over, so that nothing is sent.
func (j *Job) Write(ctx context.Context) (context.Context, context.CancelFunc) {
	call, cancel := j.Target(ctx)
	if err := j.checkClaim(ctx); err != nil {
		cancel()
	}
	return call, cancel
}

// broken is the violation that a job ended with, or else err.
func (j *Job) broken(ctx context.Context, err error) error {
	if err == nil {
		err = j.checkCommitted(ctx)
	}
	if j.violated != nil && (err == nil || !isViolation(err)) {
		return j.violated
	}
	return err
}

func isViolation(err error) bool {
	_, is := errors.AsType[*violation](err)
	return is
}
