// Package worker is the part of a worker that does not depend on what it keeps
// equal: it takes changes and requests from the bus, finds the newest desired
// state of an entry and its link, hands both to a converger, and turns the
// converger's error into a verdict and a durable record. user-sync and
// group-sync bring the convergers.
package worker

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/crash"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/recovery"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Converger makes the target equal to a job's desired state and commits it. Its
// error says what stands in the way: an error of the target, Wait, Block, or
// bus.ErrConflict, on which the job is read again.
type Converger interface {
	Converge(ctx context.Context, job *Job) error
}

// Config is one connection's side of one kind of entry.
type Config struct {
	Kind       directoryv1.Kind
	Connection string
	Source     string
	// Hash is the connection's configuration hash; the worker consumes only as
	// long as it is the current generation.
	Hash string
	// Concurrency is how many entries this replica works on at a time; calls to
	// the target are bounded by the SCIM client.
	Concurrency int
	// Owner names this process, as in claims.
	Owner string
	// Limits bound what is removed without asking.
	Limits guard.Limits
	// FirstRunFlows says that a first run, and what a new configuration adopts, removes
	// and activates without asking.
	FirstRunFlows bool
	// DryRun says that actions are computed and recorded, and not sent.
	DryRun bool
	// Remove is what happens to an entry that is gone or out of scope.
	Remove plan.Remove
	// Matching are the paths by which a resource is matched.
	Matching []string
	// LookAgain is how long after an abandoned write the resource is read again; see
	// LookAgainAfter, which holds when it is 0.
	LookAgain time.Duration
	// Masked are the paths of attributes whose values are never shown.
	Masked []string
}

// Deps are the parts that all workers of a process share.
type Deps struct {
	Bus   *bus.Bus
	Links *links.Store
	// Outcomes writes the audit log.
	Outcomes *bus.Writer
	// Slots bounds the connection's work in this process.
	Slots chan struct{}
	// Room is how many entries this replica may hold; nil: as many as it works on.
	Room func() int
	// Breaker says whether the target can be called.
	Breaker *Breaker
	// Marks are what is known of the connection's recovery; nil means none.
	Marks *Marks
	// Unchanged says that NATS still holds what it held; nil means that it does.
	Unchanged func(ctx context.Context) error
	Log       *slog.Logger
}

// Worker keeps the entries of one kind of one connection equal.
type Worker struct {
	cfg       Config
	deps      Deps
	converger Converger
	metrics   *metrics
	guard     *guardian
	mask      *mask
	sets      sync.Map // attribute set id -> mapping.Set
	epoch     int64
	entries   Locks // one convergence of an entry at a time in this process

	checking Mutex
	checked  time.Time // when this configuration was last seen to be current
	asked    time.Time // when the first run was last seen not to be over
	usersRan atomic.Bool
}

// New makes a worker; it starts nothing.
func New(cfg Config, deps Deps, converger Converger) (*Worker, error) {
	m, err := newMetrics(cfg)
	if err != nil {
		return nil, err
	}
	cfg.LookAgain = cmp.Or(cfg.LookAgain, LookAgainAfter)
	if deps.Marks == nil {
		deps.Marks = NewMarks()
	}
	deps.Log = deps.Log.With("connection", cfg.Connection, "kind", cfg.Kind.Token())
	w := &Worker{cfg: cfg, deps: deps, converger: converger, metrics: m, guard: newGuardian(cfg, deps), mask: newMask(cfg.Masked)}
	w.guard.judgePending = w.judgePending
	return w, nil
}

const (
	generationPoll    = 50 * time.Millisecond // at first, doubled up to the longest
	generationPollMax = 500 * time.Millisecond
	maxRereads        = 20
	maxTargetRereads  = 3
)

