package scimtest

import (
	"cmp"
	"strings"
	"time"
)

// document is what a filter looks at: a resource, or one value of an attribute.
type document interface {
	attribute(urn, name string) any
}

// object is a document made of a plain JSON object.
type object map[string]any

func (o object) attribute(_, name string) any { return o[name] }

func (e andExpression) eval(d document) bool { return e.left.eval(d) && e.right.eval(d) }
func (e orExpression) eval(d document) bool  { return e.left.eval(d) || e.right.eval(d) }
func (e notExpression) eval(d document) bool { return !e.inner.eval(d) }

func (e presence) eval(d document) bool {
	for _, v := range values(d, e.path) {
		if v != nil && v != "" {
			return true
		}
	}
	return false
}

func (e valueFilter) eval(d document) bool {
	items, _ := d.attribute(e.path.urn, e.path.attr.name).([]any)
	for _, item := range items {
		if o, ok := item.(map[string]any); ok && e.inner.eval(object(o)) {
			return true
		}
	}
	return false
}

func (e comparison) eval(d document) bool {
	all := values(d, e.path)
	if e.value == nil { // eq null: has no value
		return (len(all) == 0) == (e.op == "eq")
	}
	if e.op == "ne" {
		for _, v := range all {
			if e.holds("eq", v) {
				return false
			}
		}
		return true
	}
	for _, v := range all {
		if e.holds(e.op, v) {
			return true
		}
	}
	return false
}

// holds compares one value.
func (e comparison) holds(op string, v any) bool {
	if b, ok := v.(bool); ok {
		return b == e.value
	}
	got, ok := v.(string)
	want, isString := e.value.(string)
	if !ok || !isString {
		return false
	}
	target := e.target()
	if target.typ == dtDateTime {
		return compareTimes(op, got, want)
	}
	if !target.caseExact {
		got, want = strings.ToLower(got), strings.ToLower(want)
	}
	switch op {
	case "co":
		return strings.Contains(got, want)
	case "sw":
		return strings.HasPrefix(got, want)
	case "ew":
		return strings.HasSuffix(got, want)
	}
	return ordering(op, cmp.Compare(got, want))
}

func compareTimes(op, got, want string) bool {
	a, errA := time.Parse(time.RFC3339, got)
	b, errB := time.Parse(time.RFC3339, want)
	return errA == nil && errB == nil && ordering(op, a.Compare(b))
}

func ordering(op string, c int) bool {
	switch op {
	case "eq":
		return c == 0
	case "gt":
		return c > 0
	case "ge":
		return c >= 0
	case "lt":
		return c < 0
	case "le":
		return c <= 0
	}
	return false
}

// values are all values that a path names in a document.
func values(d document, p attributePath) []any {
	v := d.attribute(p.urn, p.attr.name)
	items, isArray := v.([]any)
	if !isArray {
		items = []any{v}
	}
	var out []any
	for _, item := range items {
		o, isObject := item.(map[string]any)
		switch {
		case isObject && p.sub != nil:
			item = o[p.sub.name]
		case isObject && p.attr.multi && o["value"] != nil:
			item = o["value"]
		}
		if item != nil {
			out = append(out, item)
		}
	}
	return out
}
