package detector

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// unit is one thing that a pass would take away: an entry, a field of an entry, or
// members of a group.
type unit struct {
	pub   *publication
	field string // empty for the whole entry
	of    string // what it counts as
	n     int    // how many it counts for
	why   string // why it is held whatever the limits say
	fate  fate
	// approval names the approval of a unit that flows.
	approval string
}

// fate is what becomes of a unit.
type fate int

const (
	flows fate = iota
	waits      // with others of its burst
	holds      // for a person, or until the cause is gone
	rests      // a person said no
)

type unitKey struct {
	held.Key

	field string
}

func (u *unit) key() unitKey { return unitKey{Key: u.pub.key(), field: u.field} }

// units are what a pass would take away.
func (p *pass) units() []*unit {
	var all []*unit
	for _, r := range p.removals {
		all = append(all, &unit{pub: r, of: r.change.GetKind().Token(), n: 1, why: r.why})
	}
	for _, u := range p.upserts {
		for _, field := range u.lost {
			one := &unit{pub: u, field: field, of: attributeOf(u.change.GetKind(), field), n: 1}
			switch field {
			case directoryv1.FieldMembers:
				continue // counted by member
			case directoryv1.FieldEnabled:
				one.of = guard.Users
			}
			all = append(all, one)
		}
		if len(u.left) > 0 {
			all = append(all, &unit{pub: u, field: directoryv1.FieldMembers, of: guard.Members, n: len(u.left)})
		}
	}
	for _, u := range all {
		if u.why == "" {
			u.why = p.doubt
		}
	}
	return all
}

// attributeOf is what the loss of an attribute counts as: users and groups may
// have an attribute of the same name under different access rules.
func attributeOf(kind directoryv1.Kind, field string) string {
	if kind == directoryv1.Kind_KIND_GROUP {
		return "attribute " + field + " of groups"
	}
	return "attribute " + field
}

// why an entry leaves the source, in words.
var departures = map[directoryv1.Reason]string{
	directoryv1.Reason_REASON_DELETED: "deleted from the directory",
	directoryv1.Reason_REASON_MOVED:   "moved out of the bases, or under an excluded one",
	directoryv1.Reason_REASON_FILTER:  "no longer matches the filter",
	directoryv1.Reason_REASON_GROUP:   "no longer in a scope group",
}

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

// approvals counts what flows because a person approved it, by approval.
func approvals(units []*unit) map[string]int {
	counts := map[string]int{}
	for _, u := range units {
		if u.approval != "" {
			counts[u.approval] += u.n
		}
	}
	return counts
}
