package worker

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Job is one entry to converge. It belongs to one goroutine.
type Job struct {
	Change   *directoryv1.Change
	Sequence uint64
	// Set are the attributes that the detector read for the change.
	Set mapping.Set
	// Record holds the link; the converger changes it and commits it.
	Record *links.Record
	// Requested is set when somebody asked for another look: nothing is skipped.
	Requested bool
	reason    string // of the request
	// Outcome is filled in by the converger and goes to the audit log.
	Outcome *provisioningv1.Outcome

	worker *Worker
	// stored is the link as the bucket holds it; Record.Link may be ahead of it.
	stored *provisioningv1.Link
	// repair is set when another worker took over while we wrote to the target.
	repair bool
	// resumed is set when an earlier worker may have ended in the middle. The link
	// says so too, because a server that is killed forgets its last deliveries.
	resumed bool
	// second is set when the resource is read again after an abandoned write; see
	// LookAgainAfter.
	second bool
	// uncompared is set when the link does not say what the resource holds.
	uncompared bool
	// unanswered is set when a request to the target was sent and not answered, by this job
	// or by one of the same delivery before it.
	unanswered         *atomic.Bool
	detected, deadline time.Time
	violated           *violation // the invariant that the job has found broken

	// approved is set when a person approved in the source what the change removes.
	approved bool
	// wasHeld is set when something of the entry was held before, asked when the
	// guard recorded that something is, and held when that still waits.
	wasHeld, asked bool
	held           error
	// parts and reasons are those of what the guard was asked about and held, with the
	// hashes of members; firstRun is set when it belongs to a first run.
	parts, reasons []string
	membersHash    []byte
	firstRun       bool
	judged         []class // what the guard was asked about
	wasAt          uint64  // sequence of the link before
	givenUp        bool    // see GivenUp
	// problemBefore is the entry's problem when the job began.
	problemBefore *provisioningv1.Problem
	// also is what the action does beside what the outcome names.
	also provisioningv1.Action
	// unapplied is what the target did not apply of what the job sent, by path.
	unapplied map[string]*provisioningv1.UnappliedAttribute

	// dry jobs only compute a forecast; offline ones without a call to the target. trial
	// jobs are those of a dry run: the guard judges them, and nothing is counted or held.
	dry, offline, trial bool
	forecast            Forecast
}

// adopting says whether what is done belongs to the adoption of a resource: there is no
// link yet, or its adoption is not finished.
func (j *Job) adopting() bool { return !j.Record.Linked() || j.Record.Link.GetAdopting() }

// Linked is the link in the words of the plan.
func (j *Job) Linked() plan.Linked {
	l := j.Record.Link
	states := map[provisioningv1.LinkState]plan.State{
		provisioningv1.LinkState_LINK_STATE_ACTIVE:   plan.Active,
		provisioningv1.LinkState_LINK_STATE_DISABLED: plan.Disabled,
		provisioningv1.LinkState_LINK_STATE_REMOVED:  plan.Removed,
	}
	return plan.Linked{
		State: states[l.GetState()], ResourceID: l.GetResourceId(), Attributes: l.GetAttributes(), Deletion: deletionOf(l, time.Now()),
		FoundInactive: l.GetFoundInactive(),
	}
}

// Abandoned says whether an earlier worker gave up in the middle of a write: the
// target's state is unknown and has to be looked at first.
func (j *Job) Abandoned() bool { return !j.dry && (j.repair || j.Record.Link.GetClaim() != nil) }

// Foretelling says whether the job only finds out what would be done.
func (j *Job) Foretelling() bool { return j.dry }

// Offline says whether the job must not call the target.
func (j *Job) Offline() bool { return j.offline }

// LostCreate says whether what was given up may have been a creation: the target
// may hold a resource that no link names.
func (j *Job) LostCreate() bool {
	return j.Abandoned() && !j.Record.Linked() && j.Record.Link.GetClaim().GetIntent() != provisioningv1.Intent_INTENT_DELETE
}

