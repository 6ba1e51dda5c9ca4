package worker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	claimedDelay = 500 * time.Millisecond
	outageDelay  = 4 * time.Second
	refusedDelay = 15 * time.Second
	// maxAttempts is after how many failures that may be the entry's own fault it
	// is parked.
	maxAttempts = 10
)

type waiting struct {
	delay time.Duration
	err   error
}

func (w *waiting) Error() string { return w.err.Error() }
func (w *waiting) Unwrap() error { return w.err }

// Wait says that the entry waits for something that will come by itself; it is
// not recorded as a problem.
func Wait(d time.Duration, err error) error { return &waiting{delay: d, err: err} }

// blocked names the entry that stands in the way, where there is one.
type blocked struct {
	reason string
	by     []byte
}

func (b *blocked) Error() string { return "blocked: " + b.reason }

// Block says that something stands in the way that only a change of the entry,
// of the configuration or of the target can remove.
func Block(reason string) error { return &blocked{reason: reason} }

// blockedBy says that another entry stands in the way; when it gives up what it
// has, this one is looked at again.
func blockedBy(reason string, by []byte) error { return &blocked{reason: reason, by: by} }

// Blocked is the error for an action that cannot be done.
func Blocked(a plan.Action) error {
	by, err := directoryv1.ParseID(a.Owner)
	if err != nil {
		return Block(a.Reason) // nobody in particular
	}
	return blockedBy(a.Reason, by)
}

// ErrDryRun says that the action was computed and not sent.
var ErrDryRun = errors.New("dry run")

// disposition is what becomes of a job whose converger returned an error.
type disposition struct {
	kind    provisioningv1.ProblemKind
	verdict error
	// counts says whether the failure counts as an attempt.
	counts bool
	// excused says that the target is at fault, and the connection paused.
	excused bool
}

// dispose is the one table from errors to verdicts (RFC 7644 section 3.12; what
// real targets mean by their codes).
//
//	a broken invariant        record, terminate
//	claimed by another worker      look again shortly
//	Wait                           look again when it said
//	Block                          record, terminate
//	held by the guard              record, acknowledge
//	NATS gives no answer           its trouble: look again, never counted
//	no answer, 429, 503            the target's trouble: look again, never counted
//	401                            the credentials: look again, loudly, never counted
//	409, 412                       somebody else has the name, and may be giving it up: as other 5xx
//	other 4xx, 501                 refused: park
//	2xx that proves nothing        the target may have done it: look, as other 5xx
//	other 5xx, a panic, all else   retry with back-off; parked after maxAttempts
func dispose(err error, attempts uint32) disposition {
	if w, ok := errors.AsType[*waiting](err); ok {
		return disposition{verdict: bus.Later(w.delay, err)}
	}
	if _, ok := errors.AsType[*blocked](err); ok {
		return disposition{kind: provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED, verdict: bus.Park(err)}
	}
	if _, ok := errors.AsType[*heldError](err); ok {
		return disposition{kind: provisioningv1.ProblemKind_PROBLEM_KIND_HELD, verdict: bus.Hold(err)}
	}
	if isViolation(err) {
		return disposition{kind: provisioningv1.ProblemKind_PROBLEM_KIND_PARKED, verdict: bus.Park(err)}
	}
	if errors.Is(err, links.ErrClaimed) {
		return disposition{verdict: bus.Later(claimedDelay, err)}
	}
	later := func(d time.Duration) disposition {
		return disposition{kind: provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING, verdict: bus.Later(d, err)}
	}
	park := disposition{kind: provisioningv1.ProblemKind_PROBLEM_KIND_PARKED, verdict: bus.Park(err)}
	again := func() disposition {
		d := later(bus.BackOff(uint64(attempts) + 1))
		d.counts = true
		return d
	}
	answer, fromTarget := errors.AsType[*scim.Error](err)
	switch {
	case !fromTarget && bus.Unavailable(err):
		return later(outageDelay)
	case fromTarget && (answer.Status == 0 || scim.IsThrottled(err)):
		return later(cmp.Or(answer.RetryAfter, outageDelay))
	case fromTarget && answer.Status == http.StatusUnauthorized:
		return later(refusedDelay)
	case fromTarget && answer.Status == http.StatusNotFound && !scim.IsNotFound(err):
		return later(outageDelay) // the page of a gateway
	case scim.IsConflict(err) && attempts+1 < maxAttempts:
		return again()
	case fromTarget && answer.Status < http.StatusInternalServerError && answer.Status >= http.StatusBadRequest && answer.Status != http.StatusRequestTimeout:
		return park
	case scim.IsUnsupported(err):
		return park
	case attempts+1 >= maxAttempts:
		return park
	default:
		return again()
	}
}

