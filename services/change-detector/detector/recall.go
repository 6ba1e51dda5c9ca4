package detector

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// recall makes ghosts of the entries that are published as present and that the
// first full read of this detector did not find: an earlier detector saw them.
// What is known of them is what was published.
func (s *session) recall(ctx context.Context) error {
	if s.recalled {
		return nil
	}
	ghosts, err := s.unseen(ctx)
	if err != nil {
		return fmt.Errorf("read what was published of entries that are not found: %w", err)
	}
	for _, e := range ghosts {
		by := s.mirror.byName[e.name]
		switch {
		case by != nil:
			s.mirror.replaced[e.id] = by.id
		case !s.mirror.rules.scopes(e.name):
			s.mirror.haunt(e)
		}
	}
	if err := s.recallEdges(ctx, ghosts); err != nil {
		return fmt.Errorf("read who was a member of groups: %w", err)
	}
	if err := s.recallNames(ctx); err != nil {
		return err
	}
	s.recalled = true
	return nil
}

// unseen are the entries that are published as present and not in the mirror.
func (s *session) unseen(ctx context.Context) (map[ID]*entry, error) {
	ghosts := map[ID]*entry{}
	for _, kind := range kinds {
		missing := map[ID]bool{}
		for id, p := range s.publisher.memory[kind] {
			if p.present && s.mirror.at(id) == nil {
				missing[id] = true
			}
		}
		if len(missing) == 0 {
			continue
		}
		opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(kind, s.name)}}
		err := s.bus.Read(ctx, kind.Stream(), opts, func(stored *bus.Stored) error {
			subject, err := directoryv1.ParseSubject(stored.Subject)
			if err != nil || !missing[ID(subject.ID)] {
				return err
			}
			return s.mirror.rules.undigest(ghosts, stored)
		})
		if err != nil {
			return nil, err
		}
	}
	return ghosts, nil
}

// undigest adds the ghost of a published entry. One that is published as user and
// as group is one ghost.
func (r *rules) undigest(ghosts map[ID]*entry, stored *bus.Stored) error {
	var change directoryv1.Change
	if err := proto.Unmarshal(stored.Data, &change); err != nil {
		return fmt.Errorf("decode %s: %w", stored.Subject, err)
	}
	user, group := change.GetUser(), change.GetGroup()
	dn, attributes := user.GetDn(), user.GetAttributes()
	if group != nil {
		dn, attributes = group.GetDn(), group.GetAttributes()
	}
	name, err := ldapsource.NormalizeDN(dn)
	if err != nil {
		return fmt.Errorf("published name of %s: %w", stored.Subject, err)
	}
	id := ID(change.GetEntryId())
	e := ghosts[id]
	if e == nil {
		e = &entry{id: id, name: name, detected: time.Now().UnixNano(), extra: &nothing}
		ghosts[id] = e
	}
	e.class.user, e.class.group = e.class.user || user != nil, e.class.group || group != nil
	e.enabled = user.GetEnabled()
	if r.memberValues == membersByUID && user != nil {
		e.own().uid = first(attributes, "uid")
	}
	packed, err := proto.Marshal(&directoryv1.User{Attributes: attributes})
	if err != nil {
		return fmt.Errorf("pack entry: %w", err)
	}
	e.store(dn, "", packed)
	return nil
}

// first is the first value of an attribute, or empty.
func first(attributes []*directoryv1.Attribute, name string) string {
	for _, a := range attributes {
		if a.GetName() == name && len(a.GetValues()) > 0 {
			return string(a.GetValues()[0])
		}
	}
	return ""
}

// scopes says whether a name is that of a scope group, or of one that a filter
// names. What is published of a
// group is not enough to say who is in scope.
func (r *rules) scopes(name string) bool {
	return slices.Contains(r.users.named(), name) || slices.Contains(r.groups.named(), name)
}

// recallEdges gives ghosts the edges that only they themselves could tell, from
// the published members: who a ghost group holds, and which groups a ghost user
// names on its own side, or is named in by a uid that was not published.
func (s *session) recallEdges(ctx context.Context, ghosts map[ID]*entry) error {
	silent := func(e *entry) bool {
		byUID := s.mirror.rules.memberValues == membersByUID && e.uid == ""
		return s.mirror.rules.memberOfName != "" || s.mirror.rules.primaryGroup != "" || byUID
	}
	needed := false
	for id, e := range ghosts {
		if s.mirror.ghosts[id] != nil && (e.class.group || silent(e)) {
			needed = true
		}
	}
	if !needed {
		return nil
	}
	opts := bus.ReadOptions{Filters: []string{directoryv1.ChunkFilter(s.name)}}
	return s.bus.Read(ctx, directoryv1.StreamGroups, opts, func(stored *bus.Stored) error {
		subject, err := directoryv1.ParseSubject(stored.Subject)
		if err != nil {
			return err
		}
		var chunk directoryv1.MemberChunk
		if err := proto.Unmarshal(stored.Data, &chunk); err != nil {
			return fmt.Errorf("decode %s: %w", stored.Subject, err)
		}
		group := s.mirror.at(ID(subject.ID))
		if group == nil {
			return nil
		}
		for record := range slices.Chunk(chunk.GetMembers(), recordSize) {
			if len(record) == recordSize {
				s.mirror.recallEdge(group, s.mirror.at(ID(record[:directoryv1.IDSize])), silent)
			}
		}
		return nil
	})
}

// recallEdge makes an entry a member of a group again, where one of them is a ghost
// that cannot say so.
func (m *mirror) recallEdge(group, member *entry, silent func(*entry) bool) {
	m.regrouped = true
	switch {
	case member == nil:
	case m.ghosts[group.id] != nil:
		group.flat = m.rules.flattens()
		for _, key := range m.keys(member) {
			group.own().members = append(group.members, key)
			m.holders.add(key, group.id)
		}
	case m.ghosts[member.id] != nil && silent(member):
		member.own().memberOf = append(member.memberOf, group.name)
		m.joiners.add(group.name, member.id)
	}
}