// claimed says whether this job has claimed the entry.
func (j *Job) claimed() bool { return !j.deadline.IsZero() }

// commit writes the link and remembers what was written.
func (j *Job) commit(ctx context.Context, writes ...bus.Write) ([]uint64, error) {
	if j.unanswered.Swap(false) {
		if err := j.worker.lookLater(ctx, j); err != nil {
			return nil, err
		}
	}
	revisions, err := j.worker.deps.Links.Commit(ctx, j.Record, writes...)
	if err == nil {
		j.stored = proto.CloneOf(j.Record.Link)
	}
	return revisions, err
}

// Claim makes this worker the one that may write to the target. Nothing may be
// sent after the deadline that Target sets, which counts from before the claim.
func (j *Job) Claim(ctx context.Context, intent provisioningv1.Intent, writes ...bus.Write) error {
	if err := errors.Join(j.checkSequence(ctx), j.checkOwner(ctx)); err != nil {
		return err
	}
	started := time.Now()
	if err := j.worker.deps.Links.Claim(ctx, j.Record, j.Sequence, intent, writes...); err != nil {
		return err
	}
	j.stored = proto.CloneOf(j.Record.Link)
	j.deadline = started.Add(failpoint.Scale(links.Lease - links.Margin))
	return nil
}

var errLeaseOver = errors.New("the claim's time is over")

// Target bounds a call to the target by the claim. Each call is counted.
func (j *Job) Target(ctx context.Context) (context.Context, context.CancelFunc) {
	j.Outcome.Calls++
	ctx = scim.WithUnanswered(ctx, func() { j.unanswered.Store(true) })
	if j.deadline.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadlineCause(ctx, j.deadline, errLeaseOver)
}

// Progress commits what was done so far and keeps the claim, which begins anew.
// It returns the revisions of the writes.
func (j *Job) Progress(ctx context.Context, writes ...bus.Write) ([]uint64, error) {
	started := time.Now()
	revisions, err := j.commit(ctx, writes...)
	if err != nil {
		return nil, err
	}
	j.deadline = started.Add(failpoint.Scale(links.Lease - links.Margin))
	return revisions, nil
}

// Done commits the link as applied, with the other writes, all or none. Nothing
// is written when the link says so already.
func (j *Job) Done(ctx context.Context, writes ...bus.Write) error {
	if err := j.checkSequence(ctx); err != nil {
		return err
	}
	l := j.Record.Link
	l.Claim, l.Problem, l.Attempts, l.GuardCredits, l.GuardSequences, l.Planned, l.Adopting = nil, nil, 0, nil, nil, nil, false
	l.RepairWanted = j.uncompared && j.Record.Linked()
	if j.second {
		l.LookAgainAt = nil
	}
	l.Epoch, l.Sequence, l.ConfigurationHash = j.worker.epoch, j.Sequence, j.worker.cfg.Hash
	if j.Outcome.GetAction() > provisioningv1.Action_ACTION_NONE {
		l.AppliedAt = timestamppb.Now()
	}
	if len(writes) == 0 && j.deadline.IsZero() && proto.Equal(l, j.stored) {
		return nil
	}
	_, err := j.commit(ctx, writes...)
	return err
}

// CompareLater says that nobody can tell what the resource holds, because nothing is wanted
// of the entry now: it is compared with the next change of the entry.
func (j *Job) CompareLater() { j.uncompared = true }

// Configuration is the hash of the connection's configuration.
func (j *Job) Configuration() string { return j.worker.cfg.Hash }

// Asked says whether a person wants what was refused to be tried again.
func (j *Job) Asked() bool { return j.reason == reasonRetry }

// RequestAt asks for another look at the entry at a time; a later word with the same
// reason replaces an earlier one.
func (j *Job) RequestAt(ctx context.Context, reason string, at time.Time) error {
	return j.worker.deps.Bus.ScheduleRequestAt(ctx, j.Record.Kind, j.worker.cfg.Connection, j.Record.ID, reason, at)
}

// Log is the worker's, for what a person should hear of.
func (j *Job) Log() *slog.Logger {
	return j.worker.deps.Log.With("entry", hex.EncodeToString(j.Record.ID))
}

