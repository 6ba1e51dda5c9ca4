package scim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind tells users from groups.
type Kind int

// The kinds of resources that Rollcall keeps.
const (
	KindUser Kind = iota + 1
	KindGroup
)

// String is the SCIM resource type.
func (k Kind) String() string {
	switch k {
	case KindUser:
		return "User"
	case KindGroup:
		return "Group"
	default:
		return fmt.Sprintf("Kind(%d)", int(k))
	}
}

// Schema is the URN of the kind's core schema.
func (k Kind) Schema() string {
	if k == KindGroup {
		return SchemaGroup
	}
	return SchemaUser
}

// Resource is what a target returned for a user or group.
type Resource struct {
	ID         string
	ExternalID string
	Created    time.Time      // meta.created; zero when the target does not say
	Attributes map[string]any // the whole answer; numbers are json.Number
}

var errNoObject = errors.New("the answer is not a JSON object")

// decodeResource reads one resource; a missing id is not an error here.
func decodeResource(body []byte) (*Resource, error) {
	var attributes map[string]any
	if err := decodeJSON(body, &attributes); err != nil {
		return nil, err
	}
	return newResource(attributes)
}

func newResource(attributes map[string]any) (*Resource, error) {
	if attributes == nil {
		return nil, errNoObject
	}
	r := &Resource{Attributes: attributes, ID: scalar(member(attributes, "id")), ExternalID: scalar(member(attributes, "externalId"))}
	if meta, ok := member(attributes, "meta").(map[string]any); ok {
		if at, err := time.Parse(time.RFC3339, scalar(member(meta, "created"))); err == nil {
			r.Created = at
		}
	}
	return r, nil
}

func decodeJSON(body []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// Value is the value at a path: a string, bool, json.Number, object or array.
// Names are matched without regard to case. A path without filter that names a
// multi-valued attribute gives the whole array, with a sub-attribute the list of
// that sub-attribute's values; with a filter it gives the first match.
func (r *Resource) Value(path string) (any, bool) {
	p, err := ParsePath(path)
	if err != nil {
		return nil, false
	}
	v := r.top(p)
	if p.Filter != nil {
		v = firstMatch(v, *p.Filter)
	}
	if p.Sub != "" {
		v = sub(v, p.Sub)
	}
	return v, v != nil
}

// top is the top-level attribute that a path names. Some targets flatten the
// attributes of an extension into keys of the form urn:...:User:department.
func (r *Resource) top(p Path) any {
	if p.URN == "" {
		return member(r.Attributes, p.Attribute)
	}
	if extension, ok := member(r.Attributes, p.URN).(map[string]any); ok {
		return member(extension, p.Attribute)
	}
	return member(r.Attributes, p.URN+":"+p.Attribute)
}

// MemberIDs are the values of a group's members.
func (r *Resource) MemberIDs() []string {
	values := list(member(r.Attributes, "members"))
	ids := make([]string, 0, len(values))
	for _, v := range values {
		if id := scalar(sub(v, "value")); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// MemberNames are the display names of a group's members, by resource id, as far as the
// target returns them.
func (r *Resource) MemberNames() map[string]string {
	names := map[string]string{}
	for _, v := range list(member(r.Attributes, "members")) {
		if name := scalar(sub(v, "display")); name != "" {
			names[scalar(sub(v, "value"))] = name
		}
	}
	return names
}

// Replacement is the body of a PUT that sets the units, clears the cleared paths and
// keeps everything else as the target returned it. Attributes that only the
// target may set are left out.
func (r *Resource) Replacement(kind Kind, units []Unit, cleared []string) (map[string]any, error) {
	body := make(map[string]any, len(r.Attributes))
	for name, value := range r.Attributes {
		if known := lookUp("", name); known != nil {
			if known.readOnly {
				continue
			}
			name = known.name
		}
		if items, several := value.([]any); several { // an element without a value is none, and may be refused
			value = slices.DeleteFunc(slices.Clone(items), empty)
		}
		if !empty(value) {
			body[canonicalExtension(name)] = cloneValue(value)
		}
	}
	body["id"] = r.ID
	for _, path := range cleared {
		if err := place(body, path, nil); err != nil {
			return nil, err
		}
	}
	for _, u := range units {
		if err := place(body, u.Path, u.Value); err != nil {
			return nil, err
		}
	}
	body["schemas"] = schemasOf(kind, body)
	return body, nil
}

func canonicalExtension(name string) string {
	if strings.EqualFold(name, SchemaEnterpriseUser) {
		return SchemaEnterpriseUser
	}
	return name
}

// member looks a name up in an object, first as written, then folded.
func member(object map[string]any, name string) any {
	if v, ok := object[name]; ok {
		return v
	}
	for k, v := range object {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

// sub is a sub-attribute of an object, or of each object of an array.
func sub(v any, name string) any {
	switch v := v.(type) {
	case map[string]any:
		return member(v, name)
	case []any:
		var values []any
		for _, item := range v {
			if s := sub(item, name); s != nil {
				values = append(values, s)
			}
		}
		if values == nil {
			return nil
		}
		return values
	case string: // a multi-valued attribute that the target returns as plain strings
		if name == "value" {
			return v
		}
	}
	return nil
}

func firstMatch(v any, f ValueFilter) any {
	for _, item := range list(v) {
		if strings.EqualFold(scalar(sub(item, f.Attribute)), f.Value) {
			return item
		}
	}
	return nil
}

// list is v as a list: an array as it is, nothing for nil, else one item.
func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	default:
		return []any{v}
	}
}

// scalar is a string, number or boolean as a string; anything else is empty.
func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool, int, int64, float64:
		return fmt.Sprint(v)
	default:
		return ""
	}
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[k] = cloneValue(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = cloneValue(item)
		}
		return out
	default:
		return v
	}
}