// conclude records how the job ended and returns the verdict.
func (w *Worker) conclude(ctx context.Context, j *Job, err error) error {
	err = j.broken(ctx, err)
	switch {
	case err == nil:
		return errors.Join(w.dissolve(ctx, j), w.report(ctx, j, provisioningv1.Result_RESULT_APPLIED))
	case errors.Is(err, ErrDryRun):
		return w.rehearse(ctx, j)
	case ctx.Err() != nil:
		return err // the claim stays and says that the target's state is unknown
	}
	d := w.weigh(ctx, err, j.Record.Link.GetAttempts())
	if d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_HELD && j.Outcome.GetAction() > provisioningv1.Action_ACTION_NONE {
		if err := w.report(ctx, j, provisioningv1.Result_RESULT_APPLIED); err != nil { // what was not held
			return err
		}
		o := j.Outcome
		j.Outcome = &provisioningv1.Outcome{EntryId: o.GetEntryId(), Kind: o.GetKind(), Sequence: o.GetSequence(), Action: provisioningv1.Action_ACTION_NONE}
	}
	if d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_HELD {
		if err := w.guard.trim(ctx, j); err != nil {
			return err
		}
	}
	waited := j.stored.GetProblem().GetBlockedBy()
	if recordErr := w.record(ctx, j, d, err); recordErr != nil {
		return errors.Join(err, recordErr)
	}
	if b, ok := errors.AsType[*blocked](err); ok && b.by != nil {
		if err := w.deps.Links.WaitFor(ctx, j.Record.Kind, b.by, j.Record.ID); err != nil {
			return err
		}
		if !bytes.Equal(waited, b.by) { // it may have given up what it has before we waited
			return bus.Later(claimedDelay, err)
		}
	}
	if result, ended := resultOf[d.kind]; ended && !j.saidAlready(d.kind) {
		if reportErr := w.report(ctx, j, result); reportErr != nil {
			return errors.Join(err, reportErr)
		}
	}
	if d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING && (j.Requested || w.cfg.DryRun) {
		return bus.Surely(d.verdict) // who finds nothing to do writes nothing, and so does not meet this record
	}
	return d.verdict
}

// rehearse reports what a dry run would do, once, and remembers which resource the
// entry would have: groups ask for those of their members. What stood in the way is
// forgotten.
func (w *Worker) rehearse(ctx context.Context, j *Job) error {
	planned, err := j.planned()
	if err != nil {
		return err
	}
	said := proto.Equal(planned, j.stored.GetPlanned())
	if said && (j.stored.GetProblem() == nil || j.wasHeld) {
		return nil
	}
	if !said {
		if err := w.report(ctx, j, provisioningv1.Result_RESULT_DRY_RUN); err != nil {
			return err
		}
	}
	j.Record.Link = proto.CloneOf(j.stored)
	j.Record.Link.Planned = planned
	if !j.wasHeld { // that waits for a person, whoever runs
		j.Record.Link.Problem, j.Record.Link.Attempts = nil, 0
	}
	if j.Record.Link.GetState() == provisioningv1.LinkState_LINK_STATE_UNSPECIFIED {
		j.Record.Link.State = provisioningv1.LinkState_LINK_STATE_NONE
	}
	_, err = j.commit(ctx)
	return err
}

// saidAlready says whether the audit log holds already that this removal waits:
// another look at it is nothing new.
func (j *Job) saidAlready(kind provisioningv1.ProblemKind) bool {
	return kind == provisioningv1.ProblemKind_PROBLEM_KIND_HELD && j.wasHeld && j.wasAt == j.Sequence
}

// resultOf is how a job has ended for now, for the audit log.
var resultOf = map[provisioningv1.ProblemKind]provisioningv1.Result{
	provisioningv1.ProblemKind_PROBLEM_KIND_PARKED:  provisioningv1.Result_RESULT_PARKED,
	provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED: provisioningv1.Result_RESULT_BLOCKED,
	provisioningv1.ProblemKind_PROBLEM_KIND_HELD:    provisioningv1.Result_RESULT_HELD,
}

// dissolve forgets what was held of an entry, now that nothing is; but not what
// another replica has held of a newer change.
func (w *Worker) dissolve(ctx context.Context, j *Job) error {
	if !j.asked && !j.wasHeld && !j.Requested { // what a crash left behind is found when somebody asks
		return nil
	}
	return w.guard.held.DropUnless(ctx, j.Record.Kind, j.Record.ID, func(h *provisioningv1.Held) (bool, error) {
		if h.GetSequence() <= j.Sequence {
			return false, nil
		}
		newest, err := j.Newest(ctx) // a stream that was made anew counts from one
		if errors.Is(err, bus.ErrNotFound) {
			return false, nil
		}
		return h.GetSequence() <= newest, err
	})
}

// weigh is dispose, but that an entry is not blamed for what is the target's fault.
func (w *Worker) weigh(ctx context.Context, err error, attempts uint32) disposition {
	d := dispose(err, attempts)
	if !w.deps.Breaker.Blames(ctx, err, d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_PARKED) {
		return d
	}
	d = disposition{verdict: bus.Later(pausedDelay, err), excused: true}
	if !errors.Is(err, errPaused) {
		d.kind = provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING
	}
	return d
}

