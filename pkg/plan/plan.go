// Package plan decides what has to happen on a target for one entry. It is pure:
// it takes the connection's policy, what the directory wants, what was last
// applied and, where somebody looked, what the target holds; it returns an
// action. Its test is a table that reads as the specification.
//
//	directory            link       policy               action
//	in scope, enabled    none       create               create (or look first)
//	in scope, enabled    active     update               update what differs
//	in scope, enabled    disabled   update               enable, with what differs
//	in scope, enabled    disabled   reactivate: ours     the same, unless the account was
//	                                                     inactive when it was found
//	in scope, disabled   none       provision_disabled   create it disabled
//	in scope, disabled   none       any                  adopt and disable the active account
//	                                                     that it has on the target
//	in scope, disabled   none       any                  adopt the inactive account that bears the
//	                                                     entry id: it may be a member of groups
//	in scope, disabled   active     disabled: disable    disable, with what differs
//	in scope, disabled   any        disabled: remove     as an entry that is out of scope
//	gone, out of scope   active     remove: disable      disable, nothing else; with
//	                                                     delete_after, begin to wait
//	gone, out of scope   disabled   delete_after         begin to wait, wait, delete when due
//	gone, out of scope   any        remove: delete       delete
//	gone, out of scope   any        remove: keep         none
package plan

import "slices"

// Remove is what happens on the target to an entry that is gone or out of scope.
type Remove string

// The values of Remove.
const (
	RemoveDisable Remove = "disable"
	RemoveDelete  Remove = "delete"
	RemoveKeep    Remove = "keep"
)

// Policy is what a connection may do with one kind of entry.
type Policy struct {
	Create            bool
	Update            bool
	Remove            Remove
	ProvisionDisabled bool
	// RemoveDisabled says that an entry that is disabled in the directory is handled
	// as one that is gone: as Remove says.
	RemoveDisabled bool
	// ReactivateOurs says that only an account that Rollcall itself disabled is made
	// active again.
	ReactivateOurs bool
	// DeleteAfter says that what was disabled because it is gone or out of scope is
	// deleted after a while. An entry that is merely disabled in the directory is
	// deleted by it only under RemoveDisabled.
	DeleteAfter bool
	// LookFirst says that the target does not refuse duplicates, so that it must
	// be searched before anything is created.
	LookFirst bool
}

// Desired is what the directory wants.
type Desired struct {
	// InScope is false for an entry that is gone, or outside the source's or the
	// connection's scope; Why says which.
	InScope bool
	Why     string
	Enabled bool
	// Attributes are the keyed hashes of the mapped attributes that have a value,
	// by path. Attributes that are sent only on creation are not among them.
	Attributes map[string][]byte
	// Absent are the mapped paths that have no value now.
	Absent []string
	// Missing are required or matching attributes that have no value: the entry
	// can neither be created nor matched, and nothing is cleared.
	Missing []string
	// Rival is another entry in scope that has one of the matching values; nil where
	// there is none.
	Rival *Rival
}

// Rival is an entry that would be matched with the same resource.
type Rival struct {
	// ID is its entry id, in hex, and Name what people call it.
	ID, Name string
	// Attribute is the matching attribute whose value both have.
	Attribute string
}

// State is what the link says about the resource.
type State int

// The states.
const (
	// None: no resource is known.
	None State = iota
	// Active: the resource exists and is active.
	Active
	// Disabled: the resource exists and was disabled.
	Disabled
	// Removed: the resource was deleted by us.
	Removed
)

// Deletion says whether a disabled resource waits for its deletion.
type Deletion int

// The values of Deletion.
const (
	NotPlanned Deletion = iota
	Pending
	Due
)

// Linked is what was last applied.
type Linked struct {
	State      State
	ResourceID string
	Attributes map[string][]byte
	Deletion   Deletion
	// FoundInactive says of a disabled resource that Rollcall did not disable it: it was
	// inactive when it was found.
	FoundInactive bool
}

// Observed is what a look at the target found; the zero value means that nobody
// looked.
type Observed struct {
	Looked  bool
	Matches []Match
}

// Match is a resource that the matching attributes find.
type Match struct {
	ID string
	// Ours is set when its externalId is this entry's.
	Ours bool
	// Owner names the entry that owns it already; empty when nobody does.
	Owner string
	// Active is the resource's active attribute.
	Active bool
	// Differs are the mapped paths whose value is not the desired one, among
	// them those that have a value though the directory has none.
	Differs []string
}

// Kind is what has to be done.
type Kind string

// The actions.
const (
	DoNothing Kind = "none"
	Look      Kind = "look"
	Create    Kind = "create"
	Adopt     Kind = "adopt"
	Update    Kind = "update"
	Disable   Kind = "disable"
	Enable    Kind = "enable"
	Delete    Kind = "delete"
	Blocked   Kind = "blocked"
)