// acceptedTime is for how long a creation is looked for that the target has accepted
// and not done.
const acceptedTime = 5 * time.Minute

// Awaited says whether the target has accepted a creation (202) and may still do it.
func (j *Job) Awaited() bool {
	p := j.stored.GetProblem()
	return p.GetHttpStatus() == http.StatusAccepted && time.Since(p.GetFirstAt().AsTime()) < acceptedTime
}

// Detected is when the detector read the entry, or when somebody asked for another
// look at it.
func (j *Job) Detected() time.Time { return j.detected }

// Links is the store, for ownership and applied members.
func (j *Job) Links() *links.Store { return j.worker.deps.Links }

// Newest is the sequence of the newest change that the stream holds for this
// entry.
func (j *Job) Newest(ctx context.Context) (uint64, error) {
	_, sequence, err := j.latest(ctx, j.Record.ID)
	return sequence, err
}

// NewestOf is what the newest change of another entry of the same kind says of it;
// bus.ErrNotFound when there is none.
func (j *Job) NewestOf(ctx context.Context, id []byte) (directoryv1.Op, error) {
	op, _, err := j.latest(ctx, id)
	return directoryv1.Op(directoryv1.Op_value[op]), err
}

// latest is the operation that the stream holds for an entry of the same kind,
// with its sequence; bus.ErrNotFound when it holds nothing.
func (j *Job) latest(ctx context.Context, id []byte) (op string, sequence uint64, err error) {
	last, err := j.worker.deps.Bus.Last(ctx, j.Record.Kind.Stream(), directoryv1.EntrySubject(j.Record.Kind, j.worker.cfg.Source, id))
	if err != nil {
		return "", 0, err
	}
	return last.Header[directoryv1.HeaderOp], last.Sequence, nil
}

// ErrLook is a converger's own word: look at the target and decide again.
var ErrLook = errors.New("look at the target")

// actions are the words of the audit log for what was decided.
var actions = map[plan.Kind]provisioningv1.Action{
	plan.Create: provisioningv1.Action_ACTION_CREATE, plan.Adopt: provisioningv1.Action_ACTION_ADOPT,
	plan.Update: provisioningv1.Action_ACTION_UPDATE, plan.Disable: provisioningv1.Action_ACTION_DISABLE,
	plan.Enable: provisioningv1.Action_ACTION_ENABLE, plan.Delete: provisioningv1.Action_ACTION_DELETE,
}

// Note writes an action into the outcome. What an adoption does beside, to disable the
// account or to make it active, is an outcome of its own.
func (j *Job) Note(a plan.Action) {
	j.Outcome.Action, j.also = actions[a.Kind], actions[also(a)]
	j.Outcome.Attributes = append(slices.Clone(a.Set), a.Clear...)
}

// Settle writes into the link what the target confirmed of an action, and what it did
// not apply; hashes are those of the desired attributes.
func (j *Job) Settle(a plan.Action, hashes map[string][]byte) {
	l := j.Record.Link
	if l.GetAttributes() == nil {
		l.Attributes = map[string][]byte{}
	}
	for _, path := range a.Set {
		switch u := j.unapplied[path]; {
		case u == nil:
			l.Attributes[path] = hashes[path]
		case u.GetHttpStatus() != 0 && !u.GetImmutable(): // it holds something else, perhaps a form of what was sent
			l.Attributes[path] = []byte{0}
		}
	}
	for _, path := range a.Clear {
		if j.unapplied[path] == nil {
			delete(l.GetAttributes(), path)
		}
	}
	j.settleUnapplied()
	if a.Active != nil {
		l.State, l.FoundInactive = StateOf(*a.Active), false
	}
}

// StateOf is the state of a link to a resource that is active or not.
func StateOf(active bool) provisioningv1.LinkState {
	if active {
		return provisioningv1.LinkState_LINK_STATE_ACTIVE
	}
	return provisioningv1.LinkState_LINK_STATE_DISABLED
}
