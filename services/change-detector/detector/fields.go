package detector

import (
	"slices"
	"strings"
	"unique"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// fields are the names of what an entry has, as they stand in HeaderFields: its
// attributes, FieldEnabled, FieldMembers. Entries that have the same share them.
type fields = unique.Handle[string]

// fieldsOf are the fields of a change; none of one that is ABSENT.
func fieldsOf(c *directoryv1.Change) fields {
	var names []string
	for _, a := range append(c.GetUser().GetAttributes(), c.GetGroup().GetAttributes()...) {
		names = append(names, a.GetName())
	}
	if c.GetUser().GetEnabled() {
		names = append(names, directoryv1.FieldEnabled)
	}
	if c.GetGroup().GetMembers().GetCount() > 0 {
		names = append(names, directoryv1.FieldMembers)
	}
	slices.Sort(names)
	return unique.Make(strings.Join(names, ","))
}

// split are the names of fields.
func split(f fields) []string {
	if f == (fields{}) || f.Value() == "" {
		return nil
	}
	return strings.Split(f.Value(), ",")
}

// has says whether an entry is published with a field.
func (p *published) has(field string) bool {
	return p != nil && p.present && slices.Contains(split(p.fields), field)
}

// lost are the fields with which an entry is published and that it has no longer.
// What is not read any more says nothing.
func lost(before *published, now fields, set mapping.Set) []string {
	if before == nil || !before.present || before.fields == now {
		return nil
	}
	has := split(now)
	return slices.DeleteFunc(split(before.fields), func(name string) bool {
		return slices.Contains(has, name) || !strings.HasPrefix(name, "@") && !set.Contains(name)
	})
}

// holders counts the entries that are published with a field.
func holders(entries map[ID]*published, field string) int {
	with := map[fields]int{}
	for _, p := range entries {
		if p.present {
			with[p.fields]++
		}
	}
	n := 0
	for f, count := range with {
		if slices.Contains(split(f), field) {
			n += count
		}
	}
	return n
}
