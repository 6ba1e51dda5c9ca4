package groupsync

import (
	"encoding/hex"
	"errors"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// displayName is the path of a group's name (RFC 7643 section 4.2).
const displayName = "displayName"

// externalID is the path of the mark by which a group is known to be an entry's.
const externalID = "externalId"

// mapper turns a directory group into what the target should hold. It is pure.
type mapper struct {
	groups *connection.CompiledGroups
	match  []string
	key    []byte
}

func newMapper(groups *connection.CompiledGroups, match []string, key []byte) *mapper {
	return &mapper{groups: groups, match: match, key: key}
}

// wanted is what the target should hold for one group.
type wanted struct {
	plan.Desired
	name string
	// units are the attributes to keep equal, by path; onCreate those that are sent
	// only on creation.
	units, onCreate map[string]scim.Unit

	externalID string
	// members are the resource ids of the members that have one, by entry.
	members map[entryID]string
	// without are the members that have no resource in this connection.
	without map[entryID]bool
	// named is the resource with a short hash, if a link names it.
	named func(hash []byte) (string, bool)
	// strangers are members that the target holds and the directory has not.
	strangers []step
	// kept is how many of them are not removed, because the guard holds it.
	kept int
	// lost says that additions may have been done that no record names.
	lost bool
	// untried says why removals of members wait for a trial; empty when none does.
	untried string
	// unapplied are the attributes that are left as they are, because the target did not
	// apply them before.
	unapplied []string
	// refusals are the changes of members that the target refused.
	refusals *refusals
}

// attributes are the names of the attributes that a group is compared by.
func (m *mapper) attributes() []string {
	names := []string{displayName, externalID}
	for _, a := range m.groups.Attributes {
		name := a.Path.Attribute
		if a.Path.URN != "" {
			name = a.Path.URN + ":" + name
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

type entryID [directoryv1.IDSize]byte

// wanted maps a change.
func (m *mapper) wanted(change *directoryv1.Change, set mapping.Set) (*wanted, error) {
	w := &wanted{externalID: hex.EncodeToString(change.GetEntryId())}
	if change.GetOp() != directoryv1.Op_OP_PRESENT {
		w.Why = worker.Why(change.GetReason())
		return w, nil
	}
	group := mapping.GroupObject(change.GetGroup(), set)
	if m.groups.Scope != nil {
		in, err := m.groups.Scope.Bool(group)
		if err != nil {
			return nil, worker.MappingError("groups.scope", err)
		}
		if !in {
			w.Why = "outside the connection's scope"
			return w, nil
		}
	}
	w.InScope, w.Enabled = true, true
	return w, m.fill(w, group)
}

// fill evaluates the name and every mapped attribute.
func (m *mapper) fill(w *wanted, group mapping.Object) error {
	values, onCreate := scim.Values{}, scim.Values{}
	name, err := m.groups.Name.Eval(group)
	if err != nil && !errors.Is(err, mapping.ErrAbsent) {
		return worker.MappingError("groups.name", err)
	}
	if text, ok := name.(string); ok && text != "" {
		w.name = text
		if m.groups.NameOn == connection.OnCreate {
			onCreate[displayName] = text
		} else {
			values[displayName] = text
		}
	} else {
		w.Missing = append(w.Missing, displayName)
	}
	for _, a := range m.groups.Attributes {
		value, err := a.Eval(group)
		if value == nil && a.Path.String() == externalID {
			value = w.externalID // without a mark nobody could tell whose group it is
		}
		switch {
		case err != nil:
			return worker.MappingError("groups.attributes."+a.Path.String(), err)
		case value == nil:
		case a.On == connection.OnCreate:
			onCreate[a.Path.String()] = value
		default:
			values[a.Path.String()] = value
		}
	}
	for _, all := range []scim.Values{onCreate, values} {
		if id, mapped := all[externalID].(string); mapped {
			w.externalID = id
		}
	}
	return m.hash(w, values, onCreate)
}

// hash groups the values into what one PATCH operation sets, with their hashes.
func (m *mapper) hash(w *wanted, values, onCreate scim.Values) error {
	var err, createErr error
	w.units, err = values.ByPath()
	w.onCreate, createErr = onCreate.ByPath()
	if err := errors.Join(err, createErr); err != nil {
		return worker.Block("groups.attributes: " + err.Error())
	}
	w.Attributes = map[string][]byte{}
	for path, unit := range w.units {
		w.Attributes[path] = unit.Hash(m.key)
	}
	for _, a := range m.groups.Attributes {
		path, err := scim.UnitPath(a.Path.String())
		if err != nil {
			return worker.Block("groups.attributes: " + err.Error())
		}
		if _, has := w.units[path]; !has && a.On != connection.OnCreate {
			w.Absent = append(w.Absent, path)
		}
	}
	return nil
}
