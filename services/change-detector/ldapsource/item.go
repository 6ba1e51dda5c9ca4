package ldapsource

import (
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// item is a clause about an attribute.
type item struct {
	op      uint64
	written string   // the type as it stands in the filter, in lower case
	name    string   // the short name that is known for it
	options []string // such as lang-fr
	value   string   // of =, ~=, >=, <= and the bitwise rules
	parts   substring
	allBits bool // of the bitwise rules: all bits of the mask, not any

	// By the rules of a schema:
	types map[string]bool // whose values count: the type and its subtypes, by every name
	none  truth           // where there is no value: undefined for an unknown type
	match func(value []byte) truth
}

// description is how the attribute is asked for.
func (i *item) description() string {
	return strings.Join(append([]string{i.name}, i.options...), ";")
}

// eval looks at each value of the attribute and of its subtypes (cn;lang-fr for
// cn, and cn for name).
func (i *item) eval(e *Entry, _ uint) truth {
	result := i.none
	for _, a := range e.Attributes {
		if !i.means(a.GetName()) {
			continue
		}
		for _, v := range a.GetValues() {
			if result = max(result, i.match(v)); result == yes {
				return yes
			}
		}
	}
	return result
}

// means reports whether an attribute is asked for: the type or a subtype of it,
// with at least the options.
func (i *item) means(description string) bool {
	name, options, _ := strings.Cut(description, ";")
	if !i.types[name] {
		return false
	}
	if len(i.options) == 0 {
		return true
	}
	have := strings.Split(options, ";")
	for _, want := range i.options {
		if !slices.ContainsFunc(have, func(option string) bool { return carries(option, want) }) {
			return false
		}
	}
	return true
}

// carries reports whether an option is the wanted one, or in the wanted range:
// lang-en-us is in lang-en- (RFC 3866).
func carries(option, want string) bool {
	if strings.HasPrefix(want, "lang-") && strings.HasSuffix(want, "-") {
		return strings.HasPrefix(option+"-", want)
	}
	return option == want
}

func (i *item) with(s *Schema) clause {
	bound := *i
	name := i.name
	if s != nil {
		name = i.written
	}
	var (
		rules   matching
		unknown bool
	)
	bound.types, rules, unknown = s.attribute(name)
	bound.match, bound.none = i.test(rules, s), no
	if unknown {
		bound.none = s.nonsense()
	}
	if bound.match == nil {
		bound.types, bound.none = nil, s.nonsense()
	}
	return &bound
}

// test is the comparison of one value; nil where it makes no sense.
func (i *item) test(by matching, s *Schema) func([]byte) truth {
	switch i.op {
	case ldap.FilterPresent:
		return func([]byte) truth { return yes }
	case ldap.FilterSubstrings:
		return by.substrings.substrings(i.parts)
	case ldap.FilterGreaterOrEqual:
		return by.ordering.ordering([]byte(i.value), func(c int) bool { return c >= 0 })
	case ldap.FilterLessOrEqual:
		return by.ordering.ordering([]byte(i.value), func(c int) bool { return c <= 0 })
	case ldap.FilterExtensibleMatch:
		return bitwise(i.value, i.allBits)
	}
	if by.equality == objectClass {
		return s.classEquality(fold(i.value))
	}
	return by.equality.equality([]byte(i.value))
}
