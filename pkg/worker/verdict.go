package worker

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim"
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

type blocked struct{ reason string }

func (b *blocked) Error() string { return "blocked: " + b.reason }

// Block says that something stands in the way that only a change of the entry,
// of the configuration or of the target can remove.
func Block(reason string) error { return &blocked{reason: reason} }

// ErrDryRun says that the action was computed and not sent.
var ErrDryRun = errors.New("dry run")

// disposition is what becomes of a job whose converger returned an error.
type disposition struct {
	kind    provisioningv1.ProblemKind
	verdict error
	// counts says whether the failure counts as an attempt.
	counts bool
}

// dispose is the one table from errors to verdicts (RFC 7644 section 3.12; what
// real targets mean by their codes).
//
//	claimed by another worker      look again shortly
//	Wait                           look again when it said
//	Block                          record, terminate
//	no answer, 429, 503            the target's trouble: look again, never counted
//	401                            the credentials: look again, loudly, never counted
//	other 4xx, 501                 refused: park
//	other 5xx, anything else       retry with back-off; parked after maxAttempts
func dispose(err error, attempts uint32) disposition {
	if w, ok := errors.AsType[*waiting](err); ok {
		return disposition{verdict: bus.Later(w.delay, err)}
	}
	if _, ok := errors.AsType[*blocked](err); ok {
		return disposition{kind: provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED, verdict: bus.Park(err)}
	}
	if errors.Is(err, links.ErrClaimed) {
		return disposition{verdict: bus.Later(claimedDelay, err)}
	}
	later := func(d time.Duration) disposition {
		return disposition{kind: provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING, verdict: bus.Later(d, err)}
	}
	park := disposition{kind: provisioningv1.ProblemKind_PROBLEM_KIND_PARKED, verdict: bus.Park(err)}
	answer, fromTarget := errors.AsType[*scim.Error](err)
	switch {
	case fromTarget && (answer.Status == 0 || scim.IsThrottled(err)):
		return later(cmp.Or(answer.RetryAfter, outageDelay))
	case fromTarget && answer.Status == http.StatusUnauthorized:
		return later(refusedDelay)
	case fromTarget && answer.Status < http.StatusInternalServerError && answer.Status >= http.StatusBadRequest && answer.Status != http.StatusRequestTimeout:
		return park
	case scim.IsUnsupported(err):
		return park
	case attempts+1 >= maxAttempts:
		return park
	default:
		return disposition{kind: provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING, verdict: err, counts: true}
	}
}

// conclude records how the job ended and returns the verdict.
func (w *Worker) conclude(ctx context.Context, j *Job, err error) error {
	switch {
	case err == nil:
		return w.report(ctx, j, provisioningv1.Result_RESULT_APPLIED)
	case errors.Is(err, ErrDryRun):
		return w.report(ctx, j, provisioningv1.Result_RESULT_DRY_RUN)
	case ctx.Err() != nil:
		return err // the claim stays and says that the target's state is unknown
	}
	d := dispose(err, j.Record.Link.GetAttempts())
	if recordErr := w.record(ctx, j, d, err); recordErr != nil {
		return errors.Join(err, recordErr)
	}
	if d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_PARKED || d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED {
		result := provisioningv1.Result_RESULT_PARKED
		if d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED {
			result = provisioningv1.Result_RESULT_BLOCKED
		}
		if reportErr := w.report(ctx, j, result); reportErr != nil {
			return errors.Join(err, reportErr)
		}
	}
	return d.verdict
}

// record writes the problem into the link and gives the claim up. After an
// ambiguous failure the claim stays without an owner: whoever comes next looks
// first.
func (w *Worker) record(ctx context.Context, j *Job, d disposition, err error) error {
	l := j.Record.Link
	claimed := !j.deadline.IsZero()
	if d.kind == 0 && !claimed {
		return nil
	}
	if claimed {
		if scim.IsAmbiguous(err) {
			l.Claim.Owner = ""
		} else {
			l.Claim = nil
		}
	}
	if d.counts {
		l.Attempts++
	}
	if d.kind != 0 {
		l.Problem = problem(l.GetProblem(), d.kind, err)
		j.Outcome.Problem = l.GetProblem()
	}
	if l.GetState() == 0 {
		l.State = provisioningv1.LinkState_LINK_STATE_NONE
	}
	w.log(ctx, j, d, err)
	if _, err := w.deps.Links.Commit(ctx, j.Record); err != nil && !errors.Is(err, bus.ErrConflict) {
		return err
	}
	return nil // after a conflict the other worker's record is the newer one
}

func (w *Worker) log(ctx context.Context, j *Job, d disposition, err error) {
	args := []any{"entry", j.EntryID(), "problem", d.kind.String(), "error", err}
	switch {
	case d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_PARKED, d.kind == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED:
		w.deps.Log.WarnContext(ctx, "change parked", args...)
	case scim.IsUnauthorized(err):
		w.deps.Log.ErrorContext(ctx, "the target refuses the credentials", append(args, "cure", "check connections."+w.cfg.Connection+".target.auth")...)
	default:
		w.deps.Log.DebugContext(ctx, "change not applied yet", args...)
	}
}

// problem describes an error in words for a person. The first time is kept as
// long as the message is the same.
func problem(former *provisioningv1.Problem, kind provisioningv1.ProblemKind, err error) *provisioningv1.Problem {
	now := timestamppb.Now()
	p := &provisioningv1.Problem{Kind: kind, Message: err.Error(), FirstAt: now, LastAt: now}
	if answer, ok := errors.AsType[*scim.Error](err); ok {
		p.HttpStatus, p.ScimType = uint32(max(0, answer.Status)), answer.ScimType //nolint:gosec // an HTTP status
	}
	if b, ok := errors.AsType[*blocked](err); ok {
		p.Message = b.reason
	}
	if former.GetMessage() == p.GetMessage() && former.GetFirstAt() != nil {
		p.FirstAt = former.GetFirstAt()
	}
	return p
}

// EntryID is the entry id in hex, for logs.
func (j *Job) EntryID() string { return hex.EncodeToString(j.Record.ID) }
