package usersync

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

type entryID [directoryv1.IDSize]byte

// people knows which resources entries have; *index is the one of a running service.
type people interface {
	// ready waits until everybody is known.
	ready(ctx context.Context) error
	// resource is the resource id of an entry that has one.
	resource(id entryID) (string, bool)
}

// known are people whose resources somebody else found out.
type known map[[directoryv1.IDSize]byte]string

func (known) ready(context.Context) error { return nil }

func (k known) resource(id entryID) (string, bool) {
	resource, ok := k[id]
	return resource, ok
}

// refers says whether a line of the mapping holds the id of another resource: manager
// and manager.value of the enterprise extension (RFC 7643 section 4.3). A constant is
// taken as it is.
func refers(a connection.CompiledAttribute) bool {
	return a.Path.URN == scim.SchemaEnterpriseUser && strings.EqualFold(a.Path.Attribute, "manager") &&
		(a.Path.Sub == "" || strings.EqualFold(a.Path.Sub, "value")) && len(a.Value.Attributes()) > 0
}

// referring finds out whom the references of a user name.
type referring struct {
	people people
	// link is what is remembered of them, and of what was applied.
	link   *provisioningv1.Link
	change *directoryv1.Change
}

// replace puts the id of the referenced entry's resource in the place of the
// directory's own name for it, which is never sent. Who has no resource yet is
// remembered, and what was sent for the same entry before stays as it is.
func (r referring) replace(w *wanted, a connection.CompiledAttribute, always, onCreate scim.Values) {
	path := a.Path.String()
	values := always
	if onCreate[path] != nil {
		values = onCreate
	}
	if values[path] == nil {
		return
	}
	name := first(values[path])
	if name == a.Default && !r.holds(a, name) {
		return
	}
	one := &provisioningv1.Member{}
	if id, found := r.entry(a, name); found {
		one.EntryId = id[:]
		w.references = append(w.references, one)
		if resource, linked := r.people.resource(id); linked {
			values[path], one.ResourceHash = resource, provisioningv1.ResourceHash(resource)
			return
		}
	}
	unit := scim.SchemaEnterpriseUser + ":" + a.Path.Attribute
	for other := range values { // the name of a manager alone is no reference
		if other == unit || strings.HasPrefix(other, unit+".") {
			delete(values, other)
		}
	}
	if former := r.former(one.GetEntryId()); former != nil && r.link.GetAttributes()[unit] != nil {
		one.ResourceHash = former.GetResourceHash()
		w.left = append(w.left, unit)
	}
}

// first is a value as text, or the first of several; empty where it is something else.
func first(value any) string {
	if list, several := value.([]any); several && len(list) > 0 {
		value = list[0]
	}
	text, _ := value.(string)
	return text
}

// holds says whether the user has a value in one of the attributes that a line reads.
func (r referring) holds(a connection.CompiledAttribute, value string) bool {
	_, at := r.place(a, value)
	return at >= 0
}

// place finds the attribute that a line took a value from, and where the value stands
// in it.
func (r referring) place(a connection.CompiledAttribute, value string) (attribute *directoryv1.Attribute, at int) {
	reads := a.Value.Attributes()
	for _, one := range r.change.GetUser().GetAttributes() {
		if !slices.Contains(reads, one.GetName()) {
			continue
		}
		if i := slices.IndexFunc(one.GetValues(), func(v []byte) bool { return string(v) == value }); i >= 0 {
			return one, i
		}
	}
	return nil, -1
}

// entry is the entry that a value names, as the detector found out. Where some values
// of an attribute name nobody, the others cannot be told apart.
func (r referring) entry(a connection.CompiledAttribute, value string) (id entryID, found bool) {
	attribute, at := r.place(a, value)
	for _, ref := range r.change.GetReferences() {
		ids := ref.GetEntryIds()
		if attribute == nil || ref.GetAttribute() != attribute.GetName() || len(ids) != len(attribute.GetValues()) || len(ids[at]) != len(id) {
			continue
		}
		return entryID(ids[at]), true
	}
	return id, false
}

// former is what was sent for an entry before; nil when nothing was.
func (r referring) former(id []byte) *provisioningv1.Member {
	for _, m := range r.link.GetReferences() {
		if len(id) > 0 && bytes.Equal(m.GetEntryId(), id) && len(m.GetResourceHash()) > 0 {
			return m
		}
	}
	return nil
}
