package worker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// removal is a part of an action that the guard has to let pass: something that the
// target has and loses, or an account that becomes active.
type removal struct {
	class class
	count int
	// action says in words what would be done.
	action string
	// adopted says that it is done to a resource because the resource is being adopted.
	adopted bool
	// hash is that of the members; nil for everything else.
	hash []byte
}

// class is what a removal is about.
type class int

const (
	classEntry      class = iota // disable or delete the resource
	classActivation              // make the account active
	classMatching                // change the attribute that the resource is found by
	classMembers                 // remove members that Rollcall added
	classUnmanaged               // remove members that the target has of its own
)

// The words of a removal; what is held is shown by them.
const (
	wordDelete    = "delete"
	wordDisable   = "disable"
	wordEnable    = "enable"
	wordChange    = "change "
	wordMembers   = "remove %d members"
	wordUnmanaged = "remove %d members that only the target has"
)

// classOf is the class of a removal by its words.
func classOf(action string) class {
	switch {
	case action == wordEnable:
		return classActivation
	case strings.HasPrefix(action, wordChange):
		return classMatching
	case strings.HasSuffix(action, " members that only the target has"):
		return classUnmanaged
	case strings.HasSuffix(action, " members"):
		return classMembers
	}
	return classEntry
}

// of is what the guard counts a removal as; empty for an activation, of which any
// number may be done.
func (r removal) of(kind directoryv1.Kind) string {
	switch r.class {
	case classActivation:
		return ""
	case classMatching:
		return guard.Matching
	case classMembers, classUnmanaged:
		return guard.Members
	case classEntry:
	}
	return kind.Token()
}

// creditKey is where a link remembers what the guard has let pass.
func (r removal) creditKey(kind directoryv1.Kind) string {
	if r.class == classUnmanaged {
		return creditUnmanaged
	}
	return r.of(kind)
}

const creditUnmanaged = "unmanaged"

// removalsOf finds the removals of an action: it ends or disables a resource, makes an
// account active, or changes an attribute by which the resource is matched.
func removalsOf(a plan.Action, matching []string, kind directoryv1.Kind, adopting bool) []removal {
	var all []removal
	off, on := a.Active != nil && !*a.Active, a.Active != nil && *a.Active
	switch {
	case a.Kind == plan.Delete:
		all = append(all, removal{class: classEntry, count: 1, action: wordDelete, adopted: adopting})
	case off && (a.Kind == plan.Disable || a.Kind == plan.Adopt):
		all = append(all, removal{class: classEntry, count: 1, action: wordDisable, adopted: adopting})
	case on && (a.Kind == plan.Enable || a.Kind == plan.Adopt):
		all = append(all, removal{class: classActivation, count: 1, action: wordEnable, adopted: adopting})
	}
	if a.Kind == plan.Update || a.Kind == plan.Enable || a.Kind == plan.Disable {
		for _, path := range matching {
			if slices.Contains(a.Set, path) || slices.Contains(a.Clear, path) {
				return append(all, removal{class: classMatching, count: 1, action: fmt.Sprintf(wordChange+"%s of the %s", path, singular(kind))})
			}
		}
	}
	return all
}

func singular(kind directoryv1.Kind) string {
	if kind == directoryv1.Kind_KIND_GROUP {
		return "group"
	}
	return "user"
}

// without is an action without the removal of a class; everything else flows on.
func without(a plan.Action, held class, matching []string) plan.Action {
	switch held {
	case classEntry, classActivation:
		return inactive(a)
	case classMatching:
		return unmatched(a, matching)
	case classMembers, classUnmanaged: // they stand in no action
	}
	return a
}

// inactive is an action that neither ends, disables nor enables anything.
func inactive(a plan.Action) plan.Action {
	a.Active, a.Schedule = nil, plan.Unchanged
	switch {
	case a.Kind == plan.Adopt:
	case a.Kind != plan.Delete && len(a.Set)+len(a.Clear) > 0:
		a.Kind = plan.Update
	default:
		a.Kind, a.Set, a.Clear = plan.DoNothing, nil, nil
	}
	return a
}

// unmatched is an action that leaves the matching attributes as they are.
func unmatched(a plan.Action, matching []string) plan.Action {
	drop := func(path string) bool { return slices.Contains(matching, path) }
	a.Set = slices.DeleteFunc(slices.Clone(a.Set), drop)
	a.Clear = slices.DeleteFunc(slices.Clone(a.Clear), drop)
	if a.Kind == plan.Update && len(a.Set)+len(a.Clear) == 0 {
		a.Kind = plan.DoNothing
	}
	return a
}

// also is what an adoption does beside: it disables the account or makes it active.
func also(a plan.Action) plan.Kind {
	switch {
	case a.Kind != plan.Adopt || a.Active == nil:
		return plan.DoNothing
	case *a.Active:
		return plan.Enable
	}
	return plan.Disable
}
