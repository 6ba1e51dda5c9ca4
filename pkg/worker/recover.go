package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/defect"
	"github.com/rollcall-scim/rollcall/pkg/recovery"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	// comparedDelay is how long a removal waits for the comparison of its target.
	comparedDelay = time.Second
	// recoverRetry is how soon a recovery that failed is tried again.
	recoverRetry = 5 * time.Second
	reasonAll    = "recovery"
)

var errComparing = errors.New("nothing is removed before the target was compared, because links may be missing or old")

// Marks are what the workers of a process know of one connection's recovery.
type Marks struct {
	users, groups atomic.Pointer[recovery.Mark]

	once  sync.Once
	known chan struct{} // closed when they are
}

// NewMarks knows of none.
func NewMarks() *Marks { return &Marks{known: make(chan struct{})} }

func (m *Marks) of(kind directoryv1.Kind) *atomic.Pointer[recovery.Mark] {
	if kind == directoryv1.Kind_KIND_GROUP {
		return &m.groups
	}
	return &m.users
}

// follow keeps the marks until ctx ends, and returns when they are known. One of those
// who call it reads them for all.
func (m *Marks) follow(ctx context.Context, b *bus.Bus, connection string, log *slog.Logger) {
	m.once.Do(func() { go m.read(ctx, b, connection, log) })
	select {
	case <-m.known:
	case <-ctx.Done():
	}
}

func (m *Marks) read(ctx context.Context, b *bus.Bus, connection string, log *slog.Logger) {
	caughtUp := sync.OnceFunc(func() { close(m.known) })
	for ctx.Err() == nil {
		err := recovery.Follow(ctx, b, connection, caughtUp, func(kind directoryv1.Kind, mark *recovery.Mark) { m.of(kind).Store(mark) })
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "cannot tell whether the target has to be compared; it is asked again", "error", err)
			pause(ctx, recoverRetry)
		}
	}
}

// LinksMayBeMissing says whether the target may hold resources of entries whose link is
// not known: in a first run, which also follows the loss of everything that NATS held,
// and until a connection is recovered. They are found by the externalId that Rollcall
// gave them, before anything is created.
func (j *Job) LinksMayBeMissing(ctx context.Context) (bool, error) {
	w := j.worker
	if defect.Back(defect.Duplicates) {
		return false, nil
	}
	if w.deps.Marks.of(w.cfg.Kind).Load() != nil {
		return true, nil
	}
	g := w.guard
	if g.forecasts {
		m, err := recovery.Marked(ctx, w.deps.Bus, w.cfg.Connection, w.cfg.Kind)
		if err != nil || m != nil {
			return m != nil, err
		}
		over, _, err := g.progress(ctx)
		return err == nil && !over, err
	}
	if g.ran.Load() {
		return false, nil
	}
	over, err := w.firstRunOver(ctx)
	return !over, err
}

// firstRunOver asks whether the first run is over, not more often than once in a second.
func (w *Worker) firstRunOver(ctx context.Context) (bool, error) {
	w.checking.Lock()
	defer w.checking.Unlock()
	if time.Since(w.asked) < time.Second {
		return false, nil
	}
	over, _, err := firstRun(ctx, w.deps.Bus, w.cfg.Connection, w.cfg.Kind)
	if err == nil && !over {
		w.asked = time.Now()
	}
	return over, err
}

// comparing says whether a removal has to wait because links may be missing or old: any
// until the target was compared, and that of members that only the target has until every
// user has a link again, because they may be members whose link is not known.
func (j *Job) comparing(ctx context.Context, r removal) (bool, error) {
	w := j.worker
	if r.class == classActivation || r.class == classMatching || j.dry || j.trial {
		return false, nil
	}
	if m := w.deps.Marks.of(w.cfg.Kind).Load(); m != nil && !m.Compared {
		return true, nil
	}
	if r.class != classUnmanaged {
		return false, nil
	}
	if w.deps.Marks.users.Load() != nil {
		return true, nil
	}
	if !w.cfg.FirstRunFlows || w.usersRan.Load() {
		return false, nil // in a first run they are held
	}
	over, err := endFirstRun(ctx, w.deps.Bus, w.cfg.Connection, w.cfg.Hash, directoryv1.Kind_KIND_USER, w.cfg.DryRun)
	w.usersRan.Store(over)
	return !over, err
}

// postpone asks for another look at the entry, for a removal that waits for the comparison.
func (j *Job) postpone(ctx context.Context) error {
	j.Log().DebugContext(ctx, "a removal waits", "reason", errComparing)
	return j.RequestAt(ctx, provisioningv1.ReasonLater, time.Now().Add(comparedDelay))
}

