package scim

import (
	"slices"
	"strconv"
	"strings"
)

// EqualTo says whether what a target returned means the same as the unit.
// Targets return booleans and numbers as strings, flatten objects, add
// sub-attributes of their own (display, $ref) and order arrays as they like; none
// of that is a difference. Absent, null and an empty array are the same, and so is an
// element without a value, such as {"type": "work", "value": ""}.
func (u Unit) EqualTo(observed any) bool {
	fold := false
	if p, err := ParsePath(u.Path); err == nil {
		known := lookUp(p.URN, p.Attribute)
		fold = known != nil && known.fold
	}
	return equal(u.Value, observed, fold)
}

func equal(want, got any, fold bool) bool {
	if empty(want) || empty(got) {
		return empty(want) && empty(got)
	}
	switch want := want.(type) {
	case []any:
		return equalSets(want, slices.DeleteFunc(slices.Clone(list(got)), empty), fold)
	case map[string]any:
		return equalObject(want, got, fold)
	default:
		return equalScalar(want, unwrapped(got), fold)
	}
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return !slices.ContainsFunc(v, func(item any) bool { return !empty(item) })
	case map[string]any:
		for name, item := range v {
			if name != "type" && name != "primary" && !empty(item) {
				return false
			}
		}
		return true
	default:
		return false
	}
}

// unwrapped is the value of an array of one, and of an object with a value.
func unwrapped(v any) any {
	if items, ok := v.([]any); ok && len(items) == 1 {
		v = items[0]
	}
	if object, ok := v.(map[string]any); ok {
		return member(object, "value")
	}
	return v
}

func equalScalar(want, got any, fold bool) bool {
	if b, ok := want.(bool); ok {
		observed, ok := asBool(got)
		return ok && observed == b
	}
	a, b := scalar(want), scalar(got)
	if a == b || fold && strings.EqualFold(a, b) {
		return true
	}
	if _, isString := want.(string); isString {
		return false
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

// equalObject compares the sub-attributes that we set; primary is left to the
// array, of which it is a property.
func equalObject(want map[string]any, got any, fold bool) bool {
	object, ok := got.(map[string]any)
	if !ok {
		only, has := want["value"]
		return has && len(withoutPrimary(want)) == 1 && equalScalar(only, got, fold)
	}
	for name, value := range withoutPrimary(want) {
		foldThis := fold && name == "value" || name == "type"
		if !equal(value, member(object, name), foldThis) {
			return false
		}
	}
	return true
}

func withoutPrimary(object map[string]any) map[string]any {
	if _, ok := object["primary"]; !ok {
		return object
	}
	out := make(map[string]any, len(object))
	for k, v := range object {
		if k != "primary" {
			out[k] = v
		}
	}
	return out
}

// equalSets pairs each wanted value with another observed one. A target that
// returns no primary at all is not asked for it.
func equalSets(want, got []any, fold bool) bool {
	if len(want) != len(got) {
		return false
	}
	primaries := slices.ContainsFunc(got, isPrimary)
	rest := slices.Clone(got)
	for _, w := range want {
		i := slices.IndexFunc(rest, func(g any) bool {
			return equal(w, g, fold) && (!primaries || isPrimary(w) == isPrimary(g))
		})
		if i < 0 {
			return false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return true
}

func isPrimary(v any) bool {
	b, ok := asBool(sub(v, "primary"))
	return ok && b
}
