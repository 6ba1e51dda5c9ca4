package scim

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Unit is what one PATCH operation sets: a path and its whole new value.
type Unit struct {
	Path  string
	Value any
}

// newUnit assembles the mapped paths that belong to one unit.
func newUnit(path string, parts []valued) (Unit, error) {
	first := parts[0].path
	switch {
	case multi(first):
		values, err := elements(parts)
		return Unit{Path: path, Value: values}, err
	case !whole(first):
		return Unit{Path: path, Value: parts[0].value}, nil
	}
	object := make(map[string]any, len(parts))
	for _, part := range parts {
		object[cmp.Or(part.path.Sub, "value")] = part.value
	}
	return Unit{Path: path, Value: object}, nil
}

// elements makes the array of a multi-valued attribute: work first, then what
// has no type, then by type. One of them is primary: the first, unless the
// mapping says which.
func elements(parts []valued) ([]any, error) {
	selectors := map[string][]valued{}
	for _, part := range parts {
		selectors[part.selector()] = append(selectors[part.selector()], part)
	}
	var all []any
	explicit := parts[0].path.Attribute == "members" || lookUp(parts[0].path.URN, parts[0].path.Attribute) == nil
	for _, key := range slices.SortedFunc(maps.Keys(selectors), bySelector) {
		some, err := sameSelector(selectors[key])
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		for _, part := range selectors[key] {
			explicit = explicit || part.path.Sub == "primary"
		}
	}
	if first, ok := all[0].(map[string]any); ok && !explicit {
		first["primary"] = true
	}
	return all, nil
}

func (v valued) selector() string {
	if v.path.Filter == nil {
		return ""
	}
	return v.path.Filter.Attribute + "=" + v.path.Filter.Value
}

func bySelector(a, b string) int {
	rank := func(s string) int {
		switch s {
		case "type=work":
			return 0
		case "":
			return 1
		default:
			return 2
		}
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
}

// sameSelector makes one object per value; other sub-attributes stand in each.
func sameSelector(parts []valued) ([]any, error) {
	template := map[string]any{}
	var values []any
	for _, part := range parts {
		if f := part.path.Filter; f != nil {
			template[f.Attribute] = f.Value
		}
		name := cmp.Or(part.path.Sub, "value")
		several, isList := part.value.([]any)
		switch {
		case name == "value":
			values = list(part.value)
		case isList && len(several) > 1:
			return nil, fmt.Errorf("%w: %s takes a single value and got %d", errValue, part.path, len(several))
		default:
			template[name] = list(part.value)[0]
		}
	}
	if values == nil {
		return []any{template}, nil
	}
	out := make([]any, 0, len(values))
	for _, value := range values {
		one := maps.Clone(template)
		one["value"] = value
		out = append(out, one)
	}
	return out, nil
}

// Hash is what a link remembers of the unit instead of its value: the first 16
// bytes of HMAC-SHA-256 over the path and the value as JSON with sorted keys.
func (u Unit) Hash(key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(u.Path))
	mac.Write([]byte{0})
	mac.Write(canonicalJSON(u.Value))
	return mac.Sum(nil)[:16]
}

// canonicalJSON writes a value with sorted keys and without HTML escapes.
func canonicalJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Appendf(nil, "%T %v", v, v) // not JSON; still a function of the value
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// MergeForeign adds to a multi-valued unit the observed values of types that
// nobody mapped, and says whether there were any. mapped are the paths of the
// mapping: a type named there is not foreign even when it has no value now, and
// a path without filter owns the whole attribute. A unit without value may be
// merged too, so that clearing what is mapped keeps what is not.
func (u Unit) MergeForeign(observed any, mapped ...string) (Unit, bool) {
	own, whole := u.ownTypes(mapped)
	if whole {
		return u, false
	}
	merged := slices.Clone(list(u.Value))
	before := len(merged)
	for _, item := range list(observed) {
		object, ok := item.(map[string]any)
		if !ok || empty(object) || own[strings.ToLower(scalar(member(object, "type")))] {
			continue
		}
		merged = append(merged, foreign(object, before > 0))
	}
	if len(merged) == before {
		return u, false
	}
	return Unit{Path: u.Path, Value: merged}, true
}

// ownTypes are the types that the unit or the mapping sets, folded; whole is
// true when no value can be foreign.
func (u Unit) ownTypes(mapped []string) (types map[string]bool, whole bool) {
	types = map[string]bool{}
	p, err := ParsePath(u.Path)
	if err != nil || p.Sub != "" || !multi(p) && !isObjects(u.Value) || p.Attribute == "members" {
		return nil, true
	}
	for _, item := range list(u.Value) {
		types[strings.ToLower(scalar(sub(item, "type")))] = true
	}
	for _, path := range mapped {
		m, err := ParsePath(path)
		if err != nil || m.unit() != p {
			continue
		}
		if m.Filter == nil || m.Filter.Attribute != "type" {
			return nil, true
		}
		types[strings.ToLower(m.Filter.Value)] = true
	}
	return types, types[""]
}

func isObjects(v any) bool {
	items, ok := v.([]any)
	if !ok || len(items) == 0 {
		return false
	}
	_, ok = items[0].(map[string]any)
	return ok
}

// foreign is a value to send back as it was; it gives way as primary.
func foreign(object map[string]any, demote bool) map[string]any {
	out := make(map[string]any, len(object))
	for name, value := range object {
		name = canonicalSub(name)
		switch {
		case value == nil, value == "", name == "$ref":
		case name == "primary" && demote:
		default:
			out[name] = cloneValue(value)
		}
	}
	return out
}
