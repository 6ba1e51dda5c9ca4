package detector

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/held"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// evaluate is the action of an entry of which nobody can say whether it is enabled.
const evaluate = "none: users.enabled cannot be evaluated"

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
	const cure = "correct the expression, the entry, or the account's rights"
	why := fmt.Sprintf("sources.%s.users.enabled: %s: %s", s.name, pub.entry.broken, cure)
	s.held[pub.id()] = struct{}{}
	s.reasons[fmt.Sprintf("sources.%s.users.enabled cannot be evaluated: %s", s.name, cure)]++
	if item := s.items[pub.key()]; item != nil {
		if !strings.Contains(item.GetReason(), why) { // what a person rejected keeps its reason
			item.Reason += "; " + why
		}
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
		said := s.board.Get(key)
		rejected := stillRejected(said, item)
		if before := s.publisher.memory[key.Kind][key.ID]; before != nil {
			item.Sequence = before.sequence
		}
		if rejected {
			item.Mark, item.Approval = said.GetMark(), said.GetApproval()
		} else {
			waiting++
		}
	}
	s.waiting = waiting
	s.metrics.setHeld(int64(waiting))
	s.tell(ctx)
	return s.board.Replace(ctx, s.items)
}

// stillRejected says whether a person rejected what is held. What else is published
// of the entry meanwhile does not change that: as long as the item is there, it is
// about the same loss.
func stillRejected(said, now *provisioningv1.Held) bool {
	if said.GetMark() != provisioningv1.Mark_MARK_REJECTED {
		return false
	}
	then := proto.CloneOf(now)
	then.Sequence = said.GetSequence()
	return held.Same(said, then)
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
