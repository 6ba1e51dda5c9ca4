package scim

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

var errValue = errors.New("cannot be sent")

// Values is what a mapping wants a resource to hold: attribute path to value. A
// value is a string, a boolean, a number or a list of these ([]any, []string).
// nil, "" and an empty list mean that the attribute is absent.
type Values map[string]any

// Body is the whole resource, as POST and PUT send it.
func (v Values) Body(kind Kind) (map[string]any, error) {
	units, err := v.Units()
	if err != nil {
		return nil, err
	}
	return Body(kind, units)
}

// Body assembles units to the whole resource, as POST and PUT send it. Extension
// URNs stand in schemas only when the extension has a value.
func Body(kind Kind, units []Unit) (map[string]any, error) {
	body := make(map[string]any, len(units)+1)
	for _, u := range units {
		if err := place(body, u.Path, u.Value); err != nil {
			return nil, err
		}
	}
	body["schemas"] = schemasOf(kind, body)
	return body, nil
}

// place sets the value at a unit's path, or removes it when value is nil.
func place(body map[string]any, path string, value any) error {
	p, err := ParsePath(path)
	if err != nil {
		return err
	}
	steps := []string{p.Attribute}
	if p.URN != "" {
		steps = []string{p.URN, p.Attribute}
	}
	if p.Sub != "" {
		steps = append(steps, p.Sub)
	}
	put(body, steps, value)
	return nil
}

// put walks down the steps, makes missing objects and drops emptied ones.
func put(object map[string]any, steps []string, value any) {
	name := spelled(object, steps[0])
	if len(steps) == 1 {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = value
		}
		return
	}
	inner, ok := object[name].(map[string]any)
	if !ok {
		if value == nil {
			return
		}
		inner = map[string]any{}
		object[name] = inner
	}
	if put(inner, steps[1:], value); len(inner) == 0 {
		delete(object, name)
	}
}

// spelled is the key of an object that equals name without regard to case.
func spelled(object map[string]any, name string) string {
	if _, ok := object[name]; ok {
		return name
	}
	for k := range object {
		if strings.EqualFold(k, name) {
			return k
		}
	}
	return name
}

func schemasOf(kind Kind, body map[string]any) []any {
	schemas := []any{kind.Schema()}
	for _, name := range slices.Sorted(maps.Keys(body)) {
		if strings.HasPrefix(strings.ToLower(name), "urn:") {
			schemas = append(schemas, name)
		}
	}
	return schemas
}

// UnitPath is the path of the unit that a mapped path belongs to: `emails` for
// `emails[type eq "work"].value`, `name.givenName` for itself.
func UnitPath(path string) (string, error) {
	p, err := ParsePath(path)
	if err != nil {
		return "", err
	}
	return p.unit().String(), nil
}

func (p Path) unit() Path {
	if multi(p) || whole(p) {
		return Path{URN: p.URN, Attribute: p.Attribute}
	}
	return p
}

// multi says that a path names values of a multi-valued attribute.
func multi(p Path) bool {
	known := lookUp(p.URN, p.Attribute)
	return p.Filter != nil || known != nil && known.shape == shapeMulti
}

// whole says that a path names an object that targets take only as a whole:
// manager and its like in the enterprise extension.
func whole(p Path) bool {
	return p.URN == SchemaEnterpriseUser && (p.Sub != "" || p.Attribute == "manager")
}

// Units splits the values into what PATCH sets one by one, sorted by path:
// simple attributes (title), sub-attributes of complex ones (name.givenName),
// multi-valued attributes as a whole (emails), and those of extensions.
func (v Values) Units() ([]Unit, error) {
	var faults []error
	groups := map[string][]valued{}
	seen := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(v)) {
		one, err := newValued(key, v[key])
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("attribute %s: %w", clip(key, 100), err))
		case seen[one.identity()] != "":
			faults = append(faults, fmt.Errorf("attribute %s: %w: it names the same as %s", key, errValue, seen[one.identity()]))
		default:
			seen[one.identity()] = key
			if one.value != nil {
				unit := one.path.unit().String()
				groups[unit] = append(groups[unit], one)
			}
		}
	}
	units := make([]Unit, 0, len(groups))
	for _, path := range slices.Sorted(maps.Keys(groups)) {
		u, err := newUnit(path, groups[path])
		if err != nil {
			faults = append(faults, fmt.Errorf("attribute %s: %w", path, err))
		}
		units = append(units, u)
	}
	return units, errors.Join(faults...)
}