// Schedule is what becomes of a deletion that is waited for.
type Schedule string

// The values of Schedule.
const (
	Unchanged Schedule = ""
	Begin     Schedule = "begin" // to wait, from now
	Await     Schedule = "await" // it is waited for
	End       Schedule = "end"   // it is not wanted any more
)

// Action is the decision.
type Action struct {
	Kind Kind
	// Reason says why nothing is done, or what stands in the way.
	Reason string
	// ResourceID is the resource that the action is about.
	ResourceID string
	// Set and Clear are the paths to write, sorted.
	Set, Clear []string
	// Active is the value of active to send with the action; nil sends none.
	Active *bool
	// Owner is the entry, in hex, that a blocked one waits for.
	Owner string
	// Schedule is what becomes of the resource's deletion.
	Schedule Schedule
}

// Decide is the specification of what Rollcall does.
func Decide(p Policy, d Desired, l Linked, o Observed) Action {
	linked := l.State == Active || l.State == Disabled
	if linked && d.InScope && !d.Enabled && p.RemoveDisabled {
		d.InScope, d.Why = false, disabledReason
	}
	if !d.InScope {
		return remove(p, d, l)
	}
	a := Action{Kind: DoNothing, Reason: "unknown state"}
	switch l.State {
	case Active, Disabled:
		a = keepEqual(p, d, l)
	case None, Removed:
		a = provision(p, d, l, o)
	}
	a.Schedule = over(l)
	return a
}

const (
	disabledReason = "disabled in the directory"
	// InactiveReason is why an account stays inactive under users.reactivate: ours.
	InactiveReason = "inactive on the target, and not disabled by Rollcall (users.reactivate: ours)"
)

// over ends a wait for a deletion, where there is one.
func over(l Linked) Schedule {
	if l.Deletion == NotPlanned {
		return Unchanged
	}
	return End
}

// remove handles entries that are gone or out of scope. Attributes are left as
// they are.
func remove(p Policy, d Desired, l Linked) Action {
	if l.State == None || l.State == Removed {
		return Action{Kind: DoNothing, Reason: d.Why}
	}
	a := Action{Kind: DoNothing, Reason: d.Why, ResourceID: l.ResourceID, Schedule: over(l)}
	waits := p.Remove == RemoveDisable && p.DeleteAfter
	switch {
	case p.Remove == RemoveDelete:
		a.Kind, a.Schedule = Delete, Unchanged
	case p.Remove == RemoveDisable && l.State == Active:
		a.Kind, a.Active = Disable, new(false)
		if waits {
			a.Schedule = Begin
		}
	case waits && l.Deletion == NotPlanned:
		a.Schedule = Begin
	case waits && l.Deletion == Pending:
		a.Schedule = Await
	case waits:
		a.Kind, a.Schedule = Delete, Unchanged
		a.Reason += ", and delete_after is over"
	}
	return a
}

// keepEqual handles entries that have a resource.
func keepEqual(p Policy, d Desired, l Linked) Action {
	a := Action{Kind: DoNothing, ResourceID: l.ResourceID}
	a.Set, a.Clear = differences(d, l)
	turnedOff := !d.Enabled && l.State == Active
	stays := l.FoundInactive && p.ReactivateOurs
	turnedOn := d.Enabled && l.State == Disabled && !stays
	if len(d.Missing) > 0 {
		if turnedOff {
			return Action{Kind: Disable, ResourceID: l.ResourceID, Active: new(false), Reason: disabledReason}
		}
		return blockedOn(d, l)
	}
	if !p.Update {
		a.Set, a.Clear = nil, nil
		if !turnedOff {
			a.Reason = "update is off"
			return a
		}
	}
	switch {
	case turnedOff:
		a.Kind, a.Active, a.Reason = Disable, new(false), disabledReason
	case turnedOn:
		a.Kind, a.Active = Enable, new(true)
	case len(a.Set)+len(a.Clear) > 0:
		a.Kind = Update
	case d.Enabled && l.State == Disabled:
		a.Reason = InactiveReason
	}
	return a
}

// provision handles entries that have no resource.
func provision(p Policy, d Desired, l Linked, o Observed) Action {
	switch {
	case !d.Enabled && !creates(p, l):
		return end(p, d, l, o)
	case len(d.Missing) > 0:
		return blockedOn(d, Linked{})
	case d.Rival != nil:
		return Action{
			Kind: Blocked, Owner: d.Rival.ID,
			Reason: "has the same " + d.Rival.Attribute + " as entry " + d.Rival.ID + " (" + d.Rival.Name + "); make it unique in the directory, or take one of them out of scope",
		}
	case !o.Looked && (p.LookFirst || !p.Create):
		return Action{Kind: Look}
	case !o.Looked:
		return create(d)
	}
	return provisionSeen(p, d, o)
}

