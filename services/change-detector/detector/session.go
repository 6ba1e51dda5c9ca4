package detector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/crash"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/status"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// session watches the directory for as long as the lease is held. It takes what
// the source reports into the mirror and publishes what differs when the source
// is settled. The mirror outlives a broken connection, so that what a later read
// does not find is still known.
type session struct {
	*detector
	*bench
	derived

	mirror    *mirror
	publisher *publisher
	store     *held.Store
	board     *held.Board
	pace      pace
	// proven is called when a full read proved to be complete.
	proven func()
	// recalled says that the ghosts of earlier detectors are in the mirror.
	recalled bool
	unkept   bool // the last pass could not be stored
	passed   bool // a full pass was published

	wake   chan struct{}
	timer  *time.Timer
	marked atomic.Bool // a person said something

	replica   replica
	began     time.Time
	proof     ldapsource.Proof
	last      status.Pass                       // the last full one
	full      bool                              // this pass follows a full read
	published int                               // in this pass
	confirmed map[ID]bool                       // gone, asked for in this pass
	asked     map[ID]bool                       // left a group, asked for in this pass
	items     map[held.Key]*provisioningv1.Held // what is held now
	units     map[unitKey]struct{}              // the same, unit by unit
	olds      map[held.Key]*old                 // what is published of what is kept
	counted   map[unitKey]int                   // in the window, and not published yet
	waiting   int                               // how many items wait for a person
	reasons   map[string]int                    // why removals are held
	told      map[string]bool                   // reasons that were logged
}

var _ ldapsource.Sink = (*session)(nil)

func openSession(d *detector, p *publisher, proven func()) *session {
	s := &session{
		detector: d, bench: newBench(), mirror: newMirror(d.rules), publisher: p, store: held.OfSource(d.bus, d.name),
		pace: usualPace, proven: proven, wake: make(chan struct{}, 1), olds: map[held.Key]*old{}, counted: map[unitKey]int{},
		replica: replica{lag: failpoint.Scale(replicaLag)},
	}
	s.board = s.store.Board(func() {
		s.marked.Store(true)
		s.signal()
	})
	s.timer = time.AfterFunc(time.Hour, s.signal)
	s.timer.Stop()
	return s
}

// attend follows what is held until ctx ends, and returns as soon as everything
// that was held before is known.
func (s *session) attend(ctx context.Context, running *sync.WaitGroup, failed context.CancelCauseFunc) error {
	ready := make(chan struct{})
	running.Go(func() {
		err := crash.Catch(ctx, s.log, crash.Detector, func() error { return s.board.Run(ctx, func() { close(ready) }) })
		if err != nil {
			failed(err)
		}
	})
	select {
	case <-ready:
		return errors.Join(s.recallWaves(ctx), s.recallReplica(ctx))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close ends the timer; the board ends with its context. Whoever holds the lease
// next says what is held.
func (s *session) close() {
	s.timer.Stop()
	s.metrics.setHeld(0)
}

// Wake delivers when gathered removals are due or a person said something.
func (s *session) Wake() <-chan struct{} { return s.wake }

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // one is enough
	}
}

// Begin starts a full read.
func (s *session) Begin() {
	s.began = time.Now()
	s.mirror.Begin()
}

// Put takes an entry as it is now.
func (s *session) Put(e *ldapsource.Entry) { s.mirror.Put(e) }

// Gone takes an entry away.
func (s *session) Gone(id ID) { s.mirror.Gone(id) }

// Complete ends a full read that proved to be complete.
func (s *session) Complete(p ldapsource.Proof) {
	s.mirror.Complete()
	s.proof = p
	s.replica.reads(p.Server, time.Now())
	s.proven()
}

// Settled is the table of contents of a pass; steps 2 to 9 are repeated while
// they change something.
//
//  1. recall what was published, where a publication failed, what of it is not found, and
//     how entries were called; read entries again that the server may have changed in
//     silence
//  2. compare what may have changed with what was published; publish what takes
//     nothing away
//  3. ask the server for entries that seem to be gone
//  4. read which members groups lose; ask the server for those that a torn full read may
//     have lost
//  5. guard: decide about everything that the pass takes away, by what people said,
//     the limits and the window; let few flow at once, and gather more
//  6. keep what does not flow: removals wait, fields get their old values back
//  7. count what flows
//  8. publish
//  9. bury what is gone
//  10. make what is held durable and visible
func (s *session) Settled(ctx context.Context) error {
	if s.idle() {
		return nil
	}
	if err := s.publisher.refresh(ctx); err != nil { // 1
		return err
	}
	if err := s.recall(ctx); err != nil {
		return err
	}
	if err := s.silent(ctx); err != nil {
		return err
	}
	s.full, s.published, s.confirmed, s.asked = s.mirror.full, 0, map[ID]bool{}, map[ID]bool{}
	flow := func(pub *publication) error { return s.flow(ctx, pub) }
	if err := settle(s.mirror, &s.derived, s.publisher.memory, flow, func(p *pass) error { return s.round(ctx, p) }); err != nil { // 2, 9
		s.publisher.drop()
		return err
	}
	if s.publisher.would != nil {
		return nil // only a preview
	}
	if err := s.post(ctx); err != nil { // 10
		return err
	}
	if s.due(s.pace).IsZero() { // nothing gathers
		s.mirror.since = 0
	}
	if s.full && !s.passed {
		s.passed = true
		s.firstPassDone(ctx)
	}
	s.rouse()
	s.report(ctx)
	return nil
}

// flow publishes what takes nothing away, while the pass goes on.
func (s *session) flow(ctx context.Context, pub *publication) error {
	s.published++
	return s.publisher.add(ctx, pub)
}

