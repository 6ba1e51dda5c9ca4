package groupsync

import (
	"errors"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// errNoEffect is the reason for which a change of a member counts as refused that the
// target answered with success.
var errNoEffect = errors.New("it answers with success and shows the group as before (target.overrides: group_patch or members_readable)")

// certain is how many members an answer may list so that a member that is not among them
// is none: longer lists may be cut off.
const certain = 100

// settle takes a part that the target answered with success into the record, but for
// changes of members that the answer contradicts: those are refused. Of a contradicted
// addition it stays unknown whether it was made, so that its removal will be sent.
func (s *sending) settle(part []step) error {
	contradicted := s.c.contradicted(s.answer, part)
	if len(contradicted) == 0 {
		s.confirm(part)
		return nil
	}
	s.confirm(slices.DeleteFunc(slices.Clone(part), func(one step) bool { return slices.Contains(contradicted, one) }))
	for _, one := range contradicted {
		if !one.remove {
			s.a.doubt([]step{one})
		}
		if err := s.refused(one, errNoEffect); err != nil {
			return err
		}
	}
	s.contradicted = true
	return nil
}

// contradicted are the steps that an answer shows to be without effect: the group still
// has the member that was to be removed, or lists its members without the one that was to
// be added. An answer without members says nothing, because many targets do not return
// them.
func (c *converger) contradicted(answer *scim.Resource, part []step) []step {
	if answer == nil || c.profile().MembersReadable != scim.ReadableYes {
		return nil
	}
	if _, shown := answer.Value("members"); !shown {
		return nil
	}
	ids := answer.MemberIDs()
	shown := make(map[string]bool, len(ids))
	for _, id := range ids {
		shown[id] = true
	}
	var steps []step
	for _, one := range part {
		if one.resource != "" && shown[one.resource] == one.remove && (one.remove || len(ids) < certain) {
			steps = append(steps, one)
		}
	}
	return steps
}
