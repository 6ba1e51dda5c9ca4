package connection

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
)

// Bounds on a filter, so that a deep one cannot exhaust the stack, and that what it
// asks of groups can be answered for each entry beforehand.
const (
	maxFilter      = 16 << 10
	maxFilterDepth = 64
	maxFilterGroup = 6
)

// inChain is Active Directory's matching rule for nested membership.
const inChain = "1.2.840.113556.1.4.1941"

// filterAttribute is an attribute description with options (RFC 4512 section
// 2.5), or a numeric object identifier.
var filterAttribute = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_-]*|[0-9]+(\.[0-9]+)*)(;[A-Za-z0-9-]+)*$`)

// checkFilter reports what is wrong with an LDAP filter (RFC 4515), or nil: its
// syntax, and what it asks of groups. memberOf are attributes, besides memberOf and
// isMemberOf, that hold the groups of an entry.
func checkFilter(filter string, memberOf ...string) error {
	if len(filter) > maxFilter {
		return fmt.Errorf("has more than %d bytes", maxFilter)
	}
	p := &filterParser{text: filter, memberOf: append([]string{"memberOf", "isMemberOf"}, memberOf...), groups: map[string]bool{}}
	if err := p.filter(0); err != nil {
		return err
	}
	if p.at < len(p.text) {
		return p.fail("something follows the last parenthesis")
	}
	return nil
}

type filterParser struct {
	text     string
	at       int
	memberOf []string
	groups   map[string]bool // that are named
}

func (p *filterParser) fail(problem string) error {
	return fmt.Errorf("column %d: %s", p.at+1, problem)
}

func (p *filterParser) next(c byte) bool {
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

// filter reads ( & | ! or a comparison ).
func (p *filterParser) filter(depth int) error {
	if depth > maxFilterDepth {
		return p.fail("the filter is nested too deep")
	}
	if !p.next('(') {
		return p.fail("an opening parenthesis is missing")
	}
	var err error
	switch {
	case p.next('&'), p.next('|'):
		for err == nil && p.at < len(p.text) && p.text[p.at] == '(' {
			err = p.filter(depth + 1)
		}
	case p.next('!'):
		err = p.filter(depth + 1)
	default:
		err = p.comparison()
	}
	if err != nil {
		return err
	}
	if !p.next(')') {
		return p.fail("a closing parenthesis is missing")
	}
	return nil
}

// comparison reads attribute, operator and value up to the parenthesis.
func (p *filterParser) comparison() error {
	start := p.at
	end := strings.IndexAny(p.text[start:], "()")
	if end < 0 {
		p.at = len(p.text)
		return p.fail("a closing parenthesis is missing")
	}
	item := p.text[start : start+end]
	name, value, ok := strings.Cut(item, "=")
	if !ok {
		return p.fail("a comparison such as (uid=a) is missing")
	}
	if err := checkFilterName(name); err != nil {
		return p.fail(err.Error())
	}
	if err := checkFilterValue(value, strings.TrimRight(name, "<>~:") == name); err != nil {
		return p.fail(err.Error())
	}
	if err := p.membership(name, value); err != nil {
		return p.fail(err.Error())
	}
	p.at += end
	return nil
}

// membership checks a comparison of an attribute that holds groups: it can only
// name one, because a directory does not report when that attribute changes.
func (p *filterParser) membership(name, value string) error {
	bare := strings.TrimRight(name, "<>~:")
	attribute, rule, _ := strings.Cut(bare, ":")
	attribute, _, _ = strings.Cut(attribute, ";")
	if !slices.ContainsFunc(p.memberOf, func(other string) bool { return strings.EqualFold(other, attribute) }) {
		return nil
	}
	direct, nested := name == bare || name == bare+":" && rule == "", name == bare+":" && rule == inChain
	if (!direct && !nested) || strings.Contains(value, "*") {
		return fmt.Errorf("(%s…) can only name a group: write (%[1]s=<DN>) or (%[1]s:%[2]s:=<DN>), or use scope_groups", attribute, inChain)
	}
	group, err := unescapeFilter(value)
	if err == nil {
		err = mapping.CheckDN(group)
	}
	if err != nil || strings.TrimSpace(group) == "" {
		return fmt.Errorf("(%s=%s): write the DN of a group", attribute, value)
	}
	p.groups[strings.ToLower(group)+rule] = true
	if len(p.groups) > maxFilterGroup {
		return fmt.Errorf("more than %d groups are named by %s: use scope_groups", maxFilterGroup, attribute)
	}
	return nil
}

// unescapeFilter resolves \2a.
func unescapeFilter(value string) (string, error) {
	head, rest, found := strings.Cut(value, `\`)
	for found {
		if len(rest) < 2 {
			return "", errors.New("a backslash is followed by two hexadecimal digits")
		}
		c, err := hex.DecodeString(rest[:2])
		if err != nil {
			return "", fmt.Errorf("read an escape: %w", err)
		}
		var next string
		next, rest, found = strings.Cut(rest[2:], `\`)
		head += string(c) + next
	}
	return head, nil
}

// checkFilterName checks what stands before the equals sign, with what is left
// of the operators >=, <=, ~= and :=.
func checkFilterName(name string) error {
	bare := name
	switch {
	case strings.HasSuffix(name, ">"), strings.HasSuffix(name, "<"), strings.HasSuffix(name, "~"):
		bare = name[:len(name)-1]
	case strings.HasSuffix(name, ":"):
		return checkExtensible(name[:len(name)-1])
	}
	if !filterAttribute.MatchString(bare) {
		return fmt.Errorf("%q is no attribute", bare)
	}
	return refusePassword(bare)
}

// checkExtensible checks attribute:dn:rule before :=, each of them optional.
func checkExtensible(s string) error {
	parts := strings.Split(s, ":")
	name, rest := parts[0], parts[1:]
	if len(rest) > 0 && rest[0] == "dn" {
		rest = rest[1:]
	}
	if len(rest) > 1 || name == "" && len(rest) == 0 {
		return errors.New("the extensible match is incomplete")
	}
	for _, part := range append([]string{name}, rest...) {
		if part != "" && !filterAttribute.MatchString(part) {
			return fmt.Errorf("%q is no attribute or matching rule", part)
		}
	}
	return refusePassword(name)
}

func refusePassword(name string) error {
	if mapping.Forbidden(name) {
		return fmt.Errorf("%s holds passwords and cannot be used", name)
	}
	return nil
}

// checkFilterValue checks the escapes of a value; only equality has wildcards.
func checkFilterValue(value string, wildcards bool) error {
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case 0:
			return errors.New("a zero byte is written \\00")
		case '*':
			if !wildcards {
				return errors.New("an asterisk is written \\2a here")
			}
		case '\\':
			if i+2 >= len(value) {
				return errors.New("a backslash is followed by two hexadecimal digits")
			}
			if _, err := hex.DecodeString(value[i+1 : i+3]); err != nil {
				return errors.New("a backslash is followed by two hexadecimal digits")
			}
			i += 2
		}
	}
	return nil
}
