package groupsync

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// replaces says whether the target takes a group only as a whole: its profile says
// so, or it refused a PATCH as something that it does not have (405, 501).
func (c *converger) replaces() bool { return !c.profile().GroupPatch || c.noPatch.Load() }

// whole is a group of a target that has no PATCH, as it stands there.
type whole struct {
	resource *scim.Resource
	members  map[string]bool
}

// replace sends the whole group, with the members as they are after a part.
func (s *sending) replace(ctx context.Context, part []step) error {
	if !s.c.profile().GroupPut {
		return worker.Block("the target has no PATCH for groups, and no PUT that keeps members (target.overrides.group_put)")
	}
	if s.whole == nil {
		if err := s.readWhole(ctx); err != nil {
			return err
		}
	}
	members := maps.Clone(s.whole.members)
	for _, one := range part {
		switch {
		case one.resource == "":
		case one.remove:
			delete(members, one.resource)
		default:
			members[one.resource] = true
		}
	}
	if most := s.c.profile().MaxMembersOnCreate; len(members) > most {
		return worker.Block(fmt.Sprintf("the target has no PATCH for groups, and a request may hold %d members of %d", most, len(members)))
	}
	body, err := s.whole.resource.Replacement(scim.KindGroup, s.units, s.cleared)
	if err != nil {
		return worker.Block("groups.attributes: " + err.Error())
	}
	body["members"] = memberValues(slices.Sorted(maps.Keys(members)))
	call, cancel := s.job.Write(ctx)
	defer cancel()
	answer, err := s.c.target.Put(call, scim.KindGroup, s.resource, body)
	if err == nil {
		s.whole.members, s.answer = members, answer
		s.compare(ctx, answer, false)
	}
	return err
}

// readWhole reads the group that a PUT will replace. Where its members cannot be
// read, those that were applied are put in their place; those of a group that was
// there before us are not known, and it is left alone.
func (s *sending) readWhole(ctx context.Context) error {
	resource, readable, err := s.c.read(ctx, s.job, s.resource, s.a)
	if err != nil {
		return err
	}
	members := map[string]bool{}
	switch {
	case readable:
		for _, id := range resource.MemberIDs() {
			members[id] = true
		}
		if c := s.c; c.profile().MembersReadable == scim.ReadableOnRequest { // what was read is not all of it
			call, cancel := s.job.Target(ctx)
			defer cancel()
			if resource, err = c.target.Get(call, scim.KindGroup, s.resource); err != nil {
				return err
			}
		}
	case s.job.Record.Link.GetOrigin() == provisioningv1.Origin_ORIGIN_ADOPTED:
		return worker.Block("the target has no PATCH for groups, and does not say which members this one has")
	default:
		for _, chunk := range s.a.chunks {
			for _, m := range chunk.Members {
				if id, known := s.c.index.resource(m.GetResourceHash()); known {
					members[id] = true
				}
			}
		}
	}
	s.whole = &whole{resource: resource, members: members}
	return nil
}

// memberValues are resource ids as the value of members.
func memberValues(ids []string) []any {
	values := make([]any, len(ids))
	for i, id := range ids {
		values[i] = map[string]any{"value": id}
	}
	return values
}