// round is steps 3 to 8 of a pass.
func (s *session) round(ctx context.Context, p *pass) error {
	if err := s.publisher.flush(ctx); err != nil {
		return err
	}
	if err := s.confirm(ctx, p); err != nil { // 3
		return err
	}
	if err := s.findLeft(ctx, p); err != nil { // 4
		return err
	}
	if err := s.askLeft(ctx, p); err != nil {
		return err
	}
	units := p.units()
	j, err := s.judge(ctx, units)
	if err != nil {
		return err
	}
	counts := j.decide(units) // 5
	if err := s.storeWaves(ctx); err != nil {
		return err
	}
	s.heldNow(j, p, units)
	if err := s.keep(ctx, p, units); err != nil { // 6
		return err
	}
	if err := s.count(ctx, counts, units); err != nil { // 7
		return err
	}
	changes := append(p.upserts, flowing(units)...)
	s.published += len(changes)
	if err := s.publisher.publish(ctx, changes); err != nil { // 8
		return err
	}
	clear(s.counted)
	for approval, n := range approvals(units) {
		s.log.InfoContext(ctx, "what was approved is published", "approval", approval, "removals", n)
	}
	return nil
}

// count adds what flows to the window, before it is published: a crash counts too
// much and never too little. What was counted and could not be published is not
// counted again.
func (s *session) count(ctx context.Context, counts map[string]int, units []*unit) error {
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 0 })
	if len(counts) == 0 || s.publisher.would != nil {
		return nil
	}
	if err := s.store.CountAll(ctx, s.limits, counts); err != nil {
		return err
	}
	for _, u := range units {
		if u.fate == flows && u.approval == "" {
			s.counted[u.key()] = u.n
		}
	}
	return nil
}

// judge is who decides about the units of a round.
func (s *session) judge(ctx context.Context, units []*unit) (*judge, error) {
	j := &judge{
		source: s.name, generation: s.generation, limits: s.limits, pace: s.pace, now: time.Now(), full: s.full,
		memory: s.publisher.memory, said: s.board.Get, bench: s.bench, counted: s.counted,
		known: func(k unitKey) bool { _, is := s.units[k]; return is },
	}
	if len(units) == 0 {
		return j, nil
	}
	var err error
	j.window, err = s.store.Window(ctx)
	return j, err
}

// flowing are the removals of whole entries that may go.
func flowing(units []*unit) []*publication {
	var removals []*publication
	for _, u := range units {
		if u.field == "" && u.fate == flows {
			removals = append(removals, u.pub)
		}
	}
	return removals
}

// idle says that there is nothing to do.
func (s *session) idle() bool {
	s.mirror.recheck(time.Now())
	marked := s.marked.Swap(false)
	due := s.due(s.pace)
	caughtUp := s.replica.caughtUp(time.Now())
	return !marked && !caughtUp && !s.mirror.full && len(s.mirror.dirty) == 0 && len(s.mirror.reread) == 0 && len(s.mirror.ask) == 0 &&
		(due.IsZero() || time.Now().Before(due))
}

// rouse sets the timer for what gathers, and for what is to be read again.
func (s *session) rouse() {
	s.timer.Stop()
	due := s.due(s.pace)
	if next := s.mirror.nextLook(); due.IsZero() || !next.IsZero() && next.Before(due) {
		due = next
	}
	if until := s.replica.until; due.IsZero() || !until.IsZero() && until.Before(due) {
		due = until
	}
	if !due.IsZero() {
		s.timer.Reset(time.Until(due))
	}
}

// reread asks the server for entries that held a name which another entry has
// now: it may have cleaned them up without a word.
func (s *session) reread(ctx context.Context) error {
	if len(s.mirror.reread) == 0 {
		return nil
	}
	ids := make([]ID, 0, len(s.mirror.reread))
	for id := range s.mirror.reread {
		ids = append(ids, id)
	}
	entries, err := s.directory.Confirm(ctx, ids, nil)
	if err != nil {
		return fmt.Errorf("read entries again: %w", err)
	}
	for _, e := range entries {
		e.Version = "" // members change without a new version
		s.mirror.Put(e)
	}
	clear(s.mirror.reread)
	return nil
}

// report says what a full pass found, and afterwards what is held and what is
// probably wrong meanwhile.
func (s *session) report(ctx context.Context) {
	warnings := s.look(ctx)
	switch {
	case s.full:
		s.last = s.summary(ctx)
	case !s.unkept && s.last.Held == s.waiting && s.last.HeldReason == s.whyNot() && slices.Equal(s.last.Warnings, warnings):
		return
	default:
		s.last.Held, s.last.HeldReason = s.waiting, s.whyNot()
	}
	s.last.Warnings = warnings
	err := s.last.Keep(ctx, s.bus, s.name)
	if s.unkept = err != nil; s.unkept {
		s.log.WarnContext(ctx, "store the result of the pass", "error", err)
	}
}

// summary is the result of a full pass.
func (s *session) summary(ctx context.Context) status.Pass {
	took := time.Since(s.began)
	users, groups := s.publisher.memory.present(directoryv1.Kind_KIND_USER), s.publisher.memory.present(directoryv1.Kind_KIND_GROUP)
	s.metrics.pass(ctx, took, users, groups)
	s.log.InfoContext(ctx, "directory read", "mode", string(s.proof.Mode), "entries", s.proof.Entries, "users", users, "groups", groups,
		"published", s.published, "held", s.waiting, "took", took.Round(time.Millisecond).String())
	return status.Pass{
		At: time.Now().UTC(), Mode: string(s.proof.Mode), Server: s.proof.Server, Entries: s.proof.Entries, Users: users, Groups: groups,
		Published: s.published, Held: s.waiting, HeldReason: s.whyNot(), TookMillis: took.Milliseconds(),
	}
}
