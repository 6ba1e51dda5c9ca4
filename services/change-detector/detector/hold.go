package detector

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// why an entry leaves the source, in words.
var departures = map[directoryv1.Reason]string{
	directoryv1.Reason_REASON_DELETED: "deleted from the directory",
	directoryv1.Reason_REASON_MOVED:   "moved out of the bases, or under an excluded one",
	directoryv1.Reason_REASON_FILTER:  "no longer matches the filter",
	directoryv1.Reason_REASON_GROUP:   "no longer in a scope group",
}

// evaluate is the action of an entry of which nobody can say whether it is enabled.
const evaluate = "none: users.enabled cannot be evaluated"

// action says in words what units of one entry would take away.
func action(units []*unit) string {
	var parts, attributes []string
	for _, u := range units {
		switch {
		case u.field == "":
			parts = append(parts, "remove from the source: "+departures[u.pub.change.GetReason()])
		case u.field == directoryv1.FieldEnabled:
			parts = append(parts, "disable")
		case u.field == directoryv1.FieldMembers && u.n == 1:
			parts = append(parts, "remove 1 member")
		case u.field == directoryv1.FieldMembers:
			parts = append(parts, fmt.Sprintf("remove %d members", u.n))
		default:
			attributes = append(attributes, u.field)
		}
	}
	if len(attributes) > 0 {
		parts = append(parts, "clear "+strings.Join(slices.Sorted(slices.Values(attributes)), ", "))
	}
	return strings.Join(parts, "; ")
}

func joinReasons(reasons []string) string {
	return strings.Join(slices.Sorted(slices.Values(reasons)), "; ")
}

// heldNow collects what a round holds, by entry, and remembers which entries have
// to be looked at again in the next one.
func (s *session) heldNow(j *judge, p *pass, units []*unit) {
	s.held, s.units = map[ID]struct{}{}, map[unitKey]struct{}{}
	s.items, s.reasons = map[held.Key]*provisioningv1.Held{}, map[string]int{}
	byEntry := map[held.Key][]*unit{}
	for _, u := range units {
		if u.fate == flows {
			continue
		}
		s.held[u.pub.id()] = struct{}{}
		if u.fate == waits {
			continue
		}
		byEntry[u.pub.key()] = append(byEntry[u.pub.key()], u)
		if u.why != p.doubt {
			s.units[u.key()] = struct{}{} // it was judged
		}
		if u.fate == holds {
			s.reasons[u.why]++
		}
	}
	for key, some := range byEntry {
		s.items[key] = j.item(some)
	}
	for _, pub := range p.stuck {
		s.holdStuck(j, pub)
	}
}

// holdStuck shows an entry that stays as it is because nobody can say what it
// should be.
func (s *session) holdStuck(j *judge, pub *publication) {
	why := fmt.Sprintf("sources.%s.users.enabled: %s: correct the expression, the entry, or the account's rights", s.name, pub.entry.broken)
	s.held[pub.id()] = struct{}{}
	s.reasons[why]++
	if item := s.items[pub.key()]; item != nil {
		item.Reason += "; " + why
		return
	}
	item := j.item([]*unit{{pub: pub, why: why}})
	item.Action = evaluate
	s.items[pub.key()] = item
}

// post makes what is held durable and visible, and drops what is held no longer.
// The sequence is that of what is published now.
func (s *session) post(ctx context.Context) error {
	waiting := 0
	for key, item := range s.items {
		if before := s.publisher.memory[key.Kind][key.ID]; before != nil {
			item.Sequence = before.sequence
		}
		if said := s.board.Get(key); said.GetMark() != provisioningv1.Mark_MARK_REJECTED || !held.Same(said, item) {
			waiting++
		}
	}
	s.waiting = waiting
	s.metrics.setHeld(int64(waiting))
	s.tell(ctx)
	return s.board.Replace(ctx, s.items)
}

// tell logs each reason once while it lasts.
func (s *session) tell(ctx context.Context) {
	told := map[string]bool{}
	for reason, n := range s.reasons {
		words := held.Words(reason)
		if !s.told[words] {
			s.log.ErrorContext(ctx, "removals are held", "entries", n, "reason", reason)
		}
		told[words] = true
	}
	s.told = told
}

// whyNot are the reasons for which something is held now.
func (s *session) whyNot() string {
	return strings.Join(slices.Sorted(maps.Keys(s.reasons)), "; ")
}
