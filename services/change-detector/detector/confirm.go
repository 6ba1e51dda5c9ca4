package detector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// canaries is how many known entries must be visible before "not found" counts.
const canaries = 5

// confirm asks the server by id for entries that seem to be deleted. Those that
// are there after all go back into the mirror and are derived again; when known
// entries are not visible either, or the account is another one, nothing is
// concluded and everything that the pass would take away waits.
func (s *session) confirm(ctx context.Context, p *pass) error {
	s.doubtScope(p)
	if s.doubtReplica(p) || !slices.ContainsFunc(p.removals, deleted) {
		return nil
	}
	if len(s.canaries()) == 0 {
		for _, r := range p.removals {
			if deleted(r) {
				r.why = "nothing else is visible either: let the account read the directory, correct the bases, or approve it"
			}
		}
		return nil
	}
	asked := s.toConfirm(p.removals)
	if len(asked) == 0 {
		return nil // asked for in this pass, too many, or rejected
	}
	found, err := s.ask(ctx, asked)
	switch {
	case errors.Is(err, ldapsource.ErrCanary):
		p.doubt = "known entries are not visible to the account either: let it read them, or approve it"
		return nil
	case errors.Is(err, ldapsource.ErrIdentity):
		p.doubt = err.Error() + ": correct the server's access rules, or approve it"
		return nil
	case err != nil:
		return fmt.Errorf("confirm that %d entries are gone: %w", len(asked), err)
	}
	there := map[ID]bool{}
	for _, e := range found {
		there[e.ID] = true
		s.mirror.Put(e)
	}
	for _, id := range asked {
		if !there[id] {
			s.confirmed[id] = true
		}
	}
	p.removals = slices.DeleteFunc(p.removals, func(r *publication) bool { return deleted(r) && there[r.id()] })
	return s.reread(ctx)
}

// asks is how often other canaries are asked for: one may have been deleted just now, and
// in a mass leave many are.
const asks = 5

// ask asks until the canaries are visible, by others each time.
func (s *session) ask(ctx context.Context, ids []ID) (found []*ldapsource.Entry, err error) {
	for range asks {
		found, err = s.directory.Confirm(ctx, ids, s.canaries())
		if !errors.Is(err, ldapsource.ErrCanary) {
			return found, err
		}
	}
	return found, err
}

// doubtScope holds what left the scope groups, or the filter, while a group that
// decides about it is not visible.
func (s *session) doubtScope(p *pass) {
	for _, kind := range kinds {
		scope := s.hidden("scope_groups", kind, s.mirror.missingScope(kind))
		filter := s.hidden("filter", kind, s.mirror.missingNamed(kind))
		in := s.scope.of(kind)
		for _, r := range p.removals {
			switch reason := r.change.GetReason(); {
			case r.change.GetKind() != kind:
			case reason == directoryv1.Reason_REASON_GROUP && scope != "":
				r.why = scope
			case reason == directoryv1.Reason_REASON_FILTER && filter != "" && in.doubts(r.entry, kind):
				r.why = filter
			}
		}
	}
}

// hidden says that groups are not visible which a key names; empty for none.
func (s *session) hidden(key string, kind directoryv1.Kind, groups []string) string {
	if len(groups) == 0 {
		return ""
	}
	return fmt.Sprintf("sources.%s.%s.%s: %s is not visible to the account, or not there: correct the name, or let the account read it",
		s.name, kind.Token(), key, strings.Join(groups, " and "))
}

// toConfirm are the entries that seem to be deleted and were not asked for in this
// pass. A kind of which there are more than the guard lets pass is not asked for, nor
// is what a person rejected; it is marked, so that none of it passes.
func (s *session) toConfirm(removals []*publication) []ID {
	gone := map[directoryv1.Kind][]*publication{}
	for _, r := range removals {
		if !deleted(r) || s.confirmed[r.id()] {
			continue
		}
		r.unasked = true
		now := &provisioningv1.Held{Action: action([]*unit{{pub: r}}), Generation: s.generation}
		if !stillRejected(s.board.Get(r.key()), now) {
			gone[r.change.GetKind()] = append(gone[r.change.GetKind()], r)
		}
	}
	var ids []ID
	for _, kind := range kinds {
		if len(gone[kind]) > s.limits.MaxRemovals {
			continue
		}
		for _, r := range gone[kind] {
			r.unasked = false
			ids = append(ids, r.id())
		}
	}
	return ids
}

// canaries are entries that the mirror knows to be there: the groups that decide, users
// and groups of every base, and containers where there are not enough of them.
func (s *session) canaries() []ID {
	known := map[ID]bool{}
	r := s.mirror.rules
	for _, name := range slices.Concat(r.users.named(), r.groups.named()) {
		if e := s.mirror.byName[name]; e != nil && s.mirror.entries[e.id] != nil {
			known[e.id] = true
		}
	}
	bases := slices.Concat(r.users.bases, r.groups.bases)
	quota := (canaries + len(bases) - 1) / max(len(bases), 1)
	found := make([]int, len(bases))
	var containers []ID
	for id, e := range s.mirror.entries {
		if !e.class.user && !e.class.group {
			containers = append(containers, id)
			continue
		}
		i := slices.IndexFunc(bases, func(base string) bool { return ldapsource.Under(e.name, base) })
		if i >= 0 && found[i] < quota {
			known[id], found[i] = true, found[i]+1
		}
		if !slices.ContainsFunc(found, func(n int) bool { return n < quota }) {
			break
		}
	}
	for _, id := range containers[:min(len(containers), max(0, canaries-len(known)))] {
		known[id] = true
	}
	ids := make([]ID, 0, len(known))
	for id := range known {
		ids = append(ids, id)
	}
	return ids
}

func deleted(r *publication) bool { return r.change.GetReason() == directoryv1.Reason_REASON_DELETED }
