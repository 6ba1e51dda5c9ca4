package scimtest

import (
	"encoding/json"
	"errors"
	"strings"
)

const (
	maxFilter = 8 << 10
	maxDepth  = 32
)

var errEnd = errors.New("it ends too early")

// expression is a parsed filter (RFC 7644 section 3.4.2.2).
type expression interface {
	eval(d document) bool
}

type (
	andExpression struct{ left, right expression }
	orExpression  struct{ left, right expression }
	notExpression struct{ inner expression }
	// comparison is `path op value`.
	comparison struct {
		path  attributePath
		op    string
		value any // string, bool, json.Number or nil
	}
	// presence is `path pr`.
	presence struct{ path attributePath }
	// valueFilter is `emails[type eq "work"]`.
	valueFilter struct {
		path  attributePath
		inner expression
	}
)

// parser reads filters and PATCH paths. resolve gives the meaning of a name.
type parser struct {
	rest    string
	depth   int
	resolve func(name string) (attributePath, bool)
}

// parseFilter reads a whole filter.
func parseFilter(t *resourceType, s string) (expression, error) {
	if len(s) > maxFilter {
		return nil, invalid(typeFilter, "the filter is too long")
	}
	p := &parser{rest: s, resolve: t.resolve}
	e, err := p.or()
	if err == nil && p.skip() != "" {
		err = invalid(typeFilter, "unexpected %q", p.rest)
	}
	if err != nil {
		return nil, filterError(err)
	}
	return e, nil
}

func filterError(err error) error {
	if e, ok := errors.AsType[*scimError](err); ok {
		return e
	}
	return invalid(typeFilter, "%v", err)
}

func (p *parser) skip() string {
	p.rest = strings.TrimLeft(p.rest, " ")
	return p.rest
}

// word takes a keyword that is followed by a space or a bracket.
func (p *parser) word(keyword string) bool {
	s := p.skip()
	if len(s) <= len(keyword) || !strings.EqualFold(s[:len(keyword)], keyword) {
		return false
	}
	if next := s[len(keyword)]; next != ' ' && next != '(' {
		return false
	}
	p.rest = s[len(keyword):]
	return true
}

func (p *parser) take(c string) bool {
	if !strings.HasPrefix(p.skip(), c) {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) or() (expression, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, invalid(typeFilter, "the filter is nested too deeply")
	}
	defer func() { p.depth-- }()
	left, err := p.and()
	for err == nil && p.word("or") {
		var right expression
		if right, err = p.and(); err == nil {
			left = orExpression{left, right}
		}
	}
	return left, err
}

func (p *parser) and() (expression, error) {
	left, err := p.term()
	for err == nil && p.word("and") {
		var right expression
		if right, err = p.term(); err == nil {
			left = andExpression{left, right}
		}
	}
	return left, err
}

func (p *parser) term() (expression, error) {
	negated := p.word("not")
	if p.take("(") {
		inner, err := p.or()
		if err == nil && !p.take(")") {
			err = invalid(typeFilter, "a bracket is not closed")
		}
		if negated {
			return notExpression{inner}, err
		}
		return inner, err
	}
	if negated {
		return nil, invalid(typeFilter, "not must be followed by a bracket")
	}
	return p.attribute()
}

// attribute reads `path op value`, `path pr` or `path[filter]`.
func (p *parser) attribute() (expression, error) {
	path, err := p.path()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(p.rest, "[") {
		return p.valuePath(path)
	}
	op, rest, _ := strings.Cut(p.skip(), " ")
	op = strings.TrimRight(op, ")]")
	p.rest = p.rest[len(op):]
	op = strings.ToLower(op)
	if op == "pr" {
		return presence{path}, nil
	}
	if rest == "" {
		return nil, errEnd
	}
	value, err := p.literal()
	if err != nil {
		return nil, err
	}
	return comparison{path: path, op: op, value: value}.check()
}

// path reads an attribute name; a URN may hold dots and colons.
func (p *parser) path() (attributePath, error) {
	s := p.skip()
	end := strings.IndexFunc(s, func(r rune) bool {
		alphanumeric := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alphanumeric && !strings.ContainsRune("-_.:$", r)
	})
	if end < 0 {
		end = len(s)
	}
	path, ok := p.resolve(s[:end])
	if !ok {
		return path, invalid(typeFilter, "unknown attribute %q", s[:end])
	}
	p.rest = s[end:]
	return path, nil
}

// valuePath reads the part in square brackets.
func (p *parser) valuePath(path attributePath) (valueFilter, error) {
	if !path.attr.multi || path.sub != nil {
		return valueFilter{}, invalid(typeFilter, "%s cannot be filtered", path.attr.name)
	}
	p.rest = p.rest[1:]
	outer := p.resolve
	p.resolve = func(name string) (attributePath, bool) {
		sub := find(path.attr.subs, name)
		return attributePath{attr: sub}, sub != nil
	}
	inner, err := p.or()
	p.resolve = outer
	if err == nil && !p.take("]") {
		err = invalid(typeFilter, "a square bracket is not closed")
	}
	return valueFilter{path: path, inner: inner}, err
}

// literal reads a JSON value: a string, number, boolean or null.
func (p *parser) literal() (any, error) {
	s := p.skip()
	if s == "" {
		return nil, errEnd
	}
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	if s[0] == '{' || s[0] == '[' {
		return nil, invalid(typeFilter, "objects and arrays cannot be compared")
	}
	var value any
	if s[0] != '"' {
		end := strings.IndexAny(s, " )]")
		if end < 0 {
			end = len(s)
		}
		if err := json.Unmarshal([]byte(s[:end]), &value); err != nil {
			return nil, invalid(typeFilter, "%q is no value; put strings into double quotes", s[:end])
		}
		p.rest = s[end:]
		return value, nil
	}
	if err := dec.Decode(&value); err != nil {
		return nil, invalid(typeFilter, "a string is not closed or badly escaped")
	}
	p.rest = s[dec.InputOffset():]
	return value, nil
}

// check refuses comparisons that have no meaning for the attribute's type.
func (c comparison) check() (expression, error) {
	target := c.target()
	_, isString := c.value.(string)
	_, isBool := c.value.(bool)
	switch c.op {
	case "eq", "ne":
		if target.typ == dtBoolean && !isBool && c.value != nil || target.typ != dtBoolean && !isString && c.value != nil {
			return nil, invalid(typeFilter, "%s is a %s", target.name, target.typ)
		}
	case "co", "sw", "ew", "gt", "ge", "lt", "le":
		if !isString || target.typ == dtBoolean || target.typ == dtBinary {
			return nil, invalid(typeFilter, "%s cannot be compared by %s", target.name, c.op)
		}
	default:
		return nil, invalid(typeFilter, "unknown operator %q", c.op)
	}
	if target.typ == dtComplex {
		return nil, invalid(typeFilter, "%s is an object; name a sub-attribute", target.name)
	}
	return c, nil
}

// target is the definition that is compared: for `emails eq "x"` the value.
func (c comparison) target() *definition {
	if c.path.sub != nil {
		return c.path.sub
	}
	if c.path.attr.multi {
		if value := find(c.path.attr.subs, "value"); value != nil {
			return value
		}
	}
	return c.path.attr
}