// record writes the problem into the link and gives the claim up. After an
// ambiguous failure the claim stays without an owner: whoever comes next looks
// first.
func (w *Worker) record(ctx context.Context, j *Job, d disposition, err error) error {
	later := d.kind == 0 || d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING
	if d.kind == 0 && !j.claimed() && !j.repair {
		return nil
	}
	l := proto.CloneOf(j.stored) // what was never stored is not a fact
	j.Record.Link = l
	if j.claimed() && l.GetClaim() != nil {
		if known(err) {
			l.Claim = nil
		} else {
			l.Claim.Owner = ""
		}
	}
	if j.repair && later && l.GetClaim() == nil { // another request may take the place of the one that asked for a look
		l.Claim = &provisioningv1.Claim{Sequence: j.Sequence, Intent: provisioningv1.Intent_INTENT_UPDATE}
	}
	if d.counts {
		l.Attempts++
	}
	if d.kind != 0 {
		l.Problem = w.problem(l.GetProblem(), d.kind, j.Sequence, err)
		j.Outcome.Problem = proto.CloneOf(l.GetProblem())
		j.Outcome.Problem.Request, j.Outcome.Problem.Answer = "", "" // for 90 days, and for more eyes
	}
	if l.GetState() == 0 {
		l.State = provisioningv1.LinkState_LINK_STATE_NONE
	}
	w.log(ctx, j, d, err)
	if _, err := j.commit(ctx); err != nil && !errors.Is(err, bus.ErrConflict) {
		return err
	}
	return nil // after a conflict the other worker's record is the newer one
}

// known says whether the target's state is certain in spite of the error: it gave
// an answer that means that nothing was done, or nothing was asked of it.
func known(err error) bool {
	if _, answered := errors.AsType[*scim.Error](err); answered {
		return !scim.IsAmbiguous(err)
	}
	_, waits := errors.AsType[*waiting](err)
	_, stands := errors.AsType[*blocked](err)
	_, held := errors.AsType[*heldError](err)
	return waits || stands || held
}

func (w *Worker) log(ctx context.Context, j *Job, d disposition, err error) {
	args := []any{"entry", j.EntryID(), "problem", d.kind.String(), "error", plain(err)}
	switch {
	case d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_PARKED, d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED:
		w.deps.Log.WarnContext(ctx, "change parked", args...)
	case d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_HELD:
		w.deps.Log.WarnContext(ctx, "removal held", append(args, "cure", "look at `rollcall held`")...)
	case d.counts:
		w.deps.Log.WarnContext(ctx, "change not applied, trying again", args...)
	case scim.IsUnauthorized(err) && !d.excused:
		w.deps.Log.ErrorContext(ctx, "the target refuses the credentials", append(args, "cure", "check connections."+w.cfg.Connection+".target.auth")...)
	default:
		w.deps.Log.DebugContext(ctx, "change not applied yet", args...)
	}
}

// plain is an error without the words of the target or of an expression, which may
// hold personal data; those stand in the link. Where there was no answer, the cause
// is the network's or our own.
func plain(err error) string {
	if e, ok := errors.AsType[*scim.Error](err); ok {
		if e.Status == 0 && e.Err != nil {
			return fmt.Sprintf("%s %s: no answer: %v", e.Method, e.Route, e.Err)
		}
		if scim.IsUnproven(err) {
			return fmt.Sprintf("%s %s: status %d: %v", e.Method, e.Route, e.Status, e.Err)
		}
		return fmt.Sprintf("%s %s: status %d %s", e.Method, e.Route, e.Status, e.ScimType)
	}
	if _, ok := errors.AsType[*blocked](err); ok {
		return "see `rollcall status`"
	}
	return err.Error()
}

// problem describes an error in words for a person. The first time is kept as
// long as the message is the same.
func (w *Worker) problem(former *provisioningv1.Problem, kind provisioningv1.ProblemKind, sequence uint64, err error) *provisioningv1.Problem {
	now := timestamppb.Now()
	p := &provisioningv1.Problem{Kind: kind, Message: err.Error(), FirstAt: now, LastAt: now, Sequence: sequence}
	if answer, ok := errors.AsType[*scim.Error](err); ok {
		p.HttpStatus, p.ScimType = uint32(max(0, answer.Status)), answer.ScimType //nolint:gosec // an HTTP status
		shown := w.mask.show(answer.RequestBody, answer.ResponseBody, p.GetMessage())
		p.Request, p.Answer, p.Message = shown.request, shown.answer, shown.message
	}
	if b, ok := errors.AsType[*blocked](err); ok {
		p.Message, p.BlockedBy = b.reason, b.by
	}
	if h, ok := errors.AsType[*heldError](err); ok {
		p.Message = h.reason
	}
	if former.GetMessage() == p.GetMessage() && former.GetFirstAt() != nil {
		p.FirstAt = former.GetFirstAt()
	}
	return p
}

// EntryID is the entry id in hex, for logs.
func (j *Job) EntryID() string { return hex.EncodeToString(j.Record.ID) }
