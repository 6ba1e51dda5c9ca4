package ldapsource

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// The matching rules of Active Directory that are known here.
const (
	bitAnd  = "1.2.840.113556.1.4.803"
	bitOr   = "1.2.840.113556.1.4.804"
	inChain = "1.2.840.113556.1.4.1941"
)

// filterParser translates the tree that go-ldap compiled.
type filterParser struct {
	memberOf []string
	filter   *Filter
}

// clause translates one node; negated says whether it stands below an odd number
// of negations.
func (p *filterParser) clause(packet *ber.Packet, depth int, negated bool) (clause, error) {
	if depth > maxFilterDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxFilterDepth)
	}
	op := uint64(packet.Tag)
	switch op {
	case ldap.FilterAnd, ldap.FilterOr, ldap.FilterNot:
		return p.junction(packet, depth, negated != (op == ldap.FilterNot))
	case ldap.FilterPresent:
		return p.item(&item{op: op}, text(packet))
	case ldap.FilterExtensibleMatch:
		return p.extensible(packet, negated)
	}
	if len(packet.Children) != 2 {
		return nil, errors.New("an assertion needs an attribute and a value")
	}
	i := &item{op: op}
	switch op {
	case ldap.FilterSubstrings:
		i.parts = substringOf(packet.Children[1])
	case ldap.FilterEqualityMatch, ldap.FilterApproxMatch, ldap.FilterGreaterOrEqual, ldap.FilterLessOrEqual:
		i.value = text(packet.Children[1])
	default:
		return nil, fmt.Errorf("unknown kind of filter %d", op)
	}
	return p.item(i, text(packet.Children[0]))
}

func (p *filterParser) junction(packet *ber.Packet, depth int, negated bool) (clause, error) {
	j := &junction{op: uint64(packet.Tag)}
	if j.op == ldap.FilterNot && len(packet.Children) != 1 {
		return nil, errors.New("(!…) takes one filter")
	}
	for _, child := range packet.Children {
		part, err := p.clause(child, depth+1, negated)
		if err != nil {
			return nil, err
		}
		j.parts = append(j.parts, part)
	}
	return j, nil
}

// item completes an item with its attribute. One about the groups of an entry is a
// membership instead.
func (p *filterParser) item(i *item, description string) (clause, error) {
	description = strings.ToLower(strings.TrimSpace(description))
	base, options, _ := strings.Cut(description, ";")
	switch {
	case !isKey(base):
		return nil, fmt.Errorf("%q is not an attribute name", description)
	case Secret(base):
		return nil, fmt.Errorf("the attribute %s holds a password and is never read", base)
	case p.holdsGroups(base):
		if i.op != ldap.FilterEqualityMatch {
			return nil, fmt.Errorf("(%s…) can only name a group: write (%[1]s=<DN>), or use scope_groups", base)
		}
		return p.membership(i.value, false)
	}
	i.written, i.name = base, canonicalName(base)
	if options != "" {
		i.options = strings.Split(options, ";")
	}
	return i.with(nil), nil
}

// holdsGroups reports whether an attribute holds the groups of an entry. It is
// never read for a filter: a directory does not report when it changes.
func (p *filterParser) holdsGroups(name string) bool {
	return name == "memberof" || name == "ismemberof" ||
		name != "" && slices.ContainsFunc(p.memberOf, func(other string) bool { return strings.EqualFold(other, name) })
}

func (p *filterParser) membership(group string, nested bool) (clause, error) {
	name, err := NormalizeDN(group)
	if err != nil || name == "" {
		return nil, fmt.Errorf("membership of %q: write the DN of the group", group)
	}
	m := Membership{Group: name, Nested: nested}
	at := slices.Index(p.filter.memberships, m)
	if at < 0 {
		if len(p.filter.memberships) == maxMemberships {
			return nil, fmt.Errorf("more than %d groups are named by memberOf: use scope_groups", maxMemberships)
		}
		at = len(p.filter.memberships)
		p.filter.memberships = append(p.filter.memberships, m)
	}
	return membership(at), nil
}

// extensible is (attribute:rule:=value): Active Directory's rules are known here,
// and without a rule it is an equality. Everything else is for the directory.
func (p *filterParser) extensible(packet *ber.Packet, negated bool) (clause, error) {
	var rule, name, value string
	dn := false
	for _, part := range packet.Children {
		switch uint64(part.Tag) {
		case ldap.MatchingRuleAssertionMatchingRule:
			rule = text(part)
		case ldap.MatchingRuleAssertionType:
			name = text(part)
		case ldap.MatchingRuleAssertionMatchValue:
			value = text(part)
		case ldap.MatchingRuleAssertionDNAttributes:
			dn = true
		}
	}
	switch base := strings.ToLower(baseName(name)); {
	case name == "" && rule == "":
		return nil, errors.New("(:=…) needs an attribute or a matching rule")
	case name != "" && !isKey(base) || rule != "" && !isKey(rule):
		return nil, fmt.Errorf("(%s:%s:=…) is not an attribute with a matching rule", name, rule)
	case rule == "" && !dn:
		return p.item(&item{op: ldap.FilterEqualityMatch, value: value}, name)
	case p.holdsGroups(base) && rule == inChain && !dn:
		return p.membership(value, true)
	case p.holdsGroups(base):
		return nil, fmt.Errorf("(%s:%s:=…) can only name a group: write (%[1]s=<DN>) or (%[1]s:%[3]s:=<DN>)", base, rule, inChain)
	case Secret(base):
		return nil, fmt.Errorf("the attribute %s holds a password and is never read", base)
	case !dn && name != "" && (rule == bitAnd || rule == bitOr):
		return p.item(&item{op: ldap.FilterExtensibleMatch, value: value, allBits: rule == bitAnd}, name)
	}
	return p.forDirectory(packet, negated)
}

// forDirectory keeps the text of a clause that is not evaluated here.
func (p *filterParser) forDirectory(packet *ber.Packet, negated bool) (clause, error) {
	text, err := ldap.DecompileFilter(packet)
	if err != nil {
		return nil, fmt.Errorf("write a clause for the directory: %w", err)
	}
	if negated {
		text = "(!" + text + ")"
	}
	if !slices.Contains(p.filter.remote, text) {
		p.filter.remote = append(p.filter.remote, text)
	}
	return &remote{text: text, negated: negated}, nil
}

func substringOf(packet *ber.Packet) substring {
	var s substring
	for _, part := range packet.Children {
		switch uint64(part.Tag) {
		case ldap.FilterSubstringsInitial:
			s.initial = text(part)
		case ldap.FilterSubstringsAny:
			s.middle = append(s.middle, text(part))
		case ldap.FilterSubstringsFinal:
			s.final = text(part)
		}
	}
	return s
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