// Run consumes changes and requests until ctx ends. It waits while the current
// generation of the connection is not the one that it was configured with, and
// says so.
func (w *Worker) Run(ctx context.Context) error {
	w.deps.Breaker.Start(ctx)
	stop, err := w.metrics.observeBacklog(w.deps.Bus, w.cfg)
	if err != nil {
		return err
	}
	defer stop()
	w.deps.Marks.follow(ctx, w.deps.Bus, w.cfg.Connection, w.deps.Log)
	said, wait := "", generationPoll
	for ctx.Err() == nil {
		current, err := CurrentGeneration(ctx, w.deps.Bus, w.cfg.Connection)
		switch {
		case err != nil && !errors.Is(err, bus.ErrNotFound):
			w.deps.Log.WarnContext(ctx, "ask for the configuration generation", "error", err)
		case current.Hash == w.cfg.Hash:
			said, wait = "", generationPoll
			err := crash.Catch(ctx, w.deps.Log, crash.Background, func() error { return w.work(ctx) })
			if err != nil && ctx.Err() == nil {
				w.deps.Log.WarnContext(ctx, "consumption ended, starting again", "error", err)
			}
		case said != current.Hash:
			said = current.Hash
			w.deps.Log.InfoContext(ctx, "waiting: another configuration of this connection is current",
				"ours", w.cfg.Hash, "current", current.Hash)
		}
		pause(ctx, wait)
		wait = min(2*wait, generationPollMax)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// work looks at a new generation as a whole, and then consumes.
func (w *Worker) work(ctx context.Context) error {
	if err := w.foresee(ctx); err != nil {
		return err
	}
	return w.consume(ctx)
}

// consume runs both consumers until ctx ends or one of them breaks.
func (w *Worker) consume(ctx context.Context) error {
	epoch, err := recovery.Epoch(ctx, w.deps.Bus, w.cfg.Kind.Stream())
	if err != nil {
		return err
	}
	w.epoch = epoch
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts := bus.ConsumeOptions{Connection: w.cfg.Connection, Concurrency: w.cfg.Concurrency, Room: w.deps.Room, Slots: w.deps.Slots, Settled: w.settled}
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { w.watchFirstRun(ctx) })
	wg.Go(func() {
		defer cancel()
		errs[0] = w.deps.Bus.Consume(ctx, w.cfg.Kind.Stream(), ChangesConsumer(w.cfg.Kind, w.cfg.Connection, w.cfg.Hash), opts, w.Handle)
	})
	wg.Go(func() {
		defer cancel()
		errs[1] = w.deps.Bus.Consume(ctx, provisioningv1.StreamRequests, RequestsConsumer(w.cfg.Kind, w.cfg.Connection), opts, w.Handle)
	})
	wg.Wait()
	return errors.Join(errs[:]...)
}

func (w *Worker) settled(d *bus.Delivery, v bus.Verdict, err error) {
	w.metrics.verdict(v)
	if v == bus.Retry {
		_, id, _ := d.Entry()
		w.deps.Log.Log(context.Background(), bus.LevelOf(err), "change not applied, trying again", "entry", hex.EncodeToString(id), "attempt", d.Attempt, "error", plain(err))
	}
}

// Handle is the table of contents of a worker:
//
//  1. find the entry's newest desired state
//  2. read its link, and skip what is applied already
//  3. converge the target: map, decide, claim, call, commit
//  4. when another worker was faster, begin again with what is newest now; what was
//     sent meanwhile may have overwritten the other's, so look at the target first
//  5. record what stands in the way, and answer with the verdict
//
// A panic is what stands in the way, too, and ends nothing but this delivery.
func (w *Worker) Handle(ctx context.Context, d *bus.Delivery) error {
	returned := false
	err := crash.Catch(ctx, w.deps.Log, crash.Handler, func() error {
		err := w.handle(ctx, d)
		returned = true
		return err
	})
	switch verdict, _ := bus.VerdictOf(err); {
	case !returned:
		return w.crashed(ctx, d, err)
	case verdict == bus.Retry && bus.Unavailable(err) && ctx.Err() == nil:
		err = bus.Later(outageDelay, err) // no back-off that grows: it is not the entry's fault
		if d.Request {
			err = bus.Surely(err) // a record may be stored of which no answer came
		}
	}
	return err
}

func (w *Worker) handle(ctx context.Context, d *bus.Delivery) error {
	kind, id, err := d.Entry()
	if err != nil {
		return bus.Park(err)
	}
	if err := w.deps.Breaker.Admit(ctx); err != nil {
		return bus.Later(pausedDelay, err)
	}
	if w.deps.Unchanged != nil {
		if err := w.deps.Unchanged(ctx); err != nil {
			return bus.Later(pausedDelay, err)
		}
	}
	defer w.entries.Lock(string(id))()
	var found *bus.Stored
	var atLeast uint64
	if !d.Request {
		found, atLeast = &d.Stored, d.Sequence
	}
	repair := d.Request && d.Reason() == ReasonDrift
	rereads, asked, tried, unanswered := 0, false, false, &atomic.Bool{}
	for range maxRereads {
		job, err := w.load(ctx, kind, id, found, atLeast) // 1, 2
		if err != nil {
			return err
		}
		if job == nil {
			return nil
		}
		job.second, job.unanswered = secondLookDue(job, d), unanswered
		if err := job.lookStill(ctx, d); err != nil {
			return err
		}
		repair = repair || job.second || job.Record.Link.GetRepairWanted()
		applied := w.applied(job)
		if applied && !d.Request && !repair && !retrying(job.Record.Link) {
			return job.release(ctx) // who applied it may have ended before it told those who wait
		}
		if found != nil && w.outrun(job) { // what came is old, what it asks for is not
			found, atLeast = nil, 0
			continue
		}
		job.repair, job.asked = repair, asked
		job.resumed = d.Attempt > 1 || applied || job.Abandoned()
		if d.Attempt == 1 && (!d.Request || d.Reason() == reasonRetry) {
			job.Record.Link.Attempts, job.stored.Attempts = 0, 0
		}
		if w.deps.Links.Busy(job.Record) {
			return dispose(links.ErrClaimed, 0).verdict
		}
		if err := w.expectLateWrite(ctx, job, tried); err != nil {
			return err
		}
		switch {
		case d.Request:
			job.Requested, job.reason, job.detected = true, d.Reason(), d.Published
		case d.Since.After(job.detected): // what is new is the configuration
			job.detected = d.Since
		}
		err = crash.Catch(ctx, w.deps.Log, crash.Handler, func() error { return w.converger.Converge(ctx, job) }) // 3
		asked, tried = job.asked, true
		if errors.Is(err, bus.ErrConflict) && ctx.Err() == nil {
			found = nil // 4
			repair = repair || job.claimed()
			continue
		}
		if scim.Classify(err) == scim.Conflict && rereads < maxTargetRereads && ctx.Err() == nil {
			found, repair = nil, true // somebody else wrote to the resource: compare it anew
			rereads++
			continue
		}
		return w.conclude(ctx, job, err) // 5
	}
	return bus.Later(time.Second, errors.New("other workers keep changing this entry's link"))
}

// load makes the job: the newest change that can be read, and the link. A nil
// job means that nothing is known of the entry.
func (w *Worker) load(ctx context.Context, kind directoryv1.Kind, id []byte, found *bus.Stored, atLeast uint64) (*Job, error) {
	if found == nil {
		var err error
		found, err = w.deps.Bus.Last(ctx, kind.Stream(), directoryv1.EntrySubject(kind, w.cfg.Source, id))
		if errors.Is(err, bus.ErrNotFound) {
			w.deps.Log.WarnContext(ctx, "nothing is known of a requested entry; its link stays", "entry", hex.EncodeToString(id))
			return nil, nil //nolint:nilnil // nothing to do is no error
		}
		if err != nil {
			return nil, err
		}
	}
	change := &directoryv1.Change{}
	if err := proto.Unmarshal(found.Data, change); err != nil {
		return nil, bus.Park(fmt.Errorf("decode change: %w", err))
	}
	if change.GetSchemaVersion() != directoryv1.SchemaVersion {
		cause := fmt.Errorf("change of schema version %d, this worker reads %d: upgrade it", change.GetSchemaVersion(), directoryv1.SchemaVersion)
		return nil, w.unreadable(ctx, kind, id, found, bus.Later(time.Minute, cause), cause)
	}
	record, err := w.deps.Links.Get(ctx, kind, id)
	if err != nil {
		return nil, err
	}
	set, err := w.attributeSet(ctx, change.GetAttributeSet())
	if err != nil {
		return nil, w.unreadable(ctx, kind, id, found, err, errors.Unwrap(err))
	}
	if err := w.plausible(ctx, found, record.Link, atLeast); err != nil {
		return nil, err
	}
	return &Job{
		Change: change, Sequence: found.Sequence, Set: set, Record: record,
		detected: detectedAt(found), worker: w, stored: proto.CloneOf(record.Link),
		approved:      w.approved(found, record.Link),
		wasAt:         record.Link.GetSequence(),
		wasHeld:       wasHeld(record.Link),
		problemBefore: record.Link.GetProblem(),
		Outcome:       &provisioningv1.Outcome{EntryId: id, Kind: kind, Sequence: found.Sequence},
	}, nil
}

// unreadable records in the link why a change cannot be read now, so that what waits for
// another process is seen, and says it once in the log. It returns the verdict.
func (w *Worker) unreadable(ctx context.Context, kind directoryv1.Kind, id []byte, found *bus.Stored, verdict, cause error) error {
	record, err := w.deps.Links.Get(ctx, kind, id)
	if err != nil {
		return err
	}
	l := record.Link
	former := l.GetProblem()
	applied := l.GetEpoch() == w.epoch && l.GetSequence() >= found.Sequence
	if applied || w.deps.Links.Busy(record) || former.GetMessage() == cause.Error() && former.GetSequence() == found.Sequence {
		return verdict
	}
	l.Problem = w.problem(former, provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING, found.Sequence, cause)
	if l.GetState() == provisioningv1.LinkState_LINK_STATE_UNSPECIFIED {
		l.State = provisioningv1.LinkState_LINK_STATE_NONE
	}
	if _, err := w.deps.Links.Commit(ctx, record); errors.Is(err, bus.ErrConflict) {
		return verdict // another worker's record is the newer one
	} else if err != nil {
		return err
	}
	w.deps.Log.WarnContext(ctx, "change cannot be read yet, it waits", "entry", hex.EncodeToString(id), "error", cause)
	return verdict
}

// wasHeld says whether a part of what an entry needs waits for approval.
func wasHeld(l *provisioningv1.Link) bool {
	return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_HELD
}

// approved says whether a person approved in the source what the change removes. It
// holds for the change as it came: what another configuration makes of it later is
// asked for again.
func (w *Worker) approved(found *bus.Stored, l *provisioningv1.Link) bool {
	return found.Header[directoryv1.HeaderApproval] != "" && l.GetConfigurationHash() == w.cfg.Hash &&
		(l.GetEpoch() != w.epoch || l.GetSequence() < found.Sequence)
}

var (
	errStale      = errors.New("a replica of the stream is behind")
	errSuperseded = errors.New("another configuration of this connection is current")
)

const staleDelay = 100 * time.Millisecond

// plausible refuses to work on what is known to be old: a read from a replica that
// is behind, or a configuration that another worker has left behind.
func (w *Worker) plausible(ctx context.Context, found *bus.Stored, l *provisioningv1.Link, atLeast uint64) error {
	if l.GetEpoch() == w.epoch && found.Sequence < l.GetSequence() && atLeast == 0 {
		return bus.Later(staleDelay, errStale) // a request reads the newest; the link has seen a newer one
	}
	if found.Sequence < atLeast {
		return bus.Later(staleDelay, errStale)
	}
	if l.GetConfigurationHash() == w.cfg.Hash {
		return nil
	}
	return w.current(ctx, l.GetConfigurationHash() != "")
}

// current asks whether this worker's configuration is the current one. Where there
// is no sign of another, what was read a moment ago is believed.
func (w *Worker) current(ctx context.Context, sign bool) error {
	w.checking.Lock()
	defer w.checking.Unlock()
	if !sign && time.Since(w.checked) < generationCache {
		return nil
	}
	current, err := CurrentGeneration(ctx, w.deps.Bus, w.cfg.Connection)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	if current.Hash != w.cfg.Hash {
		return bus.Later(time.Second, errSuperseded)
	}
	w.checked = time.Now()
	return nil
}

// applied says whether the link shows that this change was applied under this
// configuration.
func (w *Worker) applied(j *Job) bool {
	l := j.Record.Link
	return l.GetEpoch() == w.epoch && l.GetSequence() >= j.Sequence && l.GetConfigurationHash() == w.cfg.Hash && l.GetClaim() == nil
}

// retrying says whether a link bears a problem that another try ends. Where the change is
// applied it is what came after the commit that failed, and another try takes it away.
func retrying(l *provisioningv1.Link) bool {
	return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING
}

// outrun says whether the link shows that a newer change than the job's was applied. A
// delivery may be that old: the server had replaced it while it waited here.
func (w *Worker) outrun(j *Job) bool {
	l := j.Record.Link
	return l.GetEpoch() == w.epoch && l.GetSequence() > j.Sequence
}

func detectedAt(s *bus.Stored) time.Time {
	if at, err := time.Parse(time.RFC3339Nano, s.Header[directoryv1.HeaderDetectedAt]); err == nil {
		return at
	}
	return s.Published
}

// attributeSet is the set with this id, as the detector stored it.
func (w *Worker) attributeSet(ctx context.Context, id string) (mapping.Set, error) {
	if set, ok := w.sets.Load(id); ok {
		return set.(mapping.Set), nil
	}
	set, err := ReadAttributeSet(ctx, w.deps.Bus, w.cfg.Source, id)
	if err != nil {
		return nil, bus.Later(time.Second, err)
	}
	w.sets.Store(id, set)
	return set, nil
}