// Recover compares the target and asks for what differs, each time that the connection
// is marked, until ctx ends. One replica does it.
func (d *Drift) Recover(ctx context.Context) error {
	w := d.worker
	w.deps.Marks.follow(ctx, w.deps.Bus, w.cfg.Connection, w.deps.Log)
	mark := w.deps.Marks.of(w.cfg.Kind)
	for ctx.Err() == nil {
		if mark.Load() == nil {
			pause(ctx, generationPollMax)
			continue
		}
		key := driftKey(d.connection.Name, w.cfg.Kind) + ".lease"
		err := w.deps.Bus.WithLease(ctx, provisioningv1.BucketTargets, key, w.cfg.Owner, driftLease, d.recover)
		if err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "the target cannot be compared yet; trying again", "error", plain(err))
			pause(ctx, recoverRetry)
		}
	}
	return nil
}

// recover is the table of contents of a recovery:
//
//  1. users come before groups: a member whose link is missing looks like a stranger
//  2. compare the target with the links, and ask for the repair of what differs
//  3. ask for another look at every entry: links and schedules may be missing
//  4. let removals flow again, through the guard
//  5. wait until every entry was looked at
//  6. compare again, until nothing differs: an entry that was being written to was not judged
func (d *Drift) recover(ctx context.Context) error {
	w := d.worker
	m, err := recovery.Marked(ctx, w.deps.Bus, d.connection.Name, w.cfg.Kind)
	if err != nil || m == nil {
		return err
	}
	if w.cfg.Kind == directoryv1.Kind_KIND_GROUP { // 1
		for w.deps.Marks.users.Load() != nil && ctx.Err() == nil {
			pause(ctx, generationPollMax)
		}
	}
	for round := 0; ; round++ {
		r, err := d.compareAndKeep(ctx) // 2, 6
		if err != nil {
			return err
		}
		args := []any{"reason", m.Reason, "compared", r.Compared, "listed", r.Listed, "counts", r.Counts, "pending", r.Pending}
		if over := round > 0 && r.Pending == 0 && !r.Drifted(); over || round == maxRounds {
			d.log.InfoContext(ctx, "every entry was looked at again", args...)
			return recovery.End(ctx, w.deps.Bus, d.connection.Name, w.cfg.Kind)
		}
		repairs, err := d.Repair(ctx, r)
		if err != nil {
			return err
		}
		d.log.InfoContext(ctx, "the target was compared, because links may be missing or old", append(args, "repair_requested", repairs)...)
		if round == 0 && !m.Compared {
			if err := d.compared(ctx, m); err != nil { // 3, 4
				return err
			}
		}
		if err := d.settled(ctx); err != nil { // 5
			return err
		}
	}
}

// maxRounds is how often a recovery compares again. What differs after that is shown by
// `rollcall status`: the target refuses it, or a person has to approve it.
const maxRounds = 4

// compared asks for another look at every entry and says that the comparison is over.
func (d *Drift) compared(ctx context.Context, m *recovery.Mark) error {
	w := d.worker
	if err := d.requestAll(ctx); err != nil {
		return err
	}
	m.Compared = true
	return recovery.Put(ctx, w.deps.Bus, d.connection.Name, w.cfg.Kind, *m)
}

func (d *Drift) compareAndKeep(ctx context.Context) (*DriftReport, error) {
	r, err := d.Compare(ctx)
	if err != nil {
		return nil, err
	}
	d.measure(ctx, r)
	return r, d.Keep(ctx, r)
}

// settled waits until no entry of the kind is still to be looked at.
func (d *Drift) settled(ctx context.Context) error {
	for ctx.Err() == nil {
		if waiting, err := d.waiting(ctx); err != nil || waiting == 0 {
			return err
		}
		pause(ctx, generationPollMax)
	}
	return ctx.Err()
}

// requestAll asks for another look at every entry of the source.
func (d *Drift) requestAll(ctx context.Context) error {
	w := d.worker
	opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(w.cfg.Kind, w.cfg.Source)}, HeadersOnly: true}
	var ids [][]byte
	err := w.deps.Bus.Read(ctx, w.cfg.Kind.Stream(), opts, func(s *bus.Stored) error {
		_, id, err := (&bus.Delivery{Stored: *s}).Entry()
		ids = append(ids, id)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := w.deps.Bus.Request(ctx, w.cfg.Kind, d.connection.Name, id, reasonAll); err != nil {
			return fmt.Errorf("ask for another look at %x: %w", id, err)
		}
	}
	return nil
}

// waiting is how many entries of the kind are still to be looked at.
func (d *Drift) waiting(ctx context.Context) (total uint64, err error) {
	w := d.worker
	for _, c := range consumersOf(w.cfg.Kind, w.cfg.Connection, w.cfg.Hash) {
		backlog, err := w.deps.Bus.Backlog(ctx, c.stream, c.name)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return 0, err
		}
		total += backlog.Total()
	}
	postponed, _, err := w.deps.Bus.Postponed(ctx, w.cfg.Kind, w.cfg.Connection)
	return total + postponed, err
}