// creates says whether an entry that is disabled in the directory is created as a
// disabled one. What RemoveDisabled would delete is not, and what was deleted is not
// created again before the entry is enabled.
func creates(p Policy, l Linked) bool {
	return p.ProvisionDisabled && l.State != Removed && !(p.RemoveDisabled && p.Remove == RemoveDelete)
}

// end handles an entry that is disabled in the directory, has no resource and gets
// none. An account that it has on the target is adopted to be disabled or, under
// RemoveDisabled, to be deleted.
func end(p Policy, d Desired, l Linked, o Observed) Action {
	nothing := func(why string) Action { return Action{Kind: DoNothing, Reason: why} }
	switch {
	case l.State == Removed, len(d.Missing) > 0, p.RemoveDisabled && p.Remove == RemoveKeep:
		return nothing(notCreated(p))
	case d.Rival != nil:
		return nothing(notCreated(p) + ", and entry " + d.Rival.ID + " has the same " + d.Rival.Attribute)
	case !o.Looked:
		return Action{Kind: Look}
	}
	matches := unique(o.Matches)
	deletes := p.RemoveDisabled && p.Remove == RemoveDelete
	switch {
	case len(matches) == 0:
		return nothing(notCreated(p))
	case len(matches) > 1:
		return blockedBetween()
	case matches[0].Owner != "":
		return nothing(notCreated(p) + ", and the matching resource is owned by entry " + matches[0].Owner)
	case deletes:
		return Action{Kind: Delete, ResourceID: matches[0].ID, Reason: disabledReason}
	case !matches[0].Active && !matches[0].Ours:
		return nothing(notCreated(p) + ", and its account is inactive")
	}
	return adopt(p, d, matches[0]) // one that bears the entry id is a member of groups although it is inactive
}

func notCreated(p Policy) string {
	if p.ProvisionDisabled {
		return disabledReason
	}
	return disabledReason + ", and provision_disabled is off"
}

// unique are the matches, or the one of them that bears the entry's externalId.
func unique(matches []Match) []Match {
	if i := slices.IndexFunc(matches, func(m Match) bool { return m.Ours }); i >= 0 {
		return matches[i : i+1]
	}
	return matches
}

func blockedBetween() Action {
	return Action{Kind: Blocked, Reason: "several resources of the target match; make the match unique, or set externalId on the right one"}
}

func provisionSeen(p Policy, d Desired, o Observed) Action {
	matches := unique(o.Matches)
	switch {
	case len(matches) == 0 && p.Create:
		return create(d)
	case len(matches) == 0:
		return Action{Kind: DoNothing, Reason: "no match on the target, and create is off"}
	case len(matches) > 1:
		return blockedBetween()
	case matches[0].Owner != "":
		return Action{
			Kind: Blocked, ResourceID: matches[0].ID, Owner: matches[0].Owner,
			Reason: "the matching resource is owned by entry " + matches[0].Owner,
		}
	}
	return adopt(p, d, matches[0])
}

func create(d Desired) Action {
	return Action{Kind: Create, Set: sorted(d.Attributes), Active: new(d.Enabled)}
}

// adopt links a resource that was there and brings it up to date in one call, or
// in none.
func adopt(p Policy, d Desired, m Match) Action {
	a := Action{Kind: Adopt, ResourceID: m.ID}
	switch {
	case m.Active && !d.Enabled && p.RemoveDisabled && p.Remove == RemoveKeep:
		a.Reason = disabledReason
	case m.Active && !d.Enabled:
		a.Active, a.Reason = new(false), disabledReason
	case !m.Active && d.Enabled && p.ReactivateOurs:
		a.Reason = InactiveReason
	case !m.Active && d.Enabled && p.Update:
		a.Active = new(true)
	}
	if !p.Update {
		return a
	}
	for _, path := range m.Differs {
		if _, has := d.Attributes[path]; has {
			a.Set = append(a.Set, path)
		} else {
			a.Clear = append(a.Clear, path)
		}
	}
	slices.Sort(a.Set)
	slices.Sort(a.Clear)
	return a
}

func blockedOn(d Desired, l Linked) Action {
	return Action{Kind: Blocked, ResourceID: l.ResourceID, Reason: "no value for " + d.Missing[0] + ", which is required or matched by"}
}

// differences are the paths whose desired value is not the applied one.
func differences(d Desired, l Linked) (set, cleared []string) {
	for path, hash := range d.Attributes {
		if !slices.Equal(l.Attributes[path], hash) {
			set = append(set, path)
		}
	}
	for _, path := range d.Absent {
		if _, applied := l.Attributes[path]; applied {
			cleared = append(cleared, path)
		}
	}
	slices.Sort(set)
	slices.Sort(cleared)
	return set, cleared
}

func sorted(attributes map[string][]byte) []string {
	paths := make([]string, 0, len(attributes))
	for path := range attributes {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}
