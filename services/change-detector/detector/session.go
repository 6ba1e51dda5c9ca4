package detector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/guard"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// session is one stretch of watching the directory. It takes what the source
// reports into the mirror and publishes what differs when the source is settled.
type session struct {
	*detector
	mirror    *mirror
	publisher *publisher
	// proven is called when a full read proved to be complete.
	proven func()

	began  time.Time
	proof  ldapsource.Proof
	scope  closures
	held   map[ID]struct{} // removals that wait
	whyNot string
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

// Settled is the table of contents of a pass:
//
//  1. read groups again that the server may have changed in silence
//  2. evaluate the scope groups
//  3. compare what may have changed with what was published
//  4. ask the server for entries that seem to be gone
//  5. guard: hold the removals of a pass that removes too much
//  6. publish
func (s *session) Settled(ctx context.Context) error {
	full := s.mirror.full
	if !full && len(s.mirror.dirty) == 0 && len(s.mirror.reread) == 0 {
		return nil
	}
	if err := s.reread(ctx); err != nil { // 1
		return err
	}
	ids := s.affected(full)                                    // 2
	p, err := diff(s.mirror, s.publisher.memory, ids, s.scope) // 3
	if err != nil {
		return err
	}
	s.held = map[ID]struct{}{}
	if err := s.confirm(ctx, &p); err != nil { // 4
		return err
	}
	s.guard(ctx, &p)                                                                   // 5
	if err := s.publisher.publish(ctx, append(p.upserts, p.removals...)); err != nil { // 6
		return err
	}
	s.mirror.full = false
	clear(s.mirror.dirty)
	if full {
		s.report(ctx, p)
	}
	return nil
}

// reread asks the server for groups that held a name which another entry has
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
		return fmt.Errorf("read groups again: %w", err)
	}
	for _, e := range entries {
		e.Version = "" // members change without a new version
		s.mirror.Put(e)
	}
	clear(s.mirror.reread)
	return nil
}

// affected are the entries to compare: nil for all, or those that changed, the
// groups above them, those whose place in the scope groups changed, and those
// that are held.
func (s *session) affected(full bool) map[ID]struct{} {
	former := s.scope
	s.scope = s.mirror.closures()
	if full {
		return nil
	}
	ids := s.mirror.above(s.mirror.dirty)
	for _, both := range [][2]map[ID]struct{}{{former.users, s.scope.users}, {former.groups, s.scope.groups}} {
		for i, set := range both {
			for id := range set {
				if _, stays := both[1-i][id]; !stays {
					ids[id] = struct{}{}
				}
			}
		}
	}
	for id := range s.held {
		ids[id] = struct{}{}
	}
	return ids
}

// canaries is how many known entries must be visible before "not found" counts.
const canaries = 5

// confirm asks the server by id for entries that seem to be deleted. Those that
// are there after all stay as they are; when known entries are not visible
// either, nothing is concluded and every removal waits.
func (s *session) confirm(ctx context.Context, p *pass) error {
	var gone []ID
	for _, r := range p.removals {
		if r.change.GetReason() == directoryv1.Reason_REASON_DELETED {
			gone = append(gone, ID(r.change.GetEntryId()))
		}
	}
	if len(gone) == 0 || len(gone) > s.limits.MaxRemovals {
		return nil // nothing to ask, or held in any case
	}
	found, err := s.directory.Confirm(ctx, gone, s.canaries())
	if errors.Is(err, ldapsource.ErrCanary) {
		s.log.ErrorContext(ctx, "entries are not visible that must be there; removals wait", "error", err)
		s.hold(p.removals, "known entries are not visible to the account either")
		p.removals = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("confirm that %d entries are gone: %w", len(gone), err)
	}
	there := map[ID]bool{}
	for _, e := range found {
		there[e.ID] = true
	}
	kept := p.removals[:0]
	for _, r := range p.removals {
		if !there[ID(r.change.GetEntryId())] {
			kept = append(kept, r)
		}
	}
	p.removals = kept
	return nil
}

func (s *session) canaries() []ID {
	var known []ID
	for id, e := range s.mirror.entries {
		if len(known) == canaries {
			break
		}
		if e.class.user || e.class.group {
			known = append(known, id)
		}
	}
	return known
}

// guard holds all removals of a kind when there are too many of them; what is no
// removal flows on.
func (s *session) guard(ctx context.Context, p *pass) {
	byKind := map[directoryv1.Kind][]*publication{}
	for _, r := range p.removals {
		byKind[r.change.GetKind()] = append(byKind[r.change.GetKind()], r)
	}
	p.removals = nil
	for _, kind := range kinds {
		removals := byKind[kind]
		reason := s.limits.Check(len(removals), p.total[kind])
		if reason == "" && kind == directoryv1.Kind_KIND_USER && len(removals) > guard.Free && len(removals) == p.total[kind] {
			reason = "no user is left in scope"
		}
		if reason == "" {
			p.removals = append(p.removals, removals...)
			continue
		}
		if reason != s.whyNot {
			s.log.ErrorContext(ctx, "removals are held", "kind", kind.Token(), "removals", len(removals), "of", p.total[kind],
				"reason", reason, "cure", "they go on when the cause is gone, or when sources."+s.name+".guard allows them")
		}
		s.hold(removals, reason)
	}
	if len(s.held) == 0 {
		s.whyNot = ""
	}
	s.metrics.setHeld(int64(len(s.held)))
}

func (s *session) hold(removals []*publication, reason string) {
	for _, r := range removals {
		s.held[ID(r.change.GetEntryId())] = struct{}{}
	}
	s.whyNot = reason
}

// report says what a full pass found.
func (s *session) report(ctx context.Context, p pass) {
	took := time.Since(s.began)
	users, groups := s.publisher.memory.present(directoryv1.Kind_KIND_USER), s.publisher.memory.present(directoryv1.Kind_KIND_GROUP)
	s.metrics.pass(ctx, took, users, groups)
	s.log.InfoContext(ctx, "directory read", "mode", string(s.proof.Mode), "entries", s.proof.Entries, "users", users, "groups", groups,
		"published", len(p.upserts)+len(p.removals), "held", len(s.held), "took", took.Round(time.Millisecond).String())
	last := Pass{
		At: time.Now().UTC(), Mode: string(s.proof.Mode), Entries: s.proof.Entries, Users: users, Groups: groups,
		Published: len(p.upserts) + len(p.removals), Held: len(s.held), HeldReason: s.whyNot, TookMillis: took.Milliseconds(),
	}
	if err := last.store(ctx, s.bus, s.name); err != nil {
		s.log.WarnContext(ctx, "store the result of the pass", "error", err)
	}
}
