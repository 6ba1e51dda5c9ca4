package ldapsource

import (
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// item is a clause about an attribute.
type item struct {
	op      uint64
	name    string   // short name of the type, in lower case
	options []string // such as lang-fr
	value   string   // of =, ~=, >=, <= and the bitwise rules
	parts   substring
	allBits bool // of the bitwise rules: all bits of the mask, not any

	// By the rules of a schema:
	types   map[string]bool // whose values count: the type and its subtypes, by every name
	unknown bool            // the schema does not know the type
	match   func(value []byte) truth
}

// description is how the attribute is asked for.
func (i *item) description() string {
	return strings.Join(append([]string{i.name}, i.options...), ";")
}

// eval looks at each value of the attribute and of its subtypes (cn;lang-fr for
// cn, and cn for name).
func (i *item) eval(e *Entry, _ uint) truth {
	if i.match == nil {
		return undefined
	}
	result := no
	if i.unknown {
		result = undefined
	}
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
	var rules matching
	bound.types, rules, bound.unknown = s.attribute(i.name)
	bound.match = i.test(rules, s)
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
