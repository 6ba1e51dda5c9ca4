package ldapsource

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// maxFilterDepth bounds how deep a filter may nest.
const maxFilterDepth = 100

// Filter is a parsed search filter (RFC 4515), evaluated on entries by the rules
// of the well-known attributes; see rules.go. An attribute without such a rule
// compares like caseIgnoreMatch.
type Filter struct {
	op       uint64
	children []*Filter
	name     string // attribute description in lower case
	match    func(value []byte) truth
}

// truth is LDAP's three-valued logic (RFC 4511 section 4.5.1.7): an assertion that
// makes no sense is undefined, and so is its negation.
type truth int8

const (
	no        truth = -1
	undefined truth = 0
	yes       truth = 1
)

// ParseFilter parses a filter. Extensible match is refused, but for the two
// bitwise rules of Active Directory.
func ParseFilter(text string) (*Filter, error) {
	packet, err := ldap.CompileFilter(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("parse the filter %q: %w", text, err)
	}
	f, err := newFilter(packet, 0)
	if err != nil {
		return nil, fmt.Errorf("parse the filter %q: %w", text, err)
	}
	return f, nil
}

// Match reports whether the entry matches.
func (f *Filter) Match(e *Entry) bool { return f.eval(e) == yes }

// Attributes are the attributes that the filter names, sorted, in lower case.
func (f *Filter) Attributes() []string {
	var names []string
	f.collect(&names)
	slices.Sort(names)
	return slices.Compact(names)
}

func (f *Filter) collect(names *[]string) {
	if f.name != "" {
		*names = append(*names, f.name)
	}
	for _, child := range f.children {
		child.collect(names)
	}
}

func (f *Filter) eval(e *Entry) truth {
	switch f.op {
	case ldap.FilterAnd:
		result := yes
		for _, child := range f.children {
			result = min(result, child.eval(e))
		}
		return result
	case ldap.FilterOr:
		result := no
		for _, child := range f.children {
			result = max(result, child.eval(e))
		}
		return result
	case ldap.FilterNot:
		return -f.children[0].eval(e)
	}
	return f.evalItem(e)
}

// evalItem looks at each value of the attribute and of its subtypes (cn;lang-fr
// for cn).
func (f *Filter) evalItem(e *Entry) truth {
	if f.match == nil {
		return undefined
	}
	result := no
	for _, a := range e.Attributes {
		if !subtype(a.GetName(), f.name) {
			continue
		}
		for _, v := range a.GetValues() {
			if result = max(result, f.match(v)); result == yes {
				return yes
			}
		}
	}
	return result
}

// subtype reports whether the attribute description name is asked for by wanted:
// the same type, with at least its options.
func subtype(name, wanted string) bool {
	if name == wanted {
		return true
	}
	if !strings.Contains(name, ";") {
		return false
	}
	have, want := strings.Split(name, ";"), strings.Split(wanted, ";")
	if have[0] != want[0] {
		return false
	}
	for _, option := range want[1:] {
		if !slices.Contains(have[1:], option) {
			return false
		}
	}
	return true
}

// newFilter translates the tree that go-ldap compiled.
func newFilter(p *ber.Packet, depth int) (*Filter, error) {
	if depth > maxFilterDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxFilterDepth)
	}
	f := &Filter{op: uint64(p.Tag)}
	switch f.op {
	case ldap.FilterAnd, ldap.FilterOr, ldap.FilterNot:
		return f, f.addChildren(p, depth)
	case ldap.FilterPresent:
		return f.item(text(p), func([]byte) truth { return yes })
	case ldap.FilterSubstrings:
		return f.substrings(p)
	case ldap.FilterExtensibleMatch:
		return f.extensible(p)
	case ldap.FilterEqualityMatch, ldap.FilterApproxMatch, ldap.FilterGreaterOrEqual, ldap.FilterLessOrEqual:
		return f.assertion(p)
	}
	return nil, fmt.Errorf("unknown kind of filter %d", f.op)
}

func (f *Filter) addChildren(p *ber.Packet, depth int) error {
	if f.op == ldap.FilterNot && len(p.Children) != 1 {
		return errors.New("(!…) takes one filter")
	}
	for _, child := range p.Children {
		c, err := newFilter(child, depth+1)
		if err != nil {
			return err
		}
		f.children = append(f.children, c)
	}
	return nil
}

func (f *Filter) item(name string, match func([]byte) truth) (*Filter, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	if !isKey(baseName(name)) {
		return nil, fmt.Errorf("%q is not an attribute name", name)
	}
	if Secret(name) {
		return nil, fmt.Errorf("the attribute %s holds a password and is never read", name)
	}
	base, options, _ := strings.Cut(name, ";")
	f.name = canonicalName(base)
	if options != "" {
		f.name += ";" + options
	}
	f.match = match
	return f, nil
}

// assertion is =, ~=, >= and <=.
func (f *Filter) assertion(p *ber.Packet) (*Filter, error) {
	if len(p.Children) != 2 {
		return nil, errors.New("an assertion needs an attribute and a value")
	}
	if _, err := f.item(text(p.Children[0]), nil); err != nil {
		return nil, err
	}
	rule := ruleOf(baseName(f.name))
	value := []byte(text(p.Children[1]))
	switch f.op {
	case ldap.FilterGreaterOrEqual:
		f.match = rule.ordering(value, func(c int) bool { return c >= 0 })
	case ldap.FilterLessOrEqual:
		f.match = rule.ordering(value, func(c int) bool { return c <= 0 })
	default:
		f.match = rule.equality(value)
	}
	return f, nil
}

func (f *Filter) substrings(p *ber.Packet) (*Filter, error) {
	if len(p.Children) != 2 {
		return nil, errors.New("a substring assertion needs an attribute and parts")
	}
	if _, err := f.item(text(p.Children[0]), nil); err != nil {
		return nil, err
	}
	var s substring
	for _, part := range p.Children[1].Children {
		switch uint64(part.Tag) {
		case ldap.FilterSubstringsInitial:
			s.initial = text(part)
		case ldap.FilterSubstringsAny:
			s.middle = append(s.middle, text(part))
		case ldap.FilterSubstringsFinal:
			s.final = text(part)
		}
	}
	f.match = ruleOf(baseName(f.name)).substrings(s)
	return f, nil
}

// The bitwise matching rules of Active Directory.
const (
	bitAnd = "1.2.840.113556.1.4.803"
	bitOr  = "1.2.840.113556.1.4.804"
)

func (f *Filter) extensible(p *ber.Packet) (*Filter, error) {
	var rule, name, value string
	for _, part := range p.Children {
		switch uint64(part.Tag) {
		case ldap.MatchingRuleAssertionMatchingRule:
			rule = text(part)
		case ldap.MatchingRuleAssertionType:
			name = text(part)
		case ldap.MatchingRuleAssertionMatchValue:
			value = text(part)
		}
	}
	if name == "" || rule != bitAnd && rule != bitOr {
		return nil, fmt.Errorf("extensible match (%s:%s:=…) is not supported: use scope_groups with nested for group membership, or a plain comparison", name, rule)
	}
	return f.item(name, bitwise(value, rule == bitAnd))
}

// text is the string that a node of the compiled filter carries.
func text(p *ber.Packet) string {
	if p.Data != nil && p.Data.Len() > 0 {
		return p.Data.String()
	}
	if s, ok := p.Value.(string); ok {
		return s
	}
	return string(p.ByteValue)
}
