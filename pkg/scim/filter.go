package scim

import (
	"fmt"
	"slices"
	"strings"
)

// filterEqual writes `attribute eq "value"`. The value is quoted as JSON, so that
// nothing in it can become part of the filter.
func filterEqual(p Path, value string) string {
	p.Filter = nil // `emails[type eq "work"].value` is looked up as emails.value
	return p.String() + " eq " + quote(value)
}

// matches says whether a resource holds one of the values at the path, whatever
// the target took the filter for. id and externalId are compared exactly.
func (r *Resource) matches(p Path, values []string) bool {
	exact := p.URN == "" && (p.Attribute == "id" || p.Attribute == "externalId")
	for got := range r.values(p) {
		if slices.ContainsFunc(values, func(want string) bool { return got == want || !exact && strings.EqualFold(got, want) }) {
			return true
		}
	}
	return false
}

// values are the values that a resource holds at a path, each once.
func (r *Resource) values(p Path) map[string]struct{} {
	values := map[string]struct{}{}
	observed, _ := r.Value(p.String())
	for _, item := range list(observed) {
		if object, ok := item.(map[string]any); ok {
			item = member(object, "value")
		}
		values[scalar(item)] = struct{}{}
	}
	return values
}

// lookUpPath reads the attribute of a look-up.
func lookUpPath(attribute, value string) (Path, error) {
	p, err := ParsePath(attribute)
	if err != nil {
		return Path{}, err
	}
	if value == "" {
		return Path{}, fmt.Errorf("%w: a look-up by an empty %s", ErrRefused, p)
	}
	if known := lookUp(p.URN, p.Attribute); p.Sub == "" && known != nil && known.shape == shapeMulti {
		p.Sub = "value"
	}
	return p, nil
}
