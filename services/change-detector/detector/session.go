package detector

import (
	"context"
	"fmt"
	"time"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// session watches the directory for as long as the lease is held. It takes what
// the source reports into the mirror and publishes what differs when the source
// is settled. The mirror outlives a broken connection, so that what a later read
// does not find is still known.
type session struct {
	*detector
	derived

	mirror    *mirror
	publisher *publisher
	// proven is called when a full read proved to be complete.
	proven func()
	// recalled says that the ghosts of earlier detectors are in the mirror.
	recalled bool

	began     time.Time
	proof     ldapsource.Proof
	removed   map[directoryv1.Kind]int // in the earlier rounds of this pass
	published int                      // in this pass
	reasons   map[string]bool          // why removals are held
	told      map[string]bool          // reasons that were logged
}

var _ ldapsource.Sink = (*session)(nil)

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
	s.proven()
}

// Settled is the table of contents of a pass; steps 2 to 6 are repeated while
// they change something.
//
//  1. recall what was published and is not found; read entries again that the
//     server may have changed in silence
//  2. compare what may have changed with what was published
//  3. ask the server for entries that seem to be gone
//  4. guard: hold the removals of a pass that removes too much
//  5. publish
//  6. bury what is gone
func (s *session) Settled(ctx context.Context) error {
	full := s.mirror.full
	if !full && len(s.mirror.dirty) == 0 && len(s.mirror.reread) == 0 {
		return nil
	}
	if err := s.recall(ctx); err != nil { // 1
		return err
	}
	if err := s.reread(ctx); err != nil {
		return err
	}
	s.removed, s.published = map[directoryv1.Kind]int{}, 0
	if s.told == nil {
		s.told = map[string]bool{}
	}
	err := settle(s.mirror, &s.derived, s.publisher.memory, func(p *pass) error { // 2, 6
		s.held, s.reasons = map[ID]struct{}{}, map[string]bool{}
		if err := s.confirm(ctx, p); err != nil { // 3
			return err
		}
		s.guard(ctx, p) // 4
		s.published += len(p.upserts) + len(p.removals)
		return s.publisher.publish(ctx, append(p.upserts, p.removals...)) // 5
	})
	if err != nil {
		return err
	}
	s.told = s.reasons // what is held no longer is told again when it comes back
	if full && !s.publisher.dry {
		s.report(ctx)
		return s.firstPassDone(ctx)
	}
	return nil
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

// report says what a full pass found.
func (s *session) report(ctx context.Context) {
	took := time.Since(s.began)
	users, groups := s.publisher.memory.present(directoryv1.Kind_KIND_USER), s.publisher.memory.present(directoryv1.Kind_KIND_GROUP)
	s.metrics.pass(ctx, took, users, groups)
	s.log.InfoContext(ctx, "directory read", "mode", string(s.proof.Mode), "entries", s.proof.Entries, "users", users, "groups", groups,
		"published", s.published, "held", len(s.held), "took", took.Round(time.Millisecond).String())
	last := Pass{
		At: time.Now().UTC(), Mode: string(s.proof.Mode), Entries: s.proof.Entries, Users: users, Groups: groups,
		Published: s.published, Held: len(s.held), HeldReason: s.whyNot(), TookMillis: took.Milliseconds(),
	}
	if err := last.store(ctx, s.bus, s.name); err != nil {
		s.log.WarnContext(ctx, "store the result of the pass", "error", err)
	}
}
