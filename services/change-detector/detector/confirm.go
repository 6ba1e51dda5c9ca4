package detector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/guard"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// canaries is how many known entries must be visible before "not found" counts.
const canaries = 5

// confirm asks the server by id for entries that seem to be deleted. Those that
// are there after all go back into the mirror and are derived again; when known
// entries are not visible either, nothing is concluded and every removal waits.
func (s *session) confirm(ctx context.Context, p *pass) error {
	if !slices.ContainsFunc(p.removals, deleted) {
		return nil
	}
	known := s.canaries()
	if len(known) == 0 {
		p.removals = s.holdIf(ctx, p.removals, deleted, "nothing else is visible either")
		return nil
	}
	gone := s.toConfirm(p.removals)
	if len(gone) == 0 {
		return nil // held in any case
	}
	found, err := s.directory.Confirm(ctx, gone, known)
	if errors.Is(err, ldapsource.ErrCanary) {
		p.removals = s.holdIf(ctx, p.removals, nil, "known entries are not visible to the account either")
		return nil
	}
	if err != nil {
		return fmt.Errorf("confirm that %d entries are gone: %w", len(gone), err)
	}
	there := map[ID]bool{}
	for _, e := range found {
		there[e.ID] = true
		s.mirror.Put(e)
	}
	p.removals = slices.DeleteFunc(p.removals, func(r *publication) bool {
		return deleted(r) && there[ID(r.change.GetEntryId())]
	})
	return s.reread(ctx)
}

// toConfirm are the entries that seem to be deleted. A kind of which there are
// more than the guard lets pass is not asked for: it is held in any case.
func (s *session) toConfirm(removals []*publication) []ID {
	gone := map[directoryv1.Kind][]ID{}
	for _, r := range removals {
		if deleted(r) {
			gone[r.change.GetKind()] = append(gone[r.change.GetKind()], ID(r.change.GetEntryId()))
		}
	}
	var ids []ID
	for _, kind := range kinds {
		if len(gone[kind]) <= s.limits.MaxRemovals {
			ids = append(ids, gone[kind]...)
		}
	}
	return ids
}

// canaries are entries that the mirror knows to be there: users and groups, and
// containers where there are not enough of them.
func (s *session) canaries() []ID {
	var known, containers []ID
	for id, e := range s.mirror.entries {
		switch {
		case len(known) == canaries:
			return known
		case e.class.user || e.class.group:
			known = append(known, id)
		case len(containers) < canaries:
			containers = append(containers, id)
		}
	}
	return append(known, containers[:min(len(containers), canaries-len(known))]...)
}

// guard holds all removals of a kind when there are too many of them, and those
// that follow from a scope group that is not visible; what is no removal flows
// on.
func (s *session) guard(ctx context.Context, p *pass) {
	byKind := map[directoryv1.Kind][]*publication{}
	for _, r := range p.removals {
		byKind[r.change.GetKind()] = append(byKind[r.change.GetKind()], r)
	}
	p.removals = nil
	for _, kind := range kinds {
		removals := s.guardScope(ctx, kind, byKind[kind])
		if reason := s.tooMany(kind, len(removals), p.total[kind]); reason != "" {
			removals = s.holdIf(ctx, removals, nil, reason)
		}
		s.removed[kind] += len(removals)
		p.removals = append(p.removals, removals...)
	}
	s.metrics.setHeld(int64(len(s.held)))
}

// guardScope holds what left the scope groups while one of them is not visible,
// and returns the other removals.
func (s *session) guardScope(ctx context.Context, kind directoryv1.Kind, removals []*publication) []*publication {
	missing := s.mirror.missingScope(kind)
	if len(missing) == 0 {
		return removals
	}
	reason := fmt.Sprintf("sources.%s.%s.scope_groups: %s is not visible to the account, or not there: correct the name, or let the account read it",
		s.name, kind.Token(), strings.Join(missing, " and "))
	return s.holdIf(ctx, removals, func(r *publication) bool { return r.change.GetReason() == directoryv1.Reason_REASON_GROUP }, reason)
}

// tooMany is why so many more removals of a kind may not pass, or empty. Those of
// earlier rounds of the pass count, too.
func (s *session) tooMany(kind directoryv1.Kind, removals, total int) string {
	if removals == 0 {
		return ""
	}
	removals, total = removals+s.removed[kind], total+s.removed[kind]
	reason := s.limits.Check(guard.Removals{Of: kind.Token(), Count: removals, Total: total})
	if reason == "" && kind == directoryv1.Kind_KIND_USER && removals == total {
		return "no user is left in scope"
	}
	return reason
}

func deleted(r *publication) bool { return r.change.GetReason() == directoryv1.Reason_REASON_DELETED }

// holdIf holds the removals for which which says so, all where it is nil, and
// returns the others. A reason is logged once while it lasts.
func (s *session) holdIf(ctx context.Context, removals []*publication, which func(*publication) bool, reason string) []*publication {
	var others []*publication
	held := 0
	for _, r := range removals {
		if which != nil && !which(r) {
			others = append(others, r)
			continue
		}
		s.held[ID(r.change.GetEntryId())] = struct{}{}
		held++
	}
	if held == 0 {
		return others
	}
	if !s.told[reason] {
		s.log.ErrorContext(ctx, "removals are held", "removals", held, "reason", reason,
			"cure", "they go on when the cause is gone, or when sources."+s.name+".guard allows them")
	}
	s.reasons[reason], s.told[reason] = true, true
	return others
}

// whyNot are the reasons for which removals are held now.
func (s *session) whyNot() string {
	return strings.Join(slices.Sorted(maps.Keys(s.reasons)), "; ")
}