// ByPath is Units by their paths.
func (v Values) ByPath() (map[string]Unit, error) {
	units, err := v.Units()
	if err != nil {
		return nil, err
	}
	paths := make(map[string]Unit, len(units))
	for _, u := range units {
		paths[u.Path] = u
	}
	return paths, nil
}

// valued is one mapped path with its value brought to JSON's types.
type valued struct {
	path  Path
	value any // string, bool, int64, float64, []any of these; nil: absent
}

func newValued(key string, value any) (valued, error) {
	p, err := ParsePath(key)
	if err != nil {
		return valued{}, err
	}
	known := lookUp(p.URN, p.Attribute)
	switch {
	case known == nil:
	case known.readOnly:
		return valued{}, fmt.Errorf("%w: only the target sets it; drop it from the mapping", errValue)
	case known.shape == shapeComplex && p.Sub == "" && p.URN == "":
		return valued{}, fmt.Errorf("%w: it is an object; map a sub-attribute, such as name.givenName", errValue)
	}
	plain, err := plainValue(value)
	if err != nil {
		return valued{}, err
	}
	plain, err = fit(p, known, plain)
	return valued{path: p, value: plain}, err
}

// identity is equal for two paths that name the same place.
func (v valued) identity() string {
	p := v.path
	if p.Sub == "" && (multi(p) || whole(p)) {
		p.Sub = "value"
	}
	return p.String()
}

// fit brings a value to the type of a standard attribute.
func fit(p Path, known *standard, value any) (any, error) {
	if values, ok := value.([]any); ok && known != nil && known.shape != shapeMulti {
		if len(values) > 1 {
			return nil, fmt.Errorf("%w: it has a single value and got %d; use the first one", errValue, len(values))
		}
		value = values[0]
	}
	switch {
	case value == nil:
		return nil, nil
	case known != nil && known.boolean, p.Sub == "primary" && multi(p):
		return boolean(value)
	case known == nil:
		return value, nil
	}
	if values, ok := value.([]any); ok {
		for i := range values {
			values[i] = scalar(values[i])
		}
		return values, nil
	}
	return scalar(value), nil
}

func boolean(value any) (any, error) {
	if b, ok := asBool(value); ok {
		return b, nil
	}
	return nil, fmt.Errorf("%w: it is a boolean; use true or false", errValue)
}

// asBool reads true and false as a boolean or as a string in any case.
func asBool(value any) (result, ok bool) {
	switch v := value.(type) {
	case bool:
		return v, true
	case string:
		if strings.EqualFold(v, "true") || strings.EqualFold(v, "false") {
			return strings.EqualFold(v, "true"), true
		}
	}
	return false, false
}

// plainValue brings Go's types to string, bool, int64, float64 and []any, and
// what is empty to nil.
func plainValue(value any) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		if v == "" {
			return nil, nil
		}
		return strings.ToValidUTF8(v, "\ufffd"), nil
	case bool, int64:
		return v, nil
	case int:
		return int64(v), nil
	case uint64:
		if v > math.MaxInt64 {
			return nil, fmt.Errorf("%w: %d is too large", errValue, v)
		}
		return int64(v), nil
	case float64:
		return number(v)
	case json.Number:
		return jsonNumber(v)
	case []string:
		items := make([]any, len(v))
		for i, s := range v {
			items[i] = s
		}
		return plainList(items)
	case []any:
		return plainList(v)
	default:
		return nil, fmt.Errorf("%w: no JSON value for %T", errValue, value)
	}
}

func number(f float64) (any, error) {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return nil, fmt.Errorf("%w: %v is no JSON number", errValue, f)
	case f == math.Trunc(f) && math.Abs(f) < 1<<53:
		return int64(f), nil
	}
	return f, nil
}

func jsonNumber(n json.Number) (any, error) {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return i, nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errValue, err)
	}
	return number(f)
}

// plainList drops empty and repeated items; an empty list is nil.
func plainList(items []any) (any, error) {
	var out []any
	for _, item := range items {
		v, err := plainValue(item)
		if err != nil {
			return nil, err
		}
		if _, nested := v.([]any); nested {
			return nil, fmt.Errorf("%w: a list inside a list", errValue)
		}
		if v != nil && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	if out == nil {
		return nil, nil
	}
	return out, nil
}
