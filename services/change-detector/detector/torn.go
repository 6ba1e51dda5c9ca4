package detector

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// A full read is torn where an entry is renamed while it lasts: a server writes the next
// name into the groups a moment after the rename, and may send pages of a search from
// different moments. A group then names the member in a way that no entry is called, and
// seems to have lost it. Between two reads the mirror knows the former name itself.

// recallNames follows the renames that happened before this detector's first full read and
// that the server had not written into all groups by then: what is published says how an
// entry was called.
func (s *session) recallNames(ctx context.Context) error {
	if len(s.mirror.strangers) == 0 {
		return nil
	}
	for _, kind := range kinds {
		opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(kind, s.name)}}
		err := s.bus.Read(ctx, kind.Stream(), opts, func(stored *bus.Stored) error {
			subject, err := directoryv1.ParseSubject(stored.Subject)
			if err != nil {
				return err
			}
			e := s.mirror.entries[ID(subject.ID)]
			if e == nil {
				return nil
			}
			name, err := publishedName(stored)
			if err == nil && name != "" {
				s.mirror.recallName(e, name)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("read how entries were called: %w", err)
		}
	}
	return nil
}

// publishedName is the normalised DN of a published entry; empty where it is absent.
func publishedName(stored *bus.Stored) (string, error) {
	var change directoryv1.Change
	if err := proto.Unmarshal(stored.Data, &change); err != nil {
		return "", fmt.Errorf("decode %s: %w", stored.Subject, err)
	}
	dn := change.GetUser().GetDn() + change.GetGroup().GetDn() // it has one of them
	if dn == "" {
		return "", nil
	}
	name, err := ldapsource.NormalizeDN(dn)
	if err != nil {
		return "", fmt.Errorf("published name of %s: %w", stored.Subject, err)
	}
	return name, nil
}

// recallName follows an entry from a name that groups use and that no entry has any more.
func (m *mirror) recallName(e *entry, former string) {
	if _, unknown := m.strangers[former]; !unknown || former == e.name {
		return
	}
	m.swapName(former, e.name)
	m.noteRename(&entry{id: e.id, name: former})
}

// askLeft asks the server for entries that seem to have left a group in a full read, where
// groups name members that no entry is called like: they may have been renamed after they
// were read. What was renamed is derived again; the rest of the pass goes on.
func (s *session) askLeft(ctx context.Context, p *pass) error {
	if !s.full || len(s.mirror.strangers) == 0 {
		return nil
	}
	asked := s.leftGroups(p)
	if len(asked) == 0 || len(asked) > s.limits.MaxRemovals {
		return nil // no one left, or the guard holds them
	}
	names, ids := map[ID]string{}, make([]ID, 0, len(asked))
	for id := range asked {
		s.asked[id] = true
		if e := s.mirror.entries[id]; e != nil {
			names[id], ids = e.name, append(ids, id)
		}
	}
	found, err := s.directory.Confirm(ctx, ids, nil)
	if err != nil {
		return fmt.Errorf("ask for %d entries that left a group: %w", len(ids), err)
	}
	for _, e := range found {
		s.mirror.Put(e)
	}
	renamed := func(id ID) bool {
		e := s.mirror.entries[id]
		return e != nil && names[id] != "" && e.name != names[id]
	}
	one := func(m member) bool { return renamed(m.id) }
	p.upserts = slices.DeleteFunc(p.upserts, func(pub *publication) bool {
		return s.again(pub, slices.ContainsFunc(pub.left, one) || slices.ContainsFunc(pub.following, one))
	})
	p.removals = slices.DeleteFunc(p.removals, func(r *publication) bool { return s.again(r, renamed(r.id())) })
	return nil
}

// again has a publication derived anew in the next round.
func (s *session) again(pub *publication, torn bool) bool {
	if torn {
		s.mirror.dirty[pub.id()] = struct{}{}
	}
	return torn
}

// leftGroups are the entries that this pass takes out of a group, or out of scope because
// they are in none of its groups, and that were not asked for in it.
func (s *session) leftGroups(p *pass) map[ID]struct{} {
	left := map[ID]struct{}{}
	for _, pub := range p.upserts {
		for _, l := range pub.left {
			left[l.id] = struct{}{}
		}
	}
	for _, r := range p.removals {
		if reason := r.change.GetReason(); reason == directoryv1.Reason_REASON_GROUP || reason == directoryv1.Reason_REASON_FILTER {
			left[r.id()] = struct{}{}
		}
	}
	for id := range s.asked {
		delete(left, id)
	}
	return left
}
